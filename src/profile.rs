//! What a profile means: the attributes with which BuildKit exports an image, and the check of what then stands in the
//! registry. `docker`, `sagemaker` and `lambda` ask for the same, the strictest: one Docker v2 schema 2 manifest with gzip
//! layers, which is all that SageMaker runs, and which Lambda and every engine run too. `oci` is what registries and
//! containerd have today: OCI types, zstd, several platforms, provenance.
//!
//! Attestations turn an image into an index. BuildKit makes none unless the frontend attributes say so (`attest:…`, or
//! `build-arg:BUILDKIT_ATTEST_…`; `control/control.go`, `frontend/attestations/parse.go`), so for the other profiles there
//! is nothing to switch off; if such an argument slips in, the export fails ("cannot export attestations with
//! oci-mediatypes=false").

use std::collections::BTreeMap;
use std::fmt;

use crate::manifest::model::{Platform, Profile};
use crate::reference::Digest;
use crate::registry::image::{ImageConfig, ImageIndex, ImageManifest, IndexEntry};
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
        Profile::Oci => &[
            ("push", "true"),
            ("store", "false"),
            ("oci-mediatypes", "true"),
            // Not forced: layers of a base image stay in the registry as they are, unpulled.
            ("compression", ZSTD),
        ],
    };
    attrs.iter().map(|(k, v)| (*k, (*v).to_owned())).collect()
}

const ZSTD: &str = "zstd";

/// How a registry cache has its layers: as the image has them, so that both are the same blobs.
pub(crate) fn cache_compression(profile: Profile) -> &'static str {
    match profile {
        Profile::Docker | Profile::Sagemaker | Profile::Lambda => "gzip",
        Profile::Oci => ZSTD,
    }
}

/// The build argument with the time that a reproducible image has everywhere, in seconds since 1970
/// (reproducible-builds.org/specs/source-date-epoch). BuildKit knows it.
pub(crate) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Whether the builder attests how the image came about (SLSA provenance). Not where the image is to be the same twice:
/// a provenance holds the build's time.
pub(crate) fn has_provenance(profile: Profile, args: &BTreeMap<String, String>) -> bool {
    profile == Profile::Oci && !args.contains_key(SOURCE_DATE_EPOCH)
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
    ManifestType {
        expected: &'static str,
        actual: String,
    },
    ConfigType {
        expected: &'static str,
        actual: String,
    },
    LayerType {
        digest: Digest,
        media_type: String,
        expected: &'static [&'static str],
    },
    /// An index without an image for it.
    NoPlatform(Platform),
    /// An index with an image that nobody asked for.
    OtherPlatform(String),
    /// An image of an index without what was to be attested of it.
    NoProvenance(Platform),
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
            Self::ManifestType { expected, actual } => {
                write!(f, "the manifest is `{actual}`, not `{expected}`")
            }
            Self::ConfigType { expected, actual } => {
                write!(f, "the config is `{actual}`, not `{expected}`")
            }
            Self::NoPlatform(platform) => write!(f, "there is no image for {platform}"),
            Self::OtherPlatform(platform) => {
                write!(f, "there is an image for {platform}, which is not wanted")
            }
            Self::NoProvenance(platform) => {
                write!(f, "the image for {platform} has no provenance")
            }
            Self::LayerType {
                digest,
                media_type,
                expected,
            } => {
                let expected = expected.join("` or `");
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
    types(manifest, Types::of(profile), &mut found);
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

/// The images of an index that was read back, each with the platform it is for; else all that is wrong with the list.
pub(crate) fn verify_index<'a>(
    platforms: &'a [Platform],
    provenance: bool,
    index: &'a ImageIndex,
) -> Result<Vec<(&'a Platform, &'a IndexEntry)>, Vec<Mismatch>> {
    let mut found = Vec::new();
    if index.media_type != media_type::OCI_INDEX {
        found.push(Mismatch::ManifestType {
            expected: media_type::OCI_INDEX,
            actual: index.media_type.clone(),
        });
    }
    let is_for = |entry: &IndexEntry, platform: &Platform| {
        let stated = entry.platform.as_ref();
        stated.is_some_and(|stated| normal(stated) == normal(platform))
    };
    let others = index
        .images()
        .filter(|entry| !platforms.iter().any(|platform| is_for(entry, platform)));
    found.extend(others.map(|entry| {
        let stated = entry.platform.as_ref();
        Mismatch::OtherPlatform(stated.map_or_else(|| "no platform".into(), ToString::to_string))
    }));
    let mut images = Vec::new();
    for platform in platforms {
        let Some(image) = index.images().find(|entry| is_for(entry, platform)) else {
            found.push(Mismatch::NoPlatform(platform.clone()));
            continue;
        };
        let attests = |entry: &IndexEntry| entry.attests.as_ref() == Some(&image.digest);
        if provenance && !index.entries.iter().any(attests) {
            found.push(Mismatch::NoProvenance(platform.clone()));
        }
        images.push((platform, image));
    }
    if found.is_empty() {
        Ok(images)
    } else {
        Err(found)
    }
}

/// The media types that an image may have.
#[derive(Clone, Copy)]
struct Types {
    manifest: &'static str,
    config: &'static str,
    layers: &'static [&'static str],
}

impl Types {
    fn of(profile: Profile) -> Self {
        match profile {
            Profile::Docker | Profile::Sagemaker | Profile::Lambda => Self {
                manifest: media_type::DOCKER_MANIFEST,
                config: media_type::DOCKER_CONFIG,
                layers: &[media_type::DOCKER_LAYER_GZIP],
            },
            Profile::Oci => Self {
                manifest: media_type::OCI_MANIFEST,
                config: media_type::OCI_CONFIG,
                layers: &[media_type::OCI_LAYER_ZSTD, media_type::OCI_LAYER_GZIP],
            },
        }
    }
}

fn types(manifest: &ImageManifest, types: Types, found: &mut Vec<Mismatch>) {
    if manifest.media_type != types.manifest {
        found.push(Mismatch::ManifestType {
            expected: types.manifest,
            actual: manifest.media_type.clone(),
        });
    }
    if manifest.config.media_type != types.config {
        found.push(Mismatch::ConfigType {
            expected: types.config,
            actual: manifest.config.media_type.clone(),
        });
    }
    let is_one = |media_type: &str| types.layers.contains(&media_type);
    let others = manifest.layers.iter().filter(|l| !is_one(&l.media_type));
    found.extend(others.map(|layer| Mismatch::LayerType {
        digest: layer.digest.clone(),
        media_type: layer.media_type.clone(),
        expected: types.layers,
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
            created: None,
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
    fn an_index_has_every_platform_with_its_provenance_and_no_other() {
        let entry = |name: &str, platform, attests| IndexEntry {
            digest: Digest::of(name.as_bytes()),
            platform,
            attests,
        };
        let amd64 = platform("linux", "amd64", None);
        let arm64 = platform("linux", "arm64", None);
        let provenance = |of: &str| entry("p", None, Some(Digest::of(of.as_bytes())));
        let mut index = ImageIndex {
            media_type: media_type::OCI_INDEX.into(),
            digest: Digest::of(b"index"),
            entries: vec![
                entry("a", Some(amd64.clone()), None),
                entry("b", Some(platform("linux", "arm64", Some("v8"))), None),
                provenance("a"),
                provenance("b"),
            ],
        };
        let wanted = [amd64.clone(), arm64];
        assert_eq!(verify_index(&wanted, true, &index).unwrap().len(), 2);
        index.entries.truncate(2);
        assert_eq!(verify_index(&wanted, false, &index).unwrap().len(), 2);
        index.entries[1].platform = Some(platform("linux", "s390x", None));
        let found = verify_index(&wanted, true, &index).unwrap_err();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(found.join("\n"), @r"
        there is an image for linux/s390x, which is not wanted
        the image for linux/amd64 has no provenance
        there is no image for linux/arm64
        ");
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
