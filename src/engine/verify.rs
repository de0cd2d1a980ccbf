//! The check of a pushed image: it is read back before anything is said of it.

use std::collections::HashMap;

use super::job::Shared;
use crate::plan::PlannedContainer;
use crate::reference::Digest;
use crate::registry::RegistryError;
use crate::registry::image::RawManifest;
use crate::resolve::{Unfit, check};

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
    Unfit(#[from] Unfit),
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
    let raw = shared.registry.get_manifest(&pushed).await?;
    let raw = raw.ok_or(Unverified::Missing)?;
    check(
        container,
        &container.repository,
        &digest,
        &raw,
        &shared.registry,
    )
    .await?;
    Ok(raw)
}
