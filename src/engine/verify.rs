//! The check of a pushed image: it is read back before anything is said of it.

use std::collections::HashMap;

use super::job::Shared;
use crate::manifest::model::{Container, Platform};
use crate::plan::PlannedContainer;
use crate::profile::{self, Mismatch};
use crate::reference::Digest;
use crate::registry::image::{ImageConfig, ImageIndex, ImageManifest, NotAnImage, RawManifest};
use crate::registry::{RegistryError, media_type};

/// Largest image config that is read, in bytes: the history of 127 layers is far smaller.
const MAX_CONFIG: usize = 4 << 20;

/// Why a pushed image is not taken for good.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unverified {
    #[error("the builder did not say which image it pushed")]
    NoDigest,
    #[error("it cannot be read back: {0}")]
    Unread(#[from] RegistryError),
    #[error("it is not in the registry")]
    Missing,
    #[error("it is an image for one platform, not for all that were asked for")]
    OneOnly,
    #[error(transparent)]
    NotAnImage(#[from] NotAnImage),
    #[error("{0}")]
    Mismatch(String),
}

/// The digest of the image that a solve has exported, if it has exported one.
pub(super) fn exported_digest(response: &HashMap<String, String>) -> Option<Digest> {
    response
        .get("containerimage.digest")
        .and_then(|text| Digest::new(text).ok())
}

/// Reads the pushed image back, for the exporter's response to a solve: the tag stands on the digest that the builder named, and the image is what the profile
/// and the platform ask for.
pub(super) async fn verify(
    planned: &PlannedContainer,
    response: &HashMap<String, String>,
    shared: &Shared,
) -> Result<RawManifest, Unverified> {
    let container = &planned.container;
    let digest = exported_digest(response).ok_or(Unverified::NoDigest)?;
    let pushed = container.repository.tag(&planned.tag);
    let raw = shared
        .registry
        .get_manifest(&pushed)
        .await?
        .ok_or(Unverified::Missing)?;
    let may_be_index = container.profile.one_platform().is_none();
    if may_be_index && media_type::is_index(&raw.media_type) {
        verify_index(container, &digest, &raw, shared).await?;
    } else if let [platform] = &container.platforms[..] {
        verify_image(container, platform, &digest, &raw, shared).await?;
    } else {
        return Err(Unverified::OneOnly);
    }
    Ok(raw)
}

/// The list, and each image of it.
async fn verify_index(
    container: &Container,
    pushed: &Digest,
    raw: &RawManifest,
    shared: &Shared,
) -> Result<(), Unverified> {
    let index = ImageIndex::parse(raw)?;
    if index.digest != *pushed {
        let (expected, actual) = (pushed.clone(), index.digest);
        return Err(mismatch(&[Mismatch::Digest { expected, actual }]));
    }
    let provenance = profile::has_provenance(container.profile, &container.args);
    let images = profile::verify_index(&container.platforms, provenance, &index)
        .map_err(|found| mismatch(&found))?;
    for (platform, entry) in images {
        let image = container.repository.digest(&entry.digest);
        let raw = shared.registry.get_manifest(&image).await?;
        let raw = raw.ok_or(Unverified::Missing)?;
        verify_image(container, platform, &entry.digest, &raw, shared).await?;
    }
    Ok(())
}

/// One image for one platform.
async fn verify_image(
    container: &Container,
    platform: &Platform,
    pushed: &Digest,
    raw: &RawManifest,
    shared: &Shared,
) -> Result<(), Unverified> {
    let manifest = ImageManifest::parse(raw)?;
    let config = shared
        .registry
        .get_blob(&container.repository, &manifest.config.digest, MAX_CONFIG)
        .await?;
    let config = ImageConfig::parse(&config)?;
    profile::verify(container.profile, platform, pushed, &manifest, &config)
        .map_err(|found| mismatch(&found))
}

fn mismatch(found: &[Mismatch]) -> Unverified {
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    Unverified::Mismatch(found.join("; "))
}
