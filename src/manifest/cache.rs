//! `[cache]`: where build caches go, and which runs write them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

use super::document::View;
use super::model::{Cache, CacheBackend, CacheExport, Container};
use crate::context::lexical;
use crate::diagnostic::{Diagnostic, SourceText, Span};

/// Keys that one backend has and no other.
const OF: [(&str, &str); 1] = [("dir", "local")];

/// Reads the table. Keys that the backend has no use for are errors: they would be silently ignored.
pub(super) fn read(
    view: View<'_>,
    source: &Arc<SourceText>,
    root: &Path,
) -> (Cache, Vec<Diagnostic>) {
    let table = view.table("cache");
    let text = |key| table.text(key).map(Spanned::into_inner);
    let written = text("backend");
    let backend = written.as_deref().unwrap_or("registry");
    let mut diagnostics = Vec::new();
    for (key, of) in OF {
        if backend == of {
            continue;
        }
        if let Some(place) = table.key(key) {
            diagnostics.push(
                Diagnostic::error(format!("`cache.{key}` is of no use here"))
                    .at(Span::new(source, place), format!("belongs to the backend \"{of}\""))
                    .help(format!("leave it out, or write `backend = \"{of}\"`")),
            );
        }
    }
    let mut needed = |key: &str, example: &str| {
        let found = text(key);
        if found.is_none() && view.lacks(&format!("cache.{key}")) {
            let place = table.key("backend").unwrap_or_default();
            diagnostics.push(
                Diagnostic::error(format!("`cache.{key}` is missing"))
                    .at(Span::new(source, place), format!("the backend \"{backend}\" needs it"))
                    .help(format!("write `{key} = \"{example}\"`")),
            );
        }
        found.unwrap_or_default()
    };
    let backend = match backend {
        "none" => CacheBackend::None,
        "local" => CacheBackend::Local(folder(root, &needed("dir", "/var/cache/skiff"))),
        _ => CacheBackend::Registry,
    };
    let cache = Cache {
        backend,
        export: match text("export").as_deref() {
            Some("never") => CacheExport::Never,
            Some("always") => CacheExport::Always,
            _ => CacheExport::Channels,
        },
        mounts: text("mounts").as_deref() == Some("registry"),
    };
    (cache, diagnostics)
}

/// A folder of caches that a build would be sent, and that every run changes.
pub(super) fn inside<'a>(
    cache: &Cache,
    containers: impl IntoIterator<Item = &'a Container>,
    view: View<'_>,
    source: &Arc<SourceText>,
) -> Option<Diagnostic> {
    let CacheBackend::Local(dir) = &cache.backend else {
        return None;
    };
    let inside = |container: &&Container| {
        let contexts = std::iter::once(&container.context).chain(container.contexts.values());
        contexts.into_iter().any(|context| dir.starts_with(context))
    };
    let container = containers.into_iter().find(inside)?;
    let place = view.table("cache").key("dir").unwrap_or_default();
    let why = format!("inside of a build context of `{}`", container.name);
    Some(
        Diagnostic::error("the caches would be part of what is built")
            .at(Span::new(source, place), why)
            .help("name a folder outside of the contexts"),
    )
}

/// Absolute. It need not be there yet.
fn folder(root: &Path, written: &str) -> PathBuf {
    let joined = root.join(written);
    PathBuf::from(lexical::clean(&joined.to_string_lossy()))
}
