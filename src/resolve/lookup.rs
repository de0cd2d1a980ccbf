//! Whether the registry has an image with a key, and what the published one was made from.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::check::{Unfit, check};
use super::images::{self, AT_ONCE, Unread};
use crate::key::reason::FileChange;
use crate::key::{self, Inputs, Key};
use crate::manifest::model::{Container, ProjectManifest};
use crate::plan::PlannedContainer;
use crate::reference::{RegistryHost, Repository};
use crate::registry::Client;
use crate::registry::image::RawManifest;
use crate::release::names;

/// What is known of a key.
#[derive(Debug, Clone)]
pub(crate) enum Lookup {
    /// An image that passes the check of a pushed one.
    Found {
        manifest: RawManifest,
        /// Where it is.
        repository: Repository,
        /// Of a rebuild without cache.
        generation: Option<String>,
    },
    Missing,
    /// An image stands there that must not be used.
    Distrusted(String),
    Failed(String),
}

/// A container whose key is to be looked for.
pub(super) struct Open<'a> {
    pub(super) name: String,
    pub(super) key: Key,
    pub(super) planned: &'a PlannedContainer,
}

impl Open<'_> {
    /// Whether the registry may have the image, given the repositories that it lists.
    fn may_be(&self, listed: &BTreeSet<String>, host: &RegistryHost) -> bool {
        let container = &self.planned.container;
        let trusted = container.trusted.iter().map(|trusted| &trusted.images);
        let mut places = std::iter::once(&container.repository).chain(trusted);
        places.any(|place| place.host != *host || listed.contains(place.path()))
    }
}

/// So many keys are asked for one by one; for more, it is asked first which repositories there are.
const MANY: usize = 100;

/// Keys that are asked for all the same, to see whether what the registry lists can be believed.
const SAMPLE: usize = 8;

/// Looks for the images of many keys. `foresees`: nothing is built from the answers, so that of a great many containers,
/// which before the first release is all of them, those whose repository the registry does not list need not be asked for.
pub(super) async fn keys(
    open: Vec<Open<'_>>,
    registry: &Client,
    foresees: bool,
) -> Vec<(String, Key, Lookup)> {
    if !foresees || open.len() <= MANY {
        return each(open, registry).await;
    }
    let mut rest = open;
    let step = rest.len() / SAMPLE;
    let mut at = 0..;
    let sample = rest.extract_if(.., |_| at.next().is_some_and(|at| at % step == 0));
    let sample: Vec<_> = sample.collect();
    let Some(planned) = sample.first().map(|open| open.planned) else {
        return each(rest, registry).await;
    };
    let host = &planned.container.repository.host;
    let listed = registry.list_repositories(host);
    let (mut answers, listed) = tokio::join!(each(sample, registry), listed);
    // Some registries list less than there is: of one that does, a few keys would have been found.
    let none = |(_, _, lookup): &(_, _, Lookup)| matches!(lookup, Lookup::Missing);
    if answers.iter().all(none)
        && let Ok(Some(listed)) = listed
    {
        let missing = rest.extract_if(.., |open| !open.may_be(&listed, host));
        answers.extend(missing.map(|open| (open.name, open.key, Lookup::Missing)));
    }
    answers.extend(each(rest, registry).await);
    answers
}

async fn each(open: Vec<Open<'_>>, registry: &Client) -> Vec<(String, Key, Lookup)> {
    // A registry that does not answer is not waited for again and again.
    let silent = Mutex::new(None::<String>);
    let silent = || silent.lock().unwrap_or_else(PoisonError::into_inner);
    let answers = stream::iter(open).map(|Open { name, key, planned }| async move {
        let before = silent().clone();
        if let Some(why) = before {
            return (name, key, Lookup::Failed(why));
        }
        let found = self::key(&key, planned, registry).await;
        if let Lookup::Failed(why) = &found {
            silent().get_or_insert_with(|| why.clone());
        }
        (name, key, found)
    });
    answers.buffer_unordered(AT_ONCE).collect().await
}

/// Looks for the image of a key where this run writes to; in an untrusted run also where trusted ones do, unless it is to
/// get tags: those are not an untrusted run's to set there.
async fn key(key: &Key, planned: &PlannedContainer, registry: &Client) -> Lookup {
    let container = &planned.container;
    let found = key_in(key, container, &container.repository, registry).await;
    let gets_tags = planned.released && planned.tag_unchanged;
    match (&found, &container.trusted) {
        (Lookup::Missing | Lookup::Distrusted(_), Some(trusted)) if !gets_tags => {
            match key_in(key, container, &trusted.images, registry).await {
                Lookup::Missing => found,
                other => other,
            }
        }
        _ => found,
    }
}

/// Looks for the image of a key in a repository, and checks it as after a push.
pub(crate) async fn key_in(
    key: &Key,
    container: &Container,
    repository: &Repository,
    registry: &Client,
) -> Lookup {
    let Some(tag) = key.tag() else {
        return Lookup::Missing;
    };
    let manifest = match registry.get_manifest(&repository.tag(&tag)).await {
        Ok(Some(raw)) => raw,
        Ok(None) => return Lookup::Missing,
        Err(error) => return Lookup::Failed(error.to_string()),
    };
    let checked = check(container, repository, &manifest.digest, &manifest, registry).await;
    let configs = match checked {
        Ok(configs) => configs,
        Err(Unfit::Unread(error)) if Unfit::is_unknown_of(&error) => {
            return Lookup::Failed(error.to_string());
        }
        Err(unfit) => return Lookup::Distrusted(unfit.to_string()),
    };
    let all = |name, value: &str| {
        let labels = configs.iter().map(|config| config.labels.get(name));
        labels.clone().count() > 0
            && labels
                .into_iter()
                .all(|label| label.is_some_and(|l| l == value))
    };
    if !all(key::KEY, key.as_str()) {
        return Lookup::Distrusted("it says that it has another key".into());
    }
    if !all(names::REPOSITORY, &repository.to_string()) {
        return Lookup::Distrusted("it says that it was built for another repository".into());
    }
    let generation = configs
        .first()
        .and_then(|config| config.labels.get(key::GENERATION));
    Lookup::Found {
        generation: generation.filter(|g| !g.is_empty()).cloned(),
        repository: repository.clone(),
        manifest,
    }
}

/// The published image: the one that the first channel stands on.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// `None` where it does not say.
    pub(crate) inputs: Option<Inputs>,
    pub(crate) revision: Option<String>,
    /// Files of the contexts that are not what they were in that revision; filled in by whoever asks git.
    pub(crate) files: Vec<FileChange>,
}

/// `None`: nothing is published, or nothing that can be believed.
pub(super) async fn published(
    manifest: &ProjectManifest,
    container: &Container,
    registry: &Client,
) -> Result<Option<Published>, String> {
    let repository = container.trusted_repository();
    let Some(channel) = manifest.channels.keys().next() else {
        return Ok(None);
    };
    // A tag that is too long is one that nothing stands under.
    let Ok(tag) = container.tag(channel) else {
        return Ok(None);
    };
    let config = match images::first(&repository.tag(&tag), registry).await {
        Ok(Some(config)) => config,
        Ok(None) | Err(Unread::NotAnImage(_)) => return Ok(None),
        Err(unread) => return Err(unread.to_string()),
    };
    let label = |name: &str| config.labels.get(name).cloned();
    if label(names::REPOSITORY) != Some(repository.to_string()) {
        return Ok(None);
    }
    Ok(Some(Published {
        inputs: label(key::INPUTS).and_then(|text| Inputs::from_label(&text)),
        revision: label(names::REVISION),
        files: vec![],
    }))
}
