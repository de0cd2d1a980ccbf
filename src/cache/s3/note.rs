//! Cache mounts in a bucket. The contents are a layer that the builder's own S3 cache has: that of the step which copied
//! them out. A builder that imports that cache and is asked for the very same step has it done, and fetches the layer. What
//! made the step that one is noted in an object beside it, with what was measured: this is what runs look for.
//!
//! What must stay true: a note is written last, and names steps of its own. So what it says is there, whole; runs that keep
//! the same mount at once, or are killed in between, leave one of two good notes.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::S3Place;
use crate::cache::mounts::CacheMount;
use crate::manifest::model::{Platform, S3Settings};
use crate::reference::{Digest, ImageRef, Tag};

/// Where notes are below the prefix; BuildKit has `manifests/` and `blobs/`.
const NOTES: &str = "mounts/";

/// How notes end.
const ENDING: &str = ".json";

/// What a skiff reads and writes; another format is another skiff's.
const FORMAT: u32 = 1;

/// Where a version of a cache mount is in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct S3Mount {
    pub(crate) bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    /// Whose it is.
    pub(crate) container: String,
    pub(crate) tag: Tag,
}

impl S3Mount {
    pub(crate) fn new(settings: &S3Settings, container: &str, tag: Tag) -> Self {
        Self {
            bucket: settings.bucket.clone(),
            prefix: settings.prefix.clone(),
            container: container.to_owned(),
            tag,
        }
    }

    /// How the keys of all notes begin, or those of one container's.
    pub(crate) fn beginning(settings: &S3Settings) -> String {
        format!("{}{NOTES}", settings.prefix)
    }

    /// The version that has its note under this key.
    pub(crate) fn of_key(settings: &S3Settings, key: &str) -> Option<Self> {
        let rest = key.strip_prefix(&Self::beginning(settings))?;
        let (container, tag) = rest.strip_suffix(ENDING)?.rsplit_once('/')?;
        Some(Self::new(settings, container, Tag::new(tag).ok()?))
    }

    /// Of its note.
    pub(crate) fn key(&self) -> String {
        let Self {
            prefix,
            container,
            tag,
            ..
        } = self;
        format!("{prefix}{NOTES}{container}/{tag}{ENDING}")
    }

    /// The cache in which the builder has the steps that this nonce was made for.
    pub(crate) fn steps(&self, nonce: &str) -> S3Place {
        S3Place {
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            name: format!("{}/{}-{nonce}", self.container, self.tag),
        }
    }
}

impl fmt::Display for S3Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key())
    }
}

/// What is noted of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MountNote {
    format: u32,
    /// The mount's.
    pub(crate) id: String,
    platform: String,
    /// With [`Self::nonce`] and [`Self::known`]: what the steps were made from.
    pub(crate) base: ImageRef,
    pub(crate) nonce: String,
    pub(crate) known: String,
    /// A hash of the steps: a skiff that has others would not find them.
    steps: Digest,
    /// The hash of what the mount's own step read.
    pub(crate) inputs: Option<String>,
    /// Seconds of that step with nothing in the mount.
    pub(crate) cold: Option<f64>,
    /// How often in a row the mount was filled with it and its step took no less time.
    pub(crate) losses: u32,
    pub(crate) created: Timestamp,
    /// What it consists of, in bytes. Empty until the builder has written it.
    pub(crate) layers: BTreeMap<Digest, u64>,
}

impl MountNote {
    /// Of a mount that is to be kept: with a base by digest its steps are the same for as long as that image is there.
    pub(crate) fn new(
        mount: &CacheMount,
        platform: &Platform,
        base: ImageRef,
        (known, nonce): (&str, String),
        created: Timestamp,
    ) -> Self {
        Self {
            format: FORMAT,
            id: mount.id.clone(),
            platform: platform.to_string(),
            steps: Digest::of(mount.keeping(&base.to_string(), known, &nonce).as_bytes()),
            base,
            nonce,
            known: known.to_owned(),
            inputs: mount.inputs.clone(),
            cold: None,
            losses: 0,
            created,
            layers: BTreeMap::new(),
        }
    }

    /// What cannot be read is no note.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let note: Self = serde_json::from_slice(bytes).ok()?;
        (note.format == FORMAT).then_some(note)
    }

    pub(crate) fn written(&self) -> serde_json::Result<Bytes> {
        Ok(Bytes::from(serde_json::to_vec_pretty(self)?))
    }

    /// The stages whose last one is the mount's contents; `None`: it is of another mount, or another skiff's steps.
    pub(crate) fn stages(&self, mount: &CacheMount, platform: &Platform) -> Option<String> {
        let stages = mount.keeping(&self.base.to_string(), &self.known, &self.nonce);
        let same = self.steps == Digest::of(stages.as_bytes());
        (same && self.platform == platform.to_string()).then_some(stages)
    }
}

/// The layers of a cache that the builder wrote, with their sizes (BuildKit `cache/remotecache/v1/types`, `CacheConfig`).
/// Of what is none: none.
pub(crate) fn layers(manifest: &[u8]) -> BTreeMap<Digest, u64> {
    #[derive(Deserialize)]
    struct Config {
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    struct Layer {
        blob: Digest,
        annotations: Annotations,
    }
    #[derive(Deserialize)]
    struct Annotations {
        size: u64,
    }
    let read = serde_json::from_slice::<Config>(manifest).ok();
    let layers = read.into_iter().flat_map(|config| config.layers);
    layers
        .map(|layer| (layer.blob, layer.annotations.size))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::mounts::tests::mount;

    fn settings(prefix: &str) -> S3Settings {
        S3Settings {
            bucket: "caches".into(),
            prefix: prefix.into(),
            region: None,
            endpoint: None,
            path_style: false,
        }
    }

    #[test]
    fn a_key_is_a_versions_and_leads_back_to_it() {
        for prefix in ["", "team/"] {
            let settings = settings(prefix);
            let version = S3Mount::new(&settings, "etl", Tag::new("mount-1-2").unwrap());
            assert_eq!(version.key(), format!("{prefix}mounts/etl/mount-1-2.json"));
            assert_eq!(S3Mount::of_key(&settings, &version.key()).unwrap(), version);
            let steps = version.steps("n").to_string();
            assert_eq!(
                steps,
                format!("s3://caches/{prefix}manifests/etl/mount-1-2-n")
            );
        }
        for other in [
            "team/mounts/x",
            "mounts/etl/mount-1.json",
            "team/mounts/mount-1.json",
        ] {
            assert_eq!(S3Mount::of_key(&settings("team/"), other), None, "{other}");
        }
    }

    #[test]
    fn a_note_leads_to_the_very_steps_or_to_none() {
        let on = |architecture: &str| Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        };
        let platform = on("amd64");
        let (pip, other) = (mount("pip"), mount("uv"));
        let base = "python:3.11".parse().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let note = MountNote::new(&pip, &platform, base, ("1:2", "nonce".into()), now);
        let read = MountNote::read(&note.written().unwrap()).unwrap();
        assert_eq!(read, note);
        let kept = pip.keeping("docker.io/library/python:3.11", "1:2", "nonce");
        assert_eq!(read.stages(&pip, &platform), Some(kept));
        assert_eq!(read.stages(&other, &platform), None);
        assert_eq!(read.stages(&pip, &on("arm64")), None);
        let altered = MountNote {
            known: "3:4".into(),
            ..read.clone()
        };
        assert_eq!(altered.stages(&pip, &platform), None);
        let later = MountNote { format: 2, ..read };
        assert_eq!(MountNote::read(&later.written().unwrap()), None);
        assert_eq!(MountNote::read(b"{}"), None);
    }

    #[test]
    fn the_layers_are_those_that_the_builder_noted() {
        let digest = Digest::of(b"x");
        let written = format!(
            r#"{{"layers":[{{"blob":"{digest}","parent":-1,"annotations":{{"mediaType":"m","diffID":"{digest}","size":7}}}}],"records":[]}}"#
        );
        assert_eq!(layers(written.as_bytes()), [(digest, 7)].into());
        assert!(layers(b"{\"layers\":[]}").is_empty());
        assert!(layers(b"<xml>").is_empty());
    }
}
