//! What a lock file is made from: the images that Dockerfiles name, and the digests that registries give for them now.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::images::{self, AT_ONCE, mirrored};
use crate::diagnostic::Diagnostic;
use crate::manifest::model::{Mirror, Platform, ProjectManifest};
use crate::project::Recipe;
use crate::reference::{Digest, ImageRef};
use crate::registry::{Client, media_type};

/// The images by their names in full that these containers use and that are not pinned where they are named.
pub(crate) fn wanted<'a>(
    recipes: impl IntoIterator<Item = (&'a String, &'a Recipe)>,
    manifest: &ProjectManifest,
) -> Result<BTreeMap<String, ImageRef>, Vec<Diagnostic>> {
    let mut wanted = BTreeMap::new();
    let mut errors = Vec::new();
    for (container, recipe) in recipes {
        let mut cannot = |why: &str| {
            let error = Diagnostic::error(format!("the images of `{container}` cannot be locked"));
            let error = match manifest.containers.get(container) {
                Some(known) => error.at(known.span.clone(), "of this container"),
                None => error,
            };
            errors.push(
                error
                    .note(why)
                    .help("name them so that it can be told, or leave out `pin`"),
            );
        };
        if let Some(why) = &recipe.unnamed {
            cannot(why);
        }
        for name in &recipe.images {
            match name.parse::<ImageRef>() {
                Ok(image) if image.digest.is_some() => {}
                Ok(image) => drop(wanted.insert(image.to_string(), image)),
                Err(error) => cannot(&error.to_string()),
            }
        }
    }
    if errors.is_empty() {
        Ok(wanted)
    } else {
        Err(errors)
    }
}

/// The digests that these images have now, where builds would take them from; or all that could not be found out.
pub(crate) async fn newest(
    images: BTreeMap<String, ImageRef>,
    mirrors: &[Mirror],
    registry: &Client,
) -> Result<BTreeMap<String, Digest>, Vec<Diagnostic>> {
    let names = images.keys().cloned().collect();
    let answers = images::digests(names, &BTreeMap::new(), mirrors, registry).await;
    let mut found = BTreeMap::new();
    let mut errors = Vec::new();
    for (name, answer) in answers {
        match answer {
            Ok(digest) => drop(found.insert(name, digest)),
            Err(why) => {
                let error = Diagnostic::error(format!("`{name}` cannot be locked: {why}"));
                let error = error.help("see that the name is right and the registry can be reached; the lock file is as it was");
                let repository = images.get(&name).map(|image| image.repository.to_string());
                let of = |mirror: &&Mirror| {
                    let repository = repository.as_deref();
                    repository.is_some_and(|name| mirror.path_of(name).is_some())
                };
                let mirror = mirrors.iter().find(of).map(Mirror::help);
                errors.push(mirror.into_iter().fold(error, Diagnostic::help));
            }
        }
    }
    if errors.is_empty() {
        Ok(found)
    } else {
        Err(errors)
    }
}

/// A locked image that is about to be built from.
pub(crate) struct Pin {
    pub(crate) image: ImageRef,
    pub(crate) digest: Digest,
    /// Of the containers that are built from it.
    pub(crate) platforms: BTreeSet<Platform>,
}

/// What is wrong with it.
pub(crate) enum Fault {
    Gone,
    /// It is an image of other platforms.
    NotFor(Platform),
}

/// What registries say is wrong with these. Where one says nothing, the build will tell.
pub(crate) async fn faults(
    pins: BTreeMap<String, Pin>,
    mirrors: &[Mirror],
    registry: &Client,
) -> Vec<(String, Digest, Fault)> {
    let asked = stream::iter(pins).map(|(name, pin)| async move {
        let found = fault(&pin, mirrors, registry).await;
        let fault = found.ok().flatten()?;
        Some((name, pin.digest, fault))
    });
    let mut faults: Vec<_> = asked
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    faults.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    faults
}

async fn fault(
    pin: &Pin,
    mirrors: &[Mirror],
    registry: &Client,
) -> Result<Option<Fault>, images::Unread> {
    let repository = mirrored(&pin.image, mirrors).repository;
    let Some(raw) = registry
        .get_manifest(&repository.digest(&pin.digest))
        .await?
    else {
        return Ok(Some(Fault::Gone));
    };
    let lacks = if media_type::is_index(&raw.media_type) {
        let mut platforms = pin.platforms.iter();
        platforms.find(|platform| images::of_platform(&raw, platform).is_none())
    } else {
        let own = images::config(&raw, &repository, registry).await?.platform;
        let differs =
            |other: &&Platform| (&own.os, &own.architecture) != (&other.os, &other.architecture);
        pin.platforms.iter().find(differs)
    };
    Ok(lacks.cloned().map(Fault::NotFor))
}
