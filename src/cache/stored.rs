//! What is kept of caches, where, how large it is, and how old; and what a manifest in a registry is to caches: a build
//! cache, a carried cache mount, or something else.
//!
//! What must stay true: a tag is a cache only by what it stands on. Its name says which container it belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::labels;
use super::s3::note::S3Mount;
use crate::manifest::model::ContainerName;
use crate::reference::{Digest, ImageRef, Tag};
use crate::registry::ecr::ImageTimes;
use crate::registry::image::{Descriptor, ImageConfig, RawManifest};
use crate::registry::media_type;

/// What a build cache says of its layers (BuildKit `cache/remotecache/v1`, `CacheConfigMediaTypeV0`): the config of an
/// image manifest, or one of the manifests of an index.
const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// When the step of a layer ran (BuildKit `cache/remotecache/v1`).
const STEP_RAN: &str = "buildkit/createdat";

/// Where something is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// By its tag.
    Registry(ImageRef),
    /// A cache mount's contents in a bucket.
    S3(S3Mount),
}

impl Place {
    pub(crate) fn image(&self) -> Option<&ImageRef> {
        match self {
            Self::Registry(image) => Some(image),
            Self::S3(_) => None,
        }
    }

    pub(crate) fn tag(&self) -> Option<&Tag> {
        match self {
            Self::Registry(image) => image.tag.as_ref(),
            Self::S3(version) => Some(&version.tag),
        }
    }

    /// What keeps a blob once, whoever has it.
    fn store(&self) -> String {
        match self {
            Self::Registry(image) => image.repository.to_string(),
            Self::S3(version) => format!("s3://{}", version.bucket),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(image) => image.fmt(f),
            Self::S3(version) => version.fmt(f),
        }
    }
}

/// A cache that is there.
#[derive(Debug, Clone)]
pub(crate) struct StoredCache {
    pub(crate) place: Place,
    /// Of its manifest or note.
    pub(crate) digest: Digest,
    pub(crate) content: Content,
    /// All that it consists of, each once, with its size in bytes.
    pub(crate) blobs: BTreeMap<Digest, u64>,
    pub(crate) owner: Owner,
    /// What the registry knows of it.
    pub(crate) times: ImageTimes,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Every intermediate step of a build.
    Build {
        /// When the newest of its steps ran.
        newest: Option<Timestamp>,
    },
    /// What `RUN --mount=type=cache` left behind.
    Mount {
        id: String,
        made: Option<Timestamp>,
        /// Seconds of its step with nothing in it, where that was measured.
        cold: Option<f64>,
    },
}

/// Whose cache it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    /// None: of no container that there is now. Several may have the same mount.
    pub(crate) containers: Vec<ContainerName>,
    /// The branch or pull request as its tag has it; `None`: the branches that move a channel share it.
    pub(crate) branch: Option<String>,
    /// The next run of a channel's branch would use it: it is shared, and a container still has it.
    pub(crate) in_use: bool,
}

/// What a manifest is, as far as it says so itself.
pub(crate) enum Seen {
    Cache(Content, BTreeMap<Digest, u64>),
    /// An image: its config decides. With its blobs.
    Image(Descriptor, BTreeMap<Digest, u64>),
    Foreign,
}

impl Seen {
    /// What cannot be read is foreign.
    pub(crate) fn of(raw: &RawManifest) -> Self {
        #[derive(Deserialize)]
        struct File {
            config: Option<Part>,
            #[serde(default)]
            layers: Vec<Part>,
            #[serde(default)]
            manifests: Vec<Part>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Part {
            media_type: String,
            digest: Digest,
            size: u64,
            #[serde(default)]
            annotations: BTreeMap<String, String>,
        }
        let Ok(file) = serde_json::from_slice::<File>(&raw.bytes) else {
            return Self::Foreign;
        };
        let parts = || {
            let lists = file.layers.iter().chain(&file.manifests);
            lists.chain(&file.config)
        };
        let mut blobs: BTreeMap<_, _> = parts().map(|p| (p.digest.clone(), p.size)).collect();
        blobs.insert(raw.digest.clone(), raw.bytes.len() as u64);
        let marks = file.manifests.iter().chain(&file.config);
        if marks.clone().any(|part| part.media_type == CACHE_CONFIG) {
            let ran = parts().filter_map(|part| part.annotations.get(STEP_RAN)?.parse().ok());
            return Self::Cache(Content::Build { newest: ran.max() }, blobs);
        }
        match file.config {
            Some(Part {
                media_type,
                digest,
                size,
                ..
            }) if [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG]
                .contains(&media_type.as_str()) =>
            {
                let config = Descriptor {
                    media_type,
                    digest,
                    size,
                };
                Self::Image(config, blobs)
            }
            _ => Self::Foreign,
        }
    }
}

impl Content {
    /// The cache mount that an image carries, if it carries one.
    pub(crate) fn of_image(config: &ImageConfig) -> Option<Self> {
        let label = |name: &str| config.labels.get(name);
        Some(Self::Mount {
            id: label(labels::ID)?.clone(),
            made: config.created,
            cold: label(labels::COLD).and_then(|text| text.parse().ok()),
        })
    }

    /// For people and for scripts.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Build { .. } => "build",
            Self::Mount { .. } => "mount",
        }
    }
}

impl StoredCache {
    /// In bytes.
    pub(crate) fn size(&self) -> u64 {
        self.blobs.values().sum()
    }

    /// When it was written; of a build cache whose registry does not say, when its newest step ran, which is no later.
    pub(crate) fn written(&self) -> Option<Timestamp> {
        self.times.pushed.or(match &self.content {
            Content::Build { newest } => *newest,
            Content::Mount { made, .. } => *made,
        })
    }

    /// Whether it was neither written nor read within this time, as far as that is known; where nothing is, it is young.
    pub(crate) fn is_older_than(&self, age: Duration, now: Timestamp) -> bool {
        let last = self.written().max(self.times.pulled);
        last.is_some_and(|last| {
            Duration::try_from(now.duration_since(last)).is_ok_and(|passed| passed > age)
        })
    }
}

/// The bytes of these caches together, every blob once: a registry keeps it once in a repository, and a bucket once.
pub(crate) fn total<'a>(caches: impl IntoIterator<Item = &'a StoredCache>) -> u64 {
    let mut seen: BTreeSet<(String, &Digest)> = BTreeSet::new();
    let mut bytes = 0;
    for cache in caches {
        for (digest, size) in &cache.blobs {
            if seen.insert((cache.place.store(), digest)) {
                bytes += size;
            }
        }
    }
    bytes
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;

    use super::*;

    fn raw(body: &serde_json::Value) -> RawManifest {
        let bytes = Bytes::from(body.to_string());
        RawManifest {
            media_type: media_type::OCI_MANIFEST.into(),
            digest: Digest::of(&bytes),
            bytes,
        }
    }

    fn part(kind: &str, content: &str, size: u64) -> serde_json::Value {
        serde_json::json!({"mediaType": kind, "digest": Digest::of(content.as_bytes()), "size": size})
    }

    #[test]
    fn a_build_cache_is_known_by_its_config_in_either_form() {
        let mut layer = part(media_type::OCI_LAYER_GZIP, "layer", 10);
        layer["annotations"] = serde_json::json!({STEP_RAN: "2026-01-02T03:04:05.6Z"});
        let config = part(CACHE_CONFIG, "config", 5);
        let image = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [layer, config]});
        for body in [image, index] {
            let raw = raw(&body);
            let Seen::Cache(Content::Build { newest }, blobs) = Seen::of(&raw) else {
                panic!("{body}");
            };
            assert_eq!(newest.unwrap().to_string(), "2026-01-02T03:04:05.6Z");
            assert_eq!(blobs.values().sum::<u64>(), 15 + raw.bytes.len() as u64);
        }
    }

    #[test]
    fn an_image_is_no_cache_unless_its_config_says_so_and_nothing_else_is_one() {
        let image =
            serde_json::json!({"config": part(media_type::OCI_CONFIG, "c", 1), "layers": []});
        assert!(matches!(Seen::of(&raw(&image)), Seen::Image(..)));
        let index = serde_json::json!({"manifests": [part(media_type::OCI_MANIFEST, "m", 1)]});
        let artifact = serde_json::json!({"config": part("application/x", "c", 1)});
        for body in [index, artifact, serde_json::json!([])] {
            assert!(matches!(Seen::of(&raw(&body)), Seen::Foreign), "{body}");
        }
        let config = |labels: &str| {
            let text = format!(
                r#"{{"os":"linux","architecture":"amd64","config":{{"Labels":{labels}}}}}"#
            );
            Content::of_image(&ImageConfig::parse(text.as_bytes()).unwrap())
        };
        assert_eq!(config(r#"{"skiff.mount.cold":"2"}"#), None);
        let mount = config(r#"{"skiff.mount.id":"pip","skiff.mount.cold":"2.5"}"#).unwrap();
        let Content::Mount { id, cold, made } = mount else {
            panic!("no mount");
        };
        assert_eq!((id.as_str(), cold, made), ("pip", Some(2.5), None));
    }

    /// A build cache of one blob, written then.
    pub(in super::super) fn stored(reference: &str, blob: &str, written: &str) -> StoredCache {
        StoredCache {
            place: Place::Registry(reference.parse().unwrap()),
            digest: Digest::of(reference.as_bytes()),
            content: Content::Build {
                newest: written.parse().ok(),
            },
            blobs: [(Digest::of(blob.as_bytes()), 10)].into(),
            owner: Owner::default(),
            times: ImageTimes::default(),
        }
    }

    #[test]
    fn a_blob_counts_once_in_a_repository() {
        let caches = [
            stored("localhost:1/a:x", "one", ""),
            stored("localhost:1/a:y", "one", ""),
            stored("localhost:1/b:x", "one", ""),
        ];
        assert_eq!(total(&caches), 20);
    }

    #[test]
    fn what_was_written_or_read_lately_is_young_and_so_is_what_nothing_is_known_of() {
        let now: Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        let fortnight = Duration::from_hours(14 * 24);
        let old = stored("localhost:1/a:x", "one", "2026-01-01T00:00:00Z");
        assert!(old.is_older_than(fortnight, now));
        let mut used = old.clone();
        used.times.pulled = "2026-01-30T00:00:00Z".parse().ok();
        assert!(!used.is_older_than(fortnight, now));
        let unknown = stored("localhost:1/a:x", "one", "");
        assert!(!unknown.is_older_than(fortnight, now));
    }
}
