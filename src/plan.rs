//! What a run will do: which containers, why, in which order, under which tags. Plain data, made without asking anyone;
//! `--dry-run` prints it, the engine executes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::cache::candidates::{BuildCache, CachePlace, is_cache_tag};
use crate::cache::mounts;
use crate::changes::base::Base;
use crate::diagnostic::Diagnostic;
use crate::graph::Graph;
use crate::key::BuildReason;
use crate::manifest::model::{CacheMounts, Container, ContainerName, Mirror};
use crate::manifest::pattern;
use crate::project::Project;
use crate::reference::{Repository, Tag};
use crate::registry::image::RawManifest;
use crate::release::channel::{ChannelDecision, Sources};
use crate::resolve::{Keyed, Published};

/// Where built images go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageOutput {
    /// To their repository.
    pub(crate) push: bool,
    /// Into the engine that builds them.
    pub(crate) load: bool,
}

/// What a run is asked to do with what it builds, beside the selection.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) release: Tag,
    pub(crate) channels: ChannelDecision,
    /// Immutable tags for every released container.
    pub(crate) tags: Vec<Tag>,
    /// Tags go to containers that are not built again too, where the manifest does not say.
    pub(crate) tag_unchanged: bool,
    pub(crate) output: ImageOutput,
    /// What decided the selection, where it was not given.
    pub(crate) base: Option<Base>,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The release's name: the tag that the builder pushes.
    pub(crate) release: Tag,
    /// Parents before children.
    pub(crate) containers: IndexMap<ContainerName, PlannedContainer>,
    pub(crate) channels: ChannelDecision,
    /// Immutable tags that were asked for beside the manifest's.
    pub(crate) tags: Vec<Tag>,
    /// Tags were asked for containers that are not built again too.
    pub(crate) tag_unchanged: bool,
    pub(crate) output: ImageOutput,
    /// What the sources were compared with, where that decided the selection.
    pub(crate) base: Option<Base>,
    /// The commit of the sources, marked where they differ from it.
    pub(crate) revision: Option<String>,
    /// Containers that are not in the run though a parent of theirs is.
    pub(crate) outdated: Vec<ContainerName>,
}

#[derive(Debug, Clone)]
pub(crate) struct PlannedContainer {
    pub(crate) container: Container,
    /// Containers of the run that come first.
    pub(crate) parents: Vec<ContainerName>,
    /// Those of them whose image the Dockerfile uses by name.
    pub(crate) images: Vec<ContainerName>,
    /// A container of the run is built from it.
    pub(crate) wanted: bool,
    /// `false` for a parent that was not asked for: it is built and pushed, and not released.
    pub(crate) released: bool,
    /// The tag that the builder pushes.
    pub(crate) tag: Tag,
    /// Immutable tags that are added once the image is verified.
    pub(crate) tags: Vec<Tag>,
    /// The cost of the longest way from this one to one that nothing is built from: what waits for it decides how urgent
    /// it is. Until [`Plan::rank`] knows better every container costs the same.
    pub(crate) height: u64,
    /// The commit of the sources, marked where they differ from it.
    pub(crate) revision: Option<String>,
    /// Why it is in the run.
    pub(crate) reason: String,
    pub(crate) build_cache: BuildCache,
    pub(crate) carrying: Carrying,
    /// Where its cache mounts are kept.
    pub(crate) mounts_in: CacheMounts,
    /// From where its base images come.
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) work: Work,
    pub(crate) keyed: Arc<Keyed>,
    /// What its channel stands on, where that was asked.
    pub(crate) published: Option<Published>,
    /// Whether its tags are set though it is not built again.
    pub(crate) tag_unchanged: bool,
}

/// What is done with the cache mounts of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrying {
    Off,
    /// They are filled from what runs of channel branches kept.
    Filled,
    /// They are filled, and kept for the next run.
    Both,
}

impl Carrying {
    fn of(container: &Container, project: &Project, orders: &Orders) -> Self {
        if project.manifest.cache.mounts == CacheMounts::Off || container.platforms.len() != 1 {
            Self::Off
        } else if orders.channels.channel_branch && orders.output.push {
            Self::Both
        } else {
            Self::Filled
        }
    }
}

/// What is to be done to have an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    Build(BuildReason),
    /// Nothing: this one has the key, and was checked.
    Keep(RawManifest),
}

impl PlannedContainer {
    /// Where in a registry this run keeps something for the next one.
    pub(crate) fn keeps_in(&self) -> Option<&Repository> {
        let exports = matches!(self.build_cache.export, Some(CachePlace::Registry(_)));
        let keeps = self.carrying == Carrying::Both && self.mounts_in == CacheMounts::Registry;
        (exports || keeps).then_some(&self.container.cache_repository)
    }

    /// Why it is built, or is not; and why it is in the run at all.
    pub(crate) fn why(&self) -> String {
        let selected = &self.reason;
        match &self.work {
            Work::Build(reason) => format!("{reason} ({selected})"),
            Work::Keep(_) => format!("unchanged ({selected})"),
        }
    }

    /// Names that this run gives once, the release's first.
    pub(crate) fn immutable_tags(&self) -> Vec<&Tag> {
        if matches!(self.work, Work::Keep(_)) && !self.tag_unchanged {
            return vec![];
        }
        std::iter::once(&self.tag).chain(&self.tags).collect()
    }

    /// Immutable tags to set once its image is there: the builder has pushed the first of what it builds.
    pub(crate) fn tags_to_set(&self) -> Vec<Tag> {
        match self.work {
            Work::Build(_) => self.tags.clone(),
            Work::Keep(_) => self.immutable_tags().into_iter().cloned().collect(),
        }
    }

    /// Whether its build is offered this folder as a context.
    pub(crate) fn reads(&self, folder: &std::path::Path) -> bool {
        let container = &self.container;
        container.context == folder || container.contexts.values().any(|named| named == folder)
    }

    /// Whether the builder's cache must not be used either.
    pub(crate) fn without_cache(&self) -> bool {
        let aged = |reason: &BuildReason| match reason {
            BuildReason::Changed { inputs, .. } => {
                inputs.iter().any(|change| change.input == "age")
            }
            _ => false,
        };
        let aged = matches!(&self.work, Work::Build(reason) if aged(reason));
        aged || self.keyed.generation.is_some()
    }
}

impl Plan {
    /// Containers that are released.
    pub(crate) fn released(&self) -> impl Iterator<Item = (&ContainerName, &PlannedContainer)> {
        self.containers
            .iter()
            .filter(|(_, planned)| planned.released)
    }

    /// Whether the run builds this container.
    pub(crate) fn builds(&self, name: &str) -> bool {
        let planned = self.containers.get(name);
        planned.is_some_and(|planned| matches!(planned.work, Work::Build(_)))
    }

    /// Says how urgent each container is, by what the containers cost.
    pub(crate) fn rank(&mut self, graph: &Graph, cost: impl Fn(&str) -> u64) {
        let heights = graph.heights(cost);
        for (name, planned) in &mut self.containers {
            planned.height = heights.get(name.as_str()).copied().unwrap_or_default();
        }
    }

    /// Parents that were not asked for, and that nothing is built from now, leave the run; and what is built from others
    /// is outdated by those only that are built or released.
    pub(crate) fn drop_unneeded(&mut self, graph: &Graph) {
        let mut needed = BTreeSet::new();
        for (name, planned) in self.containers.iter().rev() {
            if planned.released || needed.contains(name) {
                if matches!(planned.work, Work::Build(_)) {
                    needed.extend(planned.parents.iter().cloned());
                }
                needed.insert(name.clone());
            }
        }
        self.containers.retain(|name, _| needed.contains(name));
        let names: BTreeSet<_> = self.containers.keys().cloned().collect();
        for planned in self.containers.values_mut() {
            planned.parents.retain(|parent| names.contains(parent));
        }
        let renewed = self
            .containers
            .iter()
            .filter(|(name, planned)| planned.released || self.builds(name));
        let outdated = graph.dependents_of(renewed.map(|(name, _)| name.as_str()));
        self.outdated = outdated
            .into_iter()
            .filter(|name| !names.contains(*name))
            .map(str::to_owned)
            .collect();
    }
}

/// Makes the plan for these containers, each with the reason why it was selected.
pub(crate) fn make(
    project: &Project,
    selected: &IndexMap<ContainerName, String>,
    orders: Orders,
    sources: &Sources,
) -> Result<Plan, Vec<Diagnostic>> {
    let names = || selected.keys().map(String::as_str);
    let graph = &project.graph;
    let in_run: BTreeSet<&str> = graph.closure(names()).into_iter().collect();
    let heights = graph.heights(|name| u64::from(in_run.contains(name)));
    let release = &orders.release;
    let mut errors = Vec::new();
    errors.extend(reserved("the release's name", release, project));
    for channel in &orders.channels.moves {
        let caches = project.manifest.containers.values();
        if caches
            .clone()
            .any(|container| is_cache_tag(container, channel))
        {
            let error = Diagnostic::error(format!("channel `{channel}` is the tag of a cache"));
            errors.push(error.help("name another channel"));
        }
        for container in project.manifest.containers.values() {
            match container.tag(channel) {
                Ok(tag) => errors.extend(clear(container, &tag, project).err()),
                Err(error) => {
                    errors.push(Diagnostic::error(error.to_string()).help("name another channel"));
                }
            }
        }
    }
    let mut containers = IndexMap::new();
    for name in graph.order().filter(|name| in_run.contains(name)) {
        let Some(container) = project.manifest.containers.get(name) else {
            continue;
        };
        let released = selected.contains_key(name);
        let reason = selected.get(name).cloned().unwrap_or_else(|| {
            let mut children = graph.children_of(name);
            let child = children
                .find(|child| in_run.contains(child))
                .unwrap_or_default();
            format!("parent of {child}, not released")
        });
        let names = if released {
            tags(container, &orders, sources, project)
        } else {
            unreleased(container, release).map(|tag| (tag, vec![]))
        };
        let (tag, tags) = match names {
            Ok(names) => names,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let planned = PlannedContainer {
            container: container.clone(),
            parents: graph.parents_of(name).map(str::to_owned).collect(),
            images: project.images.get(name).cloned().unwrap_or_default(),
            wanted: graph.children_of(name).any(|child| in_run.contains(child)),
            released,
            tag,
            tags,
            height: heights.get(name).copied().unwrap_or_default(),
            revision: sources.revision(),
            reason,
            carrying: Carrying::of(container, project, &orders),
            mounts_in: project.manifest.cache.mounts.clone(),
            work: Work::Build(BuildReason::FirstBuild),
            keyed: Arc::default(),
            published: None,
            tag_unchanged: container.tag_unchanged.unwrap_or(orders.tag_unchanged),
            build_cache: BuildCache::of(container, &project.manifest, sources),
            mirrors: project.manifest.mirrors.clone(),
        };
        containers.insert(name.to_owned(), planned);
    }
    errors.extend(same_tags(&containers));
    if !errors.is_empty() {
        return Err(errors);
    }
    let outdated = graph.dependents_of(in_run.iter().copied());
    Ok(Plan {
        containers,
        outdated: outdated.into_iter().map(str::to_owned).collect(),
        revision: sources.revision(),
        release: orders.release,
        channels: orders.channels,
        tags: orders.tags,
        tag_unchanged: orders.tag_unchanged,
        output: orders.output,
        base: orders.base,
    })
}

/// A parent that was not asked for is pushed under a name that no reader of releases takes for one.
fn unreleased(container: &Container, release: &Tag) -> Result<Tag, Diagnostic> {
    let tag = container.tag(release);
    tag.and_then(|tag| Tag::new(&format!("unreleased-{tag}")))
        .map_err(|_| too_long(release))
}

fn too_long(release: &Tag) -> Diagnostic {
    Diagnostic::error(format!("the release's name `{release}` is too long"))
        .help("tags have 128 characters at most: use fewer than 116, less those of the container's name where several share a repository")
}

/// The container's immutable tags: the release's own, and the others.
fn tags(
    container: &Container,
    orders: &Orders,
    sources: &Sources,
    project: &Project,
) -> Result<(Tag, Vec<Tag>), Diagnostic> {
    let release = &orders.release;
    let own = container.tag(release).map_err(|_| too_long(release))?;
    clear(container, &own, project)?;
    let mut tags = Vec::new();
    let asked = orders.tags.iter().map(ToString::to_string);
    for pattern in container.tags.iter().cloned().chain(asked) {
        let wrong = |title: String| {
            Diagnostic::error(title).at(container.span.clone(), format!("from `{pattern}`"))
        };
        let text = pattern::expand(&pattern, |name| variable(name, container, release, sources))
            .map_err(|error| {
                wrong(format!(
                    "tag of `{}` cannot be made here: {error}",
                    container.name
                ))
                .help("run in a git checkout that is on a branch; `{version}` needs a git tag in its history (in CI: the full depth)")
            })?;
        let tag = Tag::new(&text).map_err(|error| wrong(error.to_string()))?;
        // In a shared repository the name sets it apart.
        let tag = if pattern.contains("{name}") {
            tag
        } else {
            let own = container.tag(&tag);
            own.map_err(|error| wrong(error.to_string()))?
        };
        clear(container, &tag, project)?;
        if let Some(error) = reserved(&format!("a tag of `{}`", container.name), &tag, project) {
            return Err(error.at(container.span.clone(), format!("from `{pattern}`")));
        }
        if tag != own && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok((own, tags))
}

/// In a shared repository no tag of a container reads as another one's.
fn clear(container: &Container, tag: &Tag, project: &Project) -> Result<(), Diagnostic> {
    let Some(other) = container.mistaken_for(tag, &project.manifest.containers) else {
        return Ok(());
    };
    let (name, other) = (&container.name, &other.name);
    let title = format!(
        "`{tag}` of container `{name}` reads as a tag of `{other}`, which has the same repository"
    );
    Err(Diagnostic::error(title)
        .at(container.span.clone(), "")
        .help("give another name, or put `{name}` in `registry.repository`"))
}

/// Immutable tags of containers that share a repository, where two would be the same.
fn same_tags(containers: &IndexMap<ContainerName, PlannedContainer>) -> Vec<Diagnostic> {
    let mut users: BTreeMap<(&Repository, &Tag), &str> = BTreeMap::new();
    let mut found = Vec::new();
    for (name, planned) in containers {
        for tag in std::iter::once(&planned.tag).chain(&planned.tags) {
            let repository = &planned.container.repository;
            if let Some(first) = users.insert((repository, tag), name) {
                let title = format!(
                    "containers `{first}` and `{name}` would both set `{repository}:{tag}`"
                );
                let error = Diagnostic::error(title).at(planned.container.span.clone(), "");
                found.push(error.help("put `{name}` in the tag, or in `registry.repository`"));
            }
        }
    }
    found
}

/// Refuses an immutable name that moves, is moved, or is found by: a channel, a cache, a key.
fn reserved(what: &str, tag: &Tag, project: &Project) -> Option<Diagnostic> {
    let manifest = &project.manifest;
    let is_channel = |channel: &Tag| {
        let mut containers = manifest.containers.values();
        channel == tag
            || containers.any(|c| c.shared && c.tag(channel).is_ok_and(|own| own == *tag))
    };
    let why = if manifest.channels.keys().any(is_channel) {
        "is a channel"
    } else if manifest
        .containers
        .values()
        .any(|container| is_cache_tag(container, tag))
    {
        "is the tag of a cache"
    } else if ["key-", "unreleased-", mounts::TAGS]
        .iter()
        .any(|prefix| tag.as_str().starts_with(prefix))
    {
        "begins as only skiff's own tags do"
    } else {
        return None;
    };
    Some(Diagnostic::error(format!("{what}, `{tag}`, {why}")).help("give another name"))
}

/// The value of a `{variable}`; `None` where it is not known here.
fn variable(name: &str, container: &Container, release: &Tag, sources: &Sources) -> Option<String> {
    let commit = sources.commit.as_deref();
    match name {
        "timestamp" => Some(release.to_string()),
        "name" => Some(container.name.clone()),
        "sha" => commit.map(str::to_owned),
        "short_sha" => commit.map(|commit| commit.chars().take(12).collect()),
        "branch" => sources.branch.as_deref().map(as_tag),
        "version" => sources.version.as_deref().map(|version| {
            let number = version.strip_prefix('v');
            let number = number.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            as_tag(number.unwrap_or(version))
        }),
        _ => None,
    }
}

/// Git has characters that tags have not: `feature/x` becomes `feature-x`.
fn as_tag(name: &str) -> String {
    let word = |c: char| match c {
        c if c.is_ascii_alphanumeric() || "_.-".contains(c) => c,
        _ => '-',
    };
    name.chars().map(word).collect()
}
