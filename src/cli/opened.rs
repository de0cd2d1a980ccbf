//! What the commands on releases work with: the manifest's names and the registry, no builder.

use std::process::ExitCode;

use super::args::MoveArgs;
use super::deploy::{client, history};
use super::ready::no_state;
use super::registry;
use super::request::Invocation;
use crate::cancel::CancellationToken;
use crate::diagnostic::{Diagnostic, human};
use crate::engine::event::Events;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::manifest;
use crate::manifest::model::ProjectManifest;
use crate::project;
use crate::reference::Tag;
use crate::registry::Client;
use crate::registry::credentials::CredentialSources;
use crate::registry::ecr::Ecr;
use crate::release::channel::Sources;
use crate::release::ci;
use crate::release::converge::{Mover, Stopped};
use crate::release::publish::Circumstances;
use crate::release::standing::Standing;
use crate::release::store::{Store, StoreError};
use crate::report::output::Output;

pub(super) struct Opened {
    pub manifest: ProjectManifest,
    pub mover: Mover,
}

/// The manifest, and its registry.
pub(super) struct Connected {
    pub manifest: ProjectManifest,
    pub registry: Client,
    /// Where the registry is Amazon's.
    pub ecr: Option<Ecr>,
}

/// Reads the manifest and connects.
pub(super) async fn connect(
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<Connected, Error> {
    let path = manifest::find(invocation.manifest.as_deref(), &environment.directory)?;
    let shown = project::shown(&path, &environment.directory);
    let (mut manifest, warnings) = manifest::load(&path, &shown)?;
    if !warnings.is_empty() {
        output.err(&human::render(&warnings, output.screen()));
    }
    let (ecr, _) = registry::locate(&mut manifest, false).await?;
    let credentials = CredentialSources {
        ecr: ecr.clone(),
        ..CredentialSources::new(environment.docker_config())
    };
    Ok(Connected {
        registry: client(&manifest, credentials),
        manifest,
        ecr,
    })
}

/// The same for those who read or move channels; `events` and `cancel` are for those who move something.
pub(super) async fn open(
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
    events: Events,
    cancel: CancellationToken,
) -> Result<Opened, Error> {
    let Connected {
        manifest, registry, ..
    } = connect(invocation, environment, output).await?;
    let mover = Mover {
        store: Store::new(registry.clone(), manifest.state.clone()),
        history: history(&manifest.root)?,
        registry,
        events,
        cancel,
        manifests: std::collections::HashMap::new(),
    };
    Ok(Opened { manifest, mover })
}

impl Opened {
    /// The channel that was named, or the manifest's only one.
    pub(super) fn channel(&self, asked: Option<&str>) -> Result<Tag, Diagnostic> {
        if let Some(asked) = asked {
            return Tag::new(asked)
                .map_err(|error| Diagnostic::error(format!("--channel: {error}")));
        }
        let mut channels = self.manifest.channels.keys();
        match (channels.next(), channels.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) => Err(Diagnostic::error("the manifest has no channels")
                .help("say which tag to move: --channel NAME")),
            _ => {
                let names: Vec<&str> = self.manifest.channels.keys().map(Tag::as_str).collect();
                let error = Diagnostic::error("there are several channels");
                Err(error.help(format!("say which one: --channel {}", names.join("|"))))
            }
        }
    }

    /// An error of the state repository, before anything was done.
    pub(super) fn unread(&self, error: &StoreError) -> Error {
        no_state(error, &self.mover.store).into()
    }

    /// Any error, before anything was done.
    pub(super) fn stopped(&self, error: Stopped) -> Error {
        if let Stopped::Store(error) = &error {
            return self.unread(error);
        }
        let helps = error.help(&self.mover.store);
        let diagnostic = Diagnostic::error(format!("nothing was moved: {error}"));
        Error::from(helps.into_iter().fold(diagnostic, Diagnostic::help)).caused_by(error)
    }
}

/// Who moves a channel by hand, and why.
pub(super) fn circumstances(args: &MoveArgs, environment: &Environment) -> Circumstances {
    Circumstances {
        reason: args.reason.clone(),
        ..ci::circumstances(&Sources::default(), environment)
    }
}

/// Names that the channel has not.
pub(super) fn unknown_names(names: &[String], standing: &Standing) -> Vec<Diagnostic> {
    let missing = names
        .iter()
        .filter(|name| !standing.containers.contains_key(*name));
    let channel = &standing.channel;
    missing
        .map(|name| {
            let known: Vec<&str> = standing.containers.keys().map(String::as_str).collect();
            Diagnostic::error(format!("{channel} has no container `{name}`"))
                .note(format!("containers: {}", known.join(", ")))
        })
        .collect()
}

/// Asks on a terminal; where nobody can answer, nobody is asked.
pub(super) async fn agreed(
    args: &MoveArgs,
    output: &Output,
    cancel: &CancellationToken,
) -> Result<bool, Error> {
    if args.yes {
        return Ok(true);
    }
    tokio::select! {
        answer = output.confirm("move it?") => Ok(answer.unwrap_or(true)),
        () = cancel.cancelled() => {
            let stopped = Diagnostic::error("interrupted before anything was moved");
            Err(Error::new(ErrorKind::Interrupted, vec![stopped]))
        }
    }
}

/// What was asked for and could not be done.
pub(super) fn missed(diagnostic: Diagnostic) -> Error {
    Error::new(ErrorKind::Promotion, vec![diagnostic])
}

pub(super) fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ErrorKind::Promotion.code())
    }
}
