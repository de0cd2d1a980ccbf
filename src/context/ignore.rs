//! Ignore files, found and read as BuildKit's Dockerfile frontend does it (`frontend/dockerui`; the lines:
//! `moby/patternmatcher/ignorefile`). What is made of the lines is [`super::pattern`]'s.
//!
//! The Dockerfile and its ignore file are read by the builder on a path of their own: a pattern that excludes them takes
//! them out of the context, not away from the builder.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::filter::Filter;
use super::pattern::{Inherited, Patterns};
use super::{ContextError, vanished};

/// The name at the top of a context.
pub(crate) const NAME: &str = ".dockerignore";

/// Go's `bufio.Scanner` refuses a line of this many bytes, its line break not counted.
const TOO_LONG: usize = 64 << 10;

/// As many links as a path may lead through (containerd `continuity/fs`: `RootPath`).
const MAX_LINKS: usize = 255;

/// An ignore file that holds for a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IgnoreFile {
    /// Absolute; where it stands, not where it leads to as a link.
    pub path: PathBuf,
    /// The whole file; what is not UTF-8 replaced as the frontend does it.
    pub text: String,
    pub lines: Vec<Line>,
}

/// A line that holds a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Counted from 1.
    pub number: usize,
    /// Trimmed, cleaned, without a leading `/`; with its `!`.
    pub pattern: String,
}

impl IgnoreFile {
    /// The file that holds for the context `root`, if there is one: `<Dockerfile>.dockerignore` beside the Dockerfile,
    /// even when it is empty, else `.dockerignore` at the top. A named context has no Dockerfile, and looks at its own
    /// top only.
    pub(crate) fn of(root: &Path, dockerfile: Option<&Path>) -> Result<Option<Self>, ContextError> {
        let own = dockerfile.and_then(|dockerfile| {
            let mut name = dockerfile.file_name()?.to_owned();
            name.push(NAME);
            Some((dockerfile.parent()?, PathBuf::from(name)))
        });
        for (folder, name) in own.into_iter().chain([(root, PathBuf::from(NAME))]) {
            let path = folder.join(&name);
            if let Some(bytes) = read_below(folder, &name)? {
                return Self::parse(path, &bytes).map(Some);
            }
        }
        Ok(None)
    }

    fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self, ContextError> {
        let text = go_utf8(bytes);
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            if line.len() >= TOO_LONG {
                return Err(ContextError::LongLine { path, number });
            }
            let line = match number {
                1 => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
                _ => line,
            };
            if let Some(pattern) = pattern(&go_utf8(line)) {
                lines.push(Line { number, pattern });
            }
        }
        Ok(Self { path, text, lines })
    }

    /// The number of the first line with this pattern, with or without its `!`.
    pub(crate) fn line_of(&self, pattern: &str) -> Option<usize> {
        let same = |line: &&Line| {
            line.pattern == pattern || line.pattern.strip_prefix('!') == Some(pattern)
        };
        self.lines.iter().find(same).map(|line| line.number)
    }

    /// The line that decides about a path of the context, and whether it excludes it: the last one that matches the path
    /// or a folder above it (moby/patternmatcher).
    pub(crate) fn decision(&self, path: &str) -> Option<(&Line, bool)> {
        let ends = path.match_indices('/').map(|(at, _)| at);
        let paths: Vec<&str> = ends.chain([path.len()]).map(|end| &path[..end]).collect();
        let hits = |line: &&Line| {
            let pattern = line.pattern.strip_prefix('!').unwrap_or(&line.pattern);
            Patterns::parse(&[pattern]).is_ok_and(|patterns| {
                let none = Inherited::new();
                let mut own = Inherited::new();
                let mut hit = |path| patterns.matches(path, &none, &mut own).unwrap_or(false);
                paths.iter().any(|path| hit(path))
            })
        };
        let line = self.lines.iter().rev().find(hits)?;
        Some((line, !line.pattern.starts_with('!')))
    }

    /// What is left of the context.
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            exclude: self.lines.iter().map(|line| line.pattern.clone()).collect(),
            ..Filter::default()
        }
    }
}

/// The pattern of a line, if it holds one. A `#` makes a comment only as the very first character.
fn pattern(line: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let line = line.trim();
    let (sign, path) = match line.strip_prefix('!') {
        Some(path) => ("!", path.trim()),
        None => ("", line),
    };
    if path.is_empty() {
        // `!` alone stays, to be refused as a pattern.
        return (!sign.is_empty()).then(|| sign.to_owned());
    }
    let clean = super::lexical::clean(path);
    let relative = match clean.strip_prefix('/') {
        Some(relative) if !relative.is_empty() => relative,
        _ => &clean,
    };
    Some(format!("{sign}{relative}"))
}

/// Text as Go hands it on: every byte that is not part of UTF-8 becomes a U+FFFD of its own.
fn go_utf8(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// The bytes of the regular file at `name` below `folder`; `None`: there is none. Links are followed as the builder
/// follows them in what it was sent: `folder` is the top of their file system.
fn read_below(folder: &Path, name: &Path) -> Result<Option<Vec<u8>>, ContextError> {
    let Some(full) = resolve_below(folder, name) else {
        return Ok(None);
    };
    let read = fs::symlink_metadata(&full).and_then(|found| {
        let is_file = found.is_file();
        is_file.then(|| fs::read(&full)).transpose()
    });
    match read {
        Ok(bytes) => Ok(bytes),
        Err(error) if vanished(&error) => Ok(None),
        Err(error) => Err(ContextError::read(&full, error)),
    }
}

/// Where `name` leads; `None`: round in circles.
fn resolve_below(folder: &Path, name: &Path) -> Option<PathBuf> {
    let parts = |path: &Path| -> Vec<PathBuf> {
        let parts = path.components().rev();
        parts.map(|part| PathBuf::from(part.as_os_str())).collect()
    };
    let (mut at, mut todo, mut links) = (PathBuf::new(), parts(name), 0);
    while let Some(part) = todo.pop() {
        match part.components().next() {
            Some(Component::Normal(name)) => {
                let next = at.join(name);
                match fs::read_link(folder.join(&next)) {
                    Ok(target) => {
                        links += 1;
                        if links > MAX_LINKS {
                            return None;
                        }
                        todo.extend(parts(&target));
                    }
                    Err(_) => at = next,
                }
            }
            Some(Component::ParentDir) => {
                at.pop();
            }
            Some(Component::RootDir) => at = PathBuf::new(),
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
    Some(folder.join(at))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::super::filter::Rules;
    use super::*;

    fn patterns(bytes: &[u8]) -> Vec<(usize, String)> {
        let file = IgnoreFile::parse(PathBuf::new(), bytes).unwrap();
        let lines = file.lines.into_iter();
        lines.map(|line| (line.number, line.pattern)).collect()
    }

    #[test]
    fn lines_are_read_as_the_frontend_reads_them() {
        for (line, pattern) in [
            ("a", Some("a")),
            ("  a b \t", Some("a b")),
            ("a\r", Some("a")),
            ("# a", None),
            (" # a", Some("# a")),
            ("", None),
            (" \t\u{a0}\r", None),
            ("/a/b/", Some("a/b")),
            ("//a", Some("a")),
            ("/", Some("/")),
            (".", Some(".")),
            ("./a/./b/../c", Some("a/c")),
            ("../a", Some("../a")),
            ("/../a", Some("a")),
            ("! /a", Some("!a")),
            ("!!a", Some("!!a")),
            ("!", Some("!")),
            ("! ", Some("!")),
            ("!/", Some("!/")),
            ("\\!a", Some("\\!a")),
            ("a\\ ", Some("a\\")),
            ("**/*.py/", Some("**/*.py")),
        ] {
            let expected: Vec<_> = pattern.map(|p| (1, p.to_owned())).into_iter().collect();
            assert_eq!(patterns(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn the_last_line_that_matches_decides() {
        let text = b"# keys\n*.key\nbuild\n!build/keep\n**/keep/*.tmp\n[\n";
        let file = IgnoreFile::parse(PathBuf::new(), text).unwrap();
        let decision = |path| file.decision(path).map(|(line, out)| (line.number, out));
        for (path, expected) in [
            ("a.key", Some((2, true))),
            ("a/b.key", None),
            ("build/x/y", Some((3, true))),
            ("build/keep/z", Some((4, false))),
            ("build/keep/z.tmp", Some((5, true))),
            ("src/main.py", None),
        ] {
            assert_eq!(decision(path), expected, "{path}");
        }
    }

    #[test]
    fn a_mark_at_the_start_and_foreign_bytes() {
        let found = patterns(b"\xef\xbb\xbf# c\r\n\xef\xbb\xbfa\n\n\xe2\x82b");
        let (bom, bad) = ("\u{feff}a".to_owned(), "\u{fffd}\u{fffd}b".to_owned());
        assert_eq!(found, [(2, bom), (4, bad)]);
    }

    #[test]
    fn a_line_that_go_would_not_read_is_refused() {
        let line = "a".repeat(TOO_LONG - 1);
        assert_eq!(patterns(line.as_bytes()).len(), 1);
        let error = IgnoreFile::parse(
            "/w/.dockerignore".into(),
            format!("x\n{line}a\n").as_bytes(),
        );
        insta::assert_snapshot!(error.unwrap_err(), @"line 2 of `/w/.dockerignore` is 64 KiB or longer, which no builder reads: split it");
    }

    /// Files and links in a new folder; what stands behind a `->` is a link's target.
    fn folder(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let (path, target) = path.split_once(" -> ").unwrap_or((path, ""));
            let full = root.path().join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            if target.is_empty() {
                fs::write(full, path).unwrap();
            } else {
                symlink(target, full).unwrap();
            }
        }
        root
    }

    #[test]
    fn the_dockerfile_s_own_file_comes_first_even_when_empty() {
        let root = folder(&[
            ".dockerignore",
            "docker/Dockerfile.dockerignore",
            "x.dockerignore",
        ]);
        let of = |dockerfile: Option<&str>| {
            let dockerfile = dockerfile.map(|name| root.path().join(name));
            let file = IgnoreFile::of(root.path(), dockerfile.as_deref()).unwrap();
            let file = file.unwrap();
            let path = file.path.strip_prefix(root.path()).unwrap();
            (path.display().to_string(), file.lines.len())
        };
        let own = "docker/Dockerfile.dockerignore".to_owned();
        assert_eq!(of(Some("docker/Dockerfile")), (own.clone(), 1));
        assert_eq!(of(Some("Dockerfile")), (".dockerignore".to_owned(), 1));
        assert_eq!(of(None), (".dockerignore".to_owned(), 1));
        fs::write(root.path().join(&own), "").unwrap();
        assert_eq!(of(Some("docker/Dockerfile")), (own, 0));
    }

    #[test]
    fn links_are_followed_below_the_folder_only() {
        for (tree, found) in [
            (&[".dockerignore -> d/ign", "d/ign"][..], Some("d/ign")),
            (&[".dockerignore -> /d/ign", "d/ign"], Some("d/ign")),
            (&[".dockerignore -> ../../d/ign", "d/ign"], Some("d/ign")),
            (
                &[".dockerignore -> l/ign", "l -> d", "d/ign"],
                Some("d/ign"),
            ),
            (&[".dockerignore -> /etc/hostname"], None),
            (&[".dockerignore -> .dockerignore"], None),
            (&[".dockerignore/file"], None),
            (&["a"], None),
        ] {
            let root = folder(tree);
            let file = IgnoreFile::of(root.path(), None).unwrap();
            assert_eq!(file.map(|file| file.text).as_deref(), found, "{tree:?}");
        }
        // A reader would wait for a writer for ever.
        let root = folder(&[]);
        let fifo = root.path().join(NAME);
        rustix::fs::mkfifoat(rustix::fs::CWD, fifo, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(IgnoreFile::of(root.path(), None).unwrap(), None);
    }

    proptest! {
        /// Whatever stands in an ignore file is understood or refused.
        #[test]
        fn no_file_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            lines in "([a-c!#*?/.|{},0-9\\[\\]\\\\^ \r\n-]{0,12}\n){0,4}",
            path in "[a-c/\n]{1,9}",
        ) {
            for bytes in [&bytes[..], lines.as_bytes()] {
                let Ok(file) = IgnoreFile::parse(PathBuf::new(), bytes) else { continue };
                if let Ok(rules) = Rules::excluding(&file.filter().exclude) {
                    let _ = rules.keep(&path, false);
                }
            }
        }
    }
}
