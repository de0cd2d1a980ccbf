//! The manifest together with what the Dockerfiles say: which container is built from which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use indexmap::IndexMap;

use crate::cache::unwise;
use crate::context::file_id::{BlobHasher, BlobId};
use crate::diagnostic::{Diagnostic, Severity, SourceText, nearest};
use crate::dockerfile::{
    self, Dockerfile, ImageUse, ImageUses, Reads, Sources, UnclearReason, UseKind,
};
use crate::graph::{self, Edge, EdgeKind, Graph, Node};
use crate::manifest::model::{CacheMounts, Container, ProjectManifest};

/// A project whose containers can be built in some order.
pub(crate) struct Project {
    pub(crate) manifest: ProjectManifest,
    pub(crate) graph: Graph,
    /// For each container, the containers whose image its Dockerfile uses by name.
    pub(crate) images: BTreeMap<String, Vec<String>>,
    /// What each container is made of. None for one whose Dockerfile cannot be opened.
    pub(crate) recipes: BTreeMap<String, Recipe>,
    /// What is to be said of a container's Dockerfile, errors and warnings: they concern the runs that build it.
    findings: BTreeMap<String, Vec<Diagnostic>>,
}

/// What a Dockerfile says that its target is made of.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// The whole file.
    pub(crate) dockerfile: BlobId,
    /// Images from outside the project, by the names they have there; the frontend's own too.
    pub(crate) images: BTreeSet<String>,
    /// Those of them that stages begin with.
    pub(crate) bases: BTreeSet<String>,
    /// What it reads of its context.
    pub(crate) sources: Sources,
    /// It has `ONBUILD` instructions, or may have some.
    pub(crate) triggers: bool,
    /// Why it cannot be told what the image is made of.
    pub(crate) unclear: Option<String>,
    /// Why `images` may lack some.
    pub(crate) unnamed: Option<String>,
}

impl Recipe {
    /// Of a Dockerfile that skiff cannot read: it may be anything.
    fn unreadable(id: BlobId) -> Self {
        Self {
            dockerfile: id,
            images: BTreeSet::new(),
            bases: BTreeSet::new(),
            sources: Sources {
                context: Reads::Whole,
                variables: BTreeSet::new(),
                unpinned: None,
            },
            triggers: true,
            unclear: Some("its Dockerfile cannot be read here".into()),
            unnamed: Some("its Dockerfile cannot be read here".into()),
        }
    }

    fn new(
        id: BlobId,
        dockerfile: &Dockerfile,
        uses: &ImageUses,
        mut sources: Sources,
        container: &Container,
        parents: &[Edge],
    ) -> Self {
        let local = |name: &str| {
            container.contexts.contains_key(name)
                || container.image_contexts.contains_key(name)
                || parents.iter().any(|edge| edge.parent == name)
        };
        let external = || {
            uses.uses.iter().filter(|used| {
                // What a stage hides is an image after all.
                used.hidden_by.is_some() || !used.context_name().is_some_and(local)
            })
        };
        let contexts = || container.image_contexts.values().map(ToString::to_string);
        let mut images: BTreeSet<_> = external().map(|used| used.name.clone()).collect();
        images.extend(contexts());
        let frontend = container.args.get("BUILDKIT_SYNTAX").cloned();
        if let Some(frontend) =
            frontend.or_else(|| dockerfile::syntax_directive(&dockerfile.source.text))
        {
            // Another frontend may read anything.
            if !frontend.contains("docker/dockerfile") {
                sources.context = Reads::Whole;
            }
            images.insert(frontend);
        }
        let bases = external().filter(|used| used.kind == UseKind::From);
        Self {
            dockerfile: id,
            images,
            bases: bases
                .map(|used| used.name.clone())
                .chain(contexts())
                .collect(),
            sources,
            triggers: dockerfile
                .stages
                .iter()
                .flat_map(|stage| &stage.instructions)
                .any(|instruction| instruction.keyword == "ONBUILD"),
            unclear: unclear(uses, container),
            unnamed: unnamed(uses),
        }
    }
}

/// Why it cannot be told what an image is made of.
fn unclear(uses: &ImageUses, container: &Container) -> Option<String> {
    if let Some(stage) = container.options.no_cache_filter.first() {
        return Some(format!(
            "its stage {stage} is to be built anew each time (no_cache_filter)"
        ));
    }
    unnamed(uses)
}

/// Why it cannot be told which images a Dockerfile uses.
fn unnamed(uses: &ImageUses) -> Option<String> {
    let mut unclear = uses.unclear.iter();
    let unclear = unclear.find(|unclear| unclear.reason != UnclearReason::OnBuild)?;
    Some(format!("which image `{}` is cannot be told", unclear.text))
}

/// Reads every Dockerfile and makes the graph, which must have no cycle.
pub(crate) fn read(manifest: ProjectManifest) -> Result<Project, Vec<Diagnostic>> {
    let mut findings = BTreeMap::new();
    let mut nodes = IndexMap::new();
    let mut images = BTreeMap::new();
    let mut recipes = BTreeMap::new();
    for (name, container) in &manifest.containers {
        let mut said = Vec::new();
        let (found, recipe) = parents(container, &manifest, &mut said).unwrap_or_else(|error| {
            said.push(error);
            (vec![], None)
        });
        recipes.extend(recipe.map(|recipe| (name.clone(), recipe)));
        findings.insert(name.clone(), said);
        images.insert(
            name.clone(),
            found.iter().map(|edge| edge.parent.clone()).collect(),
        );
        let needs = container.needs.iter().map(|parent| Edge {
            parent: parent.clone(),
            span: Some(container.span.clone()),
            kind: EdgeKind::Needs,
        });
        let parents = found.into_iter().chain(needs).collect();
        nodes.insert(name.clone(), Node { parents });
    }
    let graph = Graph::new(nodes)?;
    Ok(Project {
        manifest,
        graph,
        images,
        recipes,
        findings,
    })
}

impl Project {
    /// The warnings of these containers' Dockerfiles; or their errors, if there are any.
    pub(crate) fn findings<'a>(
        &self,
        containers: impl IntoIterator<Item = &'a String>,
    ) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let findings = containers
            .into_iter()
            .filter_map(|name| self.findings.get(name));
        let findings = findings.flatten().cloned();
        let (errors, warnings): (Vec<_>, Vec<_>) =
            findings.partition(|finding| finding.severity == Severity::Error);
        if errors.is_empty() {
            Ok(warnings)
        } else {
            Err(errors)
        }
    }
}

/// The containers that this one's Dockerfile uses, and all that it is made of.
fn parents(
    container: &Container,
    manifest: &ProjectManifest,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(Vec<Edge>, Option<Recipe>), Diagnostic> {
    let shown = shown(&container.dockerfile, &manifest.root);
    let bytes = std::fs::read(&container.dockerfile).map_err(|error| {
        Diagnostic::error(format!("cannot read {shown}: {error}"))
            .at(container.span.clone(), "of this container")
    })?;
    let source = SourceText::new(shown, String::from_utf8_lossy(&bytes));
    let mut id = BlobHasher::new(bytes.len() as u64);
    id.update(&bytes);
    let id = id.finish();
    let dockerfile = match dockerfile::parse(&source) {
        Ok(dockerfile) => dockerfile,
        Err(error) => {
            let note =
                "no parents are inferred from it; the builder decides whether it can be built";
            warnings.push(
                Diagnostic {
                    severity: Severity::Warning,
                    ..error
                }
                .note(note),
            );
            return Ok((vec![], Some(Recipe::unreadable(id))));
        }
    };
    let mut uses = ImageUses::default();
    let mut sources: Option<Sources> = None;
    for platform in &container.platforms {
        let found = dockerfile
            .images(&container.args, container.target.as_deref(), platform)
            .map_err(|unknown| {
                unknown
                    .diagnostic()
                    .at(container.span.clone(), "of this container")
            })?;
        let target = container.target.as_deref();
        let read = dockerfile.sources(&container.args, target, platform, &found);
        sources = Some(match sources {
            Some(sources) => sources.and(read),
            None => read,
        });
        let is_new = |found: &ImageUse| !uses.uses.contains(found);
        let more: Vec<_> = found.uses.into_iter().filter(is_new).collect();
        uses.uses.extend(more);
        uses.unclear.extend(found.unclear);
        uses.unclear.dedup();
    }
    known_stages(container, &dockerfile)?;
    warnings.extend(uses.unclear.iter().map(dockerfile::Unclear::diagnostic));
    let carried = manifest.cache.mounts != CacheMounts::Off && container.platforms.len() == 1;
    warnings.extend(unwise::warnings(&dockerfile, carried));
    let is_container = |name: &str| {
        manifest.containers.contains_key(name)
            && !container.contexts.contains_key(name)
            && !container.image_contexts.contains_key(name)
    };
    let found = graph::parents(&container.name, &uses.uses, is_container);
    warnings.extend(found.hidden);
    let recipe = sources
        .map(|sources| Recipe::new(id, &dockerfile, &uses, sources, container, &found.edges));
    Ok((found.edges, recipe))
}

/// `no_cache_filter` names stages: BuildKit would pass over one that is not there.
fn known_stages(container: &Container, dockerfile: &Dockerfile) -> Result<(), Diagnostic> {
    let stages = &container.options.no_cache_filter;
    match stages.iter().find(|name| dockerfile.stage(name).is_none()) {
        None => Ok(()),
        Some(name) => Err(dockerfile.unknown_target(name).diagnostic().at(
            container.span.clone(),
            "`no_cache_filter` of this container",
        )),
    }
}

/// A name that no container has.
pub(crate) fn unknown(name: &str, manifest: &ProjectManifest) -> Diagnostic {
    let mut known: Vec<&str> = manifest.containers.keys().map(String::as_str).collect();
    known.sort_unstable();
    let error = Diagnostic::error(format!("there is no container `{name}`"));
    let error = error.note(format!("containers: {}", known.join(", ")));
    match nearest(name, known) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// A path as users write it: relative to the manifest's folder where it is below it.
pub(crate) fn shown(path: &Path, root: &Path) -> String {
    path.strip_prefix(root)
        .unwrap_or(path)
        .display()
        .to_string()
}
