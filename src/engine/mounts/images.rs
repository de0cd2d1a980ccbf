//! Versions of cache mounts as images in a registry.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use super::Measured;
use super::solve::OwnBuild;
use super::versions::{Content, Kept};
use crate::cache::labels::{COLD, ID, INPUTS, LOSSES};
use crate::cache::mounts::CacheMount;
use crate::engine::job::Shared;
use crate::manifest::model::Platform;
use crate::reference::{Digest, ImageRef};
use crate::registry::image::{ImageConfig, ImageManifest, RawManifest};

/// Largest image config that is read, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// The build that keeps a mount as this image.
pub(super) fn keeping(
    image: &ImageRef,
    mount: &CacheMount,
    dockerfile: String,
    measured: &Measured,
) -> OwnBuild {
    let attributes = [
        ("name", image.to_string()),
        ("push", "true".into()),
        ("store", "false".into()),
        ("unpack", "false".into()),
        ("oci-mediatypes", "true".into()),
        ("compression", "zstd".into()),
    ];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
    let labels = [
        (ID, Some(mount.id.clone())),
        (INPUTS, mount.inputs.clone()),
        (COLD, measured.cold.map(|seconds| format!("{seconds:.1}"))),
        (LOSSES, Some(measured.losses.to_string())),
    ];
    let labels = labels.into_iter();
    let labels = labels.filter_map(|(name, value)| Some((name, value?)));
    OwnBuild {
        dockerfile,
        labels: labels.collect::<BTreeMap<_, _>>(),
        image: Some(attributes.into()),
        ..OwnBuild::default()
    }
}

pub(super) async fn look_up(
    image: &ImageRef,
    platform: &Platform,
    shared: &Shared,
) -> Result<Option<Kept>, String> {
    let Some((raw, config)) = read(image, shared).await? else {
        return Ok(None);
    };
    let config = ImageConfig::parse(&config).map_err(|error| error.to_string())?;
    if config.platform != *platform || !config.labels.contains_key(ID) {
        return Err(format!("{image} is something else"));
    }
    let label = |name| config.labels.get(name).cloned();
    Ok(Some(Kept {
        content: Content::Image {
            image: image.clone(),
            digest: raw.digest,
        },
        inputs: label(INPUTS),
        cold: label(COLD).and_then(|text| text.parse().ok()),
        losses: label(LOSSES)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        created: config.created,
    }))
}

/// An image's manifest, and its config's bytes.
async fn read(image: &ImageRef, shared: &Shared) -> Result<Option<(RawManifest, Bytes)>, String> {
    let registry = &shared.registry;
    let raw = registry.get_manifest(image).await;
    let Some(raw) = raw.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let manifest = ImageManifest::parse(&raw).map_err(|error| error.to_string())?;
    let config = registry
        .get_blob(&image.repository, &manifest.config.digest, MAX_CONFIG)
        .await
        .map_err(|error| error.to_string())?;
    Ok(Some((raw, config)))
}

/// Notes with an image how often in a row it saved nothing: its layers stay, its config is another.
pub(super) async fn note_losses(
    image: &ImageRef,
    digest: &Digest,
    losses: u32,
    shared: &Shared,
) -> Result<(), String> {
    let Some((raw, config)) = read(image, shared).await? else {
        return Ok(());
    };
    if raw.digest != *digest {
        return Ok(());
    }
    let said = |error: serde_json::Error| error.to_string();
    let mut config: Value = serde_json::from_slice(&config).map_err(said)?;
    config["config"]["Labels"][LOSSES] = losses.to_string().into();
    let config = Bytes::from(serde_json::to_vec(&config).map_err(said)?);
    let mut manifest: Value = serde_json::from_slice(&raw.bytes).map_err(said)?;
    manifest["config"]["digest"] = Digest::of(&config).to_string().into();
    manifest["config"]["size"] = config.len().into();
    let manifest = RawManifest::of(&manifest, raw.media_type).map_err(said)?;
    let registry = &shared.registry;
    let put = registry.put_blob(&image.repository, &config).await;
    put.map_err(|error| error.to_string())?;
    let put = registry.put_manifest(image, &manifest).await;
    put.map(drop).map_err(|error| error.to_string())
}
