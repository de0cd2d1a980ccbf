//! A run that has nothing to build and nothing to release: told as every run is, and what others left half-way is finished.

use std::process::ExitCode;

use super::deploy::{cannot_write, create};
use super::opened::missed;
use super::released::Released;
use super::request::{DeployRequest, Invocation};
use crate::atomic_file;
use crate::cancel::CancellationToken;
use crate::diagnostic::Diagnostic;
use crate::engine::dispatcher;
use crate::engine::event::Events;
use crate::error::Error;
use crate::plan::Plan;
use crate::reference::Tag;
use crate::registry::Client;
use crate::release::converge::{Mover, Own, Stopped};
use crate::release::lineage::History;
use crate::release::store::Store;
use crate::report::output::Output;
use crate::report::{self, Progress};

/// What it takes to finish what a run that was killed has left.
pub(super) struct Finishing {
    pub(super) store: Store,
    pub(super) history: History,
    pub(super) registry: Client,
    pub(super) cancel: CancellationToken,
    /// What was read of a channel before.
    pub(super) released: Option<Released>,
}

pub(super) async fn run(
    plan: &Plan,
    finishing: Finishing,
    request: &DeployRequest,
    invocation: &Invocation,
    output: &Output,
) -> Result<ExitCode, Error> {
    let file = invocation.events.as_deref().map(create).transpose()?;
    if let Some(path) = &request.metadata_file {
        create(path)?;
        atomic_file::write(path, b"{}\n").map_err(|error| cannot_write(path, &error))?;
    }
    let progress = match invocation.progress {
        Progress::Json => Progress::Json,
        _ => Progress::Quiet,
    };
    let (events, receiver) = Events::channel();
    let reporter = report::spawn(receiver, progress, file, output.clone());
    let mut mover = Mover {
        store: finishing.store,
        history: finishing.history,
        registry: finishing.registry,
        events: events.clone(),
        cancel: finishing.cancel,
        manifests: std::collections::HashMap::new(),
    };
    let released = finishing.released.as_ref();
    let mut unfinished = None;
    for channel in &plan.channels.moves {
        if let Err(error) = finish(&mut mover, channel, released).await {
            let title =
                format!("what an earlier run has left of {channel} was not finished: {error}");
            let helps = error.help(&mover.store).into_iter();
            unfinished = Some(helps.fold(Diagnostic::error(title), Diagnostic::help));
        }
    }
    drop(mover);
    dispatcher::nothing(plan, events).await;
    let _ = reporter.await;
    if progress != Progress::Json {
        output.out(&report::plan::nothing(plan));
    }
    match unfinished {
        Some(diagnostic) => Err(missed(diagnostic)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Moves the channel to where its records say, if there are any that its checkpoint does not know.
async fn finish(
    mover: &mut Mover,
    channel: &Tag,
    released: Option<&Released>,
) -> Result<(), Stopped> {
    if let Some(released) = released
        && released.has_settled(channel, &mover.store.tags().await?)
    {
        return Ok(());
    }
    if mover.view(channel, None).await?.fresh.is_empty() {
        return Ok(());
    }
    mover
        .converge(channel, &Own::nothing(channel))
        .await
        .map(drop)
}
