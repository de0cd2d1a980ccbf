//! Manifests and configs as types: Docker image manifest v2 schema 2, and OCI image spec 1.1, which agree in all that is
//! read here. Unknown fields are ignored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::media_type;
use crate::manifest::model::Platform;
use crate::reference::Digest;

/// What content is, and where: a manifest's answer to HEAD, its config, a layer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// A manifest as the registry has it: pushing these very bytes again keeps the digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawManifest {
    pub bytes: Bytes,
    pub media_type: String,
    /// Of `bytes`; always checked.
    pub digest: Digest,
}

impl RawManifest {
    /// A manifest that is written here.
    pub(crate) fn of(manifest: &Value, media_type: String) -> serde_json::Result<Self> {
        let bytes = Bytes::from(serde_json::to_vec(manifest)?);
        Ok(Self {
            digest: Digest::of(&bytes),
            media_type,
            bytes,
        })
    }
}

/// The manifest of one image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageManifest {
    pub media_type: String,
    pub digest: Digest,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// Why bytes are not an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAnImage {
    #[error("it is a list of images for several platforms (`{0}`), not one image")]
    Index(String),
    #[error("its media type is `{header}` by the answer's header, but `{body}` by its own content")]
    Ambiguous { header: String, body: String },
    #[error("it is not an image manifest: {0}")]
    Manifest(serde_json::Error),
    #[error("its config is not an image config: {0}")]
    Config(serde_json::Error),
}

impl ImageManifest {
    pub(crate) fn parse(raw: &RawManifest) -> Result<Self, NotAnImage> {
        #[derive(Deserialize)]
        struct File {
            config: Descriptor,
            layers: Vec<Descriptor>,
        }
        if media_type::is_index(&raw.media_type) {
            return Err(NotAnImage::Index(raw.media_type.clone()));
        }
        let body = media_type::of_manifest(&raw.bytes).unwrap_or_else(|| raw.media_type.clone());
        if body != raw.media_type {
            return Err(NotAnImage::Ambiguous {
                header: raw.media_type.clone(),
                body,
            });
        }
        let file: File = serde_json::from_slice(&raw.bytes).map_err(NotAnImage::Manifest)?;
        Ok(Self {
            media_type: raw.media_type.clone(),
            digest: raw.digest.clone(),
            config: file.config,
            layers: file.layers,
        })
    }
}

/// A list of images for several platforms, and of what is attested of them (OCI image spec, image-index).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageIndex {
    pub media_type: String,
    pub digest: Digest,
    pub entries: Vec<IndexEntry>,
}

/// One manifest of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub digest: Digest,
    pub platform: Option<Platform>,
    /// The image that it attests something of, instead of being one (BuildKit, `docs/attestations/attestation-storage.md`).
    pub attests: Option<Digest>,
}

impl ImageIndex {
    pub(crate) fn parse(raw: &RawManifest) -> Result<Self, NotAnImage> {
        #[derive(Deserialize)]
        struct File {
            manifests: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            digest: Digest,
            platform: Option<FilePlatform>,
            #[serde(default)]
            annotations: BTreeMap<String, String>,
        }
        #[derive(Deserialize)]
        struct FilePlatform {
            os: String,
            architecture: String,
            variant: Option<String>,
        }
        let body = media_type::of_manifest(&raw.bytes).unwrap_or_else(|| raw.media_type.clone());
        if body != raw.media_type {
            return Err(NotAnImage::Ambiguous {
                header: raw.media_type.clone(),
                body,
            });
        }
        let file: File = serde_json::from_slice(&raw.bytes).map_err(NotAnImage::Manifest)?;
        let entry = |entry: Entry| IndexEntry {
            digest: entry.digest,
            platform: entry.platform.map(|platform| Platform {
                os: platform.os,
                architecture: platform.architecture,
                variant: platform.variant.filter(|variant| !variant.is_empty()),
            }),
            attests: entry
                .annotations
                .get("vnd.docker.reference.digest")
                .and_then(|digest| Digest::new(digest).ok()),
        };
        Ok(Self {
            media_type: raw.media_type.clone(),
            digest: raw.digest.clone(),
            entries: file.manifests.into_iter().map(entry).collect(),
        })
    }

    /// Those that are images.
    pub(crate) fn images(&self) -> impl Iterator<Item = &IndexEntry> {
        self.entries.iter().filter(|entry| entry.attests.is_none())
    }
}

/// An image's config: for what machine it is, and its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageConfig {
    pub platform: Platform,
    pub labels: BTreeMap<String, String>,
    /// When it was made, where it says so.
    pub created: Option<Timestamp>,
    /// Whether it has `ONBUILD` instructions, which run in what is built from it.
    pub triggers: bool,
    /// Names of its environment's variables.
    pub environment: BTreeSet<String>,
}

impl ImageConfig {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NotAnImage> {
        #[derive(Deserialize)]
        struct File {
            architecture: String,
            os: String,
            variant: Option<String>,
            created: Option<String>,
            config: Option<Execution>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Execution {
            labels: Option<BTreeMap<String, String>>,
            on_build: Option<Vec<String>>,
            env: Option<Vec<String>>,
        }
        let file: File = serde_json::from_slice(bytes).map_err(NotAnImage::Config)?;
        let execution = file.config.unwrap_or_default();
        Ok(Self {
            platform: Platform {
                os: file.os,
                architecture: file.architecture,
                variant: file.variant.filter(|variant| !variant.is_empty()),
            },
            labels: execution.labels.unwrap_or_default(),
            // Not everybody writes times that can be read, and no image is refused for it.
            created: file.created.and_then(|text| text.parse().ok()),
            triggers: execution.on_build.is_some_and(|list| !list.is_empty()),
            environment: execution
                .env
                .unwrap_or_default()
                .iter()
                .map(|entry| entry.split('=').next().unwrap_or_default().to_owned())
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(media_type: &str, body: &serde_json::Value) -> RawManifest {
        let bytes = Bytes::from(body.to_string());
        RawManifest {
            media_type: media_type.to_owned(),
            digest: Digest::of(&bytes),
            bytes,
        }
    }

    fn body() -> serde_json::Value {
        let digest = Digest::of(b"");
        serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST, "annotations": {"a": "b"},
            "config": {"mediaType": media_type::DOCKER_CONFIG, "digest": digest, "size": 7, "urls": []},
            "layers": [{"mediaType": media_type::DOCKER_LAYER_GZIP, "digest": digest, "size": 9}],
        })
    }

    #[test]
    fn a_manifest_is_read() {
        let manifest = ImageManifest::parse(&raw(media_type::DOCKER_MANIFEST, &body())).unwrap();
        assert_eq!(manifest.media_type, media_type::DOCKER_MANIFEST);
        assert_eq!((manifest.config.size, manifest.layers[0].size), (7, 9));
    }

    #[test]
    fn an_index_has_images_and_what_is_attested_of_them() {
        let (image, other) = (Digest::of(b"image"), Digest::of(b"attestation"));
        let body = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [
                {"mediaType": media_type::OCI_MANIFEST, "digest": image, "size": 7,
                    "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
                {"mediaType": media_type::OCI_MANIFEST, "digest": other, "size": 7,
                    "platform": {"os": "unknown", "architecture": "unknown"},
                    "annotations": {"vnd.docker.reference.digest": image,
                        "vnd.docker.reference.type": "attestation-manifest"}},
            ],
        });
        let index = ImageIndex::parse(&raw(media_type::OCI_INDEX, &body)).unwrap();
        let images: Vec<_> = index.images().collect();
        assert_eq!(images.len(), 1);
        assert_eq!(
            images[0].platform.as_ref().unwrap().to_string(),
            "linux/arm64/v8"
        );
        assert_eq!(index.entries[1].attests.as_ref(), Some(&images[0].digest));
    }

    #[test]
    fn what_is_not_an_image_is_refused() {
        let refused = |raw| ImageManifest::parse(&raw).unwrap_err().to_string();
        insta::assert_snapshot!(
            refused(raw(media_type::OCI_INDEX, &body())),
            @"it is a list of images for several platforms (`application/vnd.oci.image.index.v1+json`), not one image"
        );
        insta::assert_snapshot!(
            refused(raw(media_type::OCI_MANIFEST, &body())),
            @"its media type is `application/vnd.oci.image.manifest.v1+json` by the answer's header, but `application/vnd.docker.distribution.manifest.v2+json` by its own content"
        );
        insta::assert_snapshot!(
            refused(raw("", &serde_json::json!({"layers": []}))),
            @"it is not an image manifest: missing field `config` at line 1 column 13"
        );
    }

    #[test]
    fn a_config_is_read_with_and_without_labels() {
        let parse = |text: &str| ImageConfig::parse(text.as_bytes()).unwrap();
        let config = parse(
            r#"{"os":"linux","architecture":"arm64","variant":"v8","created":"2023-11-14T22:13:20Z","rootfs":{},"config":{"Labels":{"a":"b"},"OnBuild":["RUN x"],"Env":["A=1"]}}"#,
        );
        assert_eq!(config.platform.to_string(), "linux/arm64/v8");
        assert_eq!(config.labels["a"], "b");
        assert!(config.triggers && config.environment.contains("A"));
        assert_eq!(config.created.unwrap().as_second(), 1_700_000_000);
        let bare =
            parse(r#"{"os":"linux","architecture":"amd64","variant":"","config":{"Labels":null}}"#);
        assert_eq!(bare.platform.to_string(), "linux/amd64");
        assert!(bare.labels.is_empty());
        assert!(ImageConfig::parse(b"{}").is_err());
    }
}
