//! What a checkout lacks: files that are still Git LFS pointers, submodules that are still empty. Both look like sources,
//! and an image made of them is broken in ways that show late.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::attributes;
use super::git::{GitError, each, run_with_magic};

/// A pointer is smaller than this (git-lfs `docs/spec.md`).
const POINTER_SIZE: u64 = 1024;
/// How each begins (the same).
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// Something that is not there, with the checkout that it belongs to. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub checkout: PathBuf,
    pub path: PathBuf,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pointer,
    Submodule,
}

/// All that is lacking below these folders, one call of git for each checkout that they are in; a second one where LFS
/// is used.
pub(crate) fn find(folders: &[&Path]) -> Result<Vec<Gap>, GitError> {
    let mut gaps = Vec::new();
    let mut open: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for folder in folders {
        let checkout = folder
            .ancestors()
            .find(|parent| parent.join(".git").exists());
        if let Some(checkout) = checkout {
            let below = open.entry(checkout.to_owned()).or_default();
            below.push((*folder).to_owned());
        }
    }
    while let Some((checkout, below)) = open.pop_first() {
        for submodule in look(&checkout, &below, &mut gaps)? {
            let below = open.entry(submodule.clone()).or_default();
            below.push(submodule);
        }
    }
    Ok(gaps)
}

/// Looks below these folders of one checkout; returns the submodules there that are checked out.
fn look(checkout: &Path, below: &[PathBuf], gaps: &mut Vec<Gap>) -> Result<Vec<PathBuf>, GitError> {
    let mut add = |path, kind| {
        gaps.push(Gap {
            checkout: checkout.to_owned(),
            path,
            kind,
        });
    };
    let paths = below.iter().filter_map(|path| path.to_str());
    let arguments: Vec<_> = ["--stage", "-z", "--"].into_iter().chain(paths).collect();
    let (mut submodules, mut speakers) = (Vec::new(), above(checkout, below));
    each(checkout, "ls-files", &arguments, |line| {
        let Some((stat, path)) = line.split_once('\t') else {
            return;
        };
        let path = checkout.join(path);
        // A gitlink's mode (gitformat-index(5)).
        if stat.starts_with("160000 ") {
            if path.join(".git").exists() {
                submodules.push(path);
            } else if is_empty(&path) {
                add(path, Kind::Submodule);
            }
        } else if path
            .file_name()
            .is_some_and(|name| name == attributes::FILE)
        {
            speakers.push(path);
        }
    })?;
    if speakers.iter().any(|file| speaks_of_lfs(file)) {
        let arguments = ["-z", "--", ":(attr:filter=lfs)"];
        let files = run_with_magic(checkout, "ls-files", &arguments)?;
        for path in files.split_terminator('\0').map(|path| checkout.join(path)) {
            if below.iter().any(|folder| path.starts_with(folder)) && is_pointer(&path) {
                add(path, Kind::Pointer);
            }
        }
    }
    Ok(submodules)
}

/// The files of attributes that hold for these folders and are not below them.
fn above(checkout: &Path, below: &[PathBuf]) -> Vec<PathBuf> {
    let parents = below.iter().flat_map(|folder| folder.ancestors().skip(1));
    let inside = parents.filter(|parent| parent.starts_with(checkout));
    let mut files: Vec<_> = inside.map(|parent| parent.join(attributes::FILE)).collect();
    files.push(checkout.join(".git/info/attributes"));
    files.sort_unstable();
    files.dedup();
    files
}

fn speaks_of_lfs(attributes: &Path) -> bool {
    fs::read(attributes).is_ok_and(|text| {
        const FILTER: &[u8] = b"filter=lfs";
        text.windows(FILTER.len()).any(|part| part == FILTER)
    })
}

/// A folder with nothing in it, or none.
fn is_empty(folder: &Path) -> bool {
    match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn is_pointer(path: &Path) -> bool {
    let small =
        |path| fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() < POINTER_SIZE);
    let mut start = [0; POINTER.len()];
    small(path)
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && start == POINTER
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const CONTENT: &str =
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";

    fn git(folder: &Path, arguments: &[&str]) {
        let mut git = Command::new("git");
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        let output = git
            .current_dir(folder)
            .args(identity)
            .args(arguments)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn checkout() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        git(&root, &["init", "--quiet"]);
        (folder, root)
    }

    /// A gitlink without a submodule's commit at hand.
    fn link(root: &Path, path: &str) {
        let commit = "1234567890123456789012345678901234567890";
        let entry = format!("160000,{commit},{path}");
        git(root, &["update-index", "--add", "--cacheinfo", &entry]);
    }

    fn found(root: &Path, folders: &[&str]) -> Vec<(Kind, String)> {
        let folders: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
        let folders: Vec<_> = folders.iter().map(PathBuf::as_path).collect();
        let gaps = find(&folders).unwrap().into_iter();
        gaps.map(|gap| {
            let path = gap.path.strip_prefix(root).unwrap();
            (gap.kind, path.display().to_string())
        })
        .collect()
    }

    #[test]
    fn pointers_are_found_where_attributes_say_that_they_are_some() {
        let (_folder, root) = checkout();
        write(&root, "a/model.bin", CONTENT);
        write(&root, "a/pulled.bin", "\u{1}\u{2}");
        write(
            &root,
            "a/long.bin",
            &format!("{CONTENT}{}", "x".repeat(1024)),
        );
        write(&root, "b/model.bin", CONTENT);
        write(&root, "a/notes.txt", CONTENT);
        git(&root, &["add", "."]);
        assert!(found(&root, &["a"]).is_empty());
        let line = "*.bin filter=lfs diff=lfs merge=lfs -text\n";
        for file in [".gitattributes", "a/.gitattributes", ".git/info/attributes"] {
            write(&root, file, line);
            git(&root, &["add", "."]);
            let pointer = (Kind::Pointer, "a/model.bin".to_owned());
            assert_eq!(found(&root, &["a"]), [pointer], "{file}");
            assert_eq!(
                found(&root, &["a", "b"]).len(),
                if file.starts_with('a') { 1 } else { 2 }
            );
            fs::remove_file(root.join(file)).unwrap();
            git(&root, &["add", "."]);
        }
    }

    #[test]
    fn empty_submodules_are_found_also_within_others() {
        let (_folder, root) = checkout();
        link(&root, "a/empty");
        link(&root, "a/missing");
        link(&root, "a/full");
        link(&root, "b/empty");
        fs::create_dir_all(root.join("a/empty")).unwrap();
        fs::create_dir_all(root.join("a/full")).unwrap();
        git(&root.join("a/full"), &["init", "--quiet"]);
        link(&root.join("a/full"), "deep/er");
        let submodule = |path: &str| (Kind::Submodule, path.to_owned());
        let expected = ["a/empty", "a/missing", "a/full/deep/er"].map(submodule);
        assert_eq!(found(&root, &["a"]), expected);
        // A context may be the very submodule.
        assert_eq!(found(&root, &["a/empty"]), [submodule("a/empty")]);
    }

    #[test]
    fn outside_of_git_nothing_is_known_to_be_lacking() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find(&[folder.path()]).unwrap(), []);
    }
}
