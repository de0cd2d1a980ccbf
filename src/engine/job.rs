//! One container: from its sources to an image that is in the registry, read back and found whole.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::event::{EventKind, Events};
use super::failure;
use super::files::{CONTEXT, FileSession, FileSessions, local_name};
use super::outcome::Failure;
use super::steps::Steps;
use crate::buildkit::Builder;
use crate::buildkit::session::auth::AuthService;
use crate::buildkit::session::{self, Services, Session};
use crate::buildkit::solve::{Attributes, Solve, SolveError, solve};
use crate::clock;
use crate::manifest::model::{CacheBackend, Container, Network};
use crate::plan::PlannedContainer;
use crate::profile;
use crate::reference::{Digest, ImageRef};
use crate::registry::image::{ImageConfig, ImageManifest, NotAnImage, RawManifest};
use crate::registry::{Client, RegistryError};

/// What every job of a run uses.
pub(super) struct Shared {
    pub(super) builder: Builder,
    pub(super) registry: Client,
    pub(super) auth: AuthService,
    pub(super) files: FileSessions,
    pub(super) events: Events,
    pub(super) cache: CacheBackend,
    /// The manifest's folder: paths are shown relative to it.
    pub(super) root: PathBuf,
}

/// An image in the registry, whole. It keeps its sessions, so that its cache can be exported later.
pub(super) struct Built {
    pub(super) manifest: RawManifest,
    request: Solve,
    _sessions: Sessions,
}

struct Sessions {
    container: Session,
    files: Vec<(PathBuf, Arc<FileSession>)>,
}

pub(super) struct Report {
    pub(super) result: Result<Built, JobError>,
    /// Steps of the Dockerfile: (cached, all).
    pub(super) steps: (u32, u32),
    pub(super) seconds: f64,
}

pub(super) enum JobError {
    Cancelled,
    Failed(Box<Failure>),
}

impl From<Failure> for JobError {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

/// How often a push that failed is tried again. Nothing is rebuilt: the builder still has every step.
const PUSH_RETRIES: u32 = 2;

/// Builds, pushes and verifies. `parents`: the images of this run's parents, by container name.
pub(super) async fn run(
    planned: &PlannedContainer,
    parents: &BTreeMap<String, ImageRef>,
    shared: &Shared,
    cancel: &CancellationToken,
) -> Report {
    let started = clock::now();
    let mut steps = Steps::new(&planned.container.name);
    let work = build(planned, parents, shared, &mut steps, cancel);
    let result = match planned.container.timeout {
        None => work.await,
        // Dropping the work drops the Solve call, which cancels the build.
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let message = format!("not built within its timeout of {} s", limit.as_secs());
            Err(Failure::new(message)
                .help("raise `timeout` in containers.toml, or see which step hangs")
                .into())
        }),
    };
    Report {
        result,
        steps: steps.counts(),
        seconds: started.elapsed().as_secs_f64(),
    }
}

async fn build(
    planned: &PlannedContainer,
    parents: &BTreeMap<String, ImageRef>,
    shared: &Shared,
    steps: &mut Steps,
    cancel: &CancellationToken,
) -> Result<Built, JobError> {
    let container = &planned.container;
    let sessions = open_sessions(container, shared).await?;
    let mut request = Solve {
        session: sessions.container.id.clone(),
        frontend: frontend(planned, parents, &sessions),
        image: Some(exporter(planned)),
        cache_export: None,
    };
    if shared.cache == CacheBackend::Registry {
        import_cache(container, shared, &mut request.frontend).await;
    }

    let mut attempt = 0;
    let response = loop {
        let error = match follow(shared, request.clone(), steps, cancel).await {
            Ok(response) => break response,
            Err(SolveError::Cancelled) => return Err(JobError::Cancelled),
            Err(SolveError::Failed(error)) => error,
        };
        if let Some(failure) = sent_wrong(&sessions, shared).await {
            return Err(failure.into());
        }
        if error.connection_lost || !steps.push_failed() || attempt == PUSH_RETRIES {
            let shown = shown(&container.dockerfile, &shared.root);
            return Err(
                failure::explain(&error, steps, &shown, &shared.builder.description).into(),
            );
        }
        attempt += 1;
        shared
            .events
            .warn(
                Some(&container.name),
                format!("push failed, trying again: {}", error.message),
            )
            .await;
        let pause = Duration::from_secs(1 << attempt).mul_f64(0.5 + fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => return Err(JobError::Cancelled),
        }
        *steps = Steps::new(&container.name);
    };
    if let Some(failure) = sent_wrong(&sessions, shared).await {
        return Err(failure.into());
    }
    let pushed = container.repository.tag(&planned.tag);
    let manifest = verify(planned, &response, shared).await.map_err(|error| {
        Failure::new(format!("{pushed} was pushed and is not released: {error}"))
    })?;
    let image = container.repository.digest(&manifest.digest).to_string();
    shared
        .events
        .send(EventKind::ContainerVerified {
            container: container.name.clone(),
            image,
        })
        .await;
    Ok(Built {
        manifest,
        request,
        _sessions: sessions,
    })
}

async fn open_sessions(container: &Container, shared: &Shared) -> Result<Sessions, Failure> {
    let lost = |status: tonic::Status| {
        Failure::new(format!("no session with the builder: {}", status.message()))
    };
    let mut files = Vec::new();
    for root in std::iter::once(&container.context).chain(container.contexts.values()) {
        files.push((root.clone(), shared.files.get(root).await.map_err(lost)?));
    }
    let services = Services::auth(shared.auth.clone());
    Ok(Sessions {
        container: session::open(shared.builder.channel.clone(), services)
            .await
            .map_err(lost)?,
        files,
    })
}

/// A transfer that failed on our side, in our own words: the builder only knows that it ended.
async fn sent_wrong(sessions: &Sessions, shared: &Shared) -> Option<Failure> {
    for (root, session) in &sessions.files {
        if let Some(error) = session.files.failure() {
            shared.files.forget(root).await;
            return Some(
                Failure::new(error.to_string())
                    .help("nothing was released; run the same command again"),
            );
        }
    }
    None
}

/// The attributes of the image exporter.
fn exporter(planned: &PlannedContainer) -> Attributes {
    let attributes = profile::exporter_attrs(planned.container.profile);
    let mut attributes: Attributes = attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    attributes.insert(
        "name".into(),
        planned.container.repository.tag(&planned.tag).to_string(),
    );
    attributes
}

/// The attributes of the Dockerfile frontend (BuildKit `frontend/dockerui/config.go`).
fn frontend(
    planned: &PlannedContainer,
    parents: &BTreeMap<String, ImageRef>,
    sessions: &Sessions,
) -> Attributes {
    let container = &planned.container;
    let mut attributes = Attributes::new();
    let mut set = |name: String, value: String| attributes.insert(name, value);
    let folder = container.dockerfile.parent().unwrap_or(Path::new("/"));
    let file = container
        .dockerfile
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let dockerfile = local_name("dockerfile", folder);
    let session = |root: &Path| {
        sessions
            .files
            .iter()
            .find(|(r, _)| r == root)
            .map(|(_, s)| s.session.id.clone())
            .unwrap_or_default()
    };
    let context_session = session(&container.context);
    set("filename".into(), file.into_owned());
    set("platform".into(), container.platform.to_string());
    set(
        format!("local-sessionid:{CONTEXT}"),
        context_session.clone(),
    );
    set(format!("local-sessionid:{dockerfile}"), context_session);
    set("dockerfilekey".into(), dockerfile);
    if let Some(target) = &container.target {
        set("target".into(), target.clone());
    }
    if container.network == Network::None {
        set("force-network-mode".into(), "none".into());
    }
    for (name, value) in &container.args {
        set(format!("build-arg:{name}"), value.clone());
    }
    for (name, value) in &container.labels {
        set(format!("label:{name}"), value.clone());
    }
    for (name, folder) in &container.contexts {
        let local = local_name("named", folder);
        set(format!("local-sessionid:{local}"), session(folder));
        set(format!("context:{name}"), format!("local:{local}"));
    }
    for name in &planned.images {
        if let Some(image) = parents.get(name) {
            set(format!("context:{name}"), format!("docker-image://{image}"));
        }
    }
    attributes
}

/// Imports the registry cache if there is one. Exactly one is imported: with several the builder takes one at random
/// (moby/buildkit#6418). It is looked up first, as a missing one would be reported as an error by the builder.
async fn import_cache(container: &Container, shared: &Shared, frontend: &mut Attributes) {
    let reference = container.cache_repository.tag(&container.cache_tag);
    match shared.registry.head_manifest(&reference).await {
        Ok(Some(_)) => {
            let import = serde_json::json!([{ "Type": "registry", "Attrs": { "ref": reference.to_string() } }]);
            frontend.insert("cache-imports".into(), import.to_string());
        }
        Ok(None) => {}
        Err(error) => {
            shared
                .events
                .warn(
                    Some(&container.name),
                    format!("built without registry cache: {error}"),
                )
                .await;
        }
    }
}

/// Solves, telling every step as it happens.
async fn follow(
    shared: &Shared,
    request: Solve,
    steps: &mut Steps,
    cancel: &CancellationToken,
) -> Result<HashMap<String, String>, SolveError> {
    let (sender, mut updates) = mpsc::channel(16);
    let tell = async {
        while let Some(update) = updates.recv().await {
            for event in steps.fold(update) {
                shared.events.send(event).await;
            }
        }
    };
    let (response, ()) = tokio::join!(solve(&shared.builder, request, cancel, sender), tell);
    response
}

/// Largest image config that is read, in bytes: the history of 127 layers is far smaller.
const MAX_CONFIG: usize = 4 << 20;

/// Why a pushed image is not taken for good.
#[derive(Debug, thiserror::Error)]
enum Unverified {
    #[error("the builder did not say which image it pushed")]
    NoDigest,
    #[error("it cannot be read back: {0}")]
    Unread(#[from] RegistryError),
    #[error("it is not in the registry")]
    Missing,
    #[error(transparent)]
    NotAnImage(#[from] NotAnImage),
    #[error("{0}")]
    Mismatch(String),
}

/// Reads the pushed image back: the tag stands on the digest that the builder named, and the image is what the profile
/// and the platform ask for.
async fn verify(
    planned: &PlannedContainer,
    response: &HashMap<String, String>,
    shared: &Shared,
) -> Result<RawManifest, Unverified> {
    let container = &planned.container;
    let digest = response
        .get("containerimage.digest")
        .and_then(|text| Digest::new(text).ok());
    let digest = digest.ok_or(Unverified::NoDigest)?;
    let pushed = container.repository.tag(&planned.tag);
    let raw = shared
        .registry
        .get_manifest(&pushed)
        .await?
        .ok_or(Unverified::Missing)?;
    let manifest = ImageManifest::parse(&raw)?;
    let config = shared
        .registry
        .get_blob(&container.repository, &manifest.config.digest, MAX_CONFIG)
        .await?;
    let config = ImageConfig::parse(&config)?;
    profile::verify(
        container.profile,
        &container.platform,
        &digest,
        &manifest,
        &config,
    )
    .map_err(|found| {
        Unverified::Mismatch(
            found
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        )
    })?;
    Ok(raw)
}

/// A cache export that is not done by then is given up: nobody waits for it, and the next run exports again.
const CACHE_EXPORT_LIMIT: Duration = Duration::from_secs(300);

/// Exports a built container's cache, every intermediate step of it. It is a solve of its own, after the release: with
/// the build's own solve a registry that stalls would hold the build (facts: an export has no time limit).
pub(super) async fn export_cache(
    container: &Container,
    built: &Built,
    shared: &Shared,
    cancel: &CancellationToken,
) {
    let started = clock::now();
    let reference = container
        .cache_repository
        .tag(&container.cache_tag)
        .to_string();
    let export = [
        ("ref", reference.as_str()),
        ("mode", "max"),
        ("image-manifest", "true"),
        ("oci-mediatypes", "true"),
    ];
    let request = Solve {
        image: None,
        cache_export: Some(
            export
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        ),
        ..built.request.clone()
    };
    let (sender, mut updates) = mpsc::channel(16);
    let ignore = async { while let Some(u) = updates.recv().await { tracing::debug!(?u, "cache"); } };
    let work = async { tokio::join!(solve(&shared.builder, request, cancel, sender), ignore).0 };
    let warning = match tokio::time::timeout(CACHE_EXPORT_LIMIT, work).await {
        Ok(Ok(_)) => {
            let seconds = started.elapsed().as_secs_f64();
            let container = container.name.clone();
            return shared
                .events
                .send(EventKind::CacheExported {
                    container,
                    reference,
                    seconds,
                })
                .await;
        }
        Ok(Err(SolveError::Cancelled)) => "the cache export was interrupted".to_owned(),
        Ok(Err(SolveError::Failed(error))) => format!(
            "the cache was not exported to {reference}: {}",
            error.message
        ),
        Err(_) => format!(
            "the cache was not exported to {reference} within {} s",
            CACHE_EXPORT_LIMIT.as_secs()
        ),
    };
    shared.events.warn(Some(&container.name), warning).await;
}

fn shown(path: &Path, root: &Path) -> String {
    path.strip_prefix(root)
        .unwrap_or(path)
        .display()
        .to_string()
}
