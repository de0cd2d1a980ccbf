//! The folders that a pattern matches.
//!
//! The walk goes only where the pattern can still match, part by part, so that `containers/*` reads one folder however
//! large the repository is. `*` does not cross `/`; `**` is any number of parts. Hidden folders need a pattern that
//! names their dot. Links to folders are followed, but no real folder is visited twice.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher, GlobSet};

use super::locate::{nearest_name, show};

/// A folder on the way.
#[derive(Clone)]
pub(super) struct Dir {
    /// As walked: below the first folder, or absolute.
    pub shown: PathBuf,
    /// Absolute and without links.
    pub real: PathBuf,
}

/// One part of a pattern, between two `/`.
enum Part {
    Literal(String),
    Glob {
        matcher: GlobMatcher,
        hidden: bool,
    },
    /// `**`
    AnyDepth,
}

/// The walk of one pattern.
pub(super) struct Walk<'a> {
    root: &'a Path,
    exclude: &'a GlobSet,
    /// Real folders and how many parts of the pattern were left there: no link makes a second visit.
    visited: HashSet<(PathBuf, usize)>,
    pub found: Vec<Dir>,
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// The first folder that the pattern names and that does not exist, and the one that may have been meant.
    pub missing: Option<(PathBuf, Option<String>)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Path, exclude: &'a GlobSet) -> Self {
        Self {
            root,
            exclude,
            visited: HashSet::new(),
            found: vec![],
            unreadable: vec![],
            missing: None,
        }
    }

    pub(super) fn pattern(&mut self, pattern: &str) {
        let start = if pattern.starts_with('/') {
            Dir {
                shown: PathBuf::from("/"),
                real: PathBuf::from("/"),
            }
        } else {
            Dir {
                shown: PathBuf::new(),
                real: self.root.to_owned(),
            }
        };
        self.walk(&start, &parts(pattern));
    }

    fn walk(&mut self, dir: &Dir, parts: &[Part]) {
        if !self.visited.insert((dir.real.clone(), parts.len())) {
            return;
        }
        if self.exclude.is_match(&dir.shown) && dir.shown != Path::new("") {
            return;
        }
        match parts.split_first() {
            None => self.found.push(dir.clone()),
            Some((Part::Literal(name), rest)) => match literal_child(dir, name) {
                Some(child) => self.walk(&child, rest),
                None if self.missing.is_none() => {
                    let shown = dir.shown.join(name);
                    let meant = nearest_name(&dir.real, name)
                        .map(|meant| dir.shown.join(meant).display().to_string());
                    self.missing = Some((shown, meant));
                }
                None => {}
            },
            Some((Part::Glob { matcher, hidden }, rest)) => {
                for (child, name) in self.subfolders(dir) {
                    if (*hidden || !is_hidden(&name)) && matcher.is_match(Path::new(&name)) {
                        self.walk(&child, rest);
                    }
                }
            }
            Some((Part::AnyDepth, rest)) => {
                self.walk(dir, rest);
                for (child, name) in self.subfolders(dir) {
                    if !is_hidden(&name) {
                        self.walk(&child, parts);
                    }
                }
            }
        }
    }

    /// The folders in a folder, real ones before links, so that a link never takes a real folder's place.
    fn subfolders(&mut self, dir: &Dir) -> Vec<(Dir, OsString)> {
        let entries = match std::fs::read_dir(&dir.real) {
            Ok(entries) => entries,
            // Gone since its parent was read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return vec![],
            Err(e) => {
                self.unreadable.push((dir.shown.clone(), e));
                return vec![];
            }
        };
        let mut folders = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let real = if kind.is_dir() {
                Some(dir.real.join(&name))
            } else if kind.is_symlink() {
                real_folder(&entry.path())
            } else {
                None
            };
            if let Some(real) = real {
                let shown = dir.shown.join(&name);
                folders.push((kind.is_symlink(), name, Dir { shown, real }));
            }
        }
        folders.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        folders
            .into_iter()
            .map(|(_, name, dir)| (dir, name))
            .collect()
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn real_folder(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok().filter(|p| p.is_dir())
}

fn literal_child(dir: &Dir, name: &str) -> Option<Dir> {
    Some(Dir {
        shown: show(&dir.shown.join(name)),
        real: real_folder(&dir.real.join(name))?,
    })
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for text in pattern.split('/').filter(|p| !p.is_empty() && *p != ".") {
        if text == "**" {
            if !matches!(parts.last(), Some(Part::AnyDepth)) {
                parts.push(Part::AnyDepth);
            }
        } else if !text.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            parts.push(Part::Literal(text.to_owned()));
        } else if let Ok(glob) = GlobBuilder::new(text).literal_separator(true).build() {
            parts.push(Part::Glob {
                matcher: glob.compile_matcher(),
                hidden: text.starts_with('.'),
            });
        }
    }
    // `a/**` is what is in `a`, not `a`.
    if let (Some(Part::AnyDepth), Ok(any)) = (parts.last(), globset::Glob::new("*")) {
        parts.push(Part::Glob {
            matcher: any.compile_matcher(),
            hidden: false,
        });
    }
    parts
}
