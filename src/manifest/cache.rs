//! `[cache]`: where build caches go, and which runs write them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

use super::document::View;
use super::grammar::{Refusal, Verdict};
use super::model::{Cache, CacheBackend, CacheExport, Container, S3Settings};
use crate::context::lexical;
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::reference::RegistryHost;

/// Keys that one backend has and no other.
const OF: [(&str, &str); 6] = [
    ("dir", "local"),
    ("bucket", "s3"),
    ("prefix", "s3"),
    ("region", "s3"),
    ("endpoint", "s3"),
    ("path_style", "s3"),
];

fn refused(why: &str, help: &str) -> Verdict {
    Err(Refusal {
        why: why.to_owned(),
        help: Some(help.to_owned()),
    })
}

/// The name of a bucket (Amazon S3 user guide, "General purpose bucket naming rules").
pub(super) fn bucket(text: &str) -> Verdict {
    let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = text.bytes().all(|c| word(c) || c == b'-' || c == b'.');
    let ends = text.bytes().next().is_some_and(word) && text.bytes().last().is_some_and(word);
    if (3..=63).contains(&text.len()) && inner && ends && !text.contains("..") {
        return Ok(());
    }
    refused(
        "is not the name of a bucket",
        "write the name alone: 3 to 63 lower-case letters, digits, `-` and `.`",
    )
}

/// The beginning of keys in a bucket: characters that need no quoting (Amazon S3 user guide, "Naming objects").
pub(super) fn key_prefix(text: &str) -> Verdict {
    let safe = |c: char| c.is_ascii_alphanumeric() || "!_.*'()-/".contains(c);
    let parts = text.trim_end_matches('/').split('/');
    let mut empty = parts.map(|part| part.is_empty() || part == "." || part == "..");
    if !text.chars().all(safe) || empty.any(|empty| empty) {
        return refused(
            "is not the beginning of keys",
            "write it like \"team/caches\": letters, digits and !_.*'()- between single slashes",
        );
    }
    Ok(())
}

/// `http[s]://host[:port]`.
pub(super) fn endpoint(text: &str) -> Verdict {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match host.map(|host| RegistryHost::new(host.trim_end_matches('/'))) {
        Some(Ok(_)) => Ok(()),
        _ => refused(
            "is not the URL of a service",
            "write it like \"https://s3.example:9000\", without a path",
        ),
    }
}

/// Reads the table. Keys that the backend has no use for are errors: they would be silently ignored.
pub(super) fn read(
    view: View<'_>,
    source: &Arc<SourceText>,
    root: &Path,
) -> (Cache, Vec<Diagnostic>) {
    let table = view.table("cache");
    let text = |key: &str| table.text(key).map(Spanned::into_inner);
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
                    .at(
                        Span::new(source, place),
                        format!("belongs to the backend \"{of}\""),
                    )
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
                    .at(
                        Span::new(source, place),
                        format!("the backend \"{backend}\" needs it"),
                    )
                    .help(format!("write `{key} = \"{example}\"`")),
            );
        }
        found.unwrap_or_default()
    };
    let backend = match backend {
        "none" => CacheBackend::None,
        "local" => CacheBackend::Local(folder(root, &needed("dir", "/var/cache/skiff"))),
        "s3" => CacheBackend::S3(S3Settings {
            bucket: needed("bucket", "team-caches"),
            prefix: text("prefix").map_or_else(String::new, |prefix| with_slash(&prefix)),
            region: text("region"),
            endpoint: text("endpoint"),
            path_style: table.flag("path_style") == Some(true),
        }),
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

/// Keys are only put together: a folder of them ends with a slash.
fn with_slash(prefix: &str) -> String {
    format!("{}/", prefix.trim_end_matches('/'))
}

/// Absolute. It need not be there yet.
fn folder(root: &Path, written: &str) -> PathBuf {
    let joined = root.join(written);
    PathBuf::from(lexical::clean(&joined.to_string_lossy()))
}
