//! `containers.toml` as plain data: valid, defaults applied, paths absolute, names resolved. What [`super::load`] makes
//! and everybody else reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use indexmap::IndexMap;
use serde::Serialize;

use crate::diagnostic::Span;
use crate::reference::{ImageRef, InvalidReference, RegistryHost, Repository, Tag};

/// A container's name: its folder's, or the one the manifest gives. `[a-z0-9]` with `.`, `_`, `-` between.
pub(crate) type ContainerName = String;

/// The whole manifest.
#[derive(Debug, Clone)]
pub(crate) struct ProjectManifest {
    /// The folder of `containers.toml`, absolute and canonical: every relative path starts here.
    pub root: PathBuf,
    /// The manifest file, absolute.
    pub path: PathBuf,
    /// Images from outside the project are those of the lock file.
    pub pin: bool,
    pub registry: Registry,
    /// Moving tags, each with the branches whose commits may move it. A manifest that names none has `latest`, which
    /// follows the default branch.
    pub channels: IndexMap<Tag, Branches>,
    pub builder: BuilderSettings,
    pub cache: Cache,
    /// Those of longer prefixes first; no mirror is itself mirrored.
    pub mirrors: Vec<Mirror>,
    /// Where release records live.
    pub state: Repository,
    /// All containers by name, in the manifest's order, discovered ones after the written ones, sorted by name.
    pub containers: IndexMap<ContainerName, Container>,
}

/// Which branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Branches {
    /// The repository's default branch.
    Default,
    /// Names, or globs: `*` stands for anything but a `/`, `**` for that too.
    Named(Vec<String>),
}

impl Branches {
    /// The glob of one of the names.
    pub(super) fn glob(name: &str) -> Result<GlobMatcher, globset::Error> {
        // In the name of a branch braces are only themselves.
        let literal = name.replace('{', "[{]").replace('}', "[}]");
        let glob = GlobBuilder::new(&literal).literal_separator(true).build();
        glob.map(|glob| glob.compile_matcher())
    }

    /// Whether a branch is one of them.
    pub(crate) fn include(&self, branch: &str, default_branch: Option<&str>) -> bool {
        match self {
            Self::Default => default_branch == Some(branch),
            Self::Named(names) => names.iter().any(|name| {
                name == branch || Self::glob(name).is_ok_and(|glob| glob.is_match(branch))
            }),
        }
    }
}

impl ProjectManifest {
    /// The lock file: `containers.lock` beside `containers.toml`, whether it is there or not.
    pub(crate) fn lock_file(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default();
        self.root.join(name).with_extension("lock")
    }

    /// Whether it is known which registry images go to.
    pub(crate) fn is_located(&self) -> bool {
        self.registry.host.name() != super::registry::STAND_IN
    }

    /// Puts the host that ECR names in the place of the one that stood in for it.
    pub(crate) fn locate(&mut self, host: &RegistryHost, plain_http: bool) {
        let stand_in = std::mem::replace(&mut self.registry.host, host.clone());
        self.registry.plain_http = plain_http;
        if self.state.host == stand_in {
            self.state.host = host.clone();
        }
        for container in self.containers.values_mut() {
            let own = [&mut container.repository, &mut container.cache_repository];
            let places = [&mut container.untrusted, &mut container.trusted];
            let others = places.into_iter().flatten();
            let others = others.flat_map(|places| [&mut places.images, &mut places.cache]);
            for repository in own.into_iter().chain(others) {
                if repository.host == stand_in {
                    repository.host = host.clone();
                }
            }
        }
    }
}

impl ProjectManifest {
    /// For a run that no channel trusts: it writes to the repositories of `registry.untrusted`, where the manifest has that,
    /// and reads the others too. `false`: the manifest makes no difference.
    pub(crate) fn distrust(&mut self) -> bool {
        let mut any = false;
        for container in self.containers.values_mut() {
            let Some(apart) = container.untrusted.take() else {
                continue;
            };
            any = true;
            container.trusted = Some(Places {
                images: std::mem::replace(&mut container.repository, apart.images),
                cache: std::mem::replace(&mut container.cache_repository, apart.cache),
            });
        }
        any
    }
}

/// Where images and caches of a container are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub images: Repository,
    pub cache: Repository,
}

impl Container {
    /// The repository that names the container, whoever builds it: that of channels, and of trusted runs.
    pub(crate) fn trusted_repository(&self) -> &Repository {
        self.trusted
            .as_ref()
            .map_or(&self.repository, |trusted| &trusted.images)
    }

    /// Where trusted runs keep caches.
    pub(crate) fn trusted_cache(&self) -> &Repository {
        self.trusted
            .as_ref()
            .map_or(&self.cache_repository, |trusted| &trusted.cache)
    }

    /// What `tag` is for this container: the same, or `NAME-TAG` where it is not alone in its repository.
    pub(crate) fn tag(&self, tag: &Tag) -> Result<Tag, InvalidReference> {
        tag.of(&self.name, self.shared)
    }

    /// The one of these containers whose tag this would be taken for, when this one sets it: of `etl` and `etl-gpu` in one
    /// repository, `etl-gpu-1` is the second one's.
    pub(crate) fn mistaken_for<'a>(
        &self,
        tag: &Tag,
        containers: &'a IndexMap<ContainerName, Self>,
    ) -> Option<&'a Self> {
        let longer = |other: &&Self| {
            self.shared
                && other.repository == self.repository
                && other.name.len() > self.name.len()
                && tag.as_str().starts_with(&format!("{}-", other.name))
        };
        containers.values().find(longer)
    }
}

/// Where images go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registry {
    pub provider: Provider,
    /// With [`Provider::Ecr`] a stand-in until [`ProjectManifest::locate`] is told the host.
    pub host: RegistryHost,
    /// Plain HTTP: loopback hosts, and those with `insecure = true`.
    pub plain_http: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Provider {
    /// Any registry of the OCI distribution spec.
    Oci,
    /// Amazon ECR: its host follows from the credentials.
    Ecr(EcrSettings),
}

/// What the manifest says of an ECR registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EcrSettings {
    /// Guards: credentials for another account or region are refused.
    pub account: Option<String>,
    pub region: Option<String>,
    /// Make repositories that are missing.
    pub create: bool,
}

/// Who builds, as far as the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuilderSettings {
    pub driver: DriverSetting,
    /// The image of the driver `docker-container`.
    pub image: String,
    /// Addresses of remote builders.
    pub endpoints: Vec<String>,
}

/// `builder.driver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DriverSetting {
    /// Endpoints if there are any; else the engine if it can; else a container in it.
    Auto,
    Docker,
    Container,
    Remote,
}

/// Where build caches go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheBackend {
    Registry,
    /// A folder of the machine that skiff runs on, absolute.
    Local(PathBuf),
    S3(S3Settings),
    None,
}

/// A bucket for build caches, cache mounts, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3Settings {
    pub bucket: String,
    /// Before every key: empty, or with a slash at its end.
    pub prefix: String,
    /// What the AWS tools find where it is not said.
    pub region: Option<String>,
    /// The URL of another service than AWS's.
    pub endpoint: Option<String>,
    /// That service has its buckets in the path, and not as hosts.
    pub path_style: bool,
}

/// Which runs export a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheExport {
    /// Those of branches that move a channel.
    Channels,
    /// All, those without a channel under a tag of their branch.
    Always,
    Never,
}

#[derive(Debug, Clone)]
pub(crate) struct Cache {
    pub backend: CacheBackend,
    pub export: CacheExport,
    pub mounts: CacheMounts,
}

/// Where what cache mounts hold is kept for the next runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheMounts {
    Off,
    /// Beside the cache.
    Registry,
    S3(S3Settings),
}

impl Cache {
    /// The bucket of whatever is in one.
    pub(crate) fn bucket(&self) -> Option<&S3Settings> {
        match (&self.backend, &self.mounts) {
            (CacheBackend::S3(settings), _) | (_, CacheMounts::S3(settings)) => Some(settings),
            _ => None,
        }
    }
}

/// From where images come instead of the registry that a Dockerfile names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// The beginning of the names that it stands in for: a host, or a host and a path.
    pub of: String,
    /// What stands in the place of that.
    pub by: String,
}

impl Mirror {
    /// What follows the mirrored part of `host/path`, with its `/`; empty where it is that part.
    pub(crate) fn path_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_prefix(self.of.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    /// What to do where an image that is to come from it could not be had.
    pub(crate) fn help(&self) -> String {
        let Self { of, by } = self;
        format!(
            "`{by}` stands in for `{of}` ([mirrors] in containers.toml): see that it runs and has the image, or take that \
             line out to read from `{of}` itself"
        )
    }
}

/// One container of the manifest, everything that the manifest and the defaults say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub name: ContainerName,
    /// The build context, absolute.
    pub context: PathBuf,
    /// The Dockerfile, absolute.
    pub dockerfile: PathBuf,
    pub target: Option<String>,
    pub args: BTreeMap<String, String>,
    /// Named contexts that are folders, absolute.
    pub contexts: BTreeMap<String, PathBuf>,
    /// Named contexts that are images.
    pub image_contexts: BTreeMap<String, ImageRef>,
    pub labels: BTreeMap<String, String>,
    pub network: Network,
    /// What else its build is given.
    pub options: BuildOptions,
    /// At least one; several make an image index, which not every profile has.
    pub platforms: Vec<Platform>,
    pub profile: Profile,
    /// Immutable tags to add beside the release's, with their `{variables}`.
    pub tags: Vec<String>,
    /// Whether tags are set on an image that is not built again; the command line decides where it is not said.
    pub tag_unchanged: Option<bool>,
    /// Patterns of files that are part of the key, relative to the manifest's folder.
    pub extra_inputs: Vec<String>,
    /// An image that is older is built again, without cache.
    pub max_age: Option<Duration>,
    /// Containers that `needs` names; those inferred from the Dockerfile are the graph's.
    pub needs: Vec<ContainerName>,
    /// The repository that this run writes to.
    pub repository: Repository,
    /// Where runs that no channel trusts write to, if elsewhere.
    pub untrusted: Option<Places>,
    /// In such a run: where trusted ones write to. See [`ProjectManifest::distrust`].
    pub trusted: Option<Places>,
    /// Other containers have the same repository: its tags begin with its name.
    pub shared: bool,
    /// The tag of the registry cache, in the repository of `cache_repository`.
    pub cache_repository: Repository,
    pub cache_tag: Tag,
    /// The longest a build may take, its push included.
    pub timeout: Option<Duration>,
    /// Where the manifest speaks of it: its table's header, or the `roots` pattern that found it.
    pub span: Span,
}

/// `os/architecture[/variant]`, as in an image's config.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .as_ref()
            .map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// The network of RUN steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Default,
    None,
    /// The builder's own.
    Host,
}

/// What a build is given beside its files and arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BuildOptions {
    pub secrets: Vec<SecretSource>,
    /// Names the sources of its secrets, where another container has others for the same id. A builder knows a secret by
    /// its id only, and would run a step that both have once, with the value of either.
    pub secrets_apart: Option<String>,
    pub ssh: Vec<SshAgent>,
    /// Lines of `/etc/hosts`: name to address.
    pub extra_hosts: BTreeMap<String, String>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// Name to `soft[:hard]`.
    pub ulimits: BTreeMap<String, String>,
    /// Stages that are built anew every time.
    pub no_cache_filter: Vec<String>,
    /// What the Dockerfile's own `RUN --network=host` and `--security=insecure` need.
    pub entitlements: BTreeSet<Entitlement>,
}

/// A secret: where its value is read when a build asks for it. The value is no part of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretSource {
    pub id: String,
    pub from: SecretFrom,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretFrom {
    /// A variable of skiff's environment.
    Env(String),
    /// A file, absolute.
    File(PathBuf),
}

/// An agent that a build may have sign for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshAgent {
    pub id: String,
    /// Absolute; `None`: the one of `SSH_AUTH_SOCK`.
    pub socket: Option<PathBuf>,
    pub span: Span,
}

/// What a builder grants only to those who ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entitlement {
    NetworkHost,
    SecurityInsecure,
}

impl Entitlement {
    /// BuildKit's names (`util/entitlements`).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::NetworkHost, Self::SecurityInsecure]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

/// For whom the image is: decides media types, compression and attestations (see `crate::profile`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    Docker,
    Sagemaker,
    Lambda,
    Oci,
}

impl Profile {
    /// Why images of this profile have one platform; `None` where they may have several.
    pub(crate) fn one_platform(self) -> Option<&'static str> {
        match self {
            Self::Docker => Some("profile \"docker\" is one Docker v2 manifest"),
            Self::Sagemaker => Some("SageMaker runs no image index"),
            Self::Lambda => Some("Lambda runs no image index"),
            Self::Oci => None,
        }
    }
}
