//! The check of a pushed image: it is read back before anything is said of it.

use std::collections::HashMap;

use super::job::Shared;
use crate::plan::PlannedContainer;
use crate::profile;
use crate::reference::Digest;
use crate::registry::RegistryError;
use crate::registry::image::{ImageConfig, ImageManifest, NotAnImage, RawManifest};

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
    let manifest = ImageManifest::parse(&raw)?;
    let config = shared
        .registry
        .get_blob(&container.repository, &manifest.config.digest, MAX_CONFIG)
        .await?;
    let config = ImageConfig::parse(&config)?;
    profile::verify(
        container.profile,
        &container.platform,
        &digest,
        &manifest,
        &config,
    )
    .map_err(|found| {
        Unverified::Mismatch(
            found
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        )
    })?;
    Ok(raw)
}
