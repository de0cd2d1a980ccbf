//! `containers.toml`: found, read, checked against the whole contract, and turned into a [`model::ProjectManifest`].
//!
//! What must stay true: every error of a file comes at once, in the file's order, with place and remedy; nothing that
//! is written is ignored.
//!
//! The way: `find` -> text -> `document` (syntax) -> `check` along `schema` -> `project` (merges
//! `layer`s and their `options`, `discover`s folders, `locate`s files, checks `needs` and `collisions`).

mod builder;
mod cache;
mod check;
mod collisions;
mod container;
mod discover;
mod document;
mod find;
mod grammar;
mod layer;
mod locate;
mod mirrors;
pub(crate) mod model;
mod needs;
mod option_grammar;
mod options;
pub(crate) mod pattern;
mod project;
mod registry;
mod requirement;
mod schema;
#[cfg(test)]
mod tests;
mod walk;
pub(crate) mod ways;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use toml::de::DeValue;

pub(crate) use find::find;

use self::document::{Document, View};
use self::model::ProjectManifest;
use self::project::Location;
use crate::diagnostic::{Diagnostic, Severity, SourceText, Span};

/// The largest manifest, in bytes: a thousand containers need a tenth of it.
const MAX_BYTES: u64 = 4 << 20;

/// Errors that are shown: a file with more is not a manifest, and each one is drawn with its line.
const MAX_SHOWN: usize = 100;

/// A good manifest with its warnings, or all that is wrong, warnings included.
pub(crate) type Loaded = Result<(ProjectManifest, Vec<Diagnostic>), Vec<Diagnostic>>;

/// Reads and checks the manifest at `path`, which diagnostics call `shown_as`. Discovery reads the folders it names.
pub(crate) fn load(path: &Path, shown_as: &str) -> Loaded {
    let text = read(path, shown_as).map_err(|error| vec![error])?;
    let (path, root) = placed(path).map_err(|error| {
        vec![Diagnostic::error(format!(
            "cannot find the folder of `{shown_as}`: {error}"
        ))]
    })?;
    let source = SourceText::new(shown_as, text);
    let location = Location {
        source: &source,
        path: &path,
        root: &root,
    };
    load_text(&location)
}

/// What a manifest says of images: what a comparison of two of its versions goes by.
#[derive(Debug)]
pub(crate) struct Settings {
    pub pin: bool,
    pub registry: model::Registry,
    pub containers: IndexMap<model::ContainerName, model::Container>,
}

/// Reads a text as if it stood in the place of this manifest, against the files that are there today: containers whose
/// files are not are left out. `None`: it is no manifest that this version can read.
pub(crate) fn settings(text: &str, in_place_of: &ProjectManifest) -> Option<Settings> {
    let source = SourceText::new(in_place_of.path.display().to_string(), text);
    let Document { root, syntax, .. } = document::parse(&source);
    if !syntax.is_empty() || wrong_version(&source, &root).is_some() {
        return None;
    }
    let findings = check::check(&source, &root);
    let view = View::new(&root, &findings.reported);
    let is_error = |found: &Diagnostic| found.severity == Severity::Error;
    if findings.diagnostics.iter().any(is_error) || view.lacks("version") {
        return None;
    }
    let location = Location {
        source: &source,
        path: &in_place_of.path,
        root: &in_place_of.root,
    };
    let (manifest, _) = project::assemble(&location, view);
    manifest.map(|manifest| Settings {
        pin: manifest.pin,
        registry: manifest.registry,
        containers: manifest.containers,
    })
}

/// A platform as users write it; the error says why it is none, and what would be right.
pub(crate) fn platform(text: &str) -> Result<model::Platform, (String, Option<String>)> {
    grammar::parse_platform(text).map_err(|refusal| (refusal.why, refusal.help))
}

/// A duration as users write it, such as `1h30m`; the error as [`platform`]'s.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, (String, Option<String>)> {
    grammar::duration(text).map_err(|refusal| (refusal.why, refusal.help))
}

/// The file, absolute, and its folder, absolute and canonical.
fn placed(path: &Path) -> std::io::Result<(PathBuf, PathBuf)> {
    let absolute = std::path::absolute(path)?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let root = std::fs::canonicalize(folder)?;
    Ok((absolute, root))
}

fn read(path: &Path, shown_as: &str) -> Result<String, Diagnostic> {
    let failed = |why: &dyn std::fmt::Display| {
        Diagnostic::error(format!("cannot read the manifest `{shown_as}`: {why}"))
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(failed(&"it is a folder").help("name the file itself after `-f`"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(failed(&"it is larger than 4 MiB").help("is this the right file?"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + String::from_utf8_lossy(&error.as_bytes()[..at])
            .matches('\n')
            .count();
        failed(&format_args!("byte {at}, in line {line}, is not UTF-8")).help("save it as UTF-8")
    })
}

/// Everything but reading the file.
fn load_text(location: &Location<'_>) -> Loaded {
    let Document { root, syntax, lost } = document::parse(location.source);
    if let (true, Some(error)) = (syntax.is_empty(), wrong_version(location.source, &root)) {
        return Err(vec![error]);
    }
    let mut findings = check::check(location.source, &root);
    if !syntax.is_empty() {
        // What is missing or does not fit may only have been lost: nothing is said of it.
        findings
            .diagnostics
            .retain(|d| !lost.iter().any(|l| points_into(d, l)));
        findings.diagnostics.extend(syntax);
        return Err(in_order(findings.diagnostics));
    }
    let view = View::new(&root, &findings.reported);
    let mut diagnostics = findings.diagnostics;
    diagnostics.extend(no_version(location.source, view));
    let (manifest, found) = project::assemble(location, view);
    diagnostics.extend(found);
    let diagnostics = in_order(diagnostics);
    match manifest {
        Some(manifest) if diagnostics.iter().all(|d| d.severity == Severity::Warning) => {
            Ok((manifest, diagnostics))
        }
        _ => Err(diagnostics),
    }
}

/// A manifest for another skiff: its other errors are no errors there, so this one stands alone.
fn wrong_version(
    source: &Arc<SourceText>,
    root: &toml::Spanned<DeValue<'_>>,
) -> Option<Diagnostic> {
    let current = env!("CARGO_PKG_VERSION");
    let value = |key: &str| root.get_ref().as_table()?.get(key);
    if let Some(version) = value("version") {
        let number = version.get_ref().as_integer();
        if number.is_some_and(|n| n.as_str() != "1" || n.radix() != 10) {
            return Some(
                Diagnostic::error("this version of the manifest is not known")
                    .at(
                        Span::new(source, version.span()),
                        format!("skiff {current} reads version 1"),
                    )
                    .help("write `version = 1`, or use the skiff that it was written for"),
            );
        }
    }
    let required = value("required_version")?;
    match requirement::satisfied(required.get_ref().as_str()?, current) {
        Ok(false) => Some(
            Diagnostic::error("the manifest asks for another version of skiff")
                .at(
                    Span::new(source, required.span()),
                    format!("this is skiff {current}"),
                )
                .help("install a version that fits"),
        ),
        Ok(true) | Err(_) => None,
    }
}

fn no_version(source: &Arc<SourceText>, view: View<'_>) -> Option<Diagnostic> {
    view.lacks("version").then(|| {
        Diagnostic::error("`version` is missing")
            .at(Span::new(source, 0..0), "")
            .help("write `version = 1` as the first line")
    })
}

fn points_into(diagnostic: &Diagnostic, place: &std::ops::Range<usize>) -> bool {
    diagnostic.labels.iter().any(|label| {
        let range = &label.span.range;
        range.start <= place.end && place.start <= range.end
    })
}

/// By place, each once, no more than anybody reads.
fn in_order(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_cached_key(|d| {
        let place = d
            .labels
            .iter()
            .find(|l| l.primary)
            .map(|l| l.span.range.clone());
        // What has no place comes last.
        let place = place.map_or((usize::MAX, usize::MAX), |r| (r.start, r.end));
        (place, d.title.clone())
    });
    diagnostics.dedup();
    let more = diagnostics.len().saturating_sub(MAX_SHOWN);
    if more > 0 {
        // Errors first, so that what is cut never hides them behind warnings.
        diagnostics.sort_by_key(|d| d.severity);
        diagnostics.truncate(MAX_SHOWN);
        diagnostics.push(Diagnostic::error(format!(
            "and {more} more errors and warnings"
        )));
    }
    diagnostics
}
