//! What registries say of images: the digest of a base image, and what is in an image's config.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Deserialize;

use crate::manifest::model::{Mirror, Platform};
use crate::reference::{Digest, ImageRef, Repository};
use crate::registry::image::{ImageConfig, ImageIndex, ImageManifest, NotAnImage, RawManifest};
use crate::registry::{Client, RegistryError, media_type};

/// Largest image config that is read, in bytes.
const MAX_CONFIG: usize = 4 << 20;

/// Questions under way at a time; the client has its own limit for each registry.
pub(super) const AT_ONCE: usize = 16;

/// The digests of images by their names as Dockerfiles have them; of one for several platforms, the digest of the list.
/// Each is asked for once, and none that is in `locked` by its name in full.
pub(super) async fn digests(
    names: BTreeSet<String>,
    locked: &BTreeMap<String, Digest>,
    mirrors: &[Mirror],
    registry: &Client,
) -> BTreeMap<String, Result<Digest, String>> {
    let asked = stream::iter(names).map(|name| async move {
        let digest = digest(&name, locked, mirrors, registry).await;
        (name, digest)
    });
    asked.buffer_unordered(AT_ONCE).collect().await
}

async fn digest(
    name: &str,
    locked: &BTreeMap<String, Digest>,
    mirrors: &[Mirror],
    registry: &Client,
) -> Result<Digest, String> {
    let image: ImageRef = name.parse().map_err(|error| format!("{error}"))?;
    if let Some(digest) = image.digest {
        return Ok(digest);
    }
    if let Some(digest) = locked.get(&image.to_string()) {
        return Ok(digest.clone());
    }
    let source = mirrored(&image, mirrors);
    let found = match registry.head_manifest(&source).await {
        Ok(Some(found)) => return Ok(found.digest),
        Ok(None) => format!("there is no {source}"),
        Err(why) => why.to_string(),
    };
    if source == image {
        return Err(found);
    }
    Err(format!(
        "{found} (the mirror of {} by `[mirrors]`)",
        image.repository
    ))
}

/// The image where a build takes it from.
pub(super) fn mirrored(image: &ImageRef, mirrors: &[Mirror]) -> ImageRef {
    let name = image.repository.to_string();
    let by = mirrors.iter().find_map(|mirror| {
        let rest = mirror.path_of(&name)?;
        format!("{}{rest}", mirror.by).parse::<Repository>().ok()
    });
    ImageRef {
        repository: by.unwrap_or_else(|| image.repository.clone()),
        ..image.clone()
    }
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    NotAnImage(#[from] NotAnImage),
    #[error("it is not for {0}")]
    Platform(Platform),
}

/// The config of an image, of the first one in a list; `None`: there is none.
pub(super) async fn first(
    image: &ImageRef,
    registry: &Client,
) -> Result<Option<ImageConfig>, Unread> {
    let Some(raw) = registry.get_manifest(image).await? else {
        return Ok(None);
    };
    if !media_type::is_index(&raw.media_type) {
        return config(&raw, &image.repository, registry).await.map(Some);
    }
    let index = ImageIndex::parse(&raw)?;
    let entry = index.images().next();
    match entry {
        Some(entry) => one(&image.repository, &entry.digest, registry).await,
        None => Ok(None),
    }
}

async fn one(
    repository: &Repository,
    digest: &Digest,
    registry: &Client,
) -> Result<Option<ImageConfig>, Unread> {
    match registry.get_manifest(&repository.digest(digest)).await? {
        Some(raw) => config(&raw, repository, registry).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn config(
    raw: &RawManifest,
    repository: &Repository,
    registry: &Client,
) -> Result<ImageConfig, Unread> {
    let manifest = ImageManifest::parse(raw)?;
    let digest = &manifest.config.digest;
    let config = registry.get_blob(repository, digest, MAX_CONFIG).await?;
    Ok(ImageConfig::parse(&config)?)
}

/// The config of a base image for a platform.
pub(super) async fn base_config(
    name: &str,
    digest: &Digest,
    platform: &Platform,
    mirrors: &[Mirror],
    registry: &Client,
) -> Result<Option<ImageConfig>, Unread> {
    let Ok(image) = name.parse::<ImageRef>() else {
        return Ok(None);
    };
    let repository = mirrored(&image, mirrors).repository;
    let Some(raw) = registry.get_manifest(&repository.digest(digest)).await? else {
        return Ok(None);
    };
    if !media_type::is_index(&raw.media_type) {
        return config(&raw, &repository, registry).await.map(Some);
    }
    let digest = of_platform(&raw, platform).ok_or_else(|| Unread::Platform(platform.clone()))?;
    one(&repository, &digest, registry).await
}

/// The image of a list that is for this platform.
pub(super) fn of_platform(list: &RawManifest, platform: &Platform) -> Option<Digest> {
    #[derive(Deserialize)]
    struct File {
        manifests: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        digest: Digest,
        platform: Option<ItemPlatform>,
    }
    #[derive(Deserialize)]
    struct ItemPlatform {
        os: String,
        architecture: String,
        variant: Option<String>,
    }
    let file: File = serde_json::from_slice(&list.bytes).ok()?;
    let matches = |item: &&Item, exact: bool| {
        item.platform.as_ref().is_some_and(|p| {
            p.os == platform.os
                && p.architecture == platform.architecture
                && (!exact || p.variant == platform.variant)
        })
    };
    let exact = file.manifests.iter().find(|item| matches(item, true));
    let found = exact.or_else(|| file.manifests.iter().find(|item| matches(item, false)));
    found.map(|item| item.digest.clone())
}
