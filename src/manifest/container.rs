//! One container: its files found, its names put together.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use toml::Spanned;

use super::discover::Folder;
use super::document::{Given, Said};
use super::layer::Layer;
use super::locate::Missing;
use super::model::{BuildOptions, Container, Network, Places, Platform, Profile};
use super::project::Location;
use super::registry::Naming;
use super::{grammar, locate, option_grammar};
use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::reference::{ImageRef, Tag};

/// A container before its files were looked for.
pub(super) struct Draft<'a> {
    pub name: &'a str,
    pub layer: Layer,
    pub folder: Option<&'a Folder>,
    pub span: Span,
}

/// Makes containers of drafts.
pub(super) struct Maker<'a> {
    pub location: &'a Location<'a>,
    pub naming: &'a Naming,
    pub discovered: &'a IndexMap<String, Folder>,
    /// What is wrong with those made so far.
    pub diagnostics: Vec<Diagnostic>,
}

impl Maker<'_> {
    /// The container, unless a file or a name of it is wrong.
    pub(super) fn container(&mut self, draft: &Draft<'_>) -> Option<Container> {
        let files = self.files(draft);
        let (contexts, image_contexts) = self.contexts(&draft.layer);
        let options = self.options(&draft.layer);
        let platforms = self.platforms(&draft.layer);
        let names = self.names(draft);
        let ((context, dockerfile), (own, cache_tag, untrusted)) = (files?, names?);
        let layer = &draft.layer;
        let text = |said: &Option<Said<String>>| said.as_ref().map(|s| s.get_ref().clone());
        let texts = |said: &Option<Said<Vec<Said<String>>>>| {
            said.iter()
                .flat_map(Spanned::get_ref)
                .map(|s| s.get_ref().clone())
                .collect::<Vec<_>>()
        };
        let mut needs = texts(&layer.needs);
        let mut seen = HashSet::new();
        needs.retain(|need| seen.insert(need.clone()));
        Some(Container {
            name: draft.name.to_owned(),
            context,
            dockerfile,
            target: text(&layer.target),
            args: layer.args.clone(),
            contexts,
            image_contexts,
            labels: layer.labels.clone(),
            network: match text(&layer.network).as_deref() {
                Some("none") => Network::None,
                Some("host") => Network::Host,
                _ => Network::Default,
            },
            options,
            platforms,
            profile: profile(layer),
            tags: texts(&layer.tags),
            needs,
            repository: own.images,
            untrusted,
            // Nobody knows yet whose run it is.
            trusted: None,
            // Settled when all are known.
            shared: false,
            cache_repository: own.cache,
            cache_tag,
            tag_unchanged: layer.tag_unchanged,
            extra_inputs: texts(&layer.extra_inputs),
            max_age: text(&layer.max_age).and_then(|t| grammar::duration(&t).ok()),
            timeout: text(&layer.timeout).and_then(|t| grammar::duration(&t).ok()),
            span: draft.span.clone(),
        })
    }

    /// Context and Dockerfile.
    fn files(&mut self, draft: &Draft<'_>) -> Option<(PathBuf, PathBuf)> {
        let context = match (&draft.layer.context, draft.folder) {
            (Given::Value(said), _) => self.folder(said)?,
            (Given::Absent, Some(folder)) => folder.real.clone(),
            (Given::Absent, None) => {
                self.no_context(draft);
                return None;
            }
            (Given::Refused, _) => return None,
        };
        let said = match &draft.layer.dockerfile {
            Given::Value(said) => Some(said),
            Given::Absent => None,
            Given::Refused => return None,
        };
        let written = said.map_or("Dockerfile", |s| s.get_ref());
        match locate::file(&context, written) {
            Ok(dockerfile) => Some((context, dockerfile)),
            Err(missing) => {
                let place = match (said, &draft.layer.context) {
                    (Some(said), _) | (None, Given::Value(said)) => self.at(said.span()),
                    _ => draft.span.clone(),
                };
                self.no_dockerfile(draft, place, &context.join(written), missing);
                None
            }
        }
    }

    fn no_dockerfile(&mut self, draft: &Draft<'_>, place: Span, path: &Path, missing: Missing) {
        let shown = path.strip_prefix(self.location.root).unwrap_or(path);
        let title = format!("no Dockerfile for container `{}`", draft.name);
        let label = format!("`{}`: {}", shown.display(), missing.why);
        let help = match missing.meant {
            Some(meant) => format!("did you mean `dockerfile = \"{meant}\"`?"),
            None => "write `dockerfile = \"…\"`, relative to the context".to_owned(),
        };
        self.error(Diagnostic::error(title).at(place, label).help(help));
    }

    fn at(&self, range: Range<usize>) -> Span {
        Span::new(self.location.source, range)
    }

    fn error(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn folder(&mut self, said: &Said<String>) -> Option<PathBuf> {
        let written = said.get_ref();
        match locate::folder(self.location.root, written) {
            Ok(path) => Some(path),
            Err(missing) => {
                let diagnostic = Diagnostic::error(format!("`{written}` cannot be a context"))
                    .at(self.at(said.span()), missing.why);
                let help = match missing.meant {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => "write a folder, relative to the manifest's".to_owned(),
                };
                self.error(diagnostic.help(help));
                None
            }
        }
    }

    /// Named contexts: the folders, and the images.
    fn contexts(
        &mut self,
        layer: &Layer,
    ) -> (BTreeMap<String, PathBuf>, BTreeMap<String, ImageRef>) {
        let (mut folders, mut images) = (BTreeMap::new(), BTreeMap::new());
        for (name, said) in &layer.contexts {
            if let Some(image) = said.get_ref().strip_prefix(option_grammar::IMAGE) {
                images.extend(image.parse().map(|image| (name.clone(), image)));
            } else if let Some(folder) = self.folder(said) {
                folders.insert(name.clone(), folder);
            }
        }
        (folders, images)
    }

    fn options(&mut self, layer: &Layer) -> BuildOptions {
        let mut found = Vec::new();
        let (root, source) = (self.location.root, self.location.source);
        let options = layer.options.make(root, source, &mut found);
        for diagnostic in found {
            self.error(diagnostic);
        }
        options
    }

    /// The platforms, each once.
    fn platforms(&mut self, layer: &Layer) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = Vec::new();
        for said in layer.platforms.iter().flat_map(Spanned::get_ref) {
            let parsed = grammar::parse_platform(said.get_ref()).ok();
            platforms.extend(parsed.filter(|platform| !platforms.contains(platform)));
        }
        if platforms.is_empty() {
            platforms.push(default_platform());
        }
        if let (Some(why), true, Some(said)) = (
            profile(layer).one_platform(),
            platforms.len() > 1,
            &layer.platforms,
        ) {
            let diagnostic = Diagnostic::error("several platforms need profile \"oci\"")
                .at(self.at(said.span()), why)
                .help("name one platform, or write `profile = \"oci\"`");
            self.error(diagnostic);
        }
        platforms
    }

    fn no_context(&mut self, draft: &Draft<'_>) {
        let title = format!("container `{}` has no context", draft.name);
        let diagnostic = Diagnostic::error(title).at(
            draft.span.clone(),
            "no folder of this name was discovered either",
        );
        let names = self.discovered.keys().map(String::as_str);
        let diagnostic = match nearest(draft.name, names) {
            Some(meant) => {
                diagnostic.help(format!("did you mean `{meant}`, which was discovered?"))
            }
            None => diagnostic,
        };
        self.error(diagnostic.help("write `context = \"path/of/its/folder\"`"));
    }

    /// Repositories and the cache's tag, and the repositories of untrusted runs.
    fn names(&mut self, draft: &Draft<'_>) -> Option<(Places, Tag, Option<Places>)> {
        match self.naming.of(draft.name) {
            Ok(names) => Some(names),
            Err(why) => {
                let title = format!(
                    "no registry accepts the names of container `{}`",
                    draft.name
                );
                let diagnostic = Diagnostic::error(title).at(draft.span.clone(), why);
                self.error(diagnostic.help("give the container a shorter name"));
                None
            }
        }
    }
}

fn profile(layer: &Layer) -> Profile {
    let said = layer.profile.as_ref().map(|said| said.get_ref().as_str());
    match said {
        Some("sagemaker") => Profile::Sagemaker,
        Some("lambda") => Profile::Lambda,
        Some("oci") => Profile::Oci,
        _ => Profile::Docker,
    }
}

/// What runs in AWS by default. Not this machine's: an image and its key must not depend on who builds.
fn default_platform() -> Platform {
    Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        variant: None,
    }
}
