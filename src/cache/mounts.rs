//! Cache mounts that outlive the runner (`cache.mounts`): what a Dockerfile mounts, and the Dockerfiles that carry it. Text
//! only; the engine runs them.
//!
//! A cache mount lives in the builder. What is in it never passes through skiff: one solve mounts it and copies it out,
//! another mounts what was copied and copies it back. Between them it is an image, `mount-<hash>` in the cache's repository,
//! or the layer of a cached step in a bucket ([`super::s3::note`]). Both run on the image that the stage of the mount
//! begins with, as that is there anyway and has a shell where the stage has one.
//!
//! The builder finds a cache mount by its id and by what it was made from, so that `uid`, `gid`, `mode` and `sharing` are
//! repeated as they are written (BuildKit `dockerfile2llb/convert_runmount.go`). What is written with variables or quotes
//! is left alone, with a word ([`super::unwise`]); so is, without one, what has a `from` or is read-only.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::s3::note::S3Mount;
use super::steps;
use super::stored::Place;
use crate::context::lexical;
use crate::manifest::model::{CacheMounts, Container, Platform};
use crate::reference::{Digest, Tag};

/// Tags of the images that carry cache mounts begin so.
pub(crate) const TAGS: &str = "mount-";

/// A cache mount of some `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheMount {
    /// The flag's value as written: the builder's name of the step has it, too.
    pub(crate) flag: String,
    pub(crate) id: String,
    /// `uid`, `gid`, `mode` and `sharing` as written, each with a comma before it.
    options: String,
    /// The image that the stage begins with: as written, variables expanded.
    pub(crate) base: String,
    /// A hash of what decides whether the builder has the step; `None`: that cannot be told by looking at a few files.
    pub(crate) inputs: Option<String>,
}

impl CacheMount {
    /// Where its contents are, in a few versions: the same for every run that mounts the same.
    pub(crate) fn tags(&self, container: &Container, platform: &Platform) -> Vec<Tag> {
        let namespace = namespace(container).unwrap_or_default();
        let Self { id, options, .. } = self;
        let identity = format!("{id}\0{options}\0{namespace}\0{platform}");
        let hash = Digest::of(identity.as_bytes());
        let first = format!("{TAGS}{}", hash.short());
        let others = (2..=VERSIONS).map(|number| format!("{first}-{number}"));
        let all = std::iter::once(first.clone()).chain(others);
        all.filter_map(|tag| Tag::new(&tag).ok()).collect()
    }

    /// The same, as places of the store that the manifest says.
    pub(crate) fn places(
        &self,
        container: &Container,
        platform: &Platform,
        store: &CacheMounts,
    ) -> Vec<Place> {
        let place = |tag: Tag| match store {
            CacheMounts::Off => None,
            CacheMounts::Registry => Some(Place::Registry(container.trusted_cache().tag(&tag))),
            CacheMounts::S3(settings) => {
                Some(Place::S3(S3Mount::new(settings, &container.name, tag)))
            }
        };
        let tags = self.tags(container, platform).into_iter();
        tags.filter_map(place).collect()
    }

    /// The Dockerfile that fills an empty mount from an image, or from [`KEPT`] where it follows those stages. `nonce`: the
    /// builder would not run the same step twice.
    pub(crate) fn filling(&self, base: &str, from: &str, nonce: &str) -> String {
        let Self { id, options, .. } = self;
        let command = command(FILL, &[nonce]);
        format!(
            "FROM {base}\nUSER 0\nRUN --mount=type=cache,id={id},target=/.skiff/mount{options} \
             --mount=type=bind,from={from},target=/.skiff/from {command}\n"
        )
    }

    /// The Dockerfile whose result is the mount's contents; it fails where there is nothing to keep. `known`: what the
    /// mount held when it was filled, as [`Said::Full`] has its size.
    pub(crate) fn keeping(&self, base: &str, known: &str, nonce: &str) -> String {
        let Self { id, options, .. } = self;
        let command = command(KEEP, &[nonce, &LARGEST.to_string(), known]);
        format!(
            "FROM {base} AS skiff-copied\nUSER 0\nRUN --mount=type=cache,id={id},target=/.skiff/mount{options} {command}\n\
             FROM scratch AS {KEPT}\nCOPY --from=skiff-copied /.skiff/out/ /\n"
        )
    }
}

/// The stage of [`CacheMount::keeping`] that is the mount's contents.
pub(crate) const KEPT: &str = "skiff-kept";

/// Versions that are kept of a mount, each for other lock files.
const VERSIONS: u32 = 3;

/// The largest mount that is carried, in KiB: beyond, fetching it is no faster than what it saves.
pub(crate) const LARGEST: u64 = 4 << 20;

/// Before each word that the steps below say.
const MARK: &str = "skiff-mount ";

const FILL: &str = "set -eu; cd /.skiff/mount; u() { read -r u x < /proc/uptime || u=0.0; echo \"${u%.*}${u#*.}\"; }; s() { c=$(ls -lAR . | (md5sum || cksum) 2>/dev/null || date +%s); set -- $(du -sk .); echo \"${c%% *}:$1\"; }; \
    if [ -n \"$(ls -A .)\" ]; then echo \"skiff-mount used\"; exit 0; fi; a=$(u); \
    if ! cp -a ../from/mount/. .; then rm -rf ./* ./.[!.]* ./..?*; exit 1; fi; echo \"skiff-mount full $(s) $(($(u)-a))\"";

const KEEP: &str = "set -eu; cd /.skiff/mount; s() { c=$(ls -lAR . | (md5sum || cksum) 2>/dev/null || date +%s); set -- $(du -sk .); echo \"${c%% *}:$1\"; }; \
    if [ -z \"$(ls -A .)\" ]; then echo \"skiff-mount empty\"; exit 3; fi; now=$(s); \
    if [ \"${now#*:}\" -gt \"$2\" ]; then echo \"skiff-mount large $now\"; exit 3; fi; \
    if [ \"$now\" = \"$3\" ]; then echo \"skiff-mount same\"; exit 3; fi; \
    cd ..; mkdir out; cp -a mount out/; echo \"skiff-mount full $now\"";

/// The exec form, whatever `SHELL` the base has.
fn command(script: &str, arguments: &[&str]) -> String {
    let mut words = vec!["/bin/sh", "-c", script, "skiff"];
    words.extend(arguments);
    serde_json::json!(words).to_string()
}

/// What a step of these Dockerfiles said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// There was something in it before.
    Used,
    /// It was copied.
    Full {
        /// A checksum of its listing, and its KiB, joined by `:`.
        size: String,
        /// Seconds of the copy alone, where that was measured.
        seconds: Option<f64>,
    },
    Empty,
    /// What it held when it was filled.
    Same,
    /// Larger than [`LARGEST`]; the KiB.
    Large(u64),
}

impl Said {
    /// Reads a line of the step's output.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (word, rest) = {
            let text = line.strip_prefix(MARK)?.trim();
            text.split_once(' ').unwrap_or((text, ""))
        };
        Some(match word {
            "used" => Self::Used,
            "full" => {
                let (size, hundredths) = rest.split_once(' ').unwrap_or((rest, ""));
                let hundredths = hundredths.parse::<u32>().ok();
                Self::Full {
                    size: size.to_owned(),
                    seconds: hundredths.map(|n| f64::from(n) / 100.0),
                }
            }
            "empty" => Self::Empty,
            "same" => Self::Same,
            "large" => Self::Large(kib(rest)),
            _ => return None,
        })
    }
}

/// The KiB of `checksum:KiB`.
pub(crate) fn kib(size: &str) -> u64 {
    let kib = size.rsplit(':').next().unwrap_or_default();
    kib.parse().unwrap_or_default()
}

/// The build argument that gives cache mounts a namespace.
pub(crate) const NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

fn namespace(container: &Container) -> Option<&str> {
    container.args.get(NAMESPACE).map(String::as_str)
}

/// The cache mounts of a container that can be carried. One that is written in several places is one. Blocks: it reads
/// the Dockerfile and a few files of the context. What cannot be read mounts nothing.
pub(crate) fn of(container: &Container, platform: &Platform) -> Vec<CacheMount> {
    let mut found: BTreeMap<(String, String), CacheMount> = BTreeMap::new();
    steps::each_run(container, platform, |run| {
        for (_, flag) in run.instruction.flags_named("mount") {
            if let Read::Carried { id, options } = read(flag) {
                let key = (id.clone(), options.clone());
                found.entry(key).or_insert_with(|| CacheMount {
                    flag: flag.to_owned(),
                    id,
                    options,
                    base: run.base.to_owned(),
                    inputs: run.inputs.hash(),
                });
            }
        }
    });
    found.into_values().collect()
}

/// What a mount is to those who carry cache mounts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Carried {
        id: String,
        options: String,
    },
    /// A cache mount that would be carried if it were written otherwise.
    Unread {
        why: &'static str,
        help: &'static str,
    },
    /// Of another type; or it begins with what an image has, or is read-only.
    Other,
}

/// Reads a mount as BuildKit does (`instructions/commands_runmount.go`). One that is written with more than plain fields is
/// not read: it is to be written back into a Dockerfile.
pub(super) fn read(flag: &str) -> Read {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-,=:@+~".contains(c);
    let unquoted = flag.replace('"', "");
    let (mut kind, mut id, mut target, mut options) = (None, "", "", String::new());
    for field in unquoted.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = Some(value.to_ascii_lowercase()),
            "id" => id = value,
            "target" | "dst" | "destination" => target = value,
            key @ ("uid" | "gid" | "mode" | "sharing") => {
                let _ = write!(options, ",{key}={value}");
            }
            "rw" | "readwrite" if value.is_empty() => {}
            _ => return Read::Other,
        }
    }
    if kind.as_deref() != Some("cache") {
        return Read::Other;
    }
    let unread = |why, help| Read::Unread { why, help };
    if flag.contains('$') {
        return unread(
            "it has a variable, which only the builder knows",
            "write out what it stands for",
        );
    }
    if !flag.chars().all(plain) {
        return unread(
            "it has quotes or characters that are not written back",
            "write it with letters, digits and ._-/:@+~ alone",
        );
    }
    // Relative to the working directory, too: the builder makes an id of what is written (`convert_runmount.go`).
    let id = if id.is_empty() {
        lexical::clean(target)
    } else {
        id.to_owned()
    };
    Read::Carried { id, options }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A mount with this id and nothing else.
    pub(in super::super) fn mount(id: &str) -> CacheMount {
        CacheMount {
            flag: format!("type=cache,id={id},target=/c"),
            id: id.to_owned(),
            options: String::new(),
            base: "python:3.11".to_owned(),
            inputs: None,
        }
    }

    #[test]
    fn a_mount_is_carried_by_its_id_and_with_its_options() {
        let read = |flag| match read(flag) {
            Read::Carried { id, options } => format!("{id} {options}"),
            other => format!("{other:?}"),
        };
        let cases = [
            "type=cache,target=/root/.cache/pip",
            "type=cache,dst=/a/../c/",
            "target=/x,id=uv,type=CACHE,uid=1000,gid=1000,mode=0755,sharing=locked",
            "type=bind,target=/x",
            "target=/x",
            "type=cache,target=/x,from=base",
            "type=cache,target=/x,ro",
            "type=cache,target=$HOME/x",
            "type=cache,\"target=/x\"",
            "type=cache,target=../../x",
            "type=cache",
            "type=cache,id=../x,target=/y",
        ];
        let shown = cases.map(|flag| format!("{flag} -> {}", read(flag)));
        insta::assert_snapshot!(shown.join("\n"), @r#"
        type=cache,target=/root/.cache/pip -> /root/.cache/pip 
        type=cache,dst=/a/../c/ -> /c 
        target=/x,id=uv,type=CACHE,uid=1000,gid=1000,mode=0755,sharing=locked -> uv ,uid=1000,gid=1000,mode=0755,sharing=locked
        type=bind,target=/x -> Other
        target=/x -> Other
        type=cache,target=/x,from=base -> Other
        type=cache,target=/x,ro -> Other
        type=cache,target=$HOME/x -> Unread { why: "it has a variable, which only the builder knows", help: "write out what it stands for" }
        type=cache,"target=/x" -> Unread { why: "it has quotes or characters that are not written back", help: "write it with letters, digits and ._-/:@+~ alone" }
        type=cache,target=../../x -> ../../x 
        type=cache -> . 
        type=cache,id=../x,target=/y -> ../x 
        "#);
    }

    #[test]
    fn what_the_steps_say_is_read_and_nothing_else() {
        let full = |seconds| Said::Full {
            size: "12:340".into(),
            seconds,
        };
        assert_eq!(Said::read("skiff-mount full 12:340"), Some(full(None)));
        let timed = Said::read("skiff-mount full 12:340 25");
        assert_eq!(timed, Some(full(Some(0.25))));
        assert_eq!(Said::read("skiff-mount large 9:77"), Some(Said::Large(77)));
        assert_eq!(Said::read("skiff-mount empty"), Some(Said::Empty));
        assert_eq!(Said::read("empty"), None);
    }

    #[test]
    fn a_stage_is_followed_to_its_image_and_its_inputs_are_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("containers/etl");
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        let dockerfile = "ARG BASE=python:3.11\nFROM ${BASE} AS deps\nCOPY lock /\nFROM deps\n\
                          RUN --mount=type=cache,target=/c --mount=type=cache,id=x,target=/x make\nCOPY . .\n\
                          RUN --mount=type=cache,target=/c --mount=type=cache,target=/d make again\n";
        write("Dockerfile", dockerfile);
        write("lock", "1");
        let head = "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"localhost:5000\"\n[discover]\nroots = [\"containers/*\"]\n";
        let path = dir.path().join("containers.toml");
        std::fs::write(&path, head).unwrap();
        let manifest = crate::manifest::load(&path, "containers.toml").unwrap().0;
        let container = &manifest.containers["etl"];
        let mounts = || of(container, &container.platforms[0]);
        let first = mounts();
        let ids: Vec<_> = first
            .iter()
            .map(|m| (m.id.as_str(), m.base.as_str()))
            .collect();
        let base = "python:3.11";
        assert_eq!(ids, [("/c", base), ("/d", base), ("x", base)]);
        assert!(first[1].inputs.is_none(), "a folder may hold anything");
        write("lock", "2");
        let second = mounts();
        assert_ne!(first[0].inputs, second[0].inputs);
        let bind = "FROM python:3.11\nRUN --mount=type=cache,target=/c --mount=source=lock,target=/l make\n";
        write("Dockerfile", bind);
        let bound = mounts();
        assert!(bound[0].inputs.is_some());
        write("lock", "3");
        assert_ne!(mounts()[0].inputs, bound[0].inputs);
        write("Dockerfile", &bind.replace("source=lock", "source=../lock"));
        assert!(mounts()[0].inputs.is_none(), "it leads out of the context");
        let tags = |mount: &CacheMount| mount.tags(container, &container.platforms[0]);
        assert_eq!(tags(&first[0]), tags(&second[0]));
        assert_ne!(tags(&first[0]), tags(&first[1]));
    }
}
