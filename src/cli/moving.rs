//! `skiff promote` and `skiff rollback`: what is to move is found out and shown, then recorded, then moved.

use std::process::ExitCode;

use indexmap::IndexMap;

use super::args::{MoveArgs, PromoteArgs, RollbackArgs};
use super::opened::{self, Opened, agreed, circumstances, missed, unknown_names};
use super::request::Invocation;
use crate::cancel;
use crate::diagnostic::{Diagnostic, nearest};
use crate::engine::event::Events;
use crate::engine::outcome::ChannelOutcome;
use crate::environment::Environment;
use crate::error::Error;
use crate::reference::Tag;
use crate::release::choose::{self, Found, Way};
use crate::release::converge::{Own, Verdict};
use crate::release::publish::{self, move_to};
use crate::release::record::{Deed, Due, Placed, Record};
use crate::release::standing::{Hold, Lineage as _, Relation, Standing};
use crate::report::output::Output;
use crate::report::releases;
use crate::report::summary::channel_line;
use crate::report::{self, Progress};

/// What a command is about to do.
struct Planned {
    channel: Tag,
    release: Tag,
    standing: Standing,
    /// What moves, and to what.
    to: IndexMap<String, Placed>,
    /// Containers that stay, with the reason.
    stays: Vec<String>,
    deed: Deed,
}

/// `Err` of the inner result: nothing is to be done for this channel, and why.
type Plan = Result<Planned, (Tag, String)>;

pub(super) async fn promote(
    args: PromoteArgs,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let moving = Moving::begin(invocation, environment, output).await?;
    moving
        .end(
            async |opened| plan_promotion(opened, &args).await,
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
        let nothing = Own {
            tag: channel.clone(),
            release: channel.clone(),
            containers: IndexMap::new(),
            before: IndexMap::new(),
        };
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
            deed,
            ..
        } = planned;
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

async fn plan_promotion(opened: &mut Opened, args: &PromoteArgs) -> Result<Plan, Error> {
    let channel = opened.channel(args.moving.channel.as_deref())?;
    let view = opened.mover.view(&channel, None).await;
    let standing = view.map_err(|error| opened.unread(&error))?.standing;
    let (tag, record) = released(opened, &args.release, &channel).await?;
    let mut to = record.placed(&tag);
    let unknown = args.names.iter().filter(|name| !to.contains_key(*name));
    let unknown: Vec<Diagnostic> = unknown
        .map(|name| {
            let known: Vec<&str> = to.keys().map(String::as_str).collect();
            Diagnostic::error(format!(
                "release {} has no container `{name}`",
                args.release
            ))
            .note(format!("containers: {}", known.join(", ")))
        })
        .collect();
    if !unknown.is_empty() {
        return Err(unknown.into());
    }
    to.retain(|name, _| args.names.is_empty() || args.names.contains(name));
    let release = record.release.clone();
    let now = crate::clock::timestamp();
    let mut newer = false;
    for (name, placed) in &mut to {
        placed.created = now;
        let Some(stands) = standing.containers.get(name) else {
            newer = true;
            continue;
        };
        let history = &mut opened.mover.history;
        let relation = tokio::task::block_in_place(|| history.relation(stands, placed));
        newer |= matches!(relation, Relation::Newer | Relation::Same);
        if matches!(relation, Relation::Diverged | Relation::Unknown) && !args.force_promote {
            let verdict = Verdict::Stayed {
                container: name.clone(),
                stands: Box::new(stands.clone()),
                relation,
                unfetched: history.unfetched().map(str::to_owned),
            };
            let line = channel_line(
                &channel,
                &ChannelOutcome::Ended(Box::new(verdict)),
                &release,
            );
            return Err(missed(Diagnostic::error(line)));
        }
    }
    if !newer && !args.force_promote {
        let why = format!(
            "{channel} stays: release {release} is older than what it stands on; `skiff rollback --to {release}` goes back, \
             and holds it there"
        );
        return Ok(Err((channel, why)));
    }
    let stands = |(name, placed): (&String, &Placed)| {
        standing.containers.get(name).is_some_and(|stands| {
            (&stands.release, &stands.digest) == (&placed.release, &placed.digest)
        })
    };
    if standing.hold.is_none() && to.iter().all(stands) {
        let why = format!("{channel} stands on release {release} already");
        return Ok(Err((channel, why)));
    }
    let images = to.iter().map(|(name, placed)| (name, placed.home()));
    let before = publish::before(&opened.mover, &channel, &standing, images).await;
    let before = before.map_err(|error| opened.stopped(error))?;
    let begins = standing.hold.is_some() || args.force_promote;
    let due = Due {
        epoch: standing.epoch + u64::from(begins),
        force: args.force_promote,
        lifts_hold: standing.hold.is_some(),
        previous_release: standing.release.clone(),
        before,
    };
    let deed = Deed::Promotion {
        containers: to.clone(),
        channels: IndexMap::from([(channel.clone(), due)]),
    };
    Ok(Ok(Planned {
        channel,
        release,
        standing,
        to,
        stays: vec![],
        deed,
    }))
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
        let found = released(opened, name, &channel).await?;
        let way = choose::set_of(&standing, &args.names, &found);
        (way, Some(found.1.release))
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
        deed,
    }
}

/// The release of this name, or what is there instead.
async fn released(opened: &mut Opened, name: &str, channel: &Tag) -> Result<(Tag, Record), Error> {
    let found = choose::find(&mut opened.mover.store, name, channel).await;
    match found.map_err(|error| opened.unread(&error))? {
        Found::Release(found) => Ok(*found),
        Found::Missing(names) => {
            let error = Diagnostic::error(format!("there is no release `{name}`"));
            let error = match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error,
            };
            Err(error.help("`skiff releases` lists them").into())
        }
    }
}
