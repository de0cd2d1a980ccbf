//! Which files are not what they were in a commit, as the working tree has them now: committed since, changed, or new.

use std::path::PathBuf;

use super::git::{Checkout, GitError, run};
use crate::key::reason::FileChange;

/// One file, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Absolute.
    pub full: PathBuf,
    pub change: FileChange,
}

/// Every changed file of a checkout. `None`: the commit is not in this clone.
pub(crate) fn since(checkout: &Checkout, commit: &str) -> Result<Option<Vec<Changed>>, GitError> {
    let root = checkout.root();
    let object = format!("{commit}^{{commit}}");
    if run(
        root,
        "rev-parse",
        &["--verify", "--quiet", "--end-of-options", &object],
    )
    .is_err()
    {
        return Ok(None);
    }
    let differing = [
        "--raw",
        "-z",
        "--no-renames",
        "--abbrev=40",
        "--no-ext-diff",
        "--no-textconv",
        commit,
        "--",
    ];
    let mut changes = parse_raw(&run(root, "diff", &differing)?);
    let untracked = run(
        root,
        "ls-files",
        &["-z", "--others", "--exclude-standard", "--full-name"],
    )?;
    changes.extend(untracked.split_terminator('\0').map(|path| FileChange {
        path: path.to_owned(),
        old: None,
        new: None,
    }));
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let place = |change: FileChange| Changed {
        full: root.join(&change.path),
        change,
    };
    Ok(Some(changes.into_iter().map(place).collect()))
}

/// `:mode mode id id status\0path\0…` (git-diff(1), "raw output format").
fn parse_raw(output: &str) -> Vec<FileChange> {
    let mut fields = output.split_terminator('\0');
    let mut changes = Vec::new();
    while let (Some(head), Some(path)) = (fields.next(), fields.next()) {
        let mut words = head.split(' ').skip(2);
        let mut id = || {
            let id = words.next()?;
            // Zeros: not there, or in no commit.
            (!id.bytes().all(|byte| byte == b'0')).then(|| id.to_owned())
        };
        let (old, new) = (id(), id());
        changes.push(FileChange {
            path: path.to_owned(),
            old,
            new,
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn committed_changed_deleted_and_new_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let git = |arguments: &[&str]| {
            let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
            let mut command = Command::new("git");
            let output = command
                .current_dir(&root)
                .args(identity)
                .args(arguments)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "-q", "-b", "main"]);
        for (path, text) in [("a b", "1"), ("gone", "1"), ("kept", "1"), ("later", "1")] {
            std::fs::write(root.join(path), text).unwrap();
        }
        git(&["add", "."]);
        git(&["commit", "-qm", "first"]);
        let first = git(&["rev-parse", "HEAD"]);
        std::fs::write(root.join("a b"), "2").unwrap();
        git(&["commit", "-qam", "second"]);
        std::fs::remove_file(root.join("gone")).unwrap();
        std::fs::write(root.join("later"), "2").unwrap();
        std::fs::write(root.join("new"), "1").unwrap();
        let checkout = Checkout::find(&root).unwrap().unwrap();
        let found = since(&checkout, &first).unwrap().unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|c| {
                (
                    c.change.path.as_str(),
                    c.change.old.is_some(),
                    c.change.new.is_some(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("a b", true, true),
                ("gone", true, false),
                ("later", true, false),
                ("new", false, false)
            ]
        );
        let unknown = "0123456789012345678901234567890123456789";
        assert_eq!(since(&checkout, unknown).unwrap(), None);
        assert_eq!(since(&checkout, "--output=x").unwrap(), None);
    }
}
