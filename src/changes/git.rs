//! Git, asked by subprocess. One builder makes every command hermetic: no prompts, no pager, no locks taken, no user
//! configuration that changes output. Parsers are pure.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use crate::diagnostic::Diagnostic;

/// Why git gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("git cannot be started, and this is a git checkout")]
    Start(#[source] std::io::Error),
    #[error("git {0} failed: {1}")]
    Failed(&'static str, String),
    #[error("git {0} was ended by a signal")]
    Killed(&'static str),
}

impl GitError {
    /// What the reader can do.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Start(_) => "install git",
            Self::Failed(..) => "do what git says above, in the folder of the manifest",
            Self::Killed(_) => "run the same command again",
        }
    }
}

impl From<GitError> for Diagnostic {
    fn from(error: GitError) -> Self {
        Self::error(error.to_string()).help(error.help())
    }
}

/// Whether a commit is an ancestor of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ancestry {
    Yes,
    No,
    /// One of them is not here, or the history between them is not (a shallow clone).
    Unknown,
}

/// A checkout.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    pub(super) root: PathBuf,
}

/// Lines of git's own explanation that are shown: it names the remedy further down.
const SAID: usize = 8;

/// What stands for names of files where git cannot tell them.
pub(crate) const UNSTEADY: &str = "files that change while git reads them";

/// Uncommitted files that are worth naming.
const NAMED: usize = 20;

/// So many paths are told to git; of more, what it says of the whole checkout is sifted here.
const FEW: usize = 16;

impl Checkout {
    /// The checkout that holds this folder, if there is one. Where there is one, git must be able to read it: taking a
    /// checkout that git refuses (of another owner, say) for none would lift the rules that go by its branch.
    pub(crate) fn find(folder: &Path) -> Result<Option<Self>, GitError> {
        if !folder
            .ancestors()
            .any(|parent| parent.join(".git").exists())
        {
            return Ok(None);
        }
        let root = run(folder, "rev-parse", &["--show-toplevel"])?;
        Ok(Some(Self {
            root: PathBuf::from(root.trim_end_matches('\n')),
        }))
    }

    /// The commit that is checked out; `None` before the first commit.
    pub(crate) fn commit(&self) -> Option<String> {
        self.line("rev-parse", &["--verify", "--quiet", "HEAD"])
    }

    /// The branch that is checked out; `None` for a detached head.
    pub(crate) fn branch(&self) -> Option<String> {
        self.line("symbolic-ref", &["--quiet", "--short", "HEAD"])
    }

    /// The remote's default branch; without a remote that says so, `main` or `master`, whichever exists; else none.
    pub(crate) fn default_branch(&self) -> Option<String> {
        const REMOTE: &str = "refs/remotes/origin/";
        let refs = [
            "refs/remotes/origin/HEAD",
            "refs/heads/main",
            "refs/remotes/origin/main",
            "refs/heads/master",
            "refs/remotes/origin/master",
        ];
        let format = "--format=%(refname) %(symref)";
        let answer = run(&self.root, "for-each-ref", &[&[format], &refs[..]].concat()).ok()?;
        let found: BTreeMap<&str, &str> = answer
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        let head = found
            .get(refs[0])
            .and_then(|target| target.strip_prefix(REMOTE));
        let usual = || {
            let first = refs[1..].iter().find(|name| found.contains_key(*name))?;
            first.rsplit('/').next()
        };
        head.or_else(usual).map(str::to_owned)
    }

    /// The nearest tag, with what is on top of it: `v1.2`, `v1.2-3-g0123456`; `None` where no tag is in the history.
    pub(crate) fn version(&self) -> Option<String> {
        self.line("describe", &["--tags"])
    }

    /// Files below these paths that differ from the commit or are in no commit, a few at most. A path may be in a
    /// submodule, which is asked for itself. Files that git ignores are not looked at.
    pub(crate) fn uncommitted(&self, paths: &[PathBuf]) -> Result<Vec<String>, GitError> {
        let mut by_checkout: BTreeMap<&Path, Vec<&str>> = BTreeMap::new();
        for path in paths.iter().filter(|path| path.starts_with(&self.root)) {
            let checkout = path.ancestors().find(|parent| parent.join(".git").exists());
            if let (Some(checkout), Some(path)) = (checkout, path.to_str()) {
                by_checkout.entry(checkout).or_default().push(path);
            }
        }
        let mut files = Vec::new();
        for (checkout, paths) in by_checkout {
            let fixed = [
                "--porcelain=v1",
                "-z",
                "--no-renames",
                "--untracked-files=all",
                "--",
            ];
            // Git compares every file with every path that it is given.
            let few = paths.len() <= FEW;
            let named = paths.iter().copied().filter(|_| few);
            let arguments: Vec<&str> = fixed.into_iter().chain(named).collect();
            match run(checkout, "status", &arguments) {
                Ok(output) => {
                    let below: HashSet<&Path> = paths.iter().map(Path::new).collect();
                    let concerned = |file: &&str| {
                        let full = checkout.join(file);
                        few || full.ancestors().any(|parent| below.contains(parent))
                    };
                    let changed = parse_status(&output).filter(concerned).take(NAMED);
                    files.extend(changed.map(str::to_owned));
                }
                // Git maps the files it hashes: one that shrinks meanwhile ends it with SIGBUS.
                Err(GitError::Killed(_)) => {
                    files.push(UNSTEADY.to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        files.truncate(NAMED);
        Ok(files)
    }

    /// Whether the first commit is an ancestor of the second, or the same.
    pub(crate) fn ancestry(&self, ancestor: &str, descendant: &str) -> Ancestry {
        let is_commit =
            |text: &str| text.len() >= 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_commit(ancestor) || !is_commit(descendant) {
            return Ancestry::Unknown;
        }
        let status = git(&self.root, "merge-base")
            .args(["--is-ancestor", ancestor, descendant])
            .stderr(Stdio::null())
            .status();
        match status.ok().and_then(|status| status.code()) {
            Some(0) => Ancestry::Yes,
            Some(1) if !self.is_shallow() => Ancestry::No,
            _ => Ancestry::Unknown,
        }
    }

    /// The history ends somewhere before its beginning.
    pub(crate) fn is_shallow(&self) -> bool {
        self.line("rev-parse", &["--is-shallow-repository"])
            .as_deref()
            == Some("true")
    }

    /// The top of the checkout, absolute and canonical.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What a command prints, run at the top of the checkout.
    pub(super) fn output(
        &self,
        command: &'static str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Vec<u8>, GitError> {
        answer(command, git(&self.root, command).args(arguments))
    }

    /// A command to be run in another way than [`Checkout::output`], that takes no paths or refuses to be told that they
    /// mean themselves.
    pub(super) fn command(&self, command: &str) -> Command {
        git_with(&self.root, &[], command)
    }

    pub(super) fn line(&self, command: &'static str, arguments: &[&str]) -> Option<String> {
        run(&self.root, command, arguments)
            .ok()
            .map(|out| out.trim().to_owned())
            .filter(|line| !line.is_empty())
    }
}

/// `XY path\0…` without renames: two status letters, a space, the path from the top of the checkout.
fn parse_status(output: &str) -> impl Iterator<Item = &str> {
    output.split('\0').filter_map(|entry| entry.get(3..))
}

/// A hermetic command of git; paths among its arguments mean themselves.
fn git(folder: &Path, command: &str) -> Command {
    git_with(folder, &["--literal-pathspecs"], command)
}

fn git_with(folder: &Path, options: &[&str], command: &str) -> Command {
    let mut git = Command::new("git");
    git.current_dir(folder)
        .args(options)
        .args([
            "--no-optional-locks",
            "-c",
            "core.quotePath=false",
            "-c",
            "core.fsmonitor=false",
        ])
        .arg(command)
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null());
    for foreign in FOREIGN {
        git.env_remove(foreign);
    }
    git
}

/// Variables that say which repository git works on, or how it reads paths: a hook or an alias may have set them for
/// another one.
const FOREIGN: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
];

pub(super) fn run(
    folder: &Path,
    command: &'static str,
    arguments: &[&str],
) -> Result<String, GitError> {
    answer(command, git(folder, command).args(arguments)).map(text)
}

/// The same for arguments with `:(magic)` in their paths.
pub(super) fn run_with_magic(
    folder: &Path,
    command: &'static str,
    arguments: &[&str],
) -> Result<String, GitError> {
    answer(command, git_with(folder, &[], command).args(arguments)).map(text)
}

/// Not copied where it is UTF-8 throughout, as a list of hundreds of thousands of files is nearly always.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Hands on what a command prints as it comes, each part up to a zero byte: of hundreds of thousands of files the whole
/// would be dozens of megabytes.
pub(super) fn each(
    folder: &Path,
    command: &'static str,
    arguments: &[&str],
    mut part: impl FnMut(&str),
) -> Result<(), GitError> {
    let mut child = git(folder, command)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(GitError::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (status, said) = thread::scope(|scope| {
        // Both are read at once, so that git never waits.
        let said = scope.spawn(move || {
            let mut said = Vec::new();
            let read = stderr.map(|mut stderr| stderr.read_to_end(&mut said));
            read.map_or_else(Vec::new, |_| said)
        });
        // Should it not be read to its end, git is killed by that, and the status says so.
        for bytes in stdout
            .into_iter()
            .flat_map(|out| BufReader::new(out).split(0))
        {
            let Ok(bytes) = bytes else { break };
            part(&String::from_utf8_lossy(&bytes));
        }
        (child.wait(), said.join().unwrap_or_default())
    });
    judged(command, status.map_err(GitError::Start)?, &said)
}

/// What the command prints, or why it fails.
fn answer(command: &'static str, git: &mut Command) -> Result<Vec<u8>, GitError> {
    let output = git.output().map_err(GitError::Start)?;
    judged(command, output.status, &output.stderr).map(|()| output.stdout)
}

fn judged(command: &'static str, status: ExitStatus, stderr: &[u8]) -> Result<(), GitError> {
    if status.success() {
        return Ok(());
    }
    if status.code().is_none() {
        return Err(GitError::Killed(command));
    }
    Err(GitError::Failed(command, said(stderr)))
}

/// The beginning of what git says of a failure.
pub(super) fn said(stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    let said: Vec<&str> = stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .take(SAID)
        .collect();
    if said.is_empty() {
        "it does not say why".to_owned()
    } else {
        said.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lists_paths() {
        let parsed: Vec<_> = parse_status(" M a/b.py\0?? new file\0").collect();
        assert_eq!(parsed, ["a/b.py", "new file"]);
        assert_eq!(parse_status("").count(), 0);
    }

    #[test]
    fn a_checkout_tells_branch_commit_and_what_is_uncommitted() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        assert!(Checkout::find(&root).unwrap().is_none());
        let git = |arguments: &[&str]| {
            let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
            let status = Command::new("git")
                .current_dir(&root)
                .args(identity)
                .args(arguments)
                .output()
                .unwrap();
            assert!(status.status.success(), "{status:?}");
        };
        git(&["init", "-q", "-b", "main"]);
        std::fs::create_dir(root.join("train")).unwrap();
        std::fs::write(root.join("train/Dockerfile"), "FROM scratch").unwrap();
        std::fs::write(root.join("notes"), "").unwrap();
        let checkout = Checkout::find(&root.join("train")).unwrap().unwrap();
        assert_eq!(
            (checkout.commit(), checkout.branch().as_deref()),
            (None, Some("main"))
        );
        assert_eq!(
            checkout.uncommitted(&[root.join("train")]).unwrap(),
            ["train/Dockerfile"]
        );
        git(&["add", "train"]);
        git(&["commit", "-qm", "first"]);
        std::fs::write(root.join("train/Dockerfile"), "FROM busybox").unwrap();
        let mut many: Vec<_> = (0..=FEW).map(|n| root.join(format!("c{n}"))).collect();
        assert!(checkout.uncommitted(&many).unwrap().is_empty());
        many.push(root.join("train"));
        assert_eq!(checkout.uncommitted(&many).unwrap(), ["train/Dockerfile"]);
        git(&["checkout", "-q", "train"]);
        assert_eq!(checkout.commit().map(|commit| commit.len()), Some(40));
        assert_eq!(checkout.default_branch().as_deref(), Some("main"));
        assert!(
            checkout
                .uncommitted(&[root.join("train")])
                .unwrap()
                .is_empty()
        );
        git(&["init", "-q", "train/sub"]);
        std::fs::write(root.join("train/sub/model"), "").unwrap();
        assert_eq!(
            checkout.uncommitted(&[root.join("train/sub")]).unwrap(),
            ["model"]
        );
        git(&["checkout", "-q", "--detach"]);
        assert_eq!(checkout.branch(), None);
    }
}
