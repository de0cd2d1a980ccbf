//! The arguments that `FROM` sees: the platform's, then the global `ARG`s in their order, as BuildKit's `defaultArgs`
//! and `buildMetaArgs` make them.

use std::collections::BTreeMap;

use super::Dockerfile;
use super::shell::{self, Expanded, Problem, Rules, Variable};
use crate::manifest::model::Platform;

/// Those of the builder's own platform, which is not known before it is asked.
const BUILDER: [&str; 5] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
];

pub(super) struct Arguments {
    escape: char,
    values: BTreeMap<String, Variable>,
}

impl Arguments {
    /// `target` is the name of the stage that is built. A build argument counts where it is declared, and for the
    /// platform's arguments always.
    pub(super) fn new(
        dockerfile: &Dockerfile,
        build_args: &BTreeMap<String, String>,
        target: Option<&str>,
        platform: &Platform,
    ) -> Self {
        let mut arguments = Self {
            escape: dockerfile.escape,
            values: predefined(target, platform),
        };
        for (name, value) in &mut arguments.values {
            if let Some(given) = build_args.get(name) {
                *value = Variable::Set(given.clone());
            }
        }
        for word in dockerfile
            .global_args
            .iter()
            .flat_map(|arg| quoted_words(arg.arguments(), dockerfile.escape))
        {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default)),
                None => (word.as_str(), None),
            };
            let value = match (build_args.get(name), default) {
                (Some(given), _) => Variable::Set(given.clone()),
                // A default that cannot be read fails the build, unless nobody needs to know it here.
                (None, Some(default)) => arguments
                    .expand(default)
                    .map_or(Variable::Unknown, |expanded| Variable::Set(expanded.text)),
                (None, None) => continue,
            };
            arguments.values.insert(name.to_owned(), value);
        }
        arguments
    }

    /// What `ARG name` without a value gets in a stage.
    pub(super) fn value(&self, name: &str) -> Variable {
        self.values.get(name).cloned().unwrap_or(Variable::Unset)
    }

    /// A word with its variables, quotes and escapes resolved.
    pub(super) fn expand(&self, word: &str) -> Result<Expanded, Problem> {
        let rules = Rules {
            escape: self.escape,
            keep_quotes: false,
            keep_unset: false,
        };
        shell::expand(word, rules, &|name| {
            self.values.get(name).cloned().unwrap_or(Variable::Unset)
        })
    }
}

fn predefined(target: Option<&str>, platform: &Platform) -> BTreeMap<String, Variable> {
    let variant = normal_variant(platform);
    let full = Platform {
        variant: variant.clone(),
        ..platform.clone()
    };
    let known = [
        ("TARGETPLATFORM", full.to_string()),
        ("TARGETOS", platform.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", platform.architecture.clone()),
        ("TARGETVARIANT", variant.unwrap_or_default()),
        ("TARGETSTAGE", target.unwrap_or("default").to_owned()),
    ];
    let known = known.map(|(name, value)| (name.to_owned(), Variable::Set(value)));
    let builder = BUILDER.map(|name| (name.to_owned(), Variable::Unknown));
    known.into_iter().chain(builder).collect()
}

/// The variant as containerd's `platforms.Normalize` has it: the usual one of an architecture is left out, except for
/// 32-bit ARM, where it is always named.
fn normal_variant(platform: &Platform) -> Option<String> {
    match (
        platform.architecture.as_str(),
        platform.variant.as_deref().unwrap_or_default(),
    ) {
        ("amd64", "v1") | ("arm64", "8" | "v8" | "v8.0") => None,
        ("arm", "" | "7") => Some("v7".into()),
        _ => platform.variant.clone(),
    }
}

/// The words of an `ARG`: blanks within quotes and behind an escape do not separate; quotes and escapes stay.
pub(super) fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            // An escape character at the very end is dropped.
            if let Some(next) = chars.next() {
                word.extend([c, next]);
            }
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceText;
    use crate::dockerfile::parse;

    fn expand(text: &str, build_args: &[(&str, &str)], word: &str) -> Result<String, Problem> {
        let source = SourceText::new("Dockerfile", format!("{text}\nFROM scratch"));
        let build_args = build_args
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let platform = Platform {
            os: "linux".into(),
            architecture: "arm64".into(),
            variant: Some("v8".into()),
        };
        let dockerfile = parse(&source).unwrap();
        let arguments = Arguments::new(&dockerfile, &build_args, Some("run"), &platform);
        arguments.expand(word).map(|expanded| expanded.text)
    }

    #[test]
    fn defaults_refer_to_earlier_arguments() {
        let text = "ARG V=3.11 OS='a b'\nARG TAG=$V-\"$OS\"";
        assert_eq!(expand(text, &[], "$TAG").unwrap(), "3.11-a b");
        assert_eq!(expand(text, &[("V", "4")], "$TAG").unwrap(), "4-a b");
        assert_eq!(expand("ARG A=$B\nARG B=1", &[], "x$A").unwrap(), "x");
    }

    #[test]
    fn only_declared_build_arguments_count() {
        assert_eq!(expand("", &[("V", "1")], "x$V").unwrap(), "x");
        assert_eq!(expand("ARG V", &[("V", "1")], "x$V").unwrap(), "x1");
        assert_eq!(expand("ARG V=2\nARG V", &[], "x$V").unwrap(), "x2");
    }

    #[test]
    fn the_platforms_arguments_need_no_declaration() {
        let word = "$TARGETPLATFORM $TARGETARCH$TARGETVARIANT $TARGETSTAGE";
        assert_eq!(expand("", &[], word).unwrap(), "linux/arm64 arm64 run");
        assert_eq!(
            expand("", &[("TARGETARCH", "x")], "$TARGETARCH").unwrap(),
            "x"
        );
    }

    #[test]
    fn the_builders_platform_is_unknown_until_given() {
        assert!(expand("", &[], "$BUILDARCH").is_err());
        assert!(expand("ARG A=x-$BUILDARCH", &[], "$A").is_err());
        assert_eq!(
            expand("", &[("BUILDARCH", "x")], "$BUILDARCH").unwrap(),
            "x"
        );
    }
}
