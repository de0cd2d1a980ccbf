//! Paths that are followed through symbolic links: fsutil's `FollowLinks`. A Dockerfile's `COPY a` asks for `a` and, if
//! `a` is a link, for what it leads to; a link never leads out of the context.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::{ContextError, glob, lexical, vanished};

/// The paths and everything they lead to, sorted, without those inside another one. `None`: the whole folder.
pub(super) fn resolve(root: &Path, paths: &[String]) -> Result<Option<Vec<String>>, ContextError> {
    let mut resolved = BTreeSet::new();
    // A stack, so that a path's targets come before the next path: what was seen first decides (see `step`).
    let mut open: Vec<String> = paths.iter().rev().cloned().collect();
    while let Some(path) = open.pop() {
        let targets = step(root, &lexical::join(".", &path), &mut resolved)?;
        open.extend(targets.into_iter().rev());
    }
    Ok(without_nested(resolved))
}

/// Goes along `path` up to its first link, and returns what has to be followed instead.
///
/// A link that was met before is not followed again, even when more of a path comes behind it this time. That loses
/// `link/b` after `link/a`; the builder is used to it.
fn step(
    root: &Path,
    path: &str,
    resolved: &mut BTreeSet<String>,
) -> Result<Vec<String>, ContextError> {
    let ends = path
        .match_indices('/')
        .map(|(at, _)| at)
        .chain([path.len()]);
    for end in ends {
        let (current, rest) = (&path[..end], path[end..].trim_start_matches('/'));
        let targets = read_links(root, current)?;
        if !targets.is_empty() {
            return Ok(if resolved.insert(current.to_owned()) {
                targets
                    .iter()
                    .map(|target| lexical::join(target, rest))
                    .collect()
            } else {
                Vec::new()
            });
        }
        if rest.is_empty() {
            resolved.insert(current.to_owned());
        }
    }
    Ok(Vec::new())
}

/// Where the link at `path` leads; with wildcards in its last name, where all links of that kind lead.
fn read_links(root: &Path, path: &str) -> Result<Vec<String>, ContextError> {
    // Above the context there is nothing to see.
    if path == "." || path == ".." || path.starts_with("../") {
        return Ok(Vec::new());
    }
    let (folder, name) = lexical::split(path);
    if !glob::has_wildcards(name) {
        return Ok(read_link(root, path)?.into_iter().collect());
    }
    let Ok(wanted) = glob::compile(name) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in existing(root, folder, fs::read_dir(root.join(folder)))?
        .into_iter()
        .flatten()
    {
        let entry = entry.map_err(|e| ContextError::read(&root.join(folder), e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if wanted.matches(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut targets = Vec::new();
    for name in names {
        targets.extend(read_link(root, &lexical::join(folder, &name))?);
    }
    Ok(targets)
}

/// Where the link at `path` leads, from the top of the context with a `/` in front. `None`: not a link, or not there.
fn read_link(root: &Path, path: &str) -> Result<Option<String>, ContextError> {
    let full = root.join(path);
    let is_link =
        existing(root, path, fs::symlink_metadata(&full))?.is_some_and(|m| m.is_symlink());
    if !is_link {
        return Ok(None);
    }
    let Some(target) = existing(root, path, fs::read_link(&full))? else {
        return Ok(None);
    };
    let Some(target) = target.to_str() else {
        return Err(ContextError::NotUtf8(format!(
            "{path} -> {}",
            target.display()
        )));
    };
    Ok(Some(if target.starts_with('/') {
        lexical::clean(target)
    } else {
        let (folder, _) = lexical::split(path);
        lexical::join("/", &lexical::join(folder, target))
    }))
}

fn existing<T>(root: &Path, path: &str, found: io::Result<T>) -> Result<Option<T>, ContextError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if vanished(&error) => Ok(None),
        Err(error) => Err(ContextError::read(&root.join(path), error)),
    }
}

/// Leaves out each path inside the one kept before it. `None`: one of them is the whole folder (fsutil: `dedupePaths`).
pub(super) fn without_nested(paths: impl IntoIterator<Item = String>) -> Option<Vec<String>> {
    let mut kept: Vec<String> = Vec::new();
    for path in paths {
        if path == "." {
            return None;
        }
        let last = kept.last().map_or("", String::as_str);
        if path
            .strip_prefix(last)
            .is_none_or(|rest| !rest.starts_with('/'))
        {
            kept.push(path);
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn followed(paths: &[&str]) -> Option<Vec<String>> {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("real/deep")).unwrap();
        fs::create_dir_all(at("other")).unwrap();
        fs::write(at("real/deep/a.py"), "").unwrap();
        symlink("real", at("link")).unwrap();
        symlink("/real/deep", at("absolute")).unwrap();
        symlink("../../../../other", at("real/out")).unwrap();
        symlink("loop-b", at("loop-a")).unwrap();
        symlink("loop-a", at("loop-b")).unwrap();
        symlink("self/x", at("self")).unwrap();
        symlink("link", at("chain")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        let paths: Vec<String> = paths.iter().map(|p| (*p).to_owned()).collect();
        resolve(root.path(), &paths).unwrap()
    }

    #[test]
    fn follows_links_below_the_root_only() {
        for (paths, expected) in [
            (&["real/deep/a.py"][..], &["real/deep/a.py"][..]),
            (&["missing/x"], &["missing/x"]),
            (&["link/deep/a.py"], &["link", "real/deep/a.py"]),
            (&["chain"], &["chain", "link", "real"]),
            (&["absolute/a.py"], &["absolute", "real/deep/a.py"]),
            (&["real/out/x"], &["other/x", "real/out"]),
            (&["loop-a"], &["loop-a", "loop-b"]),
            (&["self"], &["self"]),
            (&["dangling"], &["dangling", "nowhere"]),
            (&["real/deep/a.py/x"], &["real/deep/a.py/x"]),
            (&["l*"], &["l*", "loop-a", "loop-b", "real"]),
            (&["m*"], &["m*"]),
            (&["/real/deep"], &["real/deep"]),
            (&["../x"], &["../x"]),
            (&["link/a", "link/b"], &["link", "real/a"]),
            (&["real/deep", "real"], &["real"]),
        ] {
            let expected: Vec<String> = expected.iter().map(|p| (*p).to_owned()).collect();
            assert_eq!(followed(paths), Some(expected), "{paths:?}");
        }
    }

    #[test]
    fn the_root_means_everything() {
        assert_eq!(followed(&["real", "."]), None);
        assert_eq!(followed(&[""]), None);
    }
}
