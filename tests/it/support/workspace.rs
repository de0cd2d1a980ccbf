//! A throw-away monorepo: a git checkout on branch `main` with a manifest, whose images have a prefix of their own in
//! the stack's registry.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::stack;

pub(crate) struct Workspace {
    folder: tempfile::TempDir,
    /// First part of every repository of this workspace.
    pub prefix: String,
}

/// How a run of skiff ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Workspace {
    /// An empty one with a manifest that finds every folder of `containers/`, committed.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let prefix = format!(
            "t{}",
            folder
                .path()
                .file_name()
                .unwrap()
                .to_string_lossy()
                .to_lowercase()
                .replace('.', "")
        );
        let workspace = Self { folder, prefix };
        workspace.git(&["init", "--quiet", "--initial-branch", "main"]);
        workspace.manifest("");
        workspace
    }

    /// One container with this Dockerfile (`BUSYBOX` stands for the base image), committed.
    pub(crate) fn with(containers: &[(&str, &str)]) -> Self {
        let workspace = Self::new();
        for (name, dockerfile) in containers {
            workspace.dockerfile(name, dockerfile);
        }
        workspace.commit();
        workspace
    }

    /// Writes the manifest: registry, discovery, and these lines.
    pub(crate) fn manifest(&self, more: &str) {
        self.manifest_for(stack::registry(), more);
    }

    /// The same for another registry.
    pub(crate) fn manifest_for(&self, host: &str, more: &str) {
        let prefix = &self.prefix;
        let text = format!(
            "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"{host}\"\nrepository = \"{prefix}/{{name}}\"\n\
             [discover]\nroots = [\"containers/*\"]\n{more}"
        );
        self.write("containers.toml", text);
    }

    pub(crate) fn dockerfile(&self, name: &str, text: &str) {
        let text = text.replace("BUSYBOX", &format!("{}/busybox:1", stack::registry()));
        self.write(&format!("containers/{name}/Dockerfile"), text);
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    pub(crate) fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    pub(crate) fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "commit",
            "--quiet",
            "--allow-empty",
            "-m",
            "x",
        ]);
    }

    pub(crate) fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .current_dir(self.folder.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// The repository of a container, below the registry's host.
    pub(crate) fn repository(&self, container: &str) -> String {
        format!("{}/{container}", self.prefix)
    }

    /// skiff in this workspace, with the stack's variables.
    pub(crate) fn skiff(&self, arguments: &[&str]) -> Command {
        skiff(self.folder.path(), arguments)
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.skiff(arguments))
    }

    /// Deploys and insists on success: the containers whose names come first, without names all of them, changed or not.
    pub(crate) fn deploy(&self, arguments: &[&str]) -> Ended {
        let named = arguments.first().is_some_and(|a| !a.starts_with('-'));
        let all: &[&str] = if named || arguments.contains(&"--all") {
            &[]
        } else {
            &["--all"]
        };
        self.deploy_changed(&[arguments, all].concat())
    }

    /// Deploys what changed, as users do, and insists on success.
    pub(crate) fn deploy_changed(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(&[&["deploy"], arguments].concat());
        assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
        ended
    }

    /// Starts it with its output in pipes.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.skiff(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

fn skiff(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skiff"));
    command
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null());
    // What the machine that runs the tests happens to set must not decide them.
    let foreign = |name: &str| {
        ["GITHUB_", "CODEBUILD_"]
            .iter()
            .any(|p| name.starts_with(p))
            || ["CI", "TIMESTAMP", "BUILDKIT_HOST", "DOCKER_CONTEXT"].contains(&name)
    };
    for (name, _) in std::env::vars_os() {
        if foreign(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command.envs(stack::variables()).env("NO_COLOR", "1");
    if let Some(address) = std::env::var_os("SKIFF_TEST_BUILDKIT") {
        command.env("BUILDKIT_HOST", address);
    }
    command
}

/// Runs a command to its end.
pub(crate) fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
