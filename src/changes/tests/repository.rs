//! A throw-away git repository with a manifest.

use std::path::PathBuf;
use std::process::Command;

use indexmap::IndexMap;

use crate::changes::affected::Cause;
use crate::changes::base::{self, Base, Known};
use crate::changes::commit::Commit;
use crate::changes::detect;
use crate::changes::git::Checkout;
use crate::project::{self, Project};

pub(super) struct Repository {
    folder: tempfile::TempDir,
    pub(super) root: PathBuf,
}

impl Repository {
    /// An empty one, on branch `main`.
    pub(super) fn new() -> Self {
        let repository = Self::bare_folder();
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    fn bare_folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        Self { folder, root }
    }

    /// With this manifest and these files, committed.
    pub(super) fn with(manifest: &str, files: &[&str]) -> Self {
        let repository = Self::new();
        repository.manifest(manifest);
        for file in files {
            repository.write(file, file);
        }
        repository.commit();
        repository
    }

    /// A clone with these options, over the protocol that servers speak.
    pub(super) fn clone(&self, options: &[&str]) -> Self {
        let clone = Self::bare_folder();
        let url = format!("file://{}", self.root.display());
        clone.git(&[&["clone", "-q"], options, &[&url, "."]].concat());
        clone
    }

    /// Registry, and these lines.
    pub(super) fn manifest(&self, more: &str) {
        let head = "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"localhost:5000\"\n";
        self.write("containers.toml", &format!("{head}{more}"));
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        std::fs::remove_file(self.root.join(path)).unwrap();
    }

    pub(super) fn link(&self, target: &str, path: &str) {
        std::os::unix::fs::symlink(target, self.root.join(path)).unwrap();
    }

    pub(super) fn git(&self, arguments: &[&str]) -> String {
        let fixed = [
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "protocol.file.allow=always",
            "-c",
            "gc.auto=0",
        ];
        let output = Command::new("git")
            .current_dir(&self.root)
            .args(fixed)
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Everything, as a new commit.
    pub(super) fn commit(&self) -> Commit {
        self.git(&["add", "--all"]);
        // Never the same: commits of one second differ by it.
        let message = fastrand::u64(..).to_string();
        self.git(&["commit", "-q", "--allow-empty", "-m", &message]);
        self.head()
    }

    pub(super) fn head(&self) -> Commit {
        Commit::new(&self.git(&["rev-parse", "HEAD"])).unwrap()
    }

    pub(super) fn checkout(&self) -> Checkout {
        Checkout::find(&self.root).unwrap().unwrap()
    }

    pub(super) fn project(&self, manifest: &str) -> Project {
        let manifest = crate::manifest::load(&self.root.join(manifest), manifest);
        project::read(manifest.unwrap().0).unwrap()
    }

    pub(super) fn causes(&self, manifest: &str, base: &Commit) -> IndexMap<String, Cause> {
        let project = self.project(manifest);
        let checkout = self.checkout();
        let uncommitted = checkout.uncommitted_changes().unwrap();
        let sources = (&project.manifest, &project.graph);
        detect(&checkout, sources, (base, &self.head()), &uncommitted).unwrap()
    }

    /// What is affected, a line each.
    pub(super) fn affected(&self, base: &Commit) -> Vec<String> {
        let causes = self.causes("containers.toml", base).into_iter();
        let line = |(name, cause): (String, Cause)| format!("{name}: {}", cause.since("X"));
        causes.map(line).collect()
    }

    /// Only their names.
    pub(super) fn names(&self, base: &Commit) -> Vec<String> {
        self.causes("containers.toml", base).into_keys().collect()
    }

    pub(super) fn base(&self, known: Known<'_>) -> Base {
        let head = self.checkout().commit();
        let head = head.as_deref().and_then(Commit::new);
        base::choose(&self.checkout(), &Known { head, ..known })
    }
}

impl std::ops::Deref for Repository {
    type Target = std::path::Path;
    fn deref(&self) -> &Self::Target {
        self.folder.path()
    }
}
