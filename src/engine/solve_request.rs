//! What the builder is asked for: sessions and attributes of one container's solve.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{CONTEXT, FileSession, FileSessions, local_name};
use super::job::{JobError, Shared};
use super::outcome::Failure;
use super::private::Private;
use crate::buildkit::session::content::ContentService;
use crate::buildkit::session::content::store::BlobStore;
use crate::buildkit::session::{self, Services, Session};
use crate::buildkit::solve::{Attributes, Solve};
use crate::context::ContextError;
use crate::key;
use crate::manifest::model::{BuildOptions, Container, Entitlement, Network};
use crate::plan::{ImageOutput, PlannedContainer};
use crate::profile;
use crate::reference::ImageRef;
use crate::release::names;

/// The sessions of one solve. They close when it is dropped.
pub(super) struct Sessions {
    container: Session,
    private: Private,
    /// The folders of its caches.
    caches: BTreeMap<String, BlobStore>,
    files: Vec<(PathBuf, Arc<FileSession>)>,
}

impl Sessions {
    pub(super) async fn open(
        planned: &PlannedContainer,
        from: &FileSessions,
        shared: &Shared,
    ) -> Result<Self, NoSession> {
        let container = &planned.container;
        let mut files = Vec::new();
        for root in std::iter::once(&container.context).chain(container.contexts.values()) {
            files.push((root.clone(), from.get(root).await.map_err(NoSession)?));
        }
        let private = shared.private.get(&container.name).cloned();
        let private = private.unwrap_or_default();
        let caches = super::cache::folders(&planned.build_cache);
        let container = for_container(&private, &caches, shared).await?;
        Ok(Self {
            container,
            private,
            caches,
            files,
        })
    }

    /// The session that a solve names as its own.
    pub(super) fn container_session(&self) -> String {
        self.container.id.clone()
    }

    /// Gives a solve that is tried again a new session for its credentials: the builder keeps what it got in a session for
    /// as long as that lives, and only a 401 makes it ask again (BuildKit `util/resolver/authorizer.go`). ECR says 403 of a
    /// token that has ended.
    pub(super) async fn renew_credentials(
        &mut self,
        request: &mut Solve,
        shared: &Shared,
    ) -> Result<(), NoSession> {
        self.container = for_container(&self.private, &self.caches, shared).await?;
        request.session.clone_from(&self.container.id);
        Ok(())
    }

    /// A path that the builder was offered and that is not what keys were made from.
    pub(super) fn strayed(&self) -> Option<String> {
        self.files
            .iter()
            .find_map(|(_, session)| session.files.strayed())
    }

    /// A transfer that failed on our side, in our own words: the builder only knows that it ended. The next session on
    /// that root is a new one, as what was sent must not be built from.
    pub(super) async fn failure(&self, from: &FileSessions) -> Option<Failure> {
        for (root, session) in &self.files {
            if let Some(error) = session.files.failure() {
                from.forget(root).await;
                let help = "a file that is written meanwhile belongs outside of the context, or in .dockerignore";
                let failure = Failure::new(error.to_string());
                let changed = matches!(*error, ContextError::Changed(_));
                return Some(if changed { failure.help(help) } else { failure });
            }
        }
        None
    }
}

/// A session that offers credentials and nothing else.
pub(super) async fn credentials(shared: &Shared) -> Result<Session, NoSession> {
    for_container(&Private::default(), &BTreeMap::new(), shared).await
}

/// A session that offers credentials, and what this container alone may see.
async fn for_container(
    private: &Private,
    caches: &BTreeMap<String, BlobStore>,
    shared: &Shared,
) -> Result<Session, NoSession> {
    let Private { secrets, ssh, .. } = private.clone();
    let mut services = Services::container(shared.auth.clone(), secrets, ssh);
    if !caches.is_empty() {
        services = services.with_content(ContentService::new(caches.clone()));
    }
    if let Some(loader) = &shared.loader {
        services = services.with_loader(loader.clone());
    }
    let opened = session::open(&shared.builder, services);
    opened.await.map_err(NoSession)
}

/// The builder did not take a session: it cannot build anything.
#[derive(Debug, thiserror::Error)]
#[error("no session with the builder: {}", .0.message())]
pub(super) struct NoSession(tonic::Status);

impl From<NoSession> for JobError {
    fn from(error: NoSession) -> Self {
        let help = "see that the builder still runs; running the same command again is safe";
        Self::Lost(Box::new(Failure::new(error.to_string()).help(help)))
    }
}

/// The solve that builds a container from its sources and these parents, without exports.
pub(super) fn solve_request(
    planned: &PlannedContainer,
    parents: &BTreeMap<String, ImageRef>,
    cache_imports: Option<&String>,
    sessions: &Sessions,
) -> Solve {
    let mut frontend = frontend(planned, parents, sessions);
    let given = planned.container.args.keys();
    for (name, value) in sessions.private.proxies.iter() {
        // BuildKit takes them in either case: the manifest's word counts.
        if !given.clone().any(|given| given.eq_ignore_ascii_case(name)) {
            frontend.insert(format!("build-arg:{name}"), value.expose().to_owned());
        }
    }
    if let Some(imports) = cache_imports {
        frontend.insert("cache-imports".into(), imports.clone());
    }
    Solve {
        session: sessions.container.id.clone(),
        frontend,
        entitlements: entitlements(&planned.container),
        mirrors: planned.mirrors.clone(),
        pins: pins(planned),
        ..Solve::default()
    }
}

/// The images that a container is built from, by tag, and what is taken instead: the digests that its key is made from.
pub(super) fn pins(planned: &PlannedContainer) -> BTreeMap<String, String> {
    let pins = planned.keyed.pins.iter();
    pins.map(|(image, digest)| (image.to_string(), format!("{image}@{digest}")))
        .collect()
}

/// The attributes of the image exporter; `None`: the result stays in the builder's cache. `wanted`: a container of the run
/// is built from this one.
pub(super) fn exporter(
    planned: &PlannedContainer,
    output: ImageOutput,
    wanted: bool,
) -> Option<Attributes> {
    if !output.push && !output.load && !wanted {
        return None;
    }
    let attributes = profile::exporter_attrs(planned.container.profile).into_iter();
    let mut attributes: Attributes = attributes
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let mut set = |name: &str, value: String| attributes.insert(name.to_owned(), value);
    set(
        "name",
        planned.container.repository.tag(&planned.tag).to_string(),
    );
    set("push", output.push.to_string());
    // A child takes a parent that is not pushed from the engine's own store.
    set("store", (output.load || !output.push).to_string());
    set("unpack", output.load.to_string());
    if planned
        .container
        .args
        .contains_key(profile::SOURCE_DATE_EPOCH)
    {
        // The files of its layers, too.
        set("rewrite-timestamp", true.to_string());
    }
    Some(attributes)
}

/// The attributes of the exporter that sends the image to the local engine, under the release's name.
pub(super) fn docker_exporter(planned: &PlannedContainer) -> Attributes {
    let name = planned.container.repository.tag(&planned.tag).to_string();
    [("name".to_owned(), name)].into()
}

/// What the builder is asked to allow.
fn entitlements(container: &Container) -> Vec<String> {
    let network = (container.network == Network::Host).then_some(Entitlement::NetworkHost);
    let mut asked = container.options.entitlements.clone();
    asked.extend(network);
    asked
        .into_iter()
        .map(|entitlement| entitlement.name().to_owned())
        .collect()
}

fn platforms(container: &Container) -> String {
    let names: Vec<_> = container
        .platforms
        .iter()
        .map(ToString::to_string)
        .collect();
    names.join(",")
}

/// Options as BuildKit's `frontend/dockerui/attr.go` reads them.
fn options(options: &BuildOptions) -> Vec<(&'static str, String)> {
    let pairs = |map: &BTreeMap<String, String>| {
        let pairs: Vec<_> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
        (!pairs.is_empty()).then(|| pairs.join(","))
    };
    let stages = &options.no_cache_filter;
    let mut hosts = options.extra_hosts.clone();
    if let Some(apart) = &options.secrets_apart {
        // A line that nobody reads makes the steps others: of all options it is the one that no build notices.
        hosts.insert(format!("{apart}.secrets.invalid"), "127.0.0.1".to_owned());
    }
    let attributes = [
        ("add-hosts", pairs(&hosts)),
        ("shm-size", options.shm_size.map(|bytes| bytes.to_string())),
        ("ulimit", pairs(&options.ulimits)),
        // An empty list would mean all stages.
        ("no-cache", (!stages.is_empty()).then(|| stages.join(","))),
    ];
    let given = attributes.into_iter();
    given
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The attributes of the Dockerfile frontend that a container's sources and manifest decide, whatever run and session it
/// is built in (BuildKit `frontend/dockerui/config.go`). A key is made from these: see [`crate::key::NOT_INPUTS`].
pub(crate) fn attributes(planned: &PlannedContainer) -> Attributes {
    let container = &planned.container;
    let mut attributes = Attributes::new();
    let mut set = |name: String, value: String| attributes.insert(name, value);
    let file = container.dockerfile.file_name().unwrap_or_default();
    set("filename".into(), file.to_string_lossy().into_owned());
    set("platform".into(), platforms(container));
    if let Some(target) = &container.target {
        set("target".into(), target.clone());
    }
    match container.network {
        Network::Default => None,
        Network::None => set("force-network-mode".into(), "none".into()),
        Network::Host => set("force-network-mode".into(), "host".into()),
    };
    if profile::has_provenance(container.profile, &container.args) {
        set("attest:provenance".into(), "mode=min".into());
    }
    for (name, value) in options(&container.options) {
        set(name.into(), value);
    }
    for (name, value) in &container.args {
        set(format!("build-arg:{name}"), value.clone());
    }
    set(
        format!("label:{}", names::REPOSITORY),
        container.trusted_repository().to_string(),
    );
    if let Some(revision) = &planned.revision {
        set(format!("label:{}", names::REVISION), revision.clone());
    }
    for (name, value) in &container.labels {
        set(format!("label:{name}"), value.clone());
    }
    for (name, image) in &container.image_contexts {
        set(format!("context:{name}"), format!("docker-image://{image}"));
    }
    attributes
}

/// All attributes of the frontend: for this run and these sessions.
fn frontend(
    planned: &PlannedContainer,
    parents: &BTreeMap<String, ImageRef>,
    sessions: &Sessions,
) -> Attributes {
    let container = &planned.container;
    let mut attributes = attributes(planned);
    let mut set = |name: String, value: String| attributes.insert(name, value);
    let folder = container.dockerfile.parent().unwrap_or(Path::new("/"));
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
    set(
        format!("local-sessionid:{CONTEXT}"),
        context_session.clone(),
    );
    set(format!("local-sessionid:{dockerfile}"), context_session);
    set("dockerfilekey".into(), dockerfile);
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
    // The key is the same whoever builds; the image says where it is.
    set(
        format!("label:{}", names::REPOSITORY),
        container.repository.to_string(),
    );
    // Labels are inherited from base images: what is not true of this one is emptied.
    let keyed = &planned.keyed;
    let text = |key: Option<&str>| key.unwrap_or_default().to_owned();
    let inputs = keyed.key.as_ref().map(|_| keyed.inputs.label());
    set(
        format!("label:{}", key::KEY),
        text(keyed.key.as_ref().map(key::Key::as_str)),
    );
    set(format!("label:{}", key::INPUTS), text(inputs.as_deref()));
    set(
        format!("label:{}", key::GENERATION),
        text(keyed.generation.as_deref()),
    );
    if planned.without_cache() {
        set("no-cache".into(), String::new());
    }
    attributes
}
