//! Which images a channel goes to when somebody says so: those of a release by name, or those of the set before. Reads
//! records, moves nothing.

use indexmap::IndexMap;

use super::record::{BEFORE_SKIFF, Deed, Placed, Record};
use super::standing::Standing;
use super::store::{Store, StoreError};
use crate::reference::Tag;

/// A release that was asked for by name.
pub(crate) enum Found {
    Release(Box<Released>),
    /// There is none; these are there.
    Missing(Vec<String>),
}

/// What a release has put in the registry: what all its records say, as several jobs may have built it.
pub(crate) struct Released {
    pub release: Tag,
    pub containers: IndexMap<String, Placed>,
    /// What the channel stood on when the last of them was written.
    pub before: Option<IndexMap<String, Placed>>,
}

/// The release of this name; of several attempts at a container the last, and of those named 0 the channel's own.
pub(crate) async fn find(
    store: &mut Store,
    name: &str,
    channel: &Tag,
) -> Result<Found, StoreError> {
    let tags = store.tags().await?;
    let start = format!("release-{name}");
    let near: Vec<Tag> = tags
        .iter()
        .filter(|tag| tag.as_str().starts_with(&start))
        .cloned()
        .collect();
    let mut read = store.records(&near).await?;
    read.records
        .retain(|(_, record)| record.release.as_str() == name && is_release(record));
    read.records
        .sort_by_key(|(tag, record)| (record.due(channel).is_some(), record.created, tag.clone()));
    if let Some((_, last)) = read.records.last() {
        let mut containers = IndexMap::new();
        let before_skiff = name == BEFORE_SKIFF;
        for (tag, record) in &read.records {
            if !before_skiff || record.due(channel).is_some() {
                containers.extend(record.placed(tag));
            }
        }
        return Ok(Found::Release(Box::new(Released {
            release: last.release.clone(),
            before: last.due(channel).map(|due| due.before.clone()),
            containers,
        })));
    }
    if let Some((tag, why)) = read
        .unreadable
        .into_iter()
        .find(|(tag, _)| tag.as_str() == start)
    {
        let image = Box::new(store.repository.tag(&tag));
        return Err(StoreError::Unreadable { image, why });
    }
    let all = store.records(&tags).await?.records;
    let releases = all.iter().filter(|(_, record)| is_release(record));
    let mut names: Vec<String> = releases
        .map(|(_, record)| record.release.to_string())
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(Found::Missing(names))
}

fn is_release(record: &Record) -> bool {
    matches!(record.deed, Deed::Release { .. })
}

/// Where a channel goes back to.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// The containers that go back, and to what.
    pub to: IndexMap<String, Placed>,
    /// Those of which nothing older is known.
    pub stuck: Vec<String>,
}

impl Way {
    /// The release that most of it is of, for a name.
    pub(crate) fn release(&self) -> Option<&Tag> {
        self.to.values().map(|placed| &placed.release).max()
    }
}

/// The set before: what the release that moved the channel last has moved goes back to what was there before it. With
/// names: these containers, each to what was there before.
pub(crate) fn before(standing: &Standing, names: &[String], records: &[(Tag, Record)]) -> Way {
    let mut way = Way::default();
    for (name, placed) in &standing.containers {
        let moved_last = standing.release.as_ref() == Some(&placed.release);
        if (names.is_empty() && !moved_last) || (!names.is_empty() && !names.contains(name)) {
            continue;
        }
        let record = records
            .iter()
            .find(|(tag, _)| Some(tag) == placed.record.as_ref());
        let due = record.and_then(|(_, record)| record.due(&standing.channel));
        match due.and_then(|due| due.before.get(name)) {
            Some(before) => {
                way.to.insert(name.clone(), before.clone());
            }
            None => way.stuck.push(name.clone()),
        }
    }
    way
}

/// The set of a release: its own images, and for other containers what the channel stood on then.
pub(crate) fn set_of(standing: &Standing, names: &[String], found: &Released) -> Way {
    let mut way = Way::default();
    for name in standing.containers.keys() {
        if !names.is_empty() && !names.contains(name) {
            continue;
        }
        let before = || found.before.as_ref()?.get(name);
        match found.containers.get(name).or_else(before) {
            Some(placed) => {
                way.to.insert(name.clone(), placed.clone());
            }
            None => way.stuck.push(name.clone()),
        }
    }
    way
}
