//! `skiff promote` and `skiff rollback`: what is to move is found out and shown, then recorded, then moved.

use std::process::ExitCode;

use indexmap::IndexMap;

use super::args::{MoveArgs, PromoteArgs, RollbackArgs};
use super::opened::{self, Opened, agreed, circumstances, missed, unknown_names};
use super::promotion;
use super::request::Invocation;
use crate::cancel;
use crate::diagnostic::Diagnostic;
use crate::engine::event::Events;
use crate::engine::outcome::ChannelOutcome;
use crate::environment::Environment;
use crate::error::Error;
use crate::reference::Tag;
use crate::release::choose::{self, Way};
use crate::release::converge::{Own, Verdict};
use crate::release::promote::{Move, set_tags};
use crate::release::publish::move_to;
use crate::release::record::{Deed, Placed, Record};
use crate::release::standing::{Hold, Standing};
use crate::report::output::Output;
use crate::report::releases;
use crate::report::summary::channel_line;
use crate::report::{self, Progress};

/// What a command is about to do.
pub(super) struct Planned {
    pub(super) channel: Tag,
    pub(super) release: Tag,
    pub(super) standing: Standing,
    /// What moves, and to what.
    pub(super) to: IndexMap<String, Placed>,
    /// Containers that stay, with the reason.
    pub(super) stays: Vec<String>,
    /// Immutable tags that the images are to have first.
    pub(super) tags: Vec<Move>,
    pub(super) deed: Deed,
}

/// `Err` of the inner result: nothing is to be done for this channel, and why.
pub(super) type Plan = Result<Planned, (Tag, String)>;

pub(super) async fn promote(
    args: PromoteArgs,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let moving = Moving::begin(invocation, environment, output).await?;
    moving
        .end(
            async |opened| promotion::plan(opened, &args, environment).await,
            &args.moving,
        )
        .await
}

pub(super) async fn rollback(
    args: RollbackArgs,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let moving = Moving::begin(invocation, environment, output).await?;
    moving
        .end(
            async |opened| plan_rollback(opened, &args).await,
            &args.moving,
        )
        .await
}

/// A command under way.
struct Moving<'a> {
    opened: Opened,
    reporter: tokio::task::JoinHandle<()>,
    environment: &'a Environment,
    output: &'a Output,
}

impl<'a> Moving<'a> {
    async fn begin(
        invocation: &Invocation,
        environment: &'a Environment,
        output: &'a Output,
    ) -> Result<Self, Error> {
        let cancel = cancel::on_signals(output.clone()).map_err(|error| {
            Error::from(Diagnostic::error("signals cannot be listened to")).caused_by(error)
        })?;
        let file = invocation
            .events
            .as_deref()
            .map(super::deploy::create)
            .transpose()?;
        let (events, receiver) = Events::channel();
        // Nothing is built: there is nothing to redraw.
        let progress = match invocation.progress {
            Progress::Terminal => Progress::Plain,
            progress => progress,
        };
        let reporter = report::spawn(receiver, progress, file, output.clone());
        let opened = opened::open(invocation, environment, output, events, cancel).await?;
        Ok(Self {
            opened,
            reporter,
            environment,
            output,
        })
    }

    async fn end(
        mut self,
        plan: impl AsyncFnOnce(&mut Opened) -> Result<Plan, Error>,
        args: &MoveArgs,
    ) -> Result<ExitCode, Error> {
        let planned = match plan(&mut self.opened).await? {
            Ok(planned) => planned,
            Err((channel, why)) if args.dry_run => {
                self.output
                    .out(&format!("{why} (nothing was done to {channel})"));
                return Ok(ExitCode::SUCCESS);
            }
            Err((channel, why)) => return self.finish(&channel, why).await,
        };
        // Before anything is written: an image that is gone must not be found out half-way.
        let changes = planned.changes();
        let there = self
            .opened
            .mover
            .with_manifests(&planned.channel, changes)
            .await;
        there.map_err(|error| self.opened.stopped(error))?;
        let table = releases::moves(&planned.standing, &planned.to, &planned.stays);
        if args.dry_run {
            let (channel, release) = (&planned.channel, &planned.release);
            self.output.out(&format!(
                "{table}\n\n{channel} would move to release {release}; nothing was moved"
            ));
            return Ok(ExitCode::SUCCESS);
        }
        self.output.err(&table);
        if !agreed(args, self.output, &self.opened.mover.cancel).await? {
            self.output.out("nothing was moved");
            return Ok(ExitCode::SUCCESS);
        }
        self.execute(planned, args).await
    }

    /// Nothing of this command's own is to move; what others have left half-way is.
    async fn finish(mut self, channel: &Tag, why: String) -> Result<ExitCode, Error> {
        let nothing = Own::nothing(channel);
        if let Err(error) = self.opened.mover.converge(channel, &nothing).await {
            let title = format!(
                "{why}; what an earlier run has left of {channel} was not finished: {error}"
            );
            let helps = error.help(&self.opened.mover.store);
            let diagnostic = Diagnostic::error(title);
            return Err(missed(helps.into_iter().fold(diagnostic, Diagnostic::help)));
        }
        self.done(&why).await;
        Ok(ExitCode::SUCCESS)
    }

    async fn execute(mut self, planned: Planned, args: &MoveArgs) -> Result<ExitCode, Error> {
        let Planned {
            channel,
            release,
            standing,
            tags,
            deed,
            ..
        } = planned;
        let mover = &self.opened.mover;
        let untagged = set_tags(tags, &mover.registry, &mover.events, &mover.cancel).await;
        if let Some((asked, error)) = untagged.first() {
            let image = asked.repository.tag(&asked.tag);
            let diagnostic = Diagnostic::error(format!("nothing was moved: {image}: {error}"));
            return Err(missed(
                diagnostic.help("running the same command again is safe"),
            ));
        }
        let holds = matches!(deed, Deed::Rollback { .. });
        let record: Record = circumstances(args, self.environment).record(release.clone(), deed);
        let mover = &mut self.opened.mover;
        let tag = mover.write(&record).await;
        let tag = tag.map_err(|error| {
            let diagnostic = Diagnostic::error(format!("nothing was moved: {error}"));
            missed(diagnostic.help(error.help(&self.opened.mover.store.repository)))
        })?;
        let mover = &mut self.opened.mover;
        let mut own = Own::of(&tag, &record, &channel);
        if holds {
            own.before = standing.containers;
        }
        let end = move_to(mover, &channel, &own).await;
        let ended = match end.ended {
            Ok((verdict, standing)) => {
                if holds
                    && standing
                        .hold
                        .as_ref()
                        .is_some_and(|hold: &Hold| hold.record == tag)
                {
                    let line = format!(
                        "{channel} went back to release {release} and is held there: deploys publish and do not move it until \
                         `skiff promote RELEASE`"
                    );
                    self.done(&line).await;
                    return Ok(ExitCode::SUCCESS);
                }
                ChannelOutcome::Ended(Box::new(verdict))
            }
            Err(error) => {
                let mut said = vec![error.to_string()];
                said.extend(error.help(&mover.store));
                said.push(
                    "running the same command again is safe, and the next run of skiff finishes it"
                        .into(),
                );
                ChannelOutcome::Failed(said)
            }
        };
        let line = match &ended {
            ChannelOutcome::Ended(verdict) if **verdict == Verdict::Moved => {
                format!("{channel} moved to release {release}")
            }
            ended => channel_line(&channel, ended, &release),
        };
        self.done(&line).await;
        Ok(opened::code(ended.is_good()))
    }

    /// Lets all be written that happened, and says how it ended.
    async fn done(self, line: &str) {
        drop(self.opened);
        let _ = self.reporter.await;
        self.output.out(line);
    }
}

impl Planned {
    /// What does not stand there already, by the records.
    fn changes(&self) -> Vec<(String, Placed)> {
        let differs = |(name, to): &(&String, &Placed)| {
            self.standing
                .containers
                .get(*name)
                .is_none_or(|stands| stands.digest != to.digest)
        };
        let changes = self.to.iter().filter(differs);
        changes
            .map(|(name, to)| (name.clone(), to.clone()))
            .collect()
    }
}

async fn plan_rollback(opened: &mut Opened, args: &RollbackArgs) -> Result<Plan, Error> {
    let channel = opened.channel(args.moving.channel.as_deref())?;
    let view = opened.mover.view(&channel, None).await;
    let standing = view.map_err(|error| opened.unread(&error))?.standing;
    if standing.containers.is_empty() {
        let error = Diagnostic::error(format!(
            "skiff has not moved {channel} yet: there is nothing to go back to"
        ));
        return Err(error
            .help(format!(
                "`skiff promote RELEASE --channel {channel}` moves it"
            ))
            .into());
    }
    let unknown = unknown_names(&args.names, &standing);
    if !unknown.is_empty() {
        return Err(unknown.into());
    }
    let (way, named) = if let Some(name) = &args.to {
        let found = promotion::released(opened, name, &channel).await?;
        let way = choose::set_of(&standing, &args.names, &found);
        (way, Some(found.release))
    } else {
        let records = standing
            .containers
            .values()
            .filter_map(|p| p.record.clone());
        let tags: Vec<Tag> = records.collect();
        let read = opened.mover.store.records(&tags).await;
        let read = read.map_err(|error| opened.unread(&error))?;
        let way = choose::before(&standing, &args.names, &read.records);
        (way, None)
    };
    let Some(release) = named.or_else(|| way.release().cloned()) else {
        let stands = standing.release.as_ref().map_or("it", Tag::as_str);
        let error = Diagnostic::error(format!(
            "nothing is known of what {channel} stood on before {stands}"
        ));
        return Err(error
            .help("`skiff releases` lists what there is; name one: --to RELEASE")
            .into());
    };
    Ok(Ok(back(channel, release, standing, way)))
}

fn back(channel: Tag, release: Tag, standing: Standing, way: Way) -> Planned {
    let mut containers = standing.containers.clone();
    containers.extend(way.to.clone());
    let deed = Deed::Rollback {
        channel: channel.clone(),
        epoch: standing.epoch + 1,
        containers,
    };
    Planned {
        channel,
        release,
        standing,
        to: way.to,
        stays: way.stuck,
        tags: vec![],
        deed,
    }
}
