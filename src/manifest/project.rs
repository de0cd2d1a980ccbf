//! From good values to a [`ProjectManifest`]: defaults merged, folders discovered and found, names put together.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use toml::Spanned;

use super::collisions::{self, Names};
use super::discover::{Discovery, Folder};
use super::document::{Given, Said, View};
use super::layer::Layer;
use super::model::{
    Cache, CacheBackend, CacheExport, Container, Network, Platform, Profile, ProjectManifest,
    Registry,
};
use super::{grammar, locate, needs, not_built, pattern};
use crate::diagnostic::{Diagnostic, SourceText, Span, nearest};
use crate::reference::{RegistryHost, Repository, Tag};

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
    };
    let manifest = project.manifest(view);
    (manifest, project.diagnostics)
}

/// Settings that every container's names come from.
struct Naming {
    host: RegistryHost,
    repository: String,
    repository_span: Option<Span>,
    cache_ref: Option<Said<String>>,
}

impl Naming {
    fn is_shared(&self) -> bool {
        !self.repository.contains('{')
    }
}

/// A container before its files were looked for.
struct Draft<'a> {
    name: &'a str,
    layer: Layer,
    folder: Option<&'a Folder>,
    span: Span,
}

struct Project<'a> {
    location: &'a Location<'a>,
    diagnostics: Vec<Diagnostic>,
}

impl Project<'_> {
    fn manifest(&mut self, view: View<'_>) -> Option<ProjectManifest> {
        let source = self.location.source;
        let span = move |said: &Said<String>| Span::new(source, said.span());
        let (host, plain_http) = self.registry(view);
        let naming = naming(view, host.or_else(nobody)?, &span);
        let channels = self.channels(view);
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
        if drafts.is_empty() && view.table("containers").is_empty() {
            self.no_containers(view);
        }
        let state = state_repository(&naming)?;
        let mut containers = IndexMap::new();
        let mut wanted = needs::Needs::new();
        let mut tags = HashMap::new();
        for draft in drafts {
            let listed = |list: &Option<Said<Vec<Said<String>>>>| {
                list.as_ref().map_or_else(Vec::new, |l| l.get_ref().clone())
            };
            wanted.insert(draft.name.to_owned(), listed(&draft.layer.needs));
            tags.insert(draft.name.to_owned(), listed(&draft.layer.tags));
            if let Some(container) = self.container(&draft, &naming, &discovered) {
                containers.insert(container.name.clone(), container);
            }
        }
        let mut known = view.table("containers").keys();
        known.extend(wanted.keys().map(String::as_str));
        self.diagnostics
            .extend(needs::check(&wanted, &known, &span));
        let names = Names {
            containers: &containers,
            repository: naming.repository_span.clone(),
            cache: naming.cache_ref.as_ref().map(span),
            state: &state,
            channels: &with_default(channels.as_deref()),
            tags: &tags,
            span: &span,
        };
        self.diagnostics.extend(names.check());
        Some(ProjectManifest {
            source: Arc::clone(source),
            root: self.location.root.to_owned(),
            path: self.location.path.to_owned(),
            registry: Registry {
                host: naming.host,
                plain_http,
            },
            state,
            channels: channels.map(|_| branches(view)),
            cache: cache(view),
            containers,
        })
    }

    fn at(&self, range: Range<usize>) -> Span {
        Span::new(self.location.source, range)
    }

    fn error(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn registry(&mut self, view: View<'_>) -> (Option<RegistryHost>, bool) {
        let table = view.table("registry");
        let Some(header) = view.key("registry") else {
            let diagnostic = Diagnostic::error("there is no `[registry]`")
                .at(self.at(0..0), "the manifest does not say where images go")
                .help("write, for example:\n[registry]\nprovider = \"oci\"\nhost = \"localhost:5000\"");
            self.error(diagnostic);
            return (None, false);
        };
        let provider = table.given_text("provider");
        if provider == Given::Absent {
            let diagnostic = Diagnostic::error(not_built::DEFAULT_PROVIDER)
                .at(self.at(header), "")
                .help(not_built::USE_OCI);
            self.error(diagnostic);
        } else if provider != Given::Refused {
            self.oci(table, header);
        }
        let host = table
            .text("host")
            .and_then(|h| RegistryHost::new(h.get_ref()).ok());
        let plain = host.as_ref().is_some_and(RegistryHost::is_loopback)
            || table.flag("insecure") == Some(true);
        (host, plain)
    }

    fn oci(&mut self, table: View<'_>, header: Range<usize>) {
        if table.given_text("host") == Given::Absent {
            let diagnostic = Diagnostic::error("`registry.host` is missing")
                .at(self.at(header), "")
                .help("write `host = \"…\"`, for example \"localhost:5000\"");
            self.error(diagnostic);
        }
        if let (Some(false), Some(key)) = (table.flag("create"), table.key("create")) {
            let diagnostic =
                Diagnostic::error("`registry.create = false` is for provider \"ecr\" only")
                    .at(self.at(key), "")
                    .note("other registries make a repository when something is pushed to it")
                    .help("leave it out");
            self.error(diagnostic);
        }
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

    fn no_containers(&mut self, view: View<'_>) {
        let place = view.key("discover").or_else(|| view.key("containers"));
        let diagnostic = Diagnostic::error("the manifest has no containers")
            .at(self.at(place.unwrap_or(0..0)), "")
            .help("let them be found:\n[discover]\nroots = [\"containers/*\"]")
            .help("or write each:\n[containers.NAME]\ncontext = \"path/of/its/folder\"");
        self.error(diagnostic);
    }

    fn container(
        &mut self,
        draft: &Draft<'_>,
        naming: &Naming,
        discovered: &IndexMap<String, Folder>,
    ) -> Option<Container> {
        let files = self.files(draft, discovered);
        let contexts = self.contexts(&draft.layer);
        let names = self.names(draft, naming);
        let ((context, dockerfile), (repository, (cache_repository, cache_tag))) = (files?, names?);
        let layer = &draft.layer;
        let text = |said: &Option<Said<String>>| said.as_ref().map(|s| s.get_ref().clone());
        let texts = |said: &Option<Said<Vec<Said<String>>>>| {
            said.iter()
                .flat_map(|l| l.get_ref())
                .map(|s| s.get_ref().clone())
                .collect::<Vec<_>>()
        };
        let mut needs = texts(&layer.needs);
        let mut seen = HashSet::new();
        needs.retain(|need| seen.insert(need.clone()));
        let platforms = texts(&layer.platforms);
        Some(Container {
            name: draft.name.to_owned(),
            context,
            dockerfile,
            target: text(&layer.target),
            args: layer.args.clone(),
            contexts,
            labels: layer.labels.clone(),
            network: match text(&layer.network).as_deref() {
                Some("none") => Network::None,
                _ => Network::Default,
            },
            platform: platforms
                .first()
                .and_then(|p| grammar::parse_platform(p).ok())
                .unwrap_or_else(default_platform),
            profile: match text(&layer.profile).as_deref() {
                Some("sagemaker") => Profile::Sagemaker,
                Some("lambda") => Profile::Lambda,
                _ => Profile::Docker,
            },
            tags: texts(&layer.tags),
            needs,
            repository,
            cache_repository,
            cache_tag,
            timeout: text(&layer.timeout).and_then(|t| grammar::duration(&t).ok()),
            span: draft.span.clone(),
        })
    }

    /// Context and Dockerfile.
    fn files(
        &mut self,
        draft: &Draft<'_>,
        discovered: &IndexMap<String, Folder>,
    ) -> Option<(PathBuf, PathBuf)> {
        let context = match (&draft.layer.context, draft.folder) {
            (Given::Value(said), _) => self.folder(said)?,
            (Given::Absent, Some(folder)) => folder.real.clone(),
            (Given::Absent, None) => {
                self.no_context(draft, discovered);
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
                let shown = context.strip_prefix(self.location.root).unwrap_or(&context);
                let title = format!("no Dockerfile for container `{}`", draft.name);
                let label = format!("`{}`: {}", shown.join(written).display(), missing.why);
                let diagnostic = Diagnostic::error(title).at(place, label);
                let help = match missing.meant {
                    Some(meant) => format!("did you mean `dockerfile = \"{meant}\"`?"),
                    None => "write `dockerfile = \"…\"`, relative to the context".to_owned(),
                };
                self.error(diagnostic.help(help));
                None
            }
        }
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

    fn contexts(&mut self, layer: &Layer) -> std::collections::BTreeMap<String, PathBuf> {
        let named = layer.contexts.iter();
        named
            .filter_map(|(name, said)| Some((name.clone(), self.folder(said)?)))
            .collect()
    }

    fn no_context(&mut self, draft: &Draft<'_>, discovered: &IndexMap<String, Folder>) {
        let title = format!("container `{}` has no context", draft.name);
        let diagnostic = Diagnostic::error(title).at(
            draft.span.clone(),
            "no folder of this name was discovered either",
        );
        let diagnostic = match nearest(draft.name, discovered.keys().map(String::as_str)) {
            Some(meant) => {
                diagnostic.help(format!("did you mean `{meant}`, which was discovered?"))
            }
            None => diagnostic,
        };
        self.error(diagnostic.help("write `context = \"path/of/its/folder\"`"));
    }

    /// Repository and cache.
    fn names(
        &mut self,
        draft: &Draft<'_>,
        naming: &Naming,
    ) -> Option<(Repository, (Repository, Tag))> {
        let name = draft.name;
        let made = repository_of(naming, name).and_then(|repository| {
            let reference = match (&naming.cache_ref, naming.is_shared()) {
                (Some(said), _) => said.get_ref(),
                (None, true) => "{repository}:buildcache-{name}",
                (None, false) => "{repository}:buildcache",
            };
            let cache = collisions::cache_of(reference, &repository, name)?;
            Ok((repository, cache))
        });
        match made {
            Ok(names) => Some(names),
            Err(why) => {
                let title = format!("no registry accepts the names of container `{name}`");
                let diagnostic = Diagnostic::error(title).at(draft.span.clone(), why);
                self.error(diagnostic.help("give the container a shorter name"));
                None
            }
        }
    }
}

/// A host that stands in where the manifest's is wrong, so that all other names are still checked.
fn nobody() -> Option<RegistryHost> {
    RegistryHost::new("registry.invalid").ok()
}

fn naming(view: View<'_>, host: RegistryHost, span: &dyn Fn(&Said<String>) -> Span) -> Naming {
    let repository = view.table("registry").text("repository");
    Naming {
        host,
        repository_span: repository.as_ref().map(span),
        repository: repository.map_or_else(|| "{name}".to_owned(), Spanned::into_inner),
        cache_ref: view.table("cache").text("ref"),
    }
}

fn repository_of(naming: &Naming, name: &str) -> Result<Repository, String> {
    let path = pattern::expand(&naming.repository, |v| {
        (v == "name").then(|| name.to_owned())
    });
    Repository::new(naming.host.clone(), &path.map_err(|e| e.to_string())?)
        .map_err(|e| e.to_string())
}

/// The literal beginning of the `repository` pattern and `skiff`; without a variable, `skiff` beside the repository.
fn state_repository(naming: &Naming) -> Option<Repository> {
    let pattern = naming.repository.as_str();
    let prefix = match pattern.find('{') {
        Some(at) => &pattern[..at],
        None => pattern.rfind('/').map_or("", |at| &pattern[..=at]),
    };
    Repository::new(naming.host.clone(), &format!("{prefix}skiff")).ok()
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

fn branches(view: View<'_>) -> IndexMap<Tag, Vec<String>> {
    let table = view.table("channels");
    let entries = table.entries().into_iter();
    entries
        .filter_map(|(key, value)| {
            let branches = table.items(value)?.into_inner().into_iter();
            Some((
                Tag::new(key.get_ref()).ok()?,
                branches.map(Spanned::into_inner).collect(),
            ))
        })
        .collect()
}

fn cache(view: View<'_>) -> Cache {
    let text = |key| view.table("cache").text(key).map(Spanned::into_inner);
    Cache {
        backend: match text("backend").as_deref() {
            Some("none") => CacheBackend::None,
            _ => CacheBackend::Registry,
        },
        export: match text("export").as_deref() {
            Some("never") => CacheExport::Never,
            _ => CacheExport::Channels,
        },
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
