//! What is kept of a cache mount: a few versions, each kept by a run whose step read other files. A run takes the
//! version of its own files, else the newest, and writes over its own, else the oldest: so switching between lock files
//! loses nothing, and the room that a mount takes has an end.

use futures_util::future::join_all;
use jiff::Timestamp;

use super::{bucket, images};
use crate::cache::mounts::CacheMount;
use crate::cache::s3::note::{MountNote, S3Mount};
use crate::cache::stored::Place;
use crate::engine::job::Shared;
use crate::manifest::model::Platform;
use crate::reference::{Digest, ImageRef};

/// A version.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) content: Content,
    /// What decided whether the builder had the step; `None`: it could not be told.
    pub(super) inputs: Option<String>,
    /// Seconds of the step with an empty mount.
    pub(super) cold: Option<f64>,
    /// How often in a row it was filled and saved nothing.
    pub(super) losses: u32,
    pub(super) created: Option<Timestamp>,
}

/// Where its contents are.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Image {
        image: ImageRef,
        digest: Digest,
    },
    /// A layer of steps that the builder has a cache of.
    Steps {
        version: S3Mount,
        note: Box<MountNote>,
    },
}

impl Kept {
    pub(super) fn place(&self) -> Place {
        match &self.content {
            Content::Image { image, .. } => Place::Registry(image.clone()),
            Content::Steps { version, .. } => Place::S3(version.clone()),
        }
    }
}

/// All versions that are there.
#[derive(Debug)]
pub(super) struct Versions {
    places: Vec<Place>,
    kept: Vec<Kept>,
}

impl Versions {
    /// Reads what is in these places. Returns, too, why some cannot be used.
    pub(super) async fn read(
        places: Vec<Place>,
        mount: &CacheMount,
        platform: &Platform,
        shared: &Shared,
    ) -> (Self, Vec<String>) {
        let looks = places
            .iter()
            .map(|place| look_up(place, mount, platform, shared));
        let (mut kept, mut unusable) = (Vec::new(), Vec::new());
        for found in join_all(looks).await {
            match found {
                Ok(found) => kept.extend(found),
                Err(why) => unusable.push(why),
            }
        }
        (Self { places, kept }, unusable)
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

    /// Where to keep what a step left that read these files, and what is there now.
    pub(super) fn place(&self, inputs: Option<&str>) -> Option<(Place, Option<&Kept>)> {
        let there = |kept: &'_ Kept| kept.inputs.as_deref() == inputs;
        if let Some(same) = self.kept.iter().find(|kept| there(kept)) {
            return Some((same.place(), Some(same)));
        }
        let taken = |place: &&Place| self.kept.iter().any(|kept| kept.place() == **place);
        if let Some(free) = self.places.iter().find(|place| !taken(place)) {
            return Some((free.clone(), None));
        }
        let oldest = self.kept.iter().min_by_key(|kept| kept.created)?;
        Some((oldest.place(), Some(oldest)))
    }
}

async fn look_up(
    place: &Place,
    mount: &CacheMount,
    platform: &Platform,
    shared: &Shared,
) -> Result<Option<Kept>, String> {
    match place {
        Place::Registry(image) => images::look_up(image, platform, shared).await,
        Place::S3(version) => bucket::look_up(version, mount, platform, shared).await,
    }
}

/// Notes with a version how often in a row it saved nothing. One that was written over meanwhile is left alone.
pub(super) async fn note_losses(kept: &Kept, losses: u32, shared: &Shared) -> Result<(), String> {
    match &kept.content {
        Content::Image { image, digest } => {
            images::note_losses(image, digest, losses, shared).await
        }
        Content::Steps { version, note } => {
            bucket::note_losses(version, note, losses, shared).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{RegistryHost, Repository, Tag};

    fn versions(kept: &[(&str, Option<&str>, i64)]) -> Versions {
        let host = RegistryHost::new("r.local").unwrap();
        let repository = Repository::new(host, "etl").unwrap();
        let tags = ["1", "2", "3"].map(|tag| repository.tag(&Tag::new(tag).unwrap()));
        let kept = kept.iter().map(|(tag, inputs, created)| Kept {
            content: Content::Image {
                image: repository.tag(&Tag::new(tag).unwrap()),
                digest: Digest::of(tag.as_bytes()),
            },
            inputs: inputs.map(str::to_owned),
            cold: None,
            losses: 0,
            created: Timestamp::from_second(*created).ok(),
        });
        Versions {
            kept: kept.collect(),
            places: tags.map(Place::Registry).into(),
        }
    }

    #[test]
    fn a_run_takes_its_own_version_or_the_newest_and_writes_over_its_own_or_the_oldest() {
        let tag = |place: Place| place.to_string().rsplit(':').next().unwrap().to_owned();
        let best = |v: &Versions, inputs| tag(v.best(inputs).unwrap().place());
        let place = |v: &Versions, inputs| tag(v.place(inputs).unwrap().0);
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
