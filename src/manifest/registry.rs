//! `[registry]`: where images go, and the names that follow from it.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use super::document::{Given, Said, View};
use super::model::Registry;
use super::{not_built, pattern};
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::reference::{RegistryHost, Repository};

/// What every container's names come from.
pub(super) struct Naming {
    pub registry: Registry,
    /// The pattern.
    pattern: String,
    pub repository_span: Option<Span>,
    pub cache_ref: Option<Said<String>>,
}

impl Naming {
    /// Whether all containers have one repository.
    pub(super) fn is_shared(&self) -> bool {
        !self.pattern.contains('{')
    }

    /// A container's repository.
    pub(super) fn repository(&self, name: &str) -> Result<Repository, String> {
        let path = pattern::expand(&self.pattern, |v| (v == "name").then(|| name.to_owned()));
        let path = path.map_err(|e| e.to_string())?;
        Repository::new(self.registry.host.clone(), &path).map_err(|e| e.to_string())
    }

    /// Where release records live: the literal beginning of the pattern and `skiff`; without a variable, `skiff` beside
    /// the repository.
    fn state(&self) -> Result<Repository, String> {
        let pattern = self.pattern.as_str();
        let prefix = match pattern.find('{') {
            Some(at) => &pattern[..at],
            None => pattern.rfind('/').map_or("", |at| &pattern[..=at]),
        };
        Repository::new(self.registry.host.clone(), &format!("{prefix}skiff"))
            .map_err(|e| e.to_string())
    }
}

/// Reads the table; a host stands in where the manifest's is wrong, so that all other names are still checked.
pub(super) fn read(
    view: View<'_>,
    source: &Arc<SourceText>,
) -> (Option<(Naming, Repository)>, Vec<Diagnostic>) {
    let mut diagnostics = missing(view, source);
    let table = view.table("registry");
    let host = table
        .text("host")
        .and_then(|h| RegistryHost::new(h.get_ref()).ok());
    let Some(host) = host.or_else(|| RegistryHost::new("registry.invalid").ok()) else {
        return (None, diagnostics);
    };
    let repository = table.text("repository");
    let naming = Naming {
        registry: Registry {
            plain_http: host.is_loopback() || table.flag("insecure") == Some(true),
            host,
        },
        repository_span: repository
            .as_ref()
            .map(|said| Span::new(source, said.span())),
        pattern: repository.map_or_else(|| "{name}".to_owned(), Spanned::into_inner),
        cache_ref: view.table("cache").text("ref"),
    };
    match naming.state() {
        Ok(state) => (Some((naming, state)), diagnostics),
        Err(why) => {
            let diagnostic =
                Diagnostic::error("no registry accepts the release records' repository");
            diagnostics.push(match &naming.repository_span {
                Some(place) => diagnostic.at(place.clone(), why),
                None => diagnostic.note(why),
            });
            (None, diagnostics)
        }
    }
}

/// Keys that must be there.
fn missing(view: View<'_>, source: &Arc<SourceText>) -> Vec<Diagnostic> {
    let at = |range: Range<usize>| Span::new(source, range);
    let Some(header) = view.key("registry") else {
        let diagnostic = Diagnostic::error("there is no `[registry]`")
            .at(at(0..0), "the manifest does not say where images go")
            .help("write, for example:\n[registry]\nprovider = \"oci\"\nhost = \"localhost:5000\"");
        return if view.is_meant("registry") {
            vec![]
        } else {
            vec![diagnostic]
        };
    };
    if view.lacks("registry.provider") {
        let diagnostic = Diagnostic::error(not_built::DEFAULT_PROVIDER);
        return vec![diagnostic.at(at(header), "").help(not_built::USE_OCI)];
    }
    let table = view.table("registry");
    let mut found = Vec::new();
    if table.given_text("provider") == Given::Refused {
        return found;
    }
    if view.lacks("registry.host") {
        found.push(
            Diagnostic::error("`registry.host` is missing")
                .at(at(header), "")
                .help("write `host = \"…\"`, for example \"localhost:5000\""),
        );
    }
    if let (Some(false), Some(key)) = (table.flag("create"), table.key("create")) {
        found.push(
            Diagnostic::error("`registry.create = false` is for provider \"ecr\" only")
                .at(at(key), "")
                .note("other registries make a repository when something is pushed to it")
                .help("leave it out"),
        );
    }
    found
}
