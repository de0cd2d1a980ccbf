//! Containers of which git cannot say whether they changed: something that they are built from is outside of the
//! checkout, in a repository of its own, or ignored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::{Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::git::{Checkout, GitError, said};
use crate::manifest::model::{Container, ContainerName, ProjectManifest};

/// Why git does not see a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unseen {
    Outside,
    OtherRepository,
    Ignored,
}

/// A path that a container is built from and that git does not see.
pub(crate) type UnseenPath = (PathBuf, Unseen);

/// These containers, each with the first such path.
pub(super) fn unseen(
    checkout: &Checkout,
    manifest: &ProjectManifest,
) -> Result<BTreeMap<ContainerName, UnseenPath>, GitError> {
    let root = checkout.root();
    let mut nested = Nested {
        root,
        known: HashMap::new(),
    };
    let mut reasons: BTreeMap<&Path, Unseen> = BTreeMap::new();
    // Repositories inside this one, with the paths that are in them.
    let mut inside: BTreeMap<PathBuf, Vec<&Path>> = BTreeMap::new();
    let mut ours: BTreeSet<&Path> = BTreeSet::new();
    for path in manifest.containers.values().flat_map(sources) {
        if !path.starts_with(root) {
            reasons.insert(path, Unseen::Outside);
        } else if let Some(repository) = nested.of(path) {
            inside.entry(repository).or_default().push(path);
        } else if path != root {
            ours.insert(path);
        }
    }
    let submodules = submodules(checkout, inside.keys())?;
    for (repository, paths) in inside {
        if !submodules.contains(&repository) {
            reasons.extend(
                paths
                    .into_iter()
                    .map(|path| (path, Unseen::OtherRepository)),
            );
        }
    }
    let ignored = ignored(checkout, &ours)?;
    let is_ignored = |path: &&Path| ignored.contains(*path);
    let found = ours.iter().copied().filter(is_ignored);
    reasons.extend(found.map(|path| (path, Unseen::Ignored)));
    let of = |container: &Container| {
        let mut paths = sources(container);
        let found = paths.find_map(|path| Some((path.to_owned(), *reasons.get(path)?)))?;
        Some((container.name.clone(), found))
    };
    Ok(manifest.containers.values().filter_map(of).collect())
}

/// The paths that a container is built from.
fn sources(container: &Container) -> impl Iterator<Item = &Path> {
    let own = [&container.context, &container.dockerfile].into_iter();
    own.chain(container.contexts.values()).map(PathBuf::as_path)
}

/// Finds repositories below the top of the checkout.
struct Nested<'a> {
    root: &'a Path,
    known: HashMap<PathBuf, bool>,
}

impl Nested<'_> {
    /// The outermost repository that holds the path.
    fn of(&mut self, path: &Path) -> Option<PathBuf> {
        let below: Vec<&Path> = path
            .ancestors()
            .take_while(|folder| *folder != self.root)
            .collect();
        let found = below.into_iter().rev().find(|folder| {
            let known = self.known.get(*folder).copied();
            known.unwrap_or_else(|| {
                let is_one = folder.join(".git").symlink_metadata().is_ok();
                self.known.insert((*folder).to_owned(), is_one);
                is_one
            })
        });
        found.map(Path::to_owned)
    }
}

/// Those of these repositories that are submodules: git knows their commits.
fn submodules<'a>(
    checkout: &Checkout,
    repositories: impl Iterator<Item = &'a PathBuf>,
) -> Result<BTreeSet<PathBuf>, GitError> {
    let paths: Vec<&OsStr> = repositories.map(|path| path.as_os_str()).collect();
    if paths.is_empty() {
        return Ok(BTreeSet::new());
    }
    let fixed = ["--stage", "-z", "--"].map(OsStr::new);
    let answer = checkout.output("ls-files", fixed.into_iter().chain(paths))?;
    let entries = answer.split(|byte| *byte == 0);
    let submodules = entries.filter(|entry| entry.starts_with(b"160000 "));
    let paths = submodules.filter_map(|entry| entry.split(|byte| *byte == b'\t').nth(1));
    Ok(paths.map(|path| absolute(checkout, path)).collect())
}

/// Those of these paths that git ignores.
fn ignored(checkout: &Checkout, paths: &BTreeSet<&Path>) -> Result<BTreeSet<PathBuf>, GitError> {
    if paths.is_empty() {
        return Ok(BTreeSet::new());
    }
    let list = || {
        let mut list = tempfile::tempfile()?;
        for path in paths {
            list.write_all(path.as_os_str().as_bytes())?;
            list.write_all(b"\0")?;
        }
        list.rewind()?;
        Ok(list)
    };
    let mut command = checkout.command("check-ignore");
    command.args(["-z", "--stdin"]);
    let output = list().and_then(|list: std::fs::File| command.stdin(list).output());
    let output = output.map_err(GitError::Start)?;
    match output.status.code() {
        // 1: none is.
        Some(0 | 1) => {}
        Some(_) => return Err(GitError::Failed("check-ignore", said(&output.stderr))),
        None => return Err(GitError::Killed("check-ignore")),
    }
    let answer = output.stdout.split(|byte| *byte == 0);
    Ok(answer
        .filter(|path| !path.is_empty())
        .map(|path| absolute(checkout, path))
        .collect())
}

fn absolute(checkout: &Checkout, path: &[u8]) -> PathBuf {
    checkout.root().join(OsStr::from_bytes(path))
}
