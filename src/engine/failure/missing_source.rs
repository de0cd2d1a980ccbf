//! A COPY, ADD or bind mount of what is not there: whether it was left out by an ignore file, which line did it, and what
//! was probably meant.

use std::collections::VecDeque;
use std::path::Path;

use super::super::outcome::Location;
use crate::context::ignore::IgnoreFile;
use crate::diagnostic::{SourceText, nearest};
use crate::dockerfile::mount::field;
use crate::dockerfile::{self, Instruction};
use crate::manifest::model::Container;
use crate::project::shown;

/// What there is to say of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// In the place of the builder's own, which names the digest of what it looked in.
    pub(super) message: String,
    pub(super) notes: Vec<String>,
    pub(super) helps: Vec<String>,
}

/// Entries that are looked at for a suggestion: more would make a failure slow.
const LOOKED_AT: usize = 20_000;

/// The path that the builder did not find, as it says so: relative to its source.
pub(super) fn path(message: &str) -> Option<&str> {
    let quoted = || {
        let (_, rest) = message.split_once("failed to calculate checksum of ref ")?;
        let (path, _) = rest.split_once("\": not found")?;
        path.rsplit_once('"').map(|(_, path)| path)
    };
    let lstat = || {
        let (_, rest) = message.split_once("lstat ")?;
        rest.split_once(": no such file").map(|(path, _)| path)
    };
    let path = quoted().or_else(lstat)?.trim_matches('/');
    (!path.is_empty()).then_some(path)
}

/// Explains why `path` was not found by the instruction at `location`. Reads the file system.
pub(super) fn explain(
    path: &str,
    location: &Location,
    container: &Container,
    manifest_root: &Path,
) -> Found {
    let origin = origin(path, location);
    let (root, dockerfile) = match &origin {
        Origin::Context => (&container.context, Some(&*container.dockerfile)),
        Origin::Named(name) => match container.contexts.get(name) {
            Some(folder) => (folder, None),
            None => return elsewhere(name, path),
        },
    };
    let mut found = Found {
        message: not_found(path),
        ..Found::default()
    };
    let ignore = IgnoreFile::of(root, dockerfile).ok().flatten();
    let excluded = |path: &str| {
        let (line, excluded) = ignore.as_ref()?.decision(path)?;
        excluded.then_some(line)
    };
    let folder = match shown(root, manifest_root) {
        empty if empty.is_empty() => ".".to_owned(),
        folder => folder,
    };
    let at = |file: &IgnoreFile, line: usize, pattern: &str| {
        format!("{}:{line} (`{pattern}`)", shown(&file.path, manifest_root))
    };
    if !is_pattern(path) && root.join(path).symlink_metadata().is_ok() {
        let (Some(line), Some(file)) = (excluded(path), &ignore) else {
            // It came since the build read the context.
            found.notes.push(format!("`{path}` is in {folder} now"));
            return found;
        };
        let place = at(file, line.number, &line.pattern);
        found.notes.push(format!(
            "`{path}` is in {folder}, and {place} excludes it from the build context"
        ));
        found
            .helps
            .push(format!("take that line out, or add `!{path}` below it"));
        return found;
    }
    found.notes.push(format!(
        "there is no `{path}` in {folder}, the build context"
    ));
    match suggestion(root, path, &|path| excluded(path).is_some()) {
        Some(meant) => found.helps.push(format!("did you mean `{meant}`?")),
        None => found.helps.push(
            "sources are relative to the build context, wherever the Dockerfile is".to_owned(),
        ),
    }
    if origin == Origin::Context && names_parent(location) {
        found.helps.push(
            "nothing above the context can be copied: give the folder a name, contexts = { name = \"folder\" }, and write \
             COPY --from=name"
                .to_owned(),
        );
    }
    found
}

fn not_found(path: &str) -> String {
    format!("source `{path}` not found")
}

fn elsewhere(name: &str, path: &str) -> Found {
    Found {
        message: not_found(path),
        notes: vec![format!(
            "`{path}` is looked for in `{name}`, a stage or an image, not in the build context"
        )],
        helps: vec![format!(
            "see that `{name}` has it: a path in a stage begins at its root"
        )],
    }
}

/// Where an instruction reads from.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Context,
    /// A stage, an image or a named context.
    Named(String),
}

fn origin(path: &str, location: &Location) -> Origin {
    let from = instruction(location).and_then(|instruction| {
        let copied = instruction
            .flags_named("from")
            .last()
            .map(|(_, value)| value.to_owned());
        let mounted = || {
            let mounts = instruction.flags_named("mount").map(|(_, value)| value);
            let mut of_path = mounts.filter(|mount| {
                let source = field(mount, &["source"]).or_else(|| field(mount, &["src"]));
                source.is_some_and(|source| source.trim_matches('/') == path)
            });
            of_path.find_map(|mount| field(mount, &["from"]).map(str::to_owned))
        };
        copied.or_else(mounted)
    });
    from.map_or(Origin::Context, Origin::Named)
}

fn instruction(location: &Location) -> Option<Instruction> {
    let source = SourceText::new(&location.file, &location.text);
    let dockerfile = dockerfile::parse(&source).ok()?;
    let line = source.line_range(location.first_line);
    let instructions = dockerfile
        .stages
        .into_iter()
        .flat_map(|stage| stage.instructions);
    let mut at_line = instructions.filter(|instruction| {
        let range = instruction.range();
        range.start <= line.end && line.start <= range.end
    });
    at_line.next()
}

fn names_parent(location: &Location) -> bool {
    instruction(location).is_some_and(|instruction| {
        let mut words = instruction.words();
        words.any(|word| word.text.starts_with("../") || word.text.contains("/../"))
    })
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The file that was probably meant: one beside it with a similar name, one of that name elsewhere, or a similar path.
fn suggestion(root: &Path, path: &str, excluded: &dyn Fn(&str) -> bool) -> Option<String> {
    if is_pattern(path) {
        return None;
    }
    let known = entries(root, excluded);
    let split = |path: &str| match path.rsplit_once('/') {
        Some((folder, name)) => (folder.to_owned(), name.to_owned()),
        None => (String::new(), path.to_owned()),
    };
    let (folder, name) = split(path);
    let beside: Vec<(String, &str)> = known
        .iter()
        .map(|entry| (split(entry), entry.as_str()))
        .filter(|((parent, _), _)| *parent == folder)
        .map(|((_, name), entry)| (name, entry))
        .collect();
    let similar = nearest(&name, beside.iter().map(|(name, _)| name.as_str()));
    let similar = similar.and_then(|name| beside.iter().find(|(n, _)| n == name));
    let namesake = || {
        let same = known.iter().filter(|entry| split(entry).1 == name);
        same.min_by_key(|entry| entry.matches('/').count())
    };
    similar
        .map(|(_, entry)| (*entry).to_owned())
        .or_else(|| namesake().cloned())
        .or_else(|| nearest(path, known.iter().map(String::as_str)).map(str::to_owned))
}

/// Paths below `root`, the nearer ones first, without those that are excluded.
fn entries(root: &Path, excluded: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = VecDeque::from([String::new()]);
    while let Some(folder) = folders.pop_front() {
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else {
            continue;
        };
        let mut names: Vec<(String, bool)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                Some((entry.file_name().into_string().ok()?, is_folder))
            })
            .collect();
        names.sort();
        for (name, is_folder) in names {
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            if name == ".git" || excluded(&path) {
                continue;
            }
            if is_folder {
                folders.push_back(path.clone());
            }
            found.push(path);
            if found.len() == LOOKED_AT {
                return found;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_read_from_what_the_builder_says() {
        for (message, expected) in [
            (
                "failed to calculate checksum of ref a::b: \"/secret.key\": not found",
                Some("secret.key"),
            ),
            ("lstat /src/x: no such file or directory", Some("src/x")),
            ("lstat /: no such file or directory", None),
            ("exit code: 1", None),
        ] {
            assert_eq!(path(message), expected, "{message}");
        }
    }

    #[test]
    fn a_suggestion_is_beside_or_elsewhere_and_never_excluded() {
        let root = tempfile::tempdir().unwrap();
        for file in ["src/main.py", "app/requirements.txt", "src/mian.key"] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let excluded = |path: &str| {
            std::path::Path::new(path)
                .extension()
                .is_some_and(|end| end == "key")
        };
        let meant = |path| suggestion(root.path(), path, &excluded);
        assert_eq!(meant("src/mian.py").as_deref(), Some("src/main.py"));
        assert_eq!(
            meant("requirements.txt").as_deref(),
            Some("app/requirements.txt")
        );
        assert_eq!(meant("scr/main.py").as_deref(), Some("src/main.py"));
        assert_eq!(meant("something/else"), None);
    }

    #[test]
    fn what_an_instruction_reads_from_is_told() {
        let location = |text: &str| Location {
            file: "Dockerfile".into(),
            first_line: 2,
            last_line: 2,
            text: format!("FROM a AS b\n{text}\n"),
        };
        let named = |name: &str| Origin::Named(name.into());
        for (text, expected) in [
            ("COPY x /", Origin::Context),
            ("COPY --from=b x /", named("b")),
            ("ADD x /", Origin::Context),
            (
                "RUN --mount=type=bind,source=x,target=/x y",
                Origin::Context,
            ),
            (
                "RUN --mount=from=c,target=/c --mount=source=/x,from=d,target=/x y",
                named("d"),
            ),
        ] {
            assert_eq!(origin("x", &location(text)), expected, "{text}");
        }
        assert!(names_parent(&location("COPY ../x /")));
        assert!(!names_parent(&location("COPY x.. /")));
    }
}
