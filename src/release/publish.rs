//! A run's set becomes a release: recorded, and then moved to by the channels that are due.

use indexmap::IndexMap;

use super::converge::{Mover, Own, Stopped, Verdict};
use super::record::{
    BEFORE_SKIFF, Deed, Due, FORMAT, Home, Placed, Published, PublishedStatus, Record,
};
use super::standing::Standing;
use super::store::View;
use crate::clock;
use crate::engine::event::{ChannelWord, EventKind};
use crate::reference::Tag;

/// Who does it, from what, and why: the part of a record that does not depend on the images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Circumstances {
    pub commit: Option<String>,
    pub dirty: bool,
    pub branch: Option<String>,
    pub actor: Option<String>,
    pub ci_url: Option<String>,
    pub reason: Option<String>,
    /// The sources are a pull request's, or the run is an untrusted one: its images are nobody's to promote.
    pub leaves_no_record: bool,
}

impl Circumstances {
    pub(crate) fn record(&self, release: Tag, deed: Deed) -> Record {
        Record {
            format: FORMAT,
            release,
            created: clock::timestamp(),
            commit: self.commit.clone(),
            dirty: self.dirty,
            branch: self.branch.clone(),
            actor: self.actor.clone(),
            ci_url: self.ci_url.clone(),
            reason: self.reason.clone(),
            deed,
        }
    }
}

/// A set of images that are in the registry and whole.
pub(crate) struct Release<'a> {
    pub name: &'a Tag,
    pub containers: IndexMap<String, Published>,
    pub channels: &'a [Tag],
    /// `--force-promote`.
    pub force: bool,
    /// Every container of the manifest: what their channels stand on when skiff comes is kept as release 0.
    pub all: &'a [(String, Home)],
    pub circumstances: &'a Circumstances,
}

/// What became of a channel.
pub(crate) struct ChannelEnd {
    pub channel: Tag,
    pub ended: Result<(Verdict, Standing), Stopped>,
}

/// Records the release and moves the channels, each as far as it goes.
pub(crate) async fn publish(
    mover: &mut Mover,
    mut release: Release<'_>,
) -> Result<Vec<ChannelEnd>, Stopped> {
    let mut channels = IndexMap::new();
    for channel in release.channels {
        let due = due(mover, channel, &release).await?;
        channels.insert(channel.clone(), due);
    }
    if let Some(first) = channels.values().next() {
        for (name, image) in &mut release.containers {
            image.previous = first.before.get(name).map(|placed| placed.digest.clone());
        }
    }
    let deed = Deed::Release {
        containers: release.containers,
        channels,
    };
    let record = release.circumstances.record(release.name.clone(), deed);
    let tag = mover.write(&record).await?;
    let mut ends = Vec::new();
    for channel in release.channels {
        let own = Own::of(&tag, &record, channel);
        ends.push(move_to(mover, channel, &own).await);
    }
    Ok(ends)
}

impl Own {
    pub(crate) fn of(tag: &Tag, record: &Record, channel: &Tag) -> Self {
        Self {
            tag: tag.clone(),
            release: record.release.clone(),
            containers: record.placed(tag),
            before: record
                .due(channel)
                .map(|due| due.before.clone())
                .unwrap_or_default(),
        }
    }
}

/// Moves a channel to where a record that is written wants it.
pub(crate) async fn move_to(mover: &mut Mover, channel: &Tag, own: &Own) -> ChannelEnd {
    let ended = mover.converge(channel, own).await;
    let ended = ended.map(|standing| (mover.verdict(&standing, own), standing));
    let outcome = match &ended {
        Ok((_, standing)) if standing.record.as_ref() == Some(&own.tag) => ChannelWord::Moved,
        Ok((verdict, _)) => verdict.word(),
        Err(_) => ChannelWord::Failed,
    };
    let event = EventKind::ChannelEnded {
        channel: channel.to_string(),
        release: own.release.to_string(),
        outcome,
    };
    mover.events.send(event).await;
    ChannelEnd {
        channel: channel.clone(),
        ended,
    }
}

/// What the record says of a channel that it moves.
async fn due(mover: &mut Mover, channel: &Tag, release: &Release<'_>) -> Result<Due, Stopped> {
    let mut view = mover.view(channel, None).await?;
    if is_untouched(&view) && adopt(mover, channel, release.all).await? {
        view = mover.view(channel, None).await?;
    }
    let standing = view.standing;
    let force = release.force && standing.hold.is_none();
    let images = release.containers.iter();
    let images = images.map(|(name, image)| (name, image.home()));
    Ok(Due {
        epoch: standing.epoch + u64::from(force),
        force,
        lifts_hold: false,
        previous_release: standing.release.clone(),
        before: before(mover, channel, &standing, images).await?,
    })
}

/// What the channel stands on, with what is found under its tag of containers that no record speaks of.
pub(crate) async fn before<'a>(
    mover: &Mover,
    channel: &Tag,
    standing: &Standing,
    images: impl Iterator<Item = (&'a String, Home)>,
) -> Result<IndexMap<String, Placed>, Stopped> {
    let mut before = standing.containers.clone();
    let new = images.filter(|(name, _)| !standing.containers.contains_key(*name));
    let new: Vec<(&String, Home)> = new.collect();
    let homes = new.iter().map(|(name, home)| (*name, home.clone()));
    let found = mover.found(channel, homes).await?;
    let release = found_release()?;
    for (name, home) in new {
        if let Some(Some(digest)) = found.get(name) {
            let placed = Placed {
                repository: home.repository,
                shared: home.shared,
                digest: digest.clone(),
                key: None,
                release: release.clone(),
                record: None,
                commit: None,
                dirty: false,
                created: clock::timestamp(),
                seconds: None,
            };
            before.insert(name.clone(), placed);
        }
    }
    Ok(before)
}

fn found_release() -> Result<Tag, Stopped> {
    Tag::new(BEFORE_SKIFF).map_err(|error| Stopped::Unnamed(error.to_string()))
}

/// No record and no checkpoint speaks of the channel.
fn is_untouched(view: &View) -> bool {
    view.checkpoint.is_none() && view.standing.containers.is_empty() && view.standing.hold.is_none()
}

/// Keeps what the channel stands on as release 0; `false`: on nothing.
async fn adopt(mover: &mut Mover, channel: &Tag, all: &[(String, Home)]) -> Result<bool, Stopped> {
    let homes = all.iter().map(|(name, home)| (name, home.clone()));
    let found = mover.found(channel, homes).await?;
    let published = all.iter().filter_map(|(name, home)| {
        let digest = found.get(name)?.clone()?;
        let published = Published {
            repository: home.repository.clone(),
            shared: home.shared,
            digest,
            previous: None,
            key: None,
            status: PublishedStatus::Found,
            seconds: 0.0,
        };
        Some((name.clone(), published))
    });
    let containers: IndexMap<_, _> = published.collect();
    if containers.is_empty() {
        return Ok(false);
    }
    let due = Due {
        epoch: 0,
        force: false,
        lifts_hold: false,
        previous_release: None,
        before: IndexMap::new(),
    };
    let circumstances = Circumstances {
        reason: Some(format!("what {channel} stood on before skiff moved it")),
        ..Circumstances::default()
    };
    let deed = Deed::Release {
        containers,
        channels: IndexMap::from([(channel.clone(), due)]),
    };
    let record = circumstances.record(found_release()?, deed);
    mover.store.write(&record).await?;
    Ok(true)
}
