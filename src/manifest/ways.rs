//! The ways to containers as the manifest writes them. A [`ProjectManifest`] has every path without links; this is for
//! the question whether a link is on the way to one.

use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use toml::Spanned;

use super::check;
use super::document::{self, Document, View};
use super::model::ProjectManifest;
use crate::diagnostic::SourceText;

/// Paths that lead to contexts and Dockerfiles.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// Absolute, links not resolved.
    written: Vec<PathBuf>,
    /// Every folder that a pattern of `discover.roots` leads through, relative to `root`.
    patterns: GlobSet,
    root: PathBuf,
}

impl Ways {
    /// Whether one of them leads through this path.
    pub(crate) fn lead_through(&self, path: &Path) -> bool {
        let is_matched = |below: &Path| self.patterns.is_match(below);
        self.written.iter().any(|written| written.starts_with(path))
            || path.strip_prefix(&self.root).is_ok_and(is_matched)
    }
}

/// Reads the manifest's file again; what cannot be read has no ways.
pub(crate) fn of(manifest: &ProjectManifest) -> Ways {
    let Ok(text) = std::fs::read_to_string(&manifest.path) else {
        return Ways::default();
    };
    let source = SourceText::new("", text);
    let Document { root, .. } = document::parse(&source);
    let findings = check::check(&source, &root);
    let view = View::new(&root, &findings.reported);
    let base = &manifest.root;
    let text = |table: View<'_>, key| table.text(key).map(Spanned::into_inner);
    let default = text(view.table("defaults"), "dockerfile");
    let mut written = Vec::new();
    for (name, container) in &manifest.containers {
        let table = view.table("containers").table(name);
        let dockerfile = text(table, "dockerfile").or_else(|| default.clone());
        let dockerfile = dockerfile.as_deref().unwrap_or("Dockerfile");
        written.push(lexical(&container.context, dockerfile));
        let context = text(table, "context");
        written.extend(context.iter().map(|path| lexical(base, path)));
    }
    for table in std::iter::once(view.table("defaults")).chain(
        manifest
            .containers
            .keys()
            .map(|name| view.table("containers").table(name)),
    ) {
        let contexts = table.table("contexts");
        let named = contexts.keys().into_iter();
        let named = named.filter_map(|name| text(contexts, name));
        written.extend(named.map(|path| lexical(base, &path)));
    }
    let roots = view.table("discover").texts("roots");
    let roots = roots.map(Spanned::into_inner).unwrap_or_default();
    Ways {
        written,
        patterns: patterns(roots.iter().map(|root| root.get_ref().as_str())),
        root: base.clone(),
    }
}

/// Each pattern, and each beginning of it that ends at a `/`.
fn patterns<'a>(roots: impl Iterator<Item = &'a str>) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for root in roots {
        let mut so_far = String::new();
        for part in root.split('/').filter(|p| !p.is_empty() && *p != ".") {
            if !so_far.is_empty() {
                so_far.push('/');
            }
            so_far.push_str(part);
            if let Ok(glob) = GlobBuilder::new(&so_far).literal_separator(true).build() {
                set.add(glob);
            }
        }
    }
    set.build().unwrap_or_default()
}

/// `path` below `base`, with `..` taken as text.
fn lexical(base: &Path, path: &str) -> PathBuf {
    let mut found = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::ParentDir => {
                found.pop();
            }
            Component::CurDir => {}
            other => found.push(other),
        }
    }
    found
}
