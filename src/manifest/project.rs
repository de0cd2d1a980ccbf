//! From good values to a [`ProjectManifest`]: defaults merged, folders discovered and found, names put together.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use toml::Spanned;

use super::collisions::Names;
use super::container::{Draft, Maker};
use super::discover::{Discovery, Folder};
use super::document::{Said, View};
use super::layer::Layer;
use super::model::{Branches, ProjectManifest};
use super::{builder, cache, collisions, locate, mirrors, needs, options, registry};
use crate::diagnostic::{Diagnostic, Severity, SourceText, Span};
use crate::reference::Tag;

/// Where the manifest is.
pub(super) struct Location<'a> {
    pub source: &'a Arc<SourceText>,
    /// The file, absolute.
    pub path: &'a Path,
    /// Its folder, absolute and canonical.
    pub root: &'a Path,
}

/// Puts the manifest together. It is worth something only when no diagnostic is an error.
pub(super) fn assemble(
    location: &Location<'_>,
    view: View<'_>,
) -> (Option<ProjectManifest>, Vec<Diagnostic>) {
    let mut project = Project {
        location,
        diagnostics: Vec::new(),
        discovery_failed: false,
    };
    let manifest = project.manifest(view);
    (manifest, project.diagnostics)
}

struct Project<'a> {
    location: &'a Location<'a>,
    diagnostics: Vec<Diagnostic>,
    /// Folders were found that cannot be containers as they are.
    discovery_failed: bool,
}

impl Project<'_> {
    fn manifest(&mut self, view: View<'_>) -> Option<ProjectManifest> {
        let source = self.location.source;
        let span = move |said: &Said<String>| Span::new(source, said.span());
        let (registry, found) = registry::read(view, source);
        self.diagnostics.extend(found);
        let (naming, state) = registry?;
        let channels = self.channels(view);
        let (builder, found) = builder::read(view, source);
        self.diagnostics.extend(found);
        let (cache, found) = cache::read(view, source, self.location.root);
        self.diagnostics.extend(found);
        let (mirrors, found) = mirrors::read(view, source);
        self.diagnostics.extend(found);
        let defaults = Layer::read(view.table("defaults"));
        let written: Vec<(String, Range<usize>, Layer)> = view
            .table("containers")
            .entries()
            .into_iter()
            .map(|(key, _)| {
                let table = view.table("containers").table(key.get_ref());
                let layer = Layer::read(table).over(&defaults, key.get_ref());
                (key.get_ref().to_string(), key.span(), layer)
            })
            .collect();
        let discovered = self.discover(view, &defaults, &written, &span);
        let drafts = self.drafts(&written, &discovered, &defaults, view);
        if drafts.is_empty() && !self.discovery_failed {
            self.no_containers(view);
        }
        let mut maker = Maker {
            location: self.location,
            naming: &naming,
            discovered: &discovered,
            diagnostics: Vec::new(),
        };
        let made = drafts.iter().filter_map(|draft| maker.container(draft));
        let mut containers: IndexMap<_, _> = made.map(|c| (c.name.clone(), c)).collect();
        collisions::mark_shared(&mut containers);
        let found = cache::inside(&cache, containers.values(), view, source);
        self.diagnostics.extend(found);
        options::set_apart(&mut containers, self.location.root);
        self.diagnostics.append(&mut maker.diagnostics);
        let needs: needs::Needs = listed(&drafts, |layer| &layer.needs).collect();
        let mut known = view.table("containers").keys();
        known.extend(drafts.iter().map(|draft| draft.name));
        known.sort_unstable();
        known.dedup();
        self.diagnostics.extend(needs::check(&needs, &known, &span));
        let names = Names {
            containers: &containers,
            cache: naming.cache_ref.as_ref().map(span),
            untrusted: naming.untrusted.as_ref().map(span),
            state: &state,
            channels: &with_default(channels.as_deref()),
            tags: &listed(&drafts, |layer| &layer.tags).collect(),
            span: &span,
        };
        self.diagnostics.extend(names.check());
        Some(ProjectManifest {
            root: self.location.root.to_owned(),
            path: self.location.path.to_owned(),
            pin: view.flag("pin").unwrap_or(false),
            registry: naming.registry,
            channels: branches(view),
            builder,
            cache,
            mirrors,
            state,
            containers,
        })
    }

    fn at(&self, range: Range<usize>) -> Span {
        Span::new(self.location.source, range)
    }

    fn error(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// The written channels with their places; branches are read in [`branches`].
    fn channels(&self, view: View<'_>) -> Option<Vec<(Tag, Option<Span>)>> {
        view.key("channels")?;
        let entries = view.table("channels").entries().into_iter();
        Some(
            entries
                .filter_map(|(key, _)| {
                    Some((Tag::new(key.get_ref()).ok()?, Some(self.at(key.span()))))
                })
                .collect(),
        )
    }

    fn discover(
        &mut self,
        view: View<'_>,
        defaults: &Layer,
        written: &[(String, Range<usize>, Layer)],
        span: &dyn Fn(&Said<String>) -> Span,
    ) -> IndexMap<String, Folder> {
        let table = view.table("discover");
        let list = |key| table.texts(key).map_or_else(Vec::new, Spanned::into_inner);
        let (roots, exclude) = (list("roots"), list("exclude"));
        let root = self.location.root;
        let claimed: HashSet<PathBuf> = written
            .iter()
            .filter_map(|(_, _, layer)| layer.context.clone().value())
            .filter_map(|said| locate::folder(root, said.get_ref()).ok())
            .collect();
        let dockerfile = defaults.dockerfile.clone().value();
        let discovery = Discovery {
            root,
            roots: &roots,
            exclude: &exclude,
            dockerfile: dockerfile
                .as_ref()
                .map_or("Dockerfile", |said| said.get_ref()),
            written: written.iter().map(|(name, _, _)| name.as_str()).collect(),
            claimed,
            span,
        };
        let (folders, diagnostics) = discovery.run();
        self.discovery_failed = diagnostics.iter().any(|d| d.severity == Severity::Error);
        self.diagnostics.extend(diagnostics);
        folders
    }

    /// Written containers in the file's order, then the discovered ones by name.
    fn drafts<'d>(
        &self,
        written: &'d [(String, Range<usize>, Layer)],
        discovered: &'d IndexMap<String, Folder>,
        defaults: &Layer,
        view: View<'_>,
    ) -> Vec<Draft<'d>> {
        let mut drafts: Vec<Draft<'d>> = written
            .iter()
            .map(|(name, place, layer)| Draft {
                name,
                layer: layer.clone(),
                folder: discovered.get(name),
                span: self.at(place.clone()),
            })
            .collect();
        let names: HashSet<&str> = view.table("containers").keys().into_iter().collect();
        let roots = view.table("discover").texts("roots");
        for (name, folder) in discovered
            .iter()
            .filter(|(name, _)| !names.contains(name.as_str()))
        {
            let pattern = roots.as_ref().and_then(|r| r.get_ref().get(folder.pattern));
            drafts.push(Draft {
                name,
                layer: Layer::read(View::nothing(view)).over(defaults, name),
                folder: Some(folder),
                span: self.at(pattern.map_or(0..0, Spanned::span)),
            });
        }
        drafts
    }

    /// Unless some were meant to be there: what is wrong with those was said.
    fn no_containers(&mut self, view: View<'_>) {
        let meant = ["containers", "discover", "discover.roots"]
            .iter()
            .any(|path| view.is_meant(path));
        if meant
            || !view.table("containers").is_empty()
            || !view.table("discover").is_whole("roots")
        {
            return;
        }
        let place = view.key("discover").or_else(|| view.key("containers"));
        let diagnostic = Diagnostic::error("the manifest has no containers")
            .at(self.at(place.unwrap_or(0..0)), "")
            .help("let them be found:\n[discover]\nroots = [\"containers/*\"]")
            .help("or write each:\n[containers.NAME]\ncontext = \"path/of/its/folder\"");
        self.error(diagnostic);
    }
}

/// A list of each container, with the places of its items.
fn listed<'a>(
    drafts: &'a [Draft<'_>],
    list: impl Fn(&Layer) -> &Option<Said<Vec<Said<String>>>> + 'a,
) -> impl Iterator<Item = (String, Vec<Said<String>>)> + 'a {
    drafts.iter().map(move |draft| {
        let items = list(&draft.layer).as_ref().map(|l| l.get_ref().clone());
        (draft.name.to_owned(), items.unwrap_or_default())
    })
}

fn with_default(channels: Option<&[(Tag, Option<Span>)]>) -> Vec<(Tag, Option<Span>)> {
    match channels {
        Some(channels) => channels.to_vec(),
        None => Tag::new("latest")
            .into_iter()
            .map(|tag| (tag, None))
            .collect(),
    }
}

fn branches(view: View<'_>) -> IndexMap<Tag, Branches> {
    if view.key("channels").is_none() {
        return with_default(None)
            .into_iter()
            .map(|(tag, _)| (tag, Branches::Default))
            .collect();
    }
    let table = view.table("channels");
    let entries = table.entries().into_iter();
    entries
        .filter_map(|(key, value)| {
            let branches = table.items(value)?.into_inner().into_iter();
            let branches = branches.map(Spanned::into_inner).collect();
            Some((Tag::new(key.get_ref()).ok()?, Branches::Named(branches)))
        })
        .collect()
}
