//! `[cache]`: where build caches and cache mounts go, and which runs write them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

use super::document::View;
use super::grammar::{Refusal, Verdict};
use super::model::{Cache, CacheBackend, CacheExport, CacheMounts, Container, S3Settings};
use crate::context::lexical;
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::reference::RegistryHost;

/// Keys of a folder.
const OF_LOCAL: [&str; 1] = ["dir"];

/// Keys of a bucket, in which build caches may be, cache mounts, or both.
const OF_S3: [&str; 5] = ["bucket", "prefix", "region", "endpoint", "path_style"];

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

/// Reads the table. Keys that nothing in it has a use for are errors: they would be silently ignored.
pub(super) fn read(
    view: View<'_>,
    source: &Arc<SourceText>,
    root: &Path,
) -> (Cache, Vec<Diagnostic>) {
    let table = view.table("cache");
    let text = |key: &str| table.text(key).map(Spanned::into_inner);
    let (backend, mounts) = (text("backend"), text("mounts"));
    let is = |written: &Option<String>, what: &str| written.as_deref() == Some(what);
    let (local, s3) = (is(&backend, "local"), is(&backend, "s3"));
    let mounts_in_s3 = is(&mounts, "s3");
    let mut diagnostics = Vec::new();
    let mut useless = |keys: &[&str], of: &str, help: &str| {
        let written = keys.iter().filter_map(|key| Some((key, table.key(key)?)));
        diagnostics.extend(written.map(|(key, place)| {
            Diagnostic::error(format!("`cache.{key}` is of no use here"))
                .at(Span::new(source, place), of)
                .help(help)
        }));
    };
    if !local {
        let help = "leave it out, or write `backend = \"local\"`";
        useless(&OF_LOCAL, "belongs to the backend \"local\"", help);
    }
    if !s3 && !mounts_in_s3 {
        let help = "leave it out, or write `backend = \"s3\"` or `mounts = \"s3\"`";
        useless(&OF_S3, "belongs to caches in \"s3\"", help);
    }
    let mut needed = |key: &str, by: &str, what: &str, example: &str| {
        let found = text(key);
        if found.is_none() && view.lacks(&format!("cache.{key}")) {
            let place = table.key(by).unwrap_or_default();
            diagnostics.push(
                Diagnostic::error(format!("`cache.{key}` is missing"))
                    .at(Span::new(source, place), format!("{what} needs it"))
                    .help(format!("write `{key} = \"{example}\"`")),
            );
        }
        found.unwrap_or_default()
    };
    let bucket = (s3 || mounts_in_s3).then(|| S3Settings {
        bucket: if s3 {
            needed("bucket", "backend", "the backend \"s3\"", "team-caches")
        } else {
            needed("bucket", "mounts", "`mounts = \"s3\"`", "team-caches")
        },
        prefix: text("prefix").map_or_else(String::new, |prefix| with_slash(&prefix)),
        region: text("region"),
        endpoint: text("endpoint"),
        path_style: table.flag("path_style") == Some(true),
    });
    let folder_of_caches = local.then(|| {
        let dir = needed(
            "dir",
            "backend",
            "the backend \"local\"",
            "/var/cache/skiff",
        );
        folder(root, &dir)
    });
    let cache = Cache {
        backend: match (backend.as_deref(), folder_of_caches, &bucket) {
            (_, Some(folder), _) => CacheBackend::Local(folder),
            (Some("s3"), _, Some(settings)) => CacheBackend::S3(settings.clone()),
            (Some("none"), ..) => CacheBackend::None,
            _ => CacheBackend::Registry,
        },
        export: match text("export").as_deref() {
            Some("never") => CacheExport::Never,
            Some("always") => CacheExport::Always,
            _ => CacheExport::Channels,
        },
        mounts: match (mounts.as_deref(), bucket) {
            (Some("registry"), _) => CacheMounts::Registry,
            (Some("s3"), Some(settings)) => CacheMounts::S3(settings),
            _ => CacheMounts::Off,
        },
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
