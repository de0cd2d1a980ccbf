//! What a profile means: the attributes with which BuildKit exports an image, and the check of what then stands in the
//! registry. All three profiles ask for the same today, the strictest: one Docker v2 schema 2 manifest with gzip layers,
//! which is all that SageMaker runs, and which Lambda and every engine run too.
//!
//! Attestations would turn the image into an index. BuildKit makes none unless the frontend attributes say so
//! (`attest:…`, or `build-arg:BUILDKIT_ATTEST_…`; `control/control.go`, `frontend/attestations/parse.go`), so there is
//! nothing to switch off; if such an argument slips in, the export fails ("cannot export attestations with
//! oci-mediatypes=false").

use std::collections::BTreeMap;
use std::fmt;

use crate::manifest::model::{Platform, Profile};
use crate::reference::Digest;
use crate::registry::image::{ImageConfig, ImageManifest};
use crate::registry::media_type;

/// Attributes for BuildKit's `image` exporter, all but `name` (`exporter/containerimage`, BuildKit's README).
pub(crate) fn exporter_attrs(profile: Profile) -> BTreeMap<&'static str, String> {
    let attrs: &[(&str, &str)] = match profile {
        Profile::Docker | Profile::Sagemaker | Profile::Lambda => &[
            ("push", "true"),
            // Nothing is kept or unpacked on the builder: a build of a source change pulls no layer.
            ("store", "false"),
            // Said always: BuildKit's default is OCI since 0.31.
            ("oci-mediatypes", "false"),
            ("compression", "gzip"),
            // Without it, layers of a base image stay as they are: zstd ones are pushed (seen) under a media type
            // that SageMaker refuses. It costs nothing for a gzip layer: BuildKit decides by the media type and
            // leaves it in the registry, unpulled (`cache/blobs.go`, `ensureCompression`).
            ("force-compression", "true"),
        ],
    };
    attrs.iter().map(|(k, v)| (*k, (*v).to_owned())).collect()
}

/// Docker's limit, and that of ECR.
const MAX_LAYERS: usize = 127;
/// ECR's quota: 52,000 MiB.
const MAX_LAYER_BYTES: u64 = 52_000 << 20;

/// One way in which a pushed image is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// The tag holds something else than what the builder says it pushed.
    Digest {
        expected: Digest,
        actual: Digest,
    },
    ManifestType(String),
    ConfigType(String),
    LayerType {
        digest: Digest,
        media_type: String,
    },
    Platform {
        expected: Platform,
        actual: Platform,
    },
    LayerCount(usize),
    LayerSize {
        digest: Digest,
        bytes: u64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest { expected, actual } => {
                write!(
                    f,
                    "the registry has {actual}, the builder pushed {expected}: did another run push the same tag?"
                )
            }
            Self::ManifestType(actual) => {
                write!(
                    f,
                    "the manifest is `{actual}`, not `{}`",
                    media_type::DOCKER_MANIFEST
                )
            }
            Self::ConfigType(actual) => {
                write!(
                    f,
                    "the config is `{actual}`, not `{}`",
                    media_type::DOCKER_CONFIG
                )
            }
            Self::LayerType { digest, media_type } => {
                let expected = media_type::DOCKER_LAYER_GZIP;
                write!(
                    f,
                    "layer {} is `{media_type}`, not `{expected}`",
                    digest.short()
                )
            }
            Self::Platform { expected, actual } => {
                write!(
                    f,
                    "the image is for {actual}, not {expected}: does a FROM name another platform?"
                )
            }
            Self::LayerCount(count) => {
                write!(
                    f,
                    "{count} layers, more than {MAX_LAYERS}: join RUN or COPY steps"
                )
            }
            Self::LayerSize { digest, bytes } => {
                write!(
                    f,
                    "layer {} has {bytes} bytes, more than the {MAX_LAYER_BYTES} (52,000 MiB) that ECR takes",
                    digest.short()
                )
            }
        }
    }
}

/// Whether an image that was read back is the one that the builder says it pushed, and what `profile` needs; else all that is wrong.
/// That it is one image and no index was found out by [`ImageManifest::parse`].
pub(crate) fn verify(
    profile: Profile,
    platform: &Platform,
    pushed: &Digest,
    manifest: &ImageManifest,
    config: &ImageConfig,
) -> Result<(), Vec<Mismatch>> {
    let mut found = Vec::new();
    if manifest.digest != *pushed {
        found.push(Mismatch::Digest {
            expected: pushed.clone(),
            actual: manifest.digest.clone(),
        });
    }
    match profile {
        Profile::Docker | Profile::Sagemaker | Profile::Lambda => {
            docker_types(manifest, &mut found);
        }
    }
    if normal(platform) != normal(&config.platform) {
        found.push(Mismatch::Platform {
            expected: platform.clone(),
            actual: config.platform.clone(),
        });
    }
    if manifest.layers.len() > MAX_LAYERS {
        found.push(Mismatch::LayerCount(manifest.layers.len()));
    }
    for layer in manifest.layers.iter().filter(|l| l.size > MAX_LAYER_BYTES) {
        found.push(Mismatch::LayerSize {
            digest: layer.digest.clone(),
            bytes: layer.size,
        });
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn docker_types(manifest: &ImageManifest, found: &mut Vec<Mismatch>) {
    if manifest.media_type != media_type::DOCKER_MANIFEST {
        found.push(Mismatch::ManifestType(manifest.media_type.clone()));
    }
    if manifest.config.media_type != media_type::DOCKER_CONFIG {
        found.push(Mismatch::ConfigType(manifest.config.media_type.clone()));
    }
    let others = manifest
        .layers
        .iter()
        .filter(|layer| layer.media_type != media_type::DOCKER_LAYER_GZIP);
    found.extend(others.map(|layer| Mismatch::LayerType {
        digest: layer.digest.clone(),
        media_type: layer.media_type.clone(),
    }));
}

/// The variant that an architecture has when none is named (containerd/platforms, `normalizeArch`).
fn normal(platform: &Platform) -> (&str, &str, &str) {
    let variant = platform.variant.as_deref().unwrap_or("");
    let variant = match (platform.architecture.as_str(), variant) {
        ("amd64", "v1") | ("arm64", "v8" | "8") => "",
        ("arm", "" | "7") => "v7",
        (_, variant) => variant,
    };
    (&platform.os, &platform.architecture, variant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::image::Descriptor;

    fn platform(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        }
    }

    fn descriptor(media_type: &str, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest: Digest::of(media_type.as_bytes()),
            size,
        }
    }

    fn image() -> (ImageManifest, ImageConfig) {
        let manifest = ImageManifest {
            media_type: media_type::DOCKER_MANIFEST.into(),
            digest: Digest::of(b"pushed"),
            config: descriptor(media_type::DOCKER_CONFIG, 10),
            layers: vec![descriptor(media_type::DOCKER_LAYER_GZIP, 52_000 << 20); 127],
        };
        let config = ImageConfig {
            platform: platform("linux", "amd64", None),
            labels: BTreeMap::new(),
            triggers: false,
            environment: std::collections::BTreeSet::new(),
        };
        (manifest, config)
    }

    fn check(manifest: &ImageManifest, config: &ImageConfig) -> Vec<String> {
        let wanted = platform("linux", "amd64", None);
        let pushed = Digest::of(b"pushed");
        match verify(Profile::Sagemaker, &wanted, &pushed, manifest, config) {
            Ok(()) => Vec::new(),
            Err(found) => found.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_good_image_passes_up_to_the_limits() {
        let (manifest, config) = image();
        assert!(check(&manifest, &config).is_empty());
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let (mut manifest, mut config) = image();
        manifest.media_type = media_type::OCI_MANIFEST.into();
        manifest.digest = Digest::of(b"other");
        manifest.config.media_type = "application/vnd.oci.image.config.v1+json".into();
        manifest.layers[3] = descriptor("application/vnd.docker.image.rootfs.diff.tar.zstd", 1);
        manifest.layers.push(descriptor(
            media_type::DOCKER_LAYER_GZIP,
            (52_000 << 20) + 1,
        ));
        config.platform = platform("linux", "arm64", Some("v8"));
        insta::assert_snapshot!(check(&manifest, &config).join("\n"), @r#"
the registry has sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa, the builder pushed sha256:b77f399d988cdaefde8935e45fe96dc70fdd914b6b18d13bb87a84030b46fa5a: did another run push the same tag?
the manifest is `application/vnd.oci.image.manifest.v1+json`, not `application/vnd.docker.distribution.manifest.v2+json`
the config is `application/vnd.oci.image.config.v1+json`, not `application/vnd.docker.container.image.v1+json`
layer 8fa752258aa8 is `application/vnd.docker.image.rootfs.diff.tar.zstd`, not `application/vnd.docker.image.rootfs.diff.tar.gzip`
the image is for linux/arm64/v8, not linux/amd64: does a FROM name another platform?
128 layers, more than 127: join RUN or COPY steps
layer 748efb8b0a9e has 54525952001 bytes, more than the 54525952000 (52,000 MiB) that ECR takes
"#);
    }

    #[test]
    fn a_variant_that_goes_without_saying_is_no_difference() {
        let same = |a: (&str, Option<&str>), b: (&str, Option<&str>)| {
            normal(&platform("linux", a.0, a.1)) == normal(&platform("linux", b.0, b.1))
        };
        assert!(same(("arm64", None), ("arm64", Some("v8"))));
        assert!(same(("amd64", Some("v1")), ("amd64", None)));
        assert!(same(("arm", None), ("arm", Some("v7"))));
        assert!(!same(("arm", Some("v6")), ("arm", None)));
        assert!(!same(("amd64", Some("v3")), ("amd64", None)));
    }

    #[test]
    fn the_exporter_is_told_everything_that_verify_checks() {
        for profile in [Profile::Docker, Profile::Sagemaker, Profile::Lambda] {
            let attrs = exporter_attrs(profile);
            let text: Vec<_> = attrs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            insta::allow_duplicates! {
                insta::assert_snapshot!(text.join(","), @"compression=gzip,force-compression=true,oci-mediatypes=false,push=true,store=false");
            }
        }
    }
}
