//! Where a channel stands, as far as records say: a fold of records over a checkpoint. Pure.
//!
//! Any runner that has read the same records comes to the same answer, in whatever order they were written and whoever
//! was killed on the way. That is what makes promotions of different commits, at the same time, end on the newer one.
//!
//! Rules: a container follows the newest commit of the records that are due, by git's ancestry ([`Relation`]), each
//! container for itself, since a run may release some only. A rollback begins a new *epoch*: it says where all stands and
//! holds it there; what was due in an earlier epoch is void. A promotion that ends a hold begins a new epoch too, and so does
//! a forced one.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{Deed, Due, FORMAT, Placed, Record};
use crate::reference::Tag;

/// A channel's state; also its checkpoint in the state repository, in which the records that it takes into account are
/// named, so that nobody has to read them again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub format: u32,
    pub channel: Tag,
    pub epoch: u64,
    /// The release that moved it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Tag>,
    /// The tag of the record that moved it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    pub containers: IndexMap<String, Placed>,
    /// Tags of the records that are part of this.
    pub settled: BTreeSet<Tag>,
}

/// A channel is kept where a rollback put it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hold {
    /// The rollback's record.
    pub record: Tag,
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an image is to the one that a channel stands on, by their commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Same,
    /// A descendant of it.
    Newer,
    /// An ancestor of it.
    Older,
    /// Neither is the other's ancestor.
    Diverged,
    /// Git does not know one of the commits, or not the way between them.
    Unknown,
}

/// Tells how the second is related to the first, on which a channel stands.
pub(crate) trait Lineage {
    fn relation(&mut self, standing: &Placed, candidate: &Placed) -> Relation;
}

impl Standing {
    /// A channel that has not been moved by skiff.
    pub(crate) fn new(channel: &Tag) -> Self {
        Self {
            format: FORMAT,
            channel: channel.clone(),
            epoch: 0,
            release: None,
            record: None,
            hold: None,
            containers: IndexMap::new(),
            settled: BTreeSet::new(),
        }
    }

    /// The commit of the release that moved it last.
    pub(crate) fn commit(&self) -> Option<&str> {
        let release = self.release.as_ref()?;
        let mut placed = self.containers.values().filter(|p| p.release == *release);
        placed.find_map(|placed| placed.commit.as_deref())
    }

    /// The release that moved it last was made from sources that differ from its commit.
    pub(crate) fn is_dirty(&self) -> bool {
        let mut placed = self.containers.values();
        placed.any(|placed| placed.dirty && Some(&placed.release) == self.release.as_ref())
    }

    /// Takes these records into account.
    pub(crate) fn fold<'a>(
        &mut self,
        records: impl IntoIterator<Item = (&'a Tag, &'a Record)>,
        lineage: &mut impl Lineage,
    ) {
        let mut fresh: Vec<Fresh<'a>> = Vec::new();
        for (tag, record) in records {
            if self.settled.insert(tag.clone()) {
                fresh.extend(Fresh::of(tag, record, &self.channel));
            }
        }
        fresh.sort_by_key(|fresh| (fresh.epoch(), fresh.record.created, fresh.tag));
        let epochs: BTreeSet<u64> = fresh.iter().map(Fresh::epoch).collect();
        let current = self.epoch;
        for epoch in epochs.into_iter().filter(|epoch| *epoch >= current) {
            let of_epoch = || fresh.iter().filter(|fresh| fresh.epoch() == epoch);
            let rollback = of_epoch().rfind(|fresh| fresh.due.is_none());
            match rollback {
                // Of two at once the later one holds.
                Some(last) if epoch > self.epoch || self.holds_before(last) => self.hold(last),
                None if of_epoch().any(|fresh| fresh.due.is_some_and(|due| due.lifts_hold))
                    && epoch > self.epoch =>
                {
                    self.hold = None;
                }
                _ => {}
            }
            self.epoch = epoch;
            if self.hold.is_none() {
                let forced = |fresh: &&Fresh<'_>| fresh.due.is_some_and(|due| due.force);
                for fresh in of_epoch().filter(|fresh| !forced(fresh)) {
                    self.advance(fresh, false, lineage);
                }
                for fresh in of_epoch().filter(forced) {
                    self.advance(fresh, true, lineage);
                }
            }
        }
    }

    fn holds_before(&self, other: &Fresh<'_>) -> bool {
        match &self.hold {
            Some(hold) => (hold.since, &hold.record) < (other.record.created, other.tag),
            None => true,
        }
    }

    fn hold(&mut self, rollback: &Fresh<'_>) {
        let record = rollback.record;
        self.containers = record.placed(rollback.tag);
        self.release = Some(record.release.clone());
        self.record = Some(rollback.tag.clone());
        self.hold = Some(Hold {
            record: rollback.tag.clone(),
            since: record.created,
            actor: record.actor.clone(),
            reason: record.reason.clone(),
        });
    }

    fn advance(&mut self, fresh: &Fresh<'_>, force: bool, lineage: &mut impl Lineage) {
        let placed = fresh.record.placed(fresh.tag);
        let mut relations = Vec::new();
        for (name, image) in &placed {
            let standing = self.containers.get(name);
            relations.push(standing.map(|standing| lineage.relation(standing, image)));
        }
        let has = |relation| relations.contains(&Some(relation));
        if !force && (has(Relation::Diverged) || has(Relation::Unknown)) {
            // Whoever has the history will know: what cannot be judged here is not settled here.
            if has(Relation::Unknown) {
                self.settled.remove(fresh.tag);
            }
            return;
        }
        let mut moved = false;
        for ((name, image), relation) in placed.into_iter().zip(relations) {
            let standing = self.containers.get(&name);
            let recorded_later = standing.is_none_or(|standing| {
                (image.created, &image.record) >= (standing.created, &standing.record)
            });
            let advances = match relation {
                None | Some(Relation::Newer) => true,
                Some(Relation::Same) => recorded_later,
                Some(_) => false,
            };
            if force || advances {
                let mut image = image.clone();
                // Not built for this release: what its last build took is still the best that is known.
                let before = self.containers.get(&name).and_then(|placed| placed.seconds);
                image.seconds = image.seconds.or(before);
                moved |= self.containers.insert(name, image.clone()).as_ref() != Some(&image);
            }
        }
        if moved {
            self.release = Some(fresh.record.release.clone());
            self.record = Some(fresh.tag.clone());
        }
    }
}

/// A record that is new to a standing and concerns its channel.
struct Fresh<'a> {
    tag: &'a Tag,
    record: &'a Record,
    /// `None`: a rollback.
    due: Option<&'a Due>,
    rollback_epoch: u64,
}

impl<'a> Fresh<'a> {
    fn of(tag: &'a Tag, record: &'a Record, channel: &Tag) -> Option<Self> {
        let rollback_epoch = match &record.deed {
            Deed::Rollback {
                channel: held,
                epoch,
                ..
            } if held == channel => Some(*epoch),
            _ => None,
        };
        let due = record.due(channel);
        (due.is_some() || rollback_epoch.is_some()).then_some(Self {
            tag,
            record,
            due,
            rollback_epoch: rollback_epoch.unwrap_or_default(),
        })
    }

    fn epoch(&self) -> u64 {
        self.due.map_or(self.rollback_epoch, |due| due.epoch)
    }
}

#[cfg(test)]
mod tests;
