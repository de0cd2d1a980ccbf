//! The manifest together with what the Dockerfiles say: which container is built from which.

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;

use crate::diagnostic::{Diagnostic, Severity, SourceText, nearest};
use crate::dockerfile::{self, Dockerfile, ImageUse, ImageUses};
use crate::graph::{self, Edge, EdgeKind, Graph, Node};
use crate::manifest::model::{Container, ProjectManifest};

/// A project whose containers can be built in some order.
pub(crate) struct Project {
    pub(crate) manifest: ProjectManifest,
    pub(crate) graph: Graph,
    /// For each container, the containers whose image its Dockerfile uses by name.
    pub(crate) images: BTreeMap<String, Vec<String>>,
    /// What is to be said of a container's Dockerfile, errors and warnings: they concern the runs that build it.
    findings: BTreeMap<String, Vec<Diagnostic>>,
}

/// Reads every Dockerfile and makes the graph, which must have no cycle.
pub(crate) fn read(manifest: ProjectManifest) -> Result<Project, Vec<Diagnostic>> {
    let mut findings = BTreeMap::new();
    let mut nodes = IndexMap::new();
    let mut images = BTreeMap::new();
    for (name, container) in &manifest.containers {
        let mut said = Vec::new();
        let found = parents(container, &manifest, &mut said).unwrap_or_else(|error| {
            said.push(error);
            vec![]
        });
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

/// The containers that this one's Dockerfile uses.
fn parents(
    container: &Container,
    manifest: &ProjectManifest,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Vec<Edge>, Diagnostic> {
    let shown = shown(&container.dockerfile, &manifest.root);
    let bytes = std::fs::read(&container.dockerfile).map_err(|error| {
        Diagnostic::error(format!("cannot read {shown}: {error}"))
            .at(container.span.clone(), "of this container")
    })?;
    let source = SourceText::new(shown, String::from_utf8_lossy(&bytes));
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
            return Ok(vec![]);
        }
    };
    let mut uses = ImageUses::default();
    for platform in &container.platforms {
        let found = dockerfile
            .images(&container.args, container.target.as_deref(), platform)
            .map_err(|unknown| {
                unknown
                    .diagnostic()
                    .at(container.span.clone(), "of this container")
            })?;
        let is_new = |found: &ImageUse| !uses.uses.contains(found);
        let more: Vec<_> = found.uses.into_iter().filter(is_new).collect();
        uses.uses.extend(more);
        uses.unclear = found.unclear;
    }
    known_stages(container, &dockerfile)?;
    warnings.extend(uses.unclear.iter().map(dockerfile::Unclear::diagnostic));
    let is_container = |name: &str| {
        manifest.containers.contains_key(name)
            && !container.contexts.contains_key(name)
            && !container.image_contexts.contains_key(name)
    };
    let found = graph::parents(&container.name, &uses.uses, is_container);
    warnings.extend(found.hidden);
    Ok(found.edges)
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
