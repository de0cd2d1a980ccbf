//! `skiff releases` and `skiff status`: what was recorded, and what the channels stand on. Nothing is written.

use std::process::ExitCode;

use indexmap::IndexMap;

use super::args::{FormatArg, ReleasesArgs, StatusArgs};
use super::opened::{self, Opened};
use super::request::Invocation;
use crate::cancel::CancellationToken;
use crate::diagnostic::{Diagnostic, human};
use crate::engine::event::Events;
use crate::environment::Environment;
use crate::error::Error;
use crate::reference::Tag;
use crate::release::converge::Stopped;
use crate::report::output::Output;
use crate::report::releases::{self, ChannelStatus, Drift};

async fn open(
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<Opened, Error> {
    // Nothing happens that there would be events of.
    let (events, _) = Events::channel();
    opened::open(
        invocation,
        environment,
        output,
        events,
        CancellationToken::new(),
    )
    .await
}

pub(super) async fn list(
    args: &ReleasesArgs,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let mut opened = open(invocation, environment, output).await?;
    let store = &mut opened.mover.store;
    let read = async {
        let tags = store.tags().await?;
        store.records(&tags).await
    };
    let read = read.await.map_err(|error| opened.unread(&error))?;
    let unreadable = read.unreadable.iter().map(|(tag, why)| {
        let image = opened.mover.store.repository.tag(tag);
        Diagnostic::warning(format!("{image} cannot be read: {why}"))
    });
    warn(&unreadable.collect::<Vec<_>>(), output);
    let mut stands: IndexMap<Tag, Vec<Tag>> = IndexMap::new();
    for channel in channels(&mut opened, None).await? {
        let view = opened
            .mover
            .store
            .standing(&channel, &mut opened.mover.history, None);
        let view = view.await.map_err(|error| opened.unread(&error))?;
        if let Some(record) = view.standing.record {
            stands.entry(record).or_default().push(channel);
        }
    }
    let mut records = read.records;
    records.sort_by(|(a, x), (b, y)| (y.created, b).cmp(&(x.created, a)));
    let all = records.len();
    records.truncate(args.limit);
    output.out(&match args.format {
        FormatArg::Human => releases::list(&records, &stands),
        FormatArg::Json => releases::list_json(&records, &stands),
    });
    if records.len() < all && args.format == FormatArg::Human {
        output.err(&format!(
            "{} of {all}; --limit {all} shows all",
            records.len()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn status(
    args: &StatusArgs,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let mut opened = open(invocation, environment, output).await?;
    let mut all = Vec::new();
    for channel in channels(&mut opened, args.channel.as_deref()).await? {
        let status = of_channel(&mut opened, &channel, output).await;
        all.push(status.map_err(|error| opened.stopped(error))?);
    }
    output.out(&match args.format {
        FormatArg::Human => releases::status(&all),
        FormatArg::Json => releases::status_json(&all),
    });
    Ok(ExitCode::SUCCESS)
}

/// The channel that was named; else the manifest's, and those that were moved by name.
async fn channels(opened: &mut Opened, asked: Option<&str>) -> Result<Vec<Tag>, Error> {
    if let Some(asked) = asked {
        return Ok(vec![opened.channel(Some(asked))?]);
    }
    let mut channels: Vec<Tag> = opened.manifest.channels.keys().cloned().collect();
    let moved = opened.mover.store.channels().await;
    for channel in moved.map_err(|error| opened.unread(&error))? {
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    Ok(channels)
}

async fn of_channel(
    opened: &mut Opened,
    channel: &Tag,
    output: &Output,
) -> Result<ChannelStatus, Stopped> {
    let mover = &mut opened.mover;
    let view = mover
        .store
        .standing(channel, &mut mover.history, None)
        .await?;
    let unreadable = view.unreadable.iter().map(|(tag, why)| {
        let image = mover.store.repository.tag(tag);
        Diagnostic::warning(format!("{image} cannot be read, and is left out: {why}"))
    });
    warn(&unreadable.collect::<Vec<_>>(), output);
    let standing = view.standing;
    let images = standing.containers.iter();
    let images = images.map(|(name, placed)| (name, placed.home()));
    let found = mover.found(channel, images).await?;
    let mut drift = IndexMap::new();
    for (name, placed) in &standing.containers {
        let stands = found.get(name).cloned().flatten();
        if stands.as_ref() != Some(&placed.digest) {
            let image = placed.repository.digest(&placed.digest);
            let expired = mover.registry.head_manifest(&image).await?.is_none();
            drift.insert(name.clone(), Drift { stands, expired });
        }
    }
    let same = view.checkpoint.as_ref().is_some_and(|checkpoint| {
        (&checkpoint.containers, &checkpoint.hold) == (&standing.containers, &standing.hold)
    });
    Ok(ChannelStatus {
        since: standing
            .containers
            .values()
            .map(|placed| placed.created)
            .max(),
        pending: !same && !standing.containers.is_empty(),
        drift,
        standing,
    })
}

fn warn(warnings: &[Diagnostic], output: &Output) {
    if !warnings.is_empty() {
        output.err(&human::render(warnings, output.screen()));
    }
}
