//! The guard of channels where the checkout does not have the history that tells which commit is newer.

use std::path::PathBuf;
use std::process::Command;

use crate::support::releases::{change, four, set};
use crate::support::workspace::{Ended, Workspace, ended};

/// What developers and runners push to and clone from.
struct Remote {
    workspace: Workspace,
    folder: tempfile::TempDir,
}

impl Remote {
    /// r1 of a commit that `commits` others follow, on `latest`.
    fn ahead_by(commits: usize) -> Self {
        let remote = Self {
            workspace: four("1"),
            folder: tempfile::tempdir().unwrap(),
        };
        let (workspace, bare) = (&remote.workspace, remote.bare());
        workspace.git(&["init", "--quiet", "--bare", "-b", "main", &bare]);
        workspace.git(&["remote", "add", "origin", &bare]);
        workspace.deploy(&["--release", "r1"]);
        for n in 0..commits {
            workspace.write("notes", n.to_string());
            workspace.commit();
        }
        remote.push("2");
        remote
    }

    fn bare(&self) -> String {
        self.folder.path().join("bare").display().to_string()
    }

    /// Another content, pushed.
    fn push(&self, content: &str) {
        change(&self.workspace, content);
        let origin = ["push", "--quiet", "origin", "HEAD"];
        self.workspace.git(&origin);
    }

    /// A clone with these options, over the protocol that servers speak.
    fn clone(&self, name: &str, options: &[&str]) -> Clone<'_> {
        let folder = self.folder.path().join(name);
        let url = format!("file://{}", self.bare());
        let target = folder.display().to_string();
        let arguments = [&["clone", "--quiet"], options, &[&url, &target]].concat();
        self.workspace.git(&arguments);
        Clone {
            workspace: &self.workspace,
            folder,
        }
    }
}

struct Clone<'a> {
    workspace: &'a Workspace,
    folder: PathBuf,
}

impl Clone<'_> {
    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(&self.folder);
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.com"]);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn is_shallow(&self) -> bool {
        self.git(&["rev-parse", "--is-shallow-repository"]) == "true"
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.workspace.skiff(arguments);
        command.current_dir(&self.folder);
        ended(command)
    }

    fn deploys(&self, release: &str, code: i32, texts: &[&str]) {
        let ended = self.run(&["deploy", "--all", "--release", release]);
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, code, "{all}");
        for text in texts {
            assert!(all.contains(text), "{text:?} is missing in:\n{all}");
        }
    }
}

#[test]
fn a_shallow_clone_is_deepened_until_the_channel_s_commit_is_there() {
    // One step, and one step too few.
    for commits in [3, 60] {
        let remote = Remote::ahead_by(commits);
        let clone = remote.clone("runner", &["--depth", "1"]);
        let refs = clone.git(&["for-each-ref"]);
        assert!(clone.is_shallow());
        clone.deploys("r2", 0, &["latest moved for the whole set"]);
        let workspace = &remote.workspace;
        assert!(set(workspace, "latest") == set(workspace, "r2"));
        // No branch and no tag is touched.
        assert_eq!(clone.git(&["for-each-ref"]), refs);
    }
}

#[test]
fn a_clone_that_was_made_before_the_channel_moved_on_is_superseded() {
    let remote = Remote::ahead_by(3);
    // Two runners clone the same commit; then another one is pushed, and released.
    let shallow = remote.clone("shallow", &["--depth", "1"]);
    let whole = remote.clone("whole", &[]);
    remote.push("3");
    remote.workspace.deploy(&["--release", "r3"]);
    let newest = set(&remote.workspace, "latest");
    for (clone, release) in [(&shallow, "late1"), (&whole, "late2")] {
        let said = format!("{release} is superseded");
        clone.deploys(release, 0, &[&said, "stays on release r3"]);
        assert!(set(&remote.workspace, "latest") == newest);
    }
    let promoted = whole.run(&["promote", "r1"]);
    assert_eq!(promoted.code, 0, "{}", promoted.stderr);
    assert!(
        promoted.stdout.contains("rollback --to r1"),
        "{}",
        promoted.stdout
    );
}

#[test]
fn another_line_of_history_is_told_from_one_that_cannot_be_had() {
    let remote = Remote::ahead_by(3);
    let newest = set(&remote.workspace, "latest");
    // A commit that only this clone has, beside one that was released from the remote's.
    let clone = remote.clone("runner", &["--depth", "1"]);
    std::fs::write(clone.folder.join("containers/a/x"), "mine").unwrap();
    clone.git(&["commit", "--quiet", "-am", "mine"]);
    remote.workspace.deploy(&["--release", "r2"]);
    let second = set(&remote.workspace, "latest");
    assert!(second != newest);
    clone.deploys("ahead", 0, &["latest moved"]);
    remote.push("3");
    let side = remote.clone("side", &["--depth", "1"]);
    side.deploys("side", 3, &["git has not the history", "--force-promote"]);
    // Now the remote has it, too.
    clone.git(&["push", "--quiet", "origin", "HEAD:refs/heads/mine"]);
    side.deploys("side", 3, &["another line of history", "--force-promote"]);
    // Without the remote nobody knows, and it is said why.
    let alone = remote.clone("alone", &["--depth", "1"]);
    alone.git(&["remote", "set-url", "origin", "file:///nowhere"]);
    alone.deploys(
        "alone",
        3,
        &[
            "git has not the history",
            "'/nowhere'",
            "--unshallow",
            "--force-promote",
        ],
    );
}
