//! What the strings of `containers.toml` may be: one function per grammar, each with its remedy.

use std::time::Duration;

use super::model::{Branches, Platform};
use super::pattern::{self, PatternError};
use super::requirement;
use crate::diagnostic::nearest;
use crate::reference::{ImageRef, RegistryHost, Repository, Tag};

/// Why a text is not taken: a fragment for the caret's line, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub why: String,
    pub help: Option<String>,
}

pub(super) type Verdict = Result<(), Refusal>;

fn refuse<T>(why: impl Into<String>, help: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        why: why.into(),
        help: Some(help.into()),
    })
}

/// Tags that hold content keys: what stands there is skiff's word that an image is complete.
pub(super) const KEY_TAGS: &str = "key-";

/// The variables of `tags`.
const TAG_VARIABLES: [&str; 6] = ["timestamp", "sha", "short_sha", "branch", "version", "name"];

pub(super) fn not_empty(text: &str) -> Verdict {
    if text.trim().is_empty() {
        return refuse("is empty", "write a value, or leave the key out");
    }
    no_nul(text)
}

/// No process takes a NUL in an argument or a path.
pub(super) fn no_nul(text: &str) -> Verdict {
    if text.contains('\0') {
        return refuse("has a NUL character in it", "take it out");
    }
    Ok(())
}

pub(super) fn requirement(text: &str) -> Verdict {
    requirement::satisfied(text, "0.0.0")
        .map(drop)
        .or_else(|why| {
            refuse(
                why,
                "write comparators such as \">=0.3\" or \">=0.3, <1\"; operators: >= > < <= = ^ ~",
            )
        })
}

/// The name of a container: one part of a repository's path, since it becomes one.
pub(super) fn container_name(text: &str) -> Verdict {
    if text == "all" {
        return refuse(
            "`all` means every container on the command line",
            "give the container another name",
        );
    }
    if is_name(text) {
        return Ok(());
    }
    let rule = "a name is lower-case letters and digits, joined by `.`, `_`, `__` or `-`";
    let why = "no registry accepts this name";
    match valid_name(text) {
        Some(name) => refuse(why, format!("{rule}; for example `{name}`")),
        None => refuse(why, rule),
    }
}

/// Whether a folder's name can be a container's.
pub(super) fn is_name(text: &str) -> bool {
    !text.contains('/') && repository(text).is_ok() && text != "all"
}

/// The nearest valid name: lower case, everything else a `-`.
pub(super) fn valid_name(text: &str) -> Option<String> {
    let name = text
        .to_lowercase()
        .split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    is_name(&name).then_some(name)
}

pub(super) fn host(text: &str) -> Verdict {
    match RegistryHost::new(text) {
        Ok(_) => Ok(()),
        Err(why) => {
            let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
            let bare = bare.split('/').next().unwrap_or_default();
            Err(Refusal {
                why: without_value(&why.to_string(), text),
                help: RegistryHost::new(bare)
                    .is_ok()
                    .then(|| format!("write \"{bare}\"")),
            })
        }
    }
}

/// An image, as docker names it.
pub(super) fn image(text: &str) -> Verdict {
    text.parse::<ImageRef>().map(drop).or_else(|why| {
        refuse(
            why.to_string(),
            "write an image's name, such as \"moby/buildkit:v0.32.2\"",
        )
    })
}

/// Where a BuildKit listens. Which addresses can be reached, and whether they are whole, is `buildkit::dial`'s to say.
pub(super) fn builder_address(text: &str) -> Verdict {
    const SCHEMES: [&str; 5] = ["unix", "tcp", "tls", "ssh", "docker-container"];
    match text.split_once("://") {
        Some((scheme, rest)) if SCHEMES.contains(&scheme) && !rest.is_empty() => no_nul(text),
        _ => refuse(
            "is not a builder's address",
            "write unix:///path/to/buildkitd.sock, tcp://host:port, tls://host:port, ssh://user@host or docker-container://NAME",
        ),
    }
}

/// An AWS account id.
pub(super) fn account(text: &str) -> Verdict {
    if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    refuse("is not an AWS account", "an account has 12 digits")
}

/// An AWS region: words and a number, joined by `-`.
pub(super) fn region(text: &str) -> Verdict {
    let parts: Vec<&str> = text.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    if let [words @ .., number] = &parts[..]
        && words.len() >= 2
        && words.iter().all(is_word)
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
    {
        return Ok(());
    }
    refuse(
        "is not an AWS region",
        "write a region's code, such as \"us-east-1\"",
    )
}

pub(super) fn repository(text: &str) -> Verdict {
    let Ok(host) = RegistryHost::new("registry.invalid") else {
        return Ok(());
    };
    Repository::new(host, text)
        .map(drop)
        .map_err(|why| Refusal {
            why: without_value(&why.to_string(), text),
            help: None,
        })
}

/// A repository, with `{name}` for the container's.
pub(super) fn repository_pattern(text: &str) -> Verdict {
    let known = ["name"];
    let expanded = pattern::expand(text, |v| known.contains(&v).then(|| "n".to_owned()));
    repository(&expanded.or_else(|why| wrong_pattern(&why, &known))?)
}

/// A reference with a tag, with `{repository}` (host and path) and `{name}`.
pub(super) fn cache_pattern(text: &str) -> Verdict {
    let known = ["repository", "name"];
    let expanded = pattern::expand(text, |v| match v {
        "repository" => Some("registry.invalid/r".to_owned()),
        "name" => Some("n".to_owned()),
        _ => None,
    });
    let expanded = expanded.or_else(|why| wrong_pattern(&why, &known))?;
    split_reference(&expanded)
        .map(drop)
        .or_else(|why| refuse(why, "write it like \"{repository}:buildcache\""))
}

/// `host/path:tag` as its two parts.
pub(super) fn split_reference(text: &str) -> Result<(Repository, Tag), String> {
    match text.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => Ok((
            repository
                .parse::<Repository>()
                .map_err(|e| e.to_string())?,
            Tag::new(tag).map_err(|e| e.to_string())?,
        )),
        _ => Err("expected `repository:tag`: there is no tag".to_owned()),
    }
}

/// A tag with `{variables}`.
pub(super) fn tag_pattern(text: &str) -> Verdict {
    let expanded = sample_tag(text, "n").or_else(|why| wrong_pattern(&why, &TAG_VARIABLES))?;
    if expanded.starts_with(KEY_TAGS) {
        return refuse(
            "tags that begin with `key-` are the content keys'",
            "begin it with another word",
        );
    }
    tag(&expanded, text)
}

/// The tag that a pattern could become, with values of the usual length.
pub(super) fn sample_tag(text: &str, name: &str) -> Result<String, PatternError> {
    pattern::expand(text, |variable| {
        let value = match variable {
            "timestamp" => "20260131-235959",
            "sha" => "0123456789abcdef0123456789abcdef01234567",
            "short_sha" => "0123456",
            "branch" => "b",
            "version" => "1.0",
            "name" => name,
            _ => return None,
        };
        Some(value.to_owned())
    })
}

/// A channel: a tag that moves.
pub(super) fn channel(text: &str) -> Verdict {
    if text.starts_with(KEY_TAGS) {
        return refuse(
            "tags that begin with `key-` are the content keys'",
            "give the channel another name",
        );
    }
    tag(text, text)
}

fn tag(expanded: &str, written: &str) -> Verdict {
    Tag::new(expanded).map(drop).map_err(|why| Refusal {
        why: without_value(&why.to_string(), expanded),
        help: written
            .contains('/')
            .then(|| "tags have no `/`; write `-` in its place".to_owned()),
    })
}

/// A branch's name, by the rules of `git check-ref-format`, or a glob: see [`Branches`].
pub(super) fn branch(text: &str) -> Verdict {
    not_empty(text)?;
    if let Some(name) = text.strip_prefix("refs/heads/") {
        return refuse("is a ref, not a branch", format!("write \"{name}\""));
    }
    let wrong = text
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '~' | '^' | ':' | '\\'))
        || text.contains("..")
        || text.starts_with(['/', '-'])
        || text.ends_with(['/', '.']);
    if wrong {
        return refuse(
            "no branch can have this name",
            "write a branch's name, such as \"main\", or a glob, such as \"release/*\"",
        );
    }
    Branches::glob(text).map(drop).or_else(|why| {
        refuse(
            format!("is no glob: {}", why.kind()),
            "write a branch's name, or a glob such as \"release/*\"",
        )
    })
}

/// A pattern for folders: each part between `/` is a glob, `**` stands for any number of parts.
pub(super) fn folder_glob(text: &str) -> Verdict {
    not_empty(text)?;
    text.split('/').try_for_each(|part| {
        globset::Glob::new(part).map(drop).or_else(|why| {
            refuse(
                format!("is not a pattern: {}", why.kind()),
                "`*` stands for one part of a path, `**` for any number; \
                 `{a,b}` and `[ab]` for one of these, without `/` inside",
            )
        })
    })
}

/// The name of an `ARG`, or of a named context.
pub(super) fn variable_name(text: &str) -> Verdict {
    not_empty(text)?;
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '=') {
        return refuse("is not a name", "a name has no white space and no `=`");
    }
    Ok(())
}

pub(super) fn label(text: &str) -> Verdict {
    if text.starts_with("skiff.") {
        return refuse(
            "labels that begin with `skiff.` are skiff's own",
            "give the label another name",
        );
    }
    variable_name(text)
}

pub(super) fn duration_text(text: &str) -> Verdict {
    duration(text).map(drop)
}

/// `7d`, `60m`, `90s`, `1h30m`: whole numbers with units from large to small, more than nothing.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    const HELP: &str =
        "write whole numbers with d, h, m or s, such as \"7d\", \"90s\" or \"1h30m\"";
    let mut seconds = 0_u64;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let mut tail = tail.chars();
        let unit = tail.next();
        // Going on in the same iterator is what refuses `1m1h` and `1m1m`.
        let factor = units.find(|(name, _)| unit == Some(*name));
        let (Ok(number), Some((_, factor))) = (number.parse::<u64>(), factor) else {
            return refuse("is not a duration", HELP);
        };
        seconds = number
            .checked_mul(*factor)
            .and_then(|part| seconds.checked_add(part))
            .map_or_else(|| refuse("is too long", HELP), Ok)?;
        rest = tail.as_str();
    }
    if seconds == 0 {
        return refuse("is no time at all", HELP);
    }
    Ok(Duration::from_secs(seconds))
}

pub(super) fn platform(text: &str) -> Verdict {
    parse_platform(text).map(drop)
}

/// `linux/architecture[/variant]`, with the names that image configs use.
pub(super) fn parse_platform(text: &str) -> Result<Platform, Refusal> {
    const HELP: &str = "write it like \"linux/amd64\" or \"linux/arm64\"";
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts[..] {
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some(variant)),
        _ => return refuse("is not a platform", HELP),
    };
    if os != "linux" {
        return refuse(format!("`{os}` containers cannot be built"), HELP);
    }
    let Some((_, variants)) = ARCHITECTURES.iter().find(|(name, _)| *name == architecture) else {
        let meant = match architecture {
            "x86_64" | "x86-64" | "x64" => Some("amd64"),
            "aarch64" => Some("arm64"),
            "i386" | "x86" => Some("386"),
            other => nearest(other, ARCHITECTURES.iter().map(|(name, _)| *name)),
        };
        let why = format!("`{architecture}` is not an architecture");
        return match meant {
            Some(meant) => refuse(why, format!("did you mean \"linux/{meant}\"?")),
            None => refuse(why, HELP),
        };
    };
    if let Some(variant) = variant.filter(|v| !variants.contains(v)) {
        let why = format!("`{variant}` is not a variant of {architecture}");
        return match variants {
            [] => refuse(why, format!("write \"linux/{architecture}\"")),
            _ => refuse(why, format!("its variants: {}", variants.join(", "))),
        };
    }
    Ok(Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
    })
}

/// Go's names (`GOARCH`), as image configs have them, with their variants.
const ARCHITECTURES: [(&str, &[&str]); 9] = [
    ("amd64", &["v1", "v2", "v3", "v4"]),
    ("arm64", &["v8", "v9"]),
    ("arm", &["v5", "v6", "v7", "v8"]),
    ("386", &[]),
    ("ppc64le", &[]),
    ("s390x", &[]),
    ("riscv64", &[]),
    ("loong64", &[]),
    ("mips64le", &[]),
];

fn wrong_pattern<T>(why: &PatternError, known: &[&'static str]) -> Result<T, Refusal> {
    let help = match why {
        PatternError::Unknown(name) => {
            nearest(name, known.iter().copied()).map(|meant| format!("did you mean `{{{meant}}}`?"))
        }
        _ => None,
    };
    let variables: Vec<String> = known.iter().map(|v| format!("{{{v}}}")).collect();
    refuse(
        why.to_string(),
        help.unwrap_or_else(|| format!("the variables here: {}", variables.join(" "))),
    )
}

/// The references' errors begin with the value, which the caret already shows.
fn without_value(why: &str, value: &str) -> String {
    why.strip_prefix(&format!("`{value}` "))
        .unwrap_or(why)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_units() {
        for (text, seconds) in [
            ("7d", 604_800),
            ("60m", 3_600),
            ("90s", 90),
            ("1h30m", 5_400),
            ("1d1h1m1s", 90_061),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "0s",
            "7",
            "d",
            "1.5h",
            "-1s",
            "1m1h",
            "1m1m",
            "60 m",
            "1w",
            "1M",
            "9é",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn platforms_have_the_names_of_image_configs() {
        for text in ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/386"] {
            assert_eq!(
                parse_platform(text).map(|p| p.to_string()),
                Ok(text.to_owned())
            );
        }
        for (text, help) in [
            ("linux/x86_64", "did you mean \"linux/amd64\"?"),
            ("linux/aarch64", "did you mean \"linux/arm64\"?"),
            ("linux/adm64", "did you mean \"linux/amd64\"?"),
            ("linux/arm/v9", "its variants: v5, v6, v7, v8"),
            ("linux/386/v1", "write \"linux/386\""),
            ("linux", "write it like \"linux/amd64\" or \"linux/arm64\""),
            (
                "windows/amd64",
                "write it like \"linux/amd64\" or \"linux/arm64\"",
            ),
        ] {
            assert_eq!(
                parse_platform(text).unwrap_err().help.as_deref(),
                Some(help),
                "{text}"
            );
        }
    }

    #[test]
    fn folder_names_become_container_names() {
        for (folder, name) in [
            ("Train", Some("train")),
            ("my model (old)", Some("my-model-old")),
            ("_x_", Some("x")),
            ("All", None),
            ("数据", None),
        ] {
            assert_eq!(valid_name(folder).as_deref(), name, "{folder}");
        }
        assert!(is_name("a.b_c-d") && !is_name("a/b") && !is_name("-a") && !is_name("all"));
    }
}
