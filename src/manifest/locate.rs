//! Folders and files that the manifest names: are they there, and if not, what was meant.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::diagnostic::nearest;

/// Entries of a folder that are looked at for a suggestion: more would make an error slow.
const SUGGESTIONS_FROM: usize = 10_000;

/// Why a path cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// A fragment for the caret's line.
    pub why: String,
    /// The path that may have been meant, written like the wrong one.
    pub meant: Option<String>,
}

/// The folder `written`, relative to `base`: absolute, without links.
pub(super) fn folder(base: &Path, written: &str) -> Result<PathBuf, Missing> {
    match std::fs::canonicalize(base.join(written)) {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(_) => Err(Missing {
            why: "is a file, not a folder".to_owned(),
            meant: None,
        }),
        Err(error) => Err(missing(base, written, &error, "no such folder")),
    }
}

/// The file `written`, relative to `base`: its folder without links, its own name as written.
pub(super) fn file(base: &Path, written: &str) -> Result<PathBuf, Missing> {
    let path = base.join(written);
    match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => Err(Missing {
            why: "is a folder, not a file".to_owned(),
            meant: None,
        }),
        Ok(_) => {
            let folder = path.parent().and_then(|p| std::fs::canonicalize(p).ok());
            Ok(match (folder, path.file_name()) {
                (Some(folder), Some(name)) => folder.join(name),
                _ => path,
            })
        }
        Err(error) => Err(missing(base, written, &error, "no such file")),
    }
}

fn missing(base: &Path, written: &str, error: &io::Error, what: &str) -> Missing {
    if !matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) {
        return Missing {
            why: format!("cannot be read: {error}"),
            meant: None,
        };
    }
    Missing {
        why: what.to_owned(),
        meant: meant(base, Path::new(written)),
    }
}

/// The written path with the first part that does not exist replaced by the nearest one that does.
fn meant(base: &Path, written: &Path) -> Option<String> {
    let mut shown = PathBuf::new();
    let mut parts = written.components();
    while let Some(part) = parts.next() {
        if base.join(&shown).join(part).exists() {
            shown.push(part);
            continue;
        }
        let wrong = part.as_os_str().to_str()?;
        shown.push(nearest_name(&base.join(&shown), wrong)?);
        shown.extend(parts);
        return base
            .join(&shown)
            .exists()
            .then(|| show(&shown).display().to_string());
    }
    None
}

/// The name in this folder that is nearest to `wrong`.
pub(super) fn nearest_name(folder: &Path, wrong: &str) -> Option<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .take(SUGGESTIONS_FROM)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    nearest(wrong, names.iter().map(String::as_str)).map(str::to_owned)
}

/// A path without `.` parts and trailing `/`, for people.
pub(super) fn show(path: &Path) -> PathBuf {
    path.components()
        .filter(|c| *c != Component::CurDir)
        .collect()
}
