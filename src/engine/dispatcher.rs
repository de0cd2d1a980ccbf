//! The run: sole owner of its state. Starts what is ready, takes in what is done, and when all is good hands the set to
//! the release. Jobs run beside it and share nothing but events.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::builders::Builders;
use super::cache;
use super::event::{self, EventKind, Events};
use super::files::FileSessions;
use super::job::{self, Built, JobError, Report, Shared};
use super::mounts;
use super::outcome::{ContainerOutcome, ContainerStatus, Failure, RunOutcome};
use super::private::Private;
use super::releasing::{self, Releasing};
use super::scheduler::ReadyQueue;
use crate::buildkit::Builder;
use crate::buildkit::session::auth::AuthService;
use crate::buildkit::session::load::Loader;
use crate::cache::s3::Bucket;
use crate::clock;
use crate::plan::{Carrying, Plan, PlannedContainer, Work};
use crate::reference::ImageRef;
use crate::registry::Client;

/// What a run works with.
pub(crate) struct Tools {
    /// At least one.
    pub(crate) builders: Vec<Builder>,
    /// Takes images for the local engine, if they are to go there by way of this process.
    pub(crate) loader: Option<Loader>,
    /// Why they were chosen, for people.
    pub(crate) chosen_by: String,
    pub(crate) registry: Client,
    /// Where caches are in one, and it can be used.
    pub(crate) bucket: Option<Bucket>,
    pub(crate) auth: AuthService,
    /// Secrets and agents, by container.
    pub(crate) private: BTreeMap<String, Private>,
    pub(crate) events: Events,
    /// Names this machine to the builder.
    pub(crate) machine: String,
    /// The manifest's folder.
    pub(crate) root: std::path::PathBuf,
    /// Builds at a time.
    pub(crate) jobs: usize,
    /// After a failure, build what does not need the container that failed.
    pub(crate) keep_going: bool,
    /// The longest silence of the builder's own work.
    pub(crate) stall: std::time::Duration,
    /// Repositories that were missing and are there now.
    pub(crate) created: Vec<String>,
    pub(crate) releasing: Releasing,
}

/// Executes the plan to its end, whatever happens on the way. After `cancel` fires nothing starts, what runs is
/// cancelled, and no tag moves.
pub(crate) async fn run(plan: Plan, tools: Tools, cancel: &CancellationToken) -> RunOutcome {
    let started = clock::now();
    let containers = plan.containers.values();
    let shared = |builder: Builder| Shared {
        filling: tokio::sync::Mutex::default(),
        files: FileSessions::new(builder.clone(), tools.machine.clone(), containers.clone()),
        builder,
        loader: tools.loader.clone(),
        registry: tools.registry.clone(),
        bucket: tools.bucket.clone(),
        auth: tools.auth.clone(),
        private: tools.private.clone(),
        events: tools.events.clone(),
        output: plan.output,
        stall: tools.stall,
        root: tools.root.clone(),
    };
    let builders = Arc::new(Builders::new(tools.builders.into_iter().map(shared)));
    // The last sender is to go with the run.
    let events = tools.events;
    let (jobs, keep_going) = (tools.jobs, tools.keep_going);
    events
        .send(announcement(
            &plan,
            &builders,
            jobs,
            keep_going,
            tools.chosen_by,
        ))
        .await;
    for repository in tools.created {
        let created = EventKind::RepositoryCreated { repository };
        events.send(created).await;
    }
    let mut dispatcher = Dispatcher {
        queue: ReadyQueue::new(
            plan.containers
                .iter()
                .map(|(name, planned)| (name.clone(), planned.parents.clone(), planned.height)),
        ),
        running: JoinSet::new(),
        images: BTreeMap::new(),
        built: IndexMap::new(),
        outcomes: BTreeMap::new(),
        plan: &plan,
        builders: &builders,
        events: &events,
    };
    dispatcher
        .build_all(tools.jobs, tools.keep_going, cancel)
        .await;
    let (built, mut outcomes) = (dispatcher.built, dispatcher.outcomes);

    let promotion = releasing::release(
        &plan,
        &built,
        &mut outcomes,
        builders.get(0),
        tools.releasing,
        cancel,
    )
    .await;
    let containers: Vec<_> = built
        .keys()
        .filter(|name| plan.builds(name))
        .cloned()
        .collect();
    if exports_caches(&plan) && !containers.is_empty() && !cancel.is_cancelled() {
        events.send(EventKind::CachesExporting { containers }).await;
        export_caches(&plan, &built, &builders, tools.jobs, cancel).await;
    }
    let containers = plan
        .containers
        .keys()
        .filter_map(|name| outcomes.remove_entry(name))
        .collect();
    let seconds = started.elapsed().as_secs_f64();
    let left = built.iter().flat_map(|(name, built)| {
        let left = built.mounts.iter().filter_map(mounts::Carried::left);
        left.map(move |mount| (name.clone(), mount.to_owned()))
    });
    let outcome = RunOutcome {
        containers,
        promotion,
        mounts_left: left.collect(),
        seconds,
    };
    let exit_code = outcome
        .error_kind()
        .map_or(0, crate::error::ErrorKind::code);
    events
        .send(EventKind::RunFinished { exit_code, seconds })
        .await;
    outcome
}

/// Whether this run keeps build caches or cache mounts for the next one.
pub(crate) fn exports_caches(plan: &Plan) -> bool {
    let mut containers = plan.containers.values();
    let exports = |planned: &PlannedContainer| {
        planned.build_cache.export.is_some() || planned.carrying == Carrying::Both
    };
    plan.output.push && containers.any(exports)
}

/// A run that has nothing to do: only its events.
pub(crate) async fn nothing(plan: &Plan, events: Events) {
    events
        .send(EventKind::RunStarted {
            format: event::FORMAT,
            skiff: env!("CARGO_PKG_VERSION"),
            release: plan.release.to_string(),
            builder: "none".to_owned(),
            driver: "none",
            chosen_by: "nothing to build".to_owned(),
            jobs: 0,
            keep_going: false,
            compared_with: plan.base.as_ref().map(Into::into),
            containers: vec![],
        })
        .await;
    let finished = EventKind::RunFinished {
        exit_code: 0,
        seconds: 0.0,
    };
    events.send(finished).await;
}

fn announcement(
    plan: &Plan,
    builders: &Builders,
    jobs: usize,
    keep_going: bool,
    chosen_by: String,
) -> EventKind {
    let driver = builders.all().next();
    let driver = driver.map_or("none", |shared| shared.builder.driver.name());
    let containers = plan
        .containers
        .iter()
        .map(|(name, planned)| event::PlannedContainer {
            container: name.clone(),
            repository: planned.container.repository.to_string(),
            waits_for: planned.parents.clone(),
            reason: planned.why(),
        });
    EventKind::RunStarted {
        format: event::FORMAT,
        skiff: env!("CARGO_PKG_VERSION"),
        release: plan.release.to_string(),
        builder: builders.description(),
        driver,
        chosen_by,
        jobs,
        keep_going,
        compared_with: plan.base.as_ref().map(Into::into),
        containers: containers.collect(),
    }
}

struct Dispatcher<'a> {
    queue: ReadyQueue,
    running: JoinSet<(String, Report)>,
    /// Images of finished containers, by digest.
    images: BTreeMap<String, ImageRef>,
    built: IndexMap<String, Built>,
    outcomes: BTreeMap<String, ContainerOutcome>,
    plan: &'a Plan,
    builders: &'a Arc<Builders>,
    events: &'a Events,
}

impl Dispatcher<'_> {
    /// Until nothing runs and nothing may start. The first failure lets nothing new start, or with `keep_going` nothing
    /// that needs the container that failed; the cancellation lets nothing start either way. Builds that run are let
    /// finish after a failure: their cache serves the next run.
    async fn build_all(&mut self, jobs: usize, keep_going: bool, cancel: &CancellationToken) {
        let mut stopped: Option<String> = None;
        loop {
            while stopped.is_none() && !cancel.is_cancelled() && self.running.len() < jobs {
                let Some(name) = self.queue.pop() else { break };
                self.start(name, cancel).await;
            }
            let Some(joined) = self.running.join_next().await else {
                break;
            };
            let reason = match joined {
                Ok((name, report)) => {
                    if self.take(name.clone(), report).await || keep_going {
                        continue;
                    }
                    format!("not started because {name} failed")
                }
                // A job that panicked is a defect of skiff: what it built is unknown, so the run must not go on.
                Err(error) => format!("not built because of an internal error ({error})"),
            };
            stopped.get_or_insert(reason);
        }
        let reason = stopped.unwrap_or_else(|| "interrupted".to_owned());
        let missing = self
            .plan
            .containers
            .keys()
            .filter(|name| !self.outcomes.contains_key(*name));
        for name in missing.cloned().collect::<Vec<_>>() {
            self.never_built(name, reason.clone()).await;
        }
    }

    async fn never_built(&mut self, name: String, reason: String) {
        let report = Report {
            result: Err(JobError::Cancelled),
            steps: (0, 0),
            seconds: 0.0,
        };
        self.end(name, report, Some(reason)).await;
    }

    async fn start(&mut self, name: String, cancel: &CancellationToken) {
        let Some(planned) = self.plan.containers.get(&name).cloned() else {
            return;
        };
        self.events
            .send(EventKind::ContainerStarted {
                container: name.clone(),
            })
            .await;
        let parents = self.images.clone();
        let (builders, cancel) = (Arc::clone(self.builders), cancel.child_token());
        self.running.spawn(async move {
            let report = job::run(&planned, &parents, &builders, &cancel).await;
            (name, report)
        });
    }

    /// Takes in what is done; `false`: it failed, and what is built from it will not be.
    async fn take(&mut self, name: String, report: Report) -> bool {
        let failed = matches!(
            report.result,
            Err(JobError::Failed(_) | JobError::Lost(_) | JobError::TimedOut)
        );
        if report.result.is_ok() {
            self.queue.finished(&name);
        }
        let children = if failed {
            self.queue.abandon(&name)
        } else {
            vec![]
        };
        self.end(name.clone(), report, None).await;
        for child in children {
            let reason = format!("not built because {name}, which it needs, failed");
            self.never_built(child, reason).await;
        }
        !failed
    }

    async fn end(&mut self, name: String, report: Report, reason: Option<String>) {
        let Some(planned) = self.plan.containers.get(&name) else {
            return;
        };
        let (mut digest, mut tags) = (None, vec![]);
        let (status, failure) = match report.result {
            Ok(built) => {
                if let Some(image) = built.reference(planned) {
                    self.images.insert(name.clone(), image);
                }
                digest = built.digest().cloned();
                let status = match planned.work {
                    Work::Keep(_) => ContainerStatus::Skipped,
                    Work::Build(_) => ContainerStatus::Built,
                };
                if self.plan.output.push && status == ContainerStatus::Built {
                    tags.push(planned.tag.clone());
                }
                self.built.insert(name.clone(), built);
                (status, None)
            }
            Err(JobError::Cancelled) => (
                ContainerStatus::Cancelled,
                Some(Failure::new(reason.unwrap_or_else(|| "interrupted".into()))),
            ),
            Err(JobError::Failed(failure) | JobError::Lost(failure)) => {
                (ContainerStatus::Failed, Some(*failure))
            }
            Err(JobError::TimedOut) => (ContainerStatus::Failed, Some(Failure::new("timed out"))),
        };
        let (cached_steps, total_steps) = report.steps;
        let seconds = report.seconds;
        self.events
            .send(EventKind::ContainerFinished {
                container: name.clone(),
                status,
                digest: digest.as_ref().map(ToString::to_string),
                cached_steps,
                total_steps,
                seconds,
                failure: failure.clone(),
            })
            .await;
        let outcome = ContainerOutcome {
            status,
            digest,
            tags,
            cached_steps,
            total_steps,
            seconds,
            failure,
        };
        self.outcomes.insert(name, outcome);
    }
}

/// After the release, so that nobody waits for a cache; a failing one is a warning.
async fn export_caches(
    plan: &Plan,
    built: &IndexMap<String, Built>,
    builders: &Builders,
    jobs: usize,
    cancel: &CancellationToken,
) {
    let fresh: Vec<_> = builders.all().map(|shared| shared.files.anew()).collect();
    let exports = built.iter().filter_map(|(name, image)| {
        let planned = plan.containers.get(name).filter(|_| plan.builds(name))?;
        let at = builders.of(name)?;
        let (files, shared) = (fresh.get(at)?, builders.get(at));
        Some(cache::export(planned, image, files, shared, cancel))
    });
    let exports = futures_util::stream::iter(exports);
    futures_util::StreamExt::for_each_concurrent(exports, jobs, |export| export).await;
}
