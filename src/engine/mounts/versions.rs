//! What the registry has of a cache mount: a few versions, each kept by a run whose step read other files. A run takes the
//! version of its own files, else the newest, and writes over its own, else the oldest: so switching between lock files
//! loses nothing, and the room that a mount takes has an end.

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::Value;

use super::job::Shared;
use crate::cache::labels::{COLD, ID, INPUTS, LOSSES};
use crate::manifest::model::Platform;
use crate::reference::{Digest, ImageRef, Repository, Tag};
use crate::registry::image::{ImageConfig, ImageManifest, RawManifest};

/// Largest image config that is read, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// A version.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) image: ImageRef,
    pub(super) digest: Digest,
    /// What decided whether the builder had the step; `None`: it could not be told.
    pub(super) inputs: Option<String>,
    /// Seconds of the step with an empty mount.
    pub(super) cold: Option<f64>,
    /// How often in a row it was filled and saved nothing.
    pub(super) losses: u32,
    created: Option<Timestamp>,
}

/// All versions that are there.
#[derive(Debug)]
pub(super) struct Versions {
    repository: Repository,
    tags: Vec<Tag>,
    kept: Vec<Kept>,
}

impl Versions {
    /// Reads what stands under these tags. Returns, too, why some cannot be used.
    pub(super) async fn read(
        repository: &Repository,
        tags: Vec<Tag>,
        platform: &Platform,
        shared: &Shared,
    ) -> (Self, Vec<String>) {
        let looks = tags
            .iter()
            .map(|tag| look_up(repository.tag(tag), platform, shared));
        let (mut kept, mut unusable) = (Vec::new(), Vec::new());
        for found in join_all(looks).await {
            match found {
                Ok(found) => kept.extend(found),
                Err(why) => unusable.push(why),
            }
        }
        let versions = Self {
            repository: repository.clone(),
            tags,
            kept,
        };
        (versions, unusable)
    }

    /// The one that was written last.
    pub(super) fn newest(&self) -> Option<&Kept> {
        self.kept.iter().max_by_key(|kept| kept.created)
    }

    /// The one to fill a mount from.
    pub(super) fn best(&self, inputs: Option<&str>) -> Option<&Kept> {
        let same = |kept: &&Kept| kept.inputs.is_some() && kept.inputs.as_deref() == inputs;
        self.kept.iter().find(same).or_else(|| self.newest())
    }

    /// Where to keep what a step left that read these files.
    pub(super) fn place(&self, inputs: Option<&str>) -> Option<ImageRef> {
        let mut kept = self.kept.iter();
        if let Some(same) = kept.find(|kept| kept.inputs.as_deref() == inputs) {
            return Some(same.image.clone());
        }
        let taken = |image: &ImageRef| self.kept.iter().any(|kept| kept.image == *image);
        let mut places = self.tags.iter().map(|tag| self.repository.tag(tag));
        let free = places.find(|image| !taken(image));
        let oldest = || {
            Some(
                self.kept
                    .iter()
                    .min_by_key(|kept| kept.created)?
                    .image
                    .clone(),
            )
        };
        free.or_else(oldest)
    }
}

async fn look_up(
    image: ImageRef,
    platform: &Platform,
    shared: &Shared,
) -> Result<Option<Kept>, String> {
    let Some((raw, config)) = read(&image, shared).await? else {
        return Ok(None);
    };
    let config = ImageConfig::parse(&config).map_err(|error| error.to_string())?;
    if config.platform != *platform || !config.labels.contains_key(ID) {
        return Err(format!("{image} is something else"));
    }
    let label = |name| config.labels.get(name).cloned();
    Ok(Some(Kept {
        image,
        digest: raw.digest,
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

/// Notes with a version how often in a row it saved nothing: its layers stay, its config is another. One that was written
/// over meanwhile is left alone.
pub(super) async fn note_losses(kept: &Kept, losses: u32, shared: &Shared) -> Result<(), String> {
    let Some((raw, config)) = read(&kept.image, shared).await? else {
        return Ok(());
    };
    if raw.digest != kept.digest {
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
    let put = registry.put_blob(&kept.image.repository, &config).await;
    put.map_err(|error| error.to_string())?;
    let put = registry.put_manifest(&kept.image, &manifest).await;
    put.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::RegistryHost;

    fn versions(kept: &[(&str, Option<&str>, i64)]) -> Versions {
        let host = RegistryHost::new("r.local").unwrap();
        let repository = Repository::new(host, "etl").unwrap();
        let tags = ["1", "2", "3"].map(|tag| Tag::new(tag).unwrap());
        let kept = kept.iter().map(|(tag, inputs, created)| Kept {
            image: repository.tag(&Tag::new(tag).unwrap()),
            digest: Digest::of(tag.as_bytes()),
            inputs: inputs.map(str::to_owned),
            cold: None,
            losses: 0,
            created: Timestamp::from_second(*created).ok(),
        });
        Versions {
            kept: kept.collect(),
            tags: tags.into(),
            repository: repository.clone(),
        }
    }

    #[test]
    fn a_run_takes_its_own_version_or_the_newest_and_writes_over_its_own_or_the_oldest() {
        let tag = |image: Option<&ImageRef>| image.and_then(|i| i.tag.clone()).unwrap().to_string();
        let best = |v: &Versions, inputs| tag(v.best(inputs).map(|kept| &kept.image));
        let place = |v: &Versions, inputs| tag(v.place(inputs).as_ref());
        let none = versions(&[]);
        assert!(none.best(Some("a")).is_none());
        assert_eq!(place(&none, Some("a")), "1");
        let two = versions(&[("1", Some("a"), 20), ("2", Some("b"), 30)]);
        assert_eq!(
            (best(&two, Some("a")), place(&two, Some("a"))),
            ("1".into(), "1".into())
        );
        assert_eq!(
            (best(&two, Some("c")), place(&two, Some("c"))),
            ("2".into(), "3".into())
        );
        let full = versions(&[("1", Some("a"), 20), ("2", None, 10), ("3", Some("c"), 30)]);
        assert_eq!(
            (best(&full, Some("d")), place(&full, Some("d"))),
            ("3".into(), "2".into())
        );
        // What cannot be told has one version, which nobody takes for another's.
        assert_eq!(
            (best(&full, None), place(&full, None)),
            ("3".into(), "2".into())
        );
    }
}
