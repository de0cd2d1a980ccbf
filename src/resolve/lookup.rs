//! Whether the registry has an image with a key, and what the published one was made from.

use super::images::{self, Unread};
use crate::key::{self, Inputs, Key};
use crate::manifest::model::{Container, ProjectManifest};
use crate::profile;
use crate::reference::Repository;
use crate::registry::Client;
use crate::registry::image::RawManifest;
use crate::release::names;

/// What is known of a key.
#[derive(Debug, Clone)]
pub(crate) enum Lookup {
    /// An image that passes the check of a pushed one.
    Found {
        manifest: RawManifest,
        /// Of a rebuild without cache.
        generation: Option<String>,
    },
    Missing,
    /// An image stands there that must not be used.
    Distrusted(String),
    Failed(String),
}

/// Looks for the image of a key in its repository, and checks it as after a push.
pub(super) async fn key(
    key: &Key,
    container: &Container,
    repository: &Repository,
    registry: &Client,
) -> Lookup {
    let Some(tag) = key.tag() else {
        return Lookup::Missing;
    };
    let image = match super::in_time(images::read(&repository.tag(&tag), registry)).await {
        Ok(Some(image)) => image,
        Ok(None) => return Lookup::Missing,
        Err(why) => return Lookup::Failed(why),
    };
    let label = |name| image.config.labels.get(name).map(String::as_str);
    if label(key::KEY) != Some(key.as_str()) {
        return Lookup::Distrusted("it says that it has another key".into());
    }
    if label(names::REPOSITORY) != Some(repository.to_string().as_str()) {
        return Lookup::Distrusted("it says that it was built for another repository".into());
    }
    let checked = profile::verify(
        container.profile,
        &container.platform,
        &image.manifest.digest,
        &image.manifest,
        &image.config,
    );
    if let Err(found) = checked {
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        return Lookup::Distrusted(found.join("; "));
    }
    let generation = label(key::GENERATION).filter(|g| !g.is_empty());
    Lookup::Found {
        generation: generation.map(str::to_owned),
        manifest: image.raw,
    }
}

/// The published image: the one that the first channel stands on.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// `None` where it does not say.
    pub(crate) inputs: Option<Inputs>,
    pub(crate) revision: Option<String>,
}

/// `None`: nothing is published, or nothing that can be believed.
pub(super) async fn published(
    manifest: &ProjectManifest,
    repository: &Repository,
    registry: &Client,
) -> Result<Option<Published>, String> {
    let Some(channel) = manifest.channels.keys().next() else {
        return Ok(None);
    };
    let found = super::in_time(async {
        match images::read(&repository.tag(channel), registry).await {
            Err(Unread::NotAnImage(_)) => Ok(None),
            found => found,
        }
    });
    let Some(image) = found.await? else {
        return Ok(None);
    };
    let label = |name: &str| image.config.labels.get(name).cloned();
    if label(names::REPOSITORY) != Some(repository.to_string()) {
        return Ok(None);
    }
    Ok(Some(Published {
        inputs: label(key::INPUTS).and_then(|text| Inputs::from_label(&text)),
        revision: label(names::REVISION),
    }))
}
