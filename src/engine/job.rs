//! One container: from its sources to an image that is in the registry, read back and found whole.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::builders::Builders;
use super::event::{EventKind, Events};
use super::failure::{self, Scene};
use super::files::FileSessions;
use super::mounts::{self, Carried};
use super::outcome::Failure;
use super::private::Private;
use super::solve_request::{Sessions, docker_exporter, exporter, solve_request};
use super::steps::Steps;
use super::verify::{exported_digest, verify};
use super::{cache, stall};
use crate::buildkit::session::auth::AuthService;
use crate::buildkit::session::load::Loader;
use crate::buildkit::solve::{Solve, SolveError, solve};
use crate::buildkit::{Builder, Driver};
use crate::cache::candidates::CachePlace;
use crate::cache::s3::Bucket;
use crate::cancel::overdue;
use crate::clock;
use crate::key::Key;
use crate::manifest::model::Mirror;
use crate::plan::{ImageOutput, PlannedContainer, Work};
use crate::reference::{Digest, ImageRef};
use crate::registry::Client;
use crate::registry::image::RawManifest;

/// What every job of a run uses.
pub(super) struct Shared {
    pub(super) builder: Builder,
    pub(super) registry: Client,
    /// Where caches are in one, and it can be used.
    pub(super) bucket: Option<Bucket>,
    pub(super) auth: AuthService,
    /// Secrets and agents, by container.
    pub(super) private: BTreeMap<String, Private>,
    pub(super) files: FileSessions,
    /// Takes images for the local engine, where they are asked for and the builder has no way of its own.
    pub(super) loader: Option<Loader>,
    pub(super) events: Events,
    /// Held by who fills a cache mount.
    pub(super) filling: tokio::sync::Mutex<()>,
    pub(super) output: ImageOutput,
    /// The longest silence of the builder's own work, see [`stall`].
    pub(super) stall: Duration,
    /// The manifest's folder: paths are shown relative to it.
    pub(super) root: PathBuf,
}

/// A container that was built, and what it takes to export its cache.
pub(super) struct Built {
    pub(super) image: Image,
    /// The images of its parents, by container name.
    pub(super) parents: BTreeMap<String, ImageRef>,
    /// Its cache mounts.
    pub(super) mounts: Vec<Carried>,
    /// The cache it was built with.
    pub(super) imported: Option<CachePlace>,
}

/// What was made of it.
pub(super) enum Image {
    /// In its repository, read back and found whole.
    Pushed(RawManifest),
    /// In the builder only; with a digest if it was stored as an image.
    Local(Option<Digest>),
}

impl Built {
    pub(super) fn digest(&self) -> Option<&Digest> {
        match &self.image {
            Image::Pushed(manifest) => Some(&manifest.digest),
            Image::Local(digest) => digest.as_ref(),
        }
    }

    /// The image as children are to name it.
    pub(super) fn reference(&self, planned: &PlannedContainer) -> Option<ImageRef> {
        let repository = &planned.container.repository;
        match &self.image {
            Image::Pushed(manifest) => Some(repository.digest(&manifest.digest)),
            // The engine finds an image of its own store by name, tag and digest together.
            Image::Local(digest) => {
                let digest = Some(digest.clone()?);
                Some(ImageRef {
                    digest,
                    ..repository.tag(&planned.tag)
                })
            }
        }
    }
}

pub(super) struct Report {
    pub(super) result: Result<Built, JobError>,
    /// Steps of the Dockerfile: (cached, all).
    pub(super) steps: (u32, u32),
    pub(super) seconds: f64,
}

pub(super) enum JobError {
    Cancelled,
    TimedOut,
    Failed(Box<Failure>),
    /// The builder was lost, and with it the build.
    Lost(Box<Failure>),
}

impl From<Failure> for JobError {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

/// How often a push that failed is tried again. Nothing is rebuilt: the builder still has every step.
const PUSH_RETRIES: u32 = 4;

/// Builds, pushes and verifies. `parents`: the images of this run's parents, by container name.
pub(super) async fn run(
    planned: &PlannedContainer,
    parents: &BTreeMap<String, ImageRef>,
    builders: &Builders,
    cancel: &CancellationToken,
) -> Report {
    let started = clock::now();
    if let Work::Keep(manifest) = &planned.work {
        return Report {
            result: Ok(Built {
                mounts: vec![],
                image: Image::Pushed(manifest.clone()),
                parents: BTreeMap::new(),
                imported: None,
            }),
            steps: (0, 0),
            seconds: 0.0,
        };
    }
    let mut steps = Steps::new(&planned.container.name);
    let limit = planned.container.timeout;
    let result = tokio::select! {
        result = build_somewhere(planned, parents, builders, &mut steps, cancel) => result,
        // Dropping the work drops the Solve call, which cancels the build.
        () = after(limit) => Err(JobError::TimedOut),
        () = overdue(cancel) => Err(JobError::Cancelled),
    };
    let result = result.map_err(|error| match error {
        JobError::TimedOut => timed_out(limit, &steps).into(),
        other => other,
    });
    Report {
        result,
        steps: steps.counts(),
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// Builds on the container's builder. When that is lost, once more: there if it comes back, else on another.
async fn build_somewhere(
    planned: &PlannedContainer,
    parents: &BTreeMap<String, ImageRef>,
    builders: &Builders,
    steps: &mut Steps,
    cancel: &CancellationToken,
) -> Result<Built, JobError> {
    let name = &planned.container.name;
    let Some(at) = builders.of(name) else {
        return Err(Failure::new("every builder was lost").into());
    };
    let failure = match build(planned, parents, builders.get(at), steps, cancel).await {
        Err(JobError::Lost(failure)) => failure,
        other => return other,
    };
    let next = tokio::select! {
        next = builders.after_loss(at, name) => next,
        () = cancel.cancelled() => return Err(JobError::Cancelled),
    };
    let Some(next) = next else {
        return Err(JobError::Lost(failure));
    };
    let shared = builders.get(next);
    let message = format!(
        "{}; building again on {}",
        failure.message, shared.builder.description
    );
    shared.events.warn(Some(name), message).await;
    *steps = Steps::new(name);
    build(planned, parents, shared, steps, cancel).await
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn timed_out(limit: Option<Duration>, steps: &Steps) -> Failure {
    let seconds = limit.unwrap_or_default().as_secs();
    let mut failure = Failure::new(format!("not built within its timeout of {seconds} s"))
        .help("raise `timeout` in containers.toml, or see why the step takes so long");
    if let Some(step) = steps.running() {
        failure.step = Some(step.name.to_owned());
        failure.log = step.log;
    }
    failure
}

async fn build(
    planned: &PlannedContainer,
    parents: &BTreeMap<String, ImageRef>,
    shared: &Shared,
    steps: &mut Steps,
    cancel: &CancellationToken,
) -> Result<Built, JobError> {
    let container = &planned.container;
    let mut sessions = Sessions::open(planned, &shared.files, shared).await?;
    let mut imported = cache::imports(planned, shared).await;
    let cached = imported.is_some();
    let mut mounts = mounts::bring(planned, parents, cached, shared, cancel).await;
    let imports = imported.as_ref().map(|imported| &imported.attribute);
    let mut request = solve_request(planned, parents, imports, &sessions);
    let stores = shared.builder.driver == Driver::Docker;
    let output = ImageOutput {
        load: shared.output.load && stores,
        ..shared.output
    };
    request.image = exporter(planned, output, planned.wanted && stores);
    let response = loop {
        let solve = request.clone();
        let response = push(planned, solve, &mut sessions, shared, steps, cancel).await;
        let damaged = match (&response, &imported) {
            (Err(JobError::Failed(_)), Some(cache)) => {
                cache::is_damaged(cache, planned, shared).await
            }
            _ => false,
        };
        if !damaged {
            break response?;
        }
        imported = None;
        request.frontend.remove("cache-imports");
        request.session = sessions.container_session();
        *steps = Steps::new(&container.name);
    };
    let to_load = (shared.output.load && !stores).then(|| Solve {
        image: None,
        docker: Some(docker_exporter(planned)),
        ..request.clone()
    });
    mounts::measure(&mut mounts, steps, planned, shared).await;
    let image = if shared.output.push {
        let pushed = container.repository.tag(&planned.tag);
        let manifest = verify(planned, &response, shared).await.map_err(|error| {
            Failure::new(format!("{pushed} was pushed and is not released: {error}"))
        })?;
        let image = container.repository.digest(&manifest.digest).to_string();
        let verified = EventKind::ContainerVerified {
            container: container.name.clone(),
            image,
        };
        shared.events.send(verified).await;
        keep(planned, &manifest, &sessions, shared).await;
        Image::Pushed(manifest)
    } else {
        Image::Local(exported_digest(&response))
    };
    if let Some(mut request) = to_load {
        // A solve of its own, all of it cached: of two exporters' digests a response keeps one.
        request.session = sessions.container_session();
        push(planned, request, &mut sessions, shared, steps, cancel).await?;
    }
    Ok(Built {
        image,
        parents: parents.clone(),
        mounts,
        imported: imported.map(|imported| imported.place),
    })
}

/// Puts a verified image under its key, unless it may have been made from something else. Without it the image is as
/// good; the next run builds it again.
async fn keep(
    planned: &PlannedContainer,
    manifest: &RawManifest,
    sessions: &Sessions,
    shared: &Shared,
) {
    let Some(tag) = planned.keyed.key.as_ref().and_then(Key::tag) else {
        return;
    };
    let container = &planned.container;
    let put = if let Some(path) = sessions.strayed() {
        Err(format!("{path} is not what it was when the run began"))
    } else {
        let image = container.repository.tag(&tag);
        let put = shared.registry.put_manifest(&image, manifest).await;
        put.map(drop).map_err(|error| error.to_string())
    };
    if let Err(why) = put {
        let message = format!("the image is good and will be built again, as it has no key: {why}");
        shared.events.warn(Some(&container.name), message).await;
    }
}

/// Solves until the image is pushed: a push that fails is tried again, a build that fails is not.
async fn push(
    planned: &PlannedContainer,
    mut request: Solve,
    sessions: &mut Sessions,
    shared: &Shared,
    steps: &mut Steps,
    cancel: &CancellationToken,
) -> Result<HashMap<String, String>, JobError> {
    let container = &planned.container;
    for attempt in 1.. {
        let error = match follow(shared, request.clone(), steps, cancel).await {
            Ok(response) => return Ok(response),
            Err(Unsolved::Stalled(failure)) => return Err(JobError::Failed(failure)),
            Err(Unsolved::Solve(SolveError::Cancelled)) => return Err(JobError::Cancelled),
            Err(Unsolved::Solve(SolveError::Failed(error))) => error,
        };
        // Other builds use the same sessions: what went wrong there is this build's only if this build was reading.
        if steps.read_failed(error.vertex.as_deref())
            && let Some(failure) = sessions.failure(&shared.files).await
        {
            return Err(failure.into());
        }
        if error.connection_lost {
            let builder = &shared.builder.description;
            return Err(JobError::Lost(Box::new(failure::lost(builder))));
        }
        if !steps.push_failed() || attempt > PUSH_RETRIES {
            let scene = Scene {
                container,
                builder: &shared.builder.description,
                root: &shared.root,
                auth: &shared.auth,
            };
            let mut failure = failure::explain(&error, steps, &scene).await;
            failure.helps.extend(mirror_help(planned, &failure.message));
            return Err(failure.into());
        }
        let message = format!("push failed, trying again: {}", error.message);
        shared.events.warn(Some(&container.name), message).await;
        let pause = Duration::from_secs(1 << attempt).mul_f64(0.5 + fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => break,
        }
        sessions.renew_credentials(&mut request, shared).await?;
        *steps = Steps::new(&container.name);
    }
    Err(JobError::Cancelled)
}

/// What to say where the image that could not be had is a mirror's.
fn mirror_help(planned: &PlannedContainer, message: &str) -> Option<String> {
    // The builder says the Dockerfile's name, and the address that it asked.
    let of = |mirror: &&Mirror| message.contains(&format!("{}/", mirror.of));
    planned.mirrors.iter().find(of).map(Mirror::help)
}

/// Why a solve gave no result.
enum Unsolved {
    Solve(SolveError),
    /// It was given up: nothing had moved for too long.
    Stalled(Box<Failure>),
}

/// Solves, telling every step as it happens.
async fn follow(
    shared: &Shared,
    request: Solve,
    steps: &mut Steps,
    cancel: &CancellationToken,
) -> Result<HashMap<String, String>, Unsolved> {
    let (sender, mut updates) = mpsc::channel(16);
    let stop = cancel.child_token();
    let mut stalled = None;
    let tell = async {
        loop {
            match tokio::time::timeout(shared.stall, updates.recv()).await {
                Ok(Some(update)) => {
                    for event in steps.fold(update) {
                        shared.events.send(event).await;
                    }
                }
                Ok(None) => break,
                Err(_) if steps.runs_commands() => {}
                Err(_) => {
                    stalled.get_or_insert_with(|| Box::new(stall::failure(shared.stall, steps)));
                    stop.cancel();
                }
            }
        }
    };
    let (response, ()) = tokio::join!(solve(&shared.builder, request, &stop, sender), tell);
    match (response, stalled) {
        (Err(SolveError::Cancelled), Some(failure)) => Err(Unsolved::Stalled(failure)),
        (response, _) => response.map_err(Unsolved::Solve),
    }
}
