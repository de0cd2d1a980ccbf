//! Which paths differ from a commit: two questions to git, and pure readers of the answers.
//!
//! A rename is the deletion of one path and the addition of another: both sides count. Paths are bytes, as git has them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::commit::Commit;
use super::git::{Checkout, GitError};

/// A path that differs, from the top of the checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    pub(crate) how: How,
    /// The checkout's files differ from its commit here.
    pub(crate) uncommitted: bool,
    /// A symbolic link, now or before.
    pub(crate) link: bool,
    /// A repository inside this one, now or before: what is below it, git does not say.
    pub(crate) repository: bool,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Added,
    Deleted,
    /// Content, permissions or type.
    Changed,
}

/// Modes of git's tree entries (git `Documentation/gitformat-index`).
const LINK: &[u8] = b"120000";
const REPOSITORY: &[u8] = b"160000";

impl Checkout {
    /// What differs between two commits. From trees alone: as fast as little has changed.
    pub(crate) fn between(&self, old: &Commit, new: &str) -> Result<Vec<Change>, GitError> {
        let fixed = [
            "-r",
            "-z",
            "--raw",
            "--no-renames",
            "--no-relative",
            "--ignore-submodules=none",
        ];
        let arguments = fixed.into_iter().chain([old.as_str(), new, "--"]);
        self.output("diff-tree", arguments)
            .map(|answer| parse_raw(&answer))
    }

    /// What differs between the checkout's files and its commit, new files too; not what git ignores.
    pub(crate) fn uncommitted_changes(&self) -> Result<Vec<Change>, GitError> {
        let arguments = [
            "--porcelain=v2",
            "-z",
            "--no-renames",
            "--untracked-files=all",
            "--ignore-submodules=none",
        ];
        self.output("status", arguments)
            .map(|answer| parse_status(&answer))
    }
}

/// Both together, sorted by path, each once.
pub(crate) fn merged(committed: Vec<Change>, uncommitted: &[Change]) -> Vec<Change> {
    let mut all: BTreeMap<PathBuf, Change> = BTreeMap::new();
    for change in committed.into_iter().chain(uncommitted.iter().cloned()) {
        match all.get_mut(&change.path) {
            Some(first) => {
                first.link |= change.link;
                first.repository |= change.repository;
                first.uncommitted |= change.uncommitted;
            }
            None => {
                all.insert(change.path.clone(), change);
            }
        }
    }
    all.into_values().collect()
}

/// `:OLDMODE NEWMODE OLDID NEWID STATUS\0PATH\0…` (git `Documentation/diff-format`).
fn parse_raw(answer: &[u8]) -> Vec<Change> {
    let mut fields = answer.split(|byte| *byte == 0);
    let mut changes = Vec::new();
    while let (Some(head), Some(path)) = (fields.next(), fields.next()) {
        let mut words = head
            .strip_prefix(b":")
            .unwrap_or(head)
            .split(|b| *b == b' ');
        let (old, new) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let how = match words.nth(2) {
            Some(b"A") => How::Added,
            Some(b"D") => How::Deleted,
            _ => How::Changed,
        };
        changes.push(change(path, how, false, &[old, new]));
    }
    changes
}

/// `git status --porcelain=v2 -z` (git `Documentation/git-status`, "Porcelain Format Version 2"):
/// `1 XY SUB MODE×3 ID×2 PATH`, `u XY SUB MODE×4 ID×3 PATH`, `? PATH`; without renames and headers.
fn parse_status(answer: &[u8]) -> Vec<Change> {
    let entries = answer.split(|byte| *byte == 0);
    entries
        .filter_map(|entry| {
            let (kind, rest) = entry.split_at_checked(2)?;
            let modes = match kind {
                b"1 " => 3,
                b"u " => 4,
                // A folder is a repository of its own, which git does not look into.
                b"? " => {
                    let mode = if rest.ends_with(b"/") {
                        REPOSITORY
                    } else {
                        b""
                    };
                    return Some(change(rest, How::Added, true, &[mode]));
                }
                _ => return None,
            };
            let words = 2 + modes + modes - 1;
            let mut words = rest.splitn(words + 1, |byte| *byte == b' ');
            let (letters, _submodule) = (words.next()?, words.next()?);
            let seen: Vec<&[u8]> = words.by_ref().take(modes).collect();
            let path = words.last()?;
            let how = if letters.contains(&b'D') {
                How::Deleted
            } else if letters.contains(&b'A') {
                How::Added
            } else {
                How::Changed
            };
            Some(change(path, how, true, &seen))
        })
        .collect()
}

fn change(path: &[u8], how: How, uncommitted: bool, modes: &[&[u8]]) -> Change {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    Change {
        path: Path::new(OsStr::from_bytes(path)).to_owned(),
        how,
        uncommitted,
        link: modes.contains(&LINK),
        repository: modes.contains(&REPOSITORY),
    }
}

/// A path for people: control characters and what is not UTF-8 cannot break a line.
pub(crate) fn printable(path: &Path) -> String {
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(changes: &[Change]) -> Vec<String> {
        let mark = |on: bool, mark: &'static str| if on { mark } else { "" };
        let line = |c: &Change| {
            let (link, repository) = (mark(c.link, " link"), mark(c.repository, " repository"));
            let uncommitted = mark(c.uncommitted, " uncommitted");
            format!(
                "{:?} {}{link}{repository}{uncommitted}",
                c.how,
                printable(&c.path)
            )
        };
        changes.iter().map(line).collect()
    }

    #[test]
    fn raw_differences_are_read() {
        let answer =
            b":100644 100755 1 2 M\0a b\nc\0:000000 120000 0 1 A\0\xffx\0:100644 000000 1 0 D\0d\0\
                       :160000 160000 1 2 M\0sub\0:120000 100644 1 2 T\0\"q\"\0";
        assert_eq!(
            said(&parse_raw(answer)),
            [
                "Changed a b\\nc",
                "Added \u{fffd}x link",
                "Deleted d",
                "Changed sub repository",
                "Changed \"q\" link"
            ]
        );
        assert!(parse_raw(b"").is_empty());
    }

    #[test]
    fn status_is_read() {
        let answer = b"# stash 1\x001 .M N... 100644 100644 100644 1 1 a b\x001 D. N... 120000 000000 000000 1 0 d\0\
                       1 A. N... 000000 100644 100644 0 1 e\x001 .M S..U 160000 160000 160000 1 1 sub\0\
                       u UU N... 100644 100644 100644 100644 1 2 3 both ways\0? new\nfile\0? nested/\0";
        assert_eq!(
            said(&parse_status(answer)),
            [
                "Changed a b uncommitted",
                "Deleted d link uncommitted",
                "Added e uncommitted",
                "Changed sub repository uncommitted",
                "Changed both ways uncommitted",
                "Added new\\nfile uncommitted",
                "Added nested repository uncommitted"
            ]
        );
        assert!(parse_status(b"").is_empty());
    }

    #[test]
    fn a_path_that_differs_twice_is_one_change() {
        let committed = parse_raw(b":100644 100644 1 2 M\0b\0:100644 000000 1 2 D\0a\0");
        let uncommitted = parse_status(b"1 .T N... 100644 100644 120000 1 1 b\0? c\0");
        assert_eq!(
            said(&merged(committed, &uncommitted)),
            [
                "Deleted a",
                "Changed b link uncommitted",
                "Added c uncommitted"
            ]
        );
    }
}
