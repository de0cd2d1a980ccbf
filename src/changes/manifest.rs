//! What a change of `containers.toml` means for each container: both texts are read as a manifest, and what they say of
//! a container is compared. Layout, comments and other containers' sections do not count.

use std::collections::BTreeMap;

use crate::manifest::model::{Container, ContainerName, ProjectManifest};
use crate::manifest::{self, Settings};

/// Whom a change of the manifest concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ManifestChange {
    /// Every container; a fragment says why.
    All(String),
    /// These, each with what is different.
    Some(BTreeMap<ContainerName, String>),
}

/// Compares the manifest's text of then (`None`: there was none) and of now.
pub(crate) fn compare(old: Option<&str>, new: &str, present: &ProjectManifest) -> ManifestChange {
    let all = |why: &str| ManifestChange::All(why.to_owned());
    let Some(old) = old else {
        return all("is new");
    };
    let read = |text| manifest::settings(text, present);
    let (Some(old), Some(new)) = (read(old), read(new)) else {
        return all("changed, and what it said before cannot be read by this version of skiff");
    };
    if old.registry != new.registry {
        return all("changed its registry");
    }
    if old.pin != new.pin {
        return all("changed pin");
    }
    let differences = new.containers.iter().filter_map(|(name, container)| {
        let what = differences(&old, container)?;
        Some((name.clone(), what))
    });
    ManifestChange::Some(differences.collect())
}

/// What the old manifest said otherwise of this container; `None`: nothing.
fn differences(old: &Settings, new: &Container) -> Option<String> {
    let Some(old) = old.containers.get(&new.name) else {
        return Some("did not have this container".to_owned());
    };
    if comparable(old, new) == comparable(new, new) {
        return None;
    }
    let keys = [
        ("context", old.context != new.context),
        ("dockerfile", old.dockerfile != new.dockerfile),
        ("target", old.target != new.target),
        ("args", old.args != new.args),
        (
            "contexts",
            old.contexts != new.contexts || old.image_contexts != new.image_contexts,
        ),
        ("labels", old.labels != new.labels),
        ("network", old.network != new.network),
        ("platforms", old.platforms != new.platforms),
        ("profile", old.profile != new.profile),
        ("tags", old.tags != new.tags),
        ("needs", old.needs != new.needs),
        ("repository", old.repository != new.repository),
    ];
    let keys: Vec<&str> = keys
        .iter()
        .filter(|(_, d)| *d)
        .map(|(key, _)| *key)
        .collect();
    Some(if keys.is_empty() {
        "changed what it says of this container".to_owned()
    } else {
        format!("changed {}", keys.join(", "))
    })
}

/// A container without what none of its images depends on: where it stands in the file, how long it may take, where its
/// cache is; these are taken from `new`.
fn comparable(container: &Container, new: &Container) -> Container {
    let mut container = Container {
        span: new.span.clone(),
        timeout: new.timeout,
        untrusted: new.untrusted.clone(),
        cache_repository: new.cache_repository.clone(),
        cache_tag: new.cache_tag.clone(),
        shared: new.shared,
        ..container.clone()
    };
    let options = &mut container.options;
    let secrets = options.secrets.iter_mut().map(|secret| &mut secret.span);
    let places = secrets.chain(options.ssh.iter_mut().map(|agent| &mut agent.span));
    places.for_each(|place| place.clone_from(&new.span));
    container
}
