//! The end of a good run: immutable tags, the release's record, the channels.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;

use super::job::{Built, Image, Shared};
use super::outcome::{ChannelOutcome, ContainerOutcome, Promotion};
use crate::plan::{Plan, PlannedContainer, Work};
use crate::reference::Tag;
use crate::release::converge::{Mover, Stopped, Verdict};
use crate::release::lineage::History;
use crate::release::promote::{Move, Unset, set_tags};
use crate::release::publish::{ChannelEnd, Circumstances, Release, publish};
use crate::release::record::{Home, Published, PublishedStatus};
use crate::release::store::Store;

/// What it takes to release, beside the images.
pub(crate) struct Releasing {
    pub(crate) store: Store,
    pub(crate) history: History,
    pub(crate) circumstances: Circumstances,
    /// `--force-promote`.
    pub(crate) force: bool,
    /// Every container of the manifest.
    pub(crate) all: Vec<(String, Home)>,
}

/// Immutable tags first, then the channels, each for the whole set; nothing unless all of it is good.
pub(super) async fn release(
    plan: &Plan,
    built: &IndexMap<String, Built>,
    outcomes: &mut BTreeMap<String, ContainerOutcome>,
    shared: &Shared,
    releasing: Releasing,
    cancel: &CancellationToken,
) -> Promotion {
    if cancel.is_cancelled() {
        return Promotion::Interrupted;
    }
    if plan.containers.keys().any(|name| !built.contains_key(name)) {
        return Promotion::NotDue("no channel moves: not all of the run was built".into());
    }
    if !plan.output.push {
        return Promotion::NotDue("nothing was pushed: --no-push".into());
    }
    let failed = set_immutable(plan, built, outcomes, shared, cancel).await;
    if !failed.is_empty() {
        return Promotion::Failed(failed);
    }
    if releasing.circumstances.leaves_no_record && plan.channels.moves.is_empty() {
        return Promotion::NotDue(plan.channels.reason.clone());
    }
    let mut mover = Mover {
        store: releasing.store,
        history: releasing.history,
        registry: shared.registry.clone(),
        events: shared.events.clone(),
        cancel: cancel.clone(),
        manifests: manifests(built),
    };
    let release = Release {
        name: &plan.release,
        containers: published(plan, built, outcomes),
        channels: &plan.channels.moves,
        force: releasing.force,
        all: &releasing.all,
        circumstances: &releasing.circumstances,
    };
    let ended = publish(&mut mover, release).await;
    match ended {
        Ok(ends) if ends.is_empty() => Promotion::NotDue(plan.channels.reason.clone()),
        Ok(ends) => {
            let mut channels = Vec::new();
            for end in ends {
                note(&end, outcomes);
                channels.push(told(end, &mover, plan).await);
            }
            Promotion::Channels(channels)
        }
        Err(error) if plan.channels.moves.is_empty() => {
            let message = format!(
                "the release was not recorded, so that it cannot be promoted: {}",
                said(&error, &mover).join("; ")
            );
            shared.events.warn(None, message).await;
            Promotion::NotDue(plan.channels.reason.clone())
        }
        Err(error) => Promotion::Failed(said(&error, &mover)),
    }
}

fn said(error: &Stopped, mover: &Mover) -> Vec<String> {
    let mut said = vec![error.to_string()];
    said.extend(error.help(&mover.store));
    said
}

/// For the summary; what a reader of warnings should know is one.
async fn told(end: ChannelEnd, mover: &Mover, plan: &Plan) -> (Tag, ChannelOutcome) {
    let ended = match end.ended {
        Ok((verdict, _)) => {
            if let Verdict::Superseded { by, .. } = &verdict {
                let (channel, release) = (&end.channel, &plan.release);
                let message = format!(
                    "{release} is superseded: {channel} stands on release {by} of a newer commit, and stays there"
                );
                mover.events.warn(None, message).await;
            }
            ChannelOutcome::Ended(Box::new(verdict))
        }
        Err(error) => ChannelOutcome::Failed(said(&error, mover)),
    };
    (end.channel, ended)
}

/// Notes the channel with the containers whose image it stands on.
fn note(end: &ChannelEnd, outcomes: &mut BTreeMap<String, ContainerOutcome>) {
    let Ok((_, standing)) = &end.ended else {
        return;
    };
    for (name, placed) in &standing.containers {
        if let Some(outcome) = outcomes.get_mut(name)
            && outcome.digest.as_ref() == Some(&placed.digest)
        {
            outcome.tags.push(end.channel.clone());
        }
    }
}

/// Sets the containers' own immutable tags; returns what went wrong.
async fn set_immutable(
    plan: &Plan,
    built: &IndexMap<String, Built>,
    outcomes: &mut BTreeMap<String, ContainerOutcome>,
    shared: &Shared,
    cancel: &CancellationToken,
) -> Vec<String> {
    let of = |(name, planned): (&String, &PlannedContainer)| {
        let Image::Pushed(manifest) = &built.get(name)?.image else {
            return None;
        };
        let moves = planned.tags_to_set().into_iter().map(|tag| Move {
            container: name.clone(),
            repository: planned.container.repository.clone(),
            tag,
            manifest: manifest.clone(),
            channel: false,
        });
        Some(moves.collect::<Vec<_>>())
    };
    let moves: Vec<Move> = plan.released().filter_map(of).flatten().collect();
    let asked = moves.clone();
    let failed = set_tags(moves, &shared.registry, &shared.events, cancel).await;
    for tagged in asked {
        let missed =
            |(f, _): &(Move, Unset)| f.container == tagged.container && f.tag == tagged.tag;
        if let (false, Some(outcome)) = (
            failed.iter().any(missed),
            outcomes.get_mut(&tagged.container),
        ) {
            outcome.tags.push(tagged.tag);
        }
    }
    let text =
        |(asked, error): &(Move, Unset)| format!("{}:{}: {error}", asked.repository, asked.tag);
    failed.iter().map(text).collect()
}

fn published(
    plan: &Plan,
    built: &IndexMap<String, Built>,
    outcomes: &BTreeMap<String, ContainerOutcome>,
) -> IndexMap<String, Published> {
    let of = |(name, planned): (&String, &PlannedContainer)| {
        let digest = built.get(name)?.digest()?.clone();
        let published = Published {
            repository: planned.container.repository.clone(),
            shared: planned.container.shared,
            digest,
            previous: None,
            key: planned.keyed.key.as_ref().map(ToString::to_string),
            status: match planned.work {
                Work::Build(_) => PublishedStatus::Built,
                Work::Keep(_) => PublishedStatus::Skipped,
            },
            seconds: outcomes.get(name).map_or(0.0, |outcome| outcome.seconds),
        };
        Some((name.clone(), published))
    };
    plan.released().filter_map(of).collect()
}

fn manifests(
    built: &IndexMap<String, Built>,
) -> HashMap<crate::reference::Digest, crate::registry::image::RawManifest> {
    let pushed = built.values().filter_map(|built| match &built.image {
        Image::Pushed(manifest) => Some((manifest.digest.clone(), manifest.clone())),
        Image::Local(_) => None,
    });
    pushed.collect()
}
