//! The questions to registries between a selection and a plan: which base images there are, which keys follow, and
//! which of those the registry has.
//!
//! What must stay true: an answer that is missing, late or odd means that a container is built, and never that it is
//! skipped.
//!
//! A key is made from the files that a Dockerfile is seen to read. Two things can make that wrong, and both are in the
//! config of a base image: `ONBUILD` triggers, and an environment that overrules an `ARG`. Since the base's digest is an
//! input, it is enough to look once for each key: before its image is built. So a key that is found needs no such look,
//! and one that is not found is made again from the whole context where the base says so.

mod bases;
mod check;
mod images;
pub(crate) mod locked;
mod lookup;
mod made;
mod sources;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;

pub(crate) use check::{Unfit, check};
pub(crate) use lookup::{Lookup, Published, key_in};
pub(crate) use made::Unknown;
pub(crate) use sources::{Reading, Trees};

use self::bases::Bases;
use self::images::AT_ONCE;
use self::lookup::Open;
use self::made::Made;
use self::warnings::Warnings;
use crate::buildkit::solve::Attributes;
use crate::changes::index::Index;
use crate::diagnostic::Diagnostic;
use crate::key::{BuildReason, Inputs, Key};
use crate::plan::{Plan, PlannedContainer, Work};
use crate::profile;
use crate::project::{Project, Recipe};
use crate::reference::{Digest, ImageRef};
use crate::registry::Client;

/// What is known of a container's image before it is built.
#[derive(Debug, Default)]
pub(crate) struct Keyed {
    /// `None`: it has none, and is built each time.
    pub(crate) key: Option<Key>,
    /// All that are known, where they make no key too.
    pub(crate) inputs: Inputs,
    /// Why there is no key.
    pub(crate) unknown: Vec<Unknown>,
    /// What a rebuild without cache is called.
    pub(crate) generation: Option<String>,
    /// What its contexts held. `None`: they cannot be read here.
    pub(crate) trees: Option<Trees>,
    /// The images that its build is to use, each by its name and by digest.
    pub(crate) pins: Vec<(ImageRef, Digest)>,
}

impl Keyed {
    /// Whether this is an input that is not known.
    pub(crate) fn lacks(&self, input: &str) -> bool {
        let mut unknown = self.unknown.iter();
        unknown.any(|unknown| unknown.input.as_deref() == Some(input))
    }
}

/// How to ask.
pub(crate) struct Settings {
    /// Whether an image that is in the registry can be what is wanted. `Some`: the flag by which it cannot.
    pub(crate) build_anyway: Option<&'static str>,
    /// Build without cache, under this name.
    pub(crate) no_cache: Option<String>,
    /// What is built from this plan is offered what was read for it.
    pub(crate) builds: bool,
    /// Find out what is published for those too that are not built.
    pub(crate) compare_all: bool,
    /// The containers of which anything is published; `None`: nobody knows. The others are not asked for, as there may be a
    /// thousand.
    pub(crate) published: Option<BTreeSet<String>>,
    /// What the frontend is told of a container.
    pub(crate) attributes: fn(&PlannedContainer) -> Attributes,
    /// The digests of the lock file, by the names of images in full.
    pub(crate) locked: BTreeMap<String, Digest>,
    /// Seconds since 1970.
    pub(crate) now: u64,
}

/// Finds the keys of a plan's containers, and which of them are to be built. Parents that nobody needs then leave the
/// plan. `registry` should be one that asks no silent host twice. Returns what there is to say.
pub(crate) async fn settle(
    plan: &mut Plan,
    project: &Project,
    registry: &Client,
    reading: Reading,
    settings: Settings,
) -> Vec<Diagnostic> {
    let recipes = || {
        plan.containers
            .keys()
            .filter_map(|name| project.recipes.get(name))
    };
    let names = recipes()
        .flat_map(|recipe| recipe.images.iter().cloned())
        .collect();
    let (digests, (index, mut trees)) = tokio::join!(
        images::digests(names, &settings.locked, &project.manifest.mirrors, registry),
        reading.end(),
    );
    let mut cases = BTreeMap::new();
    for name in plan.containers.keys() {
        let read = trees.remove(name);
        let case = Case {
            trees: read.unwrap_or_else(|| Err("its context was not read".into())),
            inspected: false,
            answer: None,
        };
        cases.insert(name.clone(), case);
    }
    let mut asking = Asking {
        plan,
        project,
        registry,
        settings: &settings,
        index,
        digests,
        bases: Bases::new(),
        cases,
    };
    asking.run().await;
    asking.conclude().await
}

/// What is known of a container so far.
struct Case {
    trees: Result<Trees, String>,
    /// The configs of its base images were looked at.
    inspected: bool,
    /// The key that was asked for last.
    answer: Option<(Key, Lookup)>,
}

struct Asking<'a> {
    plan: &'a mut Plan,
    project: &'a Project,
    registry: &'a Client,
    settings: &'a Settings,
    index: Arc<Index>,
    digests: BTreeMap<String, Result<Digest, String>>,
    /// What is known of the configs of base images.
    bases: Bases,
    cases: BTreeMap<String, Case>,
}

/// By container, each with its key where it has one.
type Keys = BTreeMap<String, (Option<Key>, Made)>;

impl Asking<'_> {
    /// Makes keys and asks for them, until no answer changes a key: a parent's generation changes those of its children,
    /// a base image's triggers change what is read.
    async fn run(&mut self) {
        loop {
            let keys = self.keys();
            let asked = self.look_up(&keys).await;
            let widened = self.inspect(&keys).await;
            if !asked && !widened {
                return;
            }
        }
    }

    /// The keys, or why there are none, parents first.
    fn keys(&self) -> Keys {
        let mut keys = Keys::new();
        for (name, planned) in &self.plan.containers {
            let made = self.inputs(name, planned, &keys);
            keys.insert(name.clone(), (made.key(), made));
        }
        keys
    }

    fn inputs(&self, name: &str, planned: &PlannedContainer, keys: &Keys) -> Made {
        let container = &planned.container;
        let mut made = Made::default();
        let (Some(recipe), Some(case)) = (self.project.recipes.get(name), self.cases.get(name))
        else {
            made.lack(None, "its Dockerfile cannot be read");
            return made;
        };
        if let Some(why) = &recipe.unclear {
            made.lack(None, why);
        }
        if let Some(source) = &recipe.sources.unpinned {
            let why = format!("`ADD {source}` may fetch something else each time; add --checksum");
            made.lack(None, why);
        }
        let attributes = (self.settings.attributes)(planned);
        made.attributes(&attributes, self.project.manifest.is_located());
        for (name, value) in profile::exporter_attrs(container.profile) {
            made.inputs.set(format!("exporter:{name}"), value);
        }
        match &case.trees {
            Ok(trees) => trees.set(&mut made.inputs),
            Err(why) => made.lack(None, why),
        }
        for image in &recipe.images {
            let input = format!("image:{image}");
            match self.digests.get(image) {
                Some(Ok(digest)) => made.inputs.set_image(image, digest),
                Some(Err(why)) => {
                    let why = format!("its base image `{image}` is not known: {why}");
                    made.lack(Some(input), why);
                }
                None => made.lack(
                    Some(input),
                    format!("its base image `{image}` is not known"),
                ),
            }
        }
        for parent in &planned.parents {
            let input = format!("parent:{parent}");
            match (keys.get(parent), self.generation(parent)) {
                (Some((Some(key), _)), Some(generation)) => {
                    made.inputs.set(input, format!("{key} {generation}"));
                }
                (Some((Some(key), _)), None) => made.inputs.set(input, key.as_str()),
                _ => made.lack(
                    Some(input),
                    format!("it is built from {parent}, which has no key"),
                ),
            }
        }
        if let Some(max_age) = container.max_age {
            let age = made::age(name, max_age, self.settings.now);
            made.inputs.set("age", age.to_string());
        }
        made
    }

    /// What the last rebuild without cache was called, this run's own if it is one.
    fn generation(&self, name: &str) -> Option<String> {
        if let Some(generation) = &self.settings.no_cache {
            return Some(generation.clone());
        }
        match &self.cases.get(name)?.answer {
            Some((_, Lookup::Found { generation, .. })) => generation.clone(),
            _ => None,
        }
    }

    /// Asks for those that were not asked for yet. `false`: there are none.
    async fn look_up(&mut self, keys: &Keys) -> bool {
        if self.settings.no_cache.is_some() || self.settings.build_anyway.is_some() {
            return false;
        }
        let open = self.plan.containers.iter().filter_map(|(name, planned)| {
            let key = keys.get(name)?.0.as_ref()?;
            let known = self.cases.get(name)?.answer.as_ref();
            let is_open = known.is_none_or(|(asked, _)| asked != key);
            is_open.then(|| Open {
                name: name.clone(),
                key: key.clone(),
                planned,
            })
        });
        let answers = lookup::keys(open.collect(), self.registry, !self.settings.builds).await;
        let asked = !answers.is_empty();
        for (name, key, found) in answers {
            if let Some(case) = self.cases.get_mut(&name) {
                case.answer = Some((key, found));
            }
        }
        asked
    }

    /// Looks into the base images of what is to be built. `true`: one of them makes its target read more.
    async fn inspect(&mut self, keys: &Keys) -> bool {
        let open = self.plan.containers.iter().filter_map(|(name, planned)| {
            let case = self.cases.get(name)?;
            let found = matches!(case.answer, Some((_, Lookup::Found { .. })));
            let is_part = case.trees.as_ref().is_ok_and(Trees::is_part);
            // Without a key it matters only to the builds that share its contexts.
            let matters = self.settings.builds || keys.get(name)?.0.is_some();
            if case.inspected || found || !is_part || !matters {
                return None;
            }
            Some((name, planned, self.project.recipes.get(name)?))
        });
        let open: Vec<_> = open.collect();
        let questions = open
            .iter()
            .flat_map(|(_, planned, recipe)| bases::questions(planned, recipe, &self.digests));
        let questions = questions.filter(|question| !self.bases.contains_key(question));
        let answers = bases::ask(
            questions.collect(),
            &self.project.manifest.mirrors,
            self.registry,
        )
        .await;
        self.bases.extend(answers);
        let more = |(name, planned, recipe): &(&String, &PlannedContainer, &Recipe)| {
            let more = bases::reads_more(recipe, planned, self.project, &self.digests, &self.bases);
            ((*name).clone(), more)
        };
        let looks: Vec<_> = open.iter().map(more).collect();
        let mut again = Vec::new();
        for (name, more) in looks {
            let Some(case) = self.cases.get_mut(&name) else {
                continue;
            };
            case.inspected = true;
            if more {
                again.push(name);
            }
        }
        let trees = sources::read_whole(&again, self.project, Arc::clone(&self.index)).await;
        for (name, trees) in trees {
            if let Some(case) = self.cases.get_mut(&name) {
                case.trees = trees;
            }
        }
        !again.is_empty()
    }

    /// Writes into the plan what was found.
    async fn conclude(mut self) -> Vec<Diagnostic> {
        let keys = self.keys();
        let mut unkeyed = Warnings::default();
        for (name, (key, made)) in keys {
            let Some(case) = self.cases.remove(&name) else {
                continue;
            };
            let mut work = Work::Build(self.reason(&made, &case));
            let Some(planned) = self.plan.containers.get_mut(&name) else {
                continue;
            };
            if let Some((
                _,
                Lookup::Found {
                    manifest,
                    repository,
                    ..
                },
            )) = &case.answer
            {
                work = Work::Keep(manifest.clone());
                planned.container.repository.clone_from(repository);
            }
            if let Work::Build(reason) = &work {
                unkeyed.note(&name, reason);
            }
            let recipe = self.project.recipes.get(&name);
            let pins = recipe.map(|recipe| pins(recipe, &self.digests));
            planned.work = work;
            planned.keyed = Arc::new(Keyed {
                key,
                inputs: made.inputs,
                unknown: made.unknown,
                generation: self.settings.no_cache.clone(),
                trees: case.trees.ok(),
                pins: pins.unwrap_or_default(),
            });
        }
        self.compare().await;
        self.plan.drop_unneeded(&self.project.graph);
        unkeyed.say()
    }

    fn reason(&self, made: &Made, case: &Case) -> BuildReason {
        if let Some(flag) = self.settings.build_anyway {
            return BuildReason::Asked { flag };
        }
        if self.settings.no_cache.is_some() {
            return BuildReason::Asked { flag: "--no-cache" };
        }
        match (made.unknown.first(), &case.answer) {
            (Some(unknown), _) => BuildReason::NoKey {
                why: unknown.why.clone(),
            },
            (_, Some((_, Lookup::Failed(why)))) => BuildReason::LookupFailed { why: why.clone() },
            (_, Some((_, Lookup::Distrusted(why)))) => BuildReason::Distrusted { why: why.clone() },
            _ => BuildReason::NoImage,
        }
    }

    /// Finds out for those without an image what differs from the published one.
    async fn compare(&mut self) {
        let settings = self.settings;
        if let Some(published) = settings
            .published
            .as_ref()
            .filter(|_| !settings.compare_all)
        {
            for (name, planned) in &mut self.plan.containers {
                if planned.work == Work::Build(BuildReason::NoImage) && !published.contains(name) {
                    planned.work = Work::Build(BuildReason::FirstBuild);
                }
            }
        }
        let open: Vec<_> = self
            .plan
            .containers
            .iter()
            .filter(|(_, planned)| {
                settings.compare_all || planned.work == Work::Build(BuildReason::NoImage)
            })
            .map(|(name, planned)| (name.clone(), &planned.container))
            .collect();
        let (manifest, registry) = (&self.project.manifest, self.registry);
        let asked = stream::iter(open).map(|(name, container)| async move {
            let published = lookup::published(manifest, container, registry).await;
            (name, published)
        });
        let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
        for (name, published) in answers {
            let Some(planned) = self.plan.containers.get_mut(&name) else {
                continue;
            };
            // Only the reason that is shown depends on this.
            let published = published.ok().flatten();
            if planned.work != Work::Build(BuildReason::NoImage) {
                planned.published = published;
                continue;
            }
            let reason = match published.as_ref().and_then(|p| p.inputs.as_ref()) {
                None => BuildReason::FirstBuild,
                Some(old) if *old == planned.keyed.inputs => BuildReason::NoImage,
                Some(old) => BuildReason::Changed {
                    inputs: planned.keyed.inputs.changes_from(old),
                    files: vec![],
                },
            };
            planned.work = Work::Build(reason);
            planned.published = published;
        }
    }
}

/// What a build is to use instead of tags.
fn pins(
    recipe: &Recipe,
    digests: &BTreeMap<String, Result<Digest, String>>,
) -> Vec<(ImageRef, Digest)> {
    let pinned = recipe.images.iter().filter_map(|name| {
        let image: ImageRef = name.parse().ok()?;
        let digest = digests.get(name)?.as_ref().ok()?;
        image.digest.is_none().then(|| (image, digest.clone()))
    });
    pinned.collect()
}
