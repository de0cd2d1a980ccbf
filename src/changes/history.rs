//! The history of a checkout: is a commit part of it, where does it leave a branch; and more of it fetched where a
//! shallow clone lacks what was asked for.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::commit::Commit;
use super::git::{Ancestry, Checkout, GitError, said};

/// The longest that one fetch may take.
const FETCH: Duration = Duration::from_mins(2);

/// How long a fetch that is asked to end may clean up after itself.
const GRACE: Duration = Duration::from_secs(2);

/// Commits that a shallow clone is deepened by at first: a push seldom has more, and many servers take long over a
/// whole history.
const STEP: &str = "--deepen=50";

/// Why history that was needed could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("there is no remote to fetch more history from")]
    NoRemote,
    #[error("git {0} did not end within {seconds} seconds", seconds = FETCH.as_secs())]
    TimedOut(&'static str),
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Whether a commit is part of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    Ancestor,
    /// It is here, and no ancestor.
    Elsewhere,
    /// The whole history is here, and the commit is not.
    Absent,
}

impl Checkout {
    /// A revision as users write it; `None` where git knows none.
    pub(crate) fn resolve(&self, revision: &str) -> Option<Commit> {
        let commit = format!("{revision}^{{commit}}");
        let arguments = ["--verify", "--quiet", "--end-of-options", &commit];
        Commit::new(&self.line("rev-parse", &arguments)?)
    }

    /// Whether `commit` is an ancestor of `head`, or `head` itself. Fetches more of a shallow history if it must.
    pub(crate) fn reach(&self, commit: &Commit, head: &Commit) -> Result<Reached, FetchError> {
        let look = || match self.ancestry(commit.as_str(), head.as_str()) {
            Ancestry::Yes => Some(Reached::Ancestor),
            Ancestry::No => Some(Reached::Elsewhere),
            Ancestry::Unknown => None,
        };
        let reached = self.deepening(head, None, look)?;
        Ok(reached.unwrap_or_else(|| {
            if self.resolve(commit.as_str()).is_some() {
                Reached::Elsewhere
            } else {
                Reached::Absent
            }
        }))
    }

    /// The newest commit that `head` and a branch share; `None` where they share none. The remote's branch is meant
    /// where there is one, and it is fetched where it is neither here as the remote's nor as a local one.
    pub(crate) fn fork_point(
        &self,
        head: &Commit,
        branch: &str,
    ) -> Result<Option<Commit>, FetchError> {
        let find = || {
            let refs = [
                format!("refs/remotes/origin/{branch}"),
                format!("refs/heads/{branch}"),
            ];
            let tip = refs.iter().find_map(|name| self.resolve(name))?;
            Commit::new(&self.line("merge-base", &[head.as_str(), tip.as_str()])?)
        };
        self.deepening(head, Some(branch), find)
    }

    /// A commit that all of these come from.
    pub(crate) fn common_ancestor(&self, commits: &[Commit]) -> Option<Commit> {
        let commits = commits.iter().map(Commit::as_str);
        let arguments: Vec<&str> = std::iter::once("--octopus").chain(commits).collect();
        Commit::new(&self.line("merge-base", &arguments)?)
    }

    /// Asks something of the history between these commits; as long as there is no answer, fetches what is missing and asks
    /// again: a step of a shallow history, then the commits that are not here, then the whole.
    pub(crate) fn between_commits<T>(
        &self,
        commits: [&Commit; 2],
        ask: impl Fn() -> Option<T>,
    ) -> Result<Option<T>, FetchError> {
        if let Some(answer) = ask() {
            return Ok(Some(answer));
        }
        for (here, depth) in [(true, STEP), (false, STEP), (true, "--unshallow")] {
            let is_wanted = |commit: &&Commit| self.resolve(commit.as_str()).is_some() == here;
            let wanted: Vec<&Commit> = commits.into_iter().filter(is_wanted).collect();
            let shallow = self.is_shallow();
            if (here && !shallow) || (!here && wanted.is_empty()) {
                continue;
            }
            self.fetch(&wanted, None, shallow.then_some(depth))?;
            if let Some(answer) = ask() {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Asks; as long as there is no answer and more history to be had, fetches some and asks again.
    fn deepening<T>(
        &self,
        head: &Commit,
        branch: Option<&str>,
        ask: impl Fn() -> Option<T>,
    ) -> Result<Option<T>, FetchError> {
        if let Some(answer) = ask() {
            return Ok(Some(answer));
        }
        for depth in [STEP, "--unshallow"] {
            let shallow = self.is_shallow();
            let branch = branch.filter(|branch| {
                let tracked = format!("refs/remotes/origin/{branch}");
                shallow || self.resolve(&tracked).is_none()
            });
            if !shallow && branch.is_none() {
                break;
            }
            let by_id: &[&Commit] = if shallow { &[head] } else { &[] };
            self.fetch(by_id, branch, shallow.then_some(depth))?;
            if let Some(answer) = ask() {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Fetches these commits, and a branch of the remote, with as much of their history. Changes no branch, tag or file of
    /// the checkout; the remote's branch is remembered as every fetch does it.
    fn fetch(
        &self,
        commits: &[&Commit],
        branch: Option<&str>,
        depth: Option<&str>,
    ) -> Result<(), FetchError> {
        let remote = &self.remote().ok_or(FetchError::NoRemote)?;
        let branch = branch.map(|name| format!("+refs/heads/{name}:refs/remotes/origin/{name}"));
        // By id: which branch of the remote it is on, only the remote knows. It does not know a commit that was made here.
        let by_id = commits.iter().map(ToString::to_string);
        let wanted: Vec<String> = branch.iter().cloned().chain(by_id).collect();
        let fetched = self.fetch_from(remote, depth, &wanted);
        match fetched {
            Err(FetchError::Git(GitError::Failed(..))) if !commits.is_empty() => {
                let wanted: Vec<String> = branch.into_iter().collect();
                self.fetch_from(remote, depth, &wanted)
            }
            fetched => fetched,
        }
    }

    /// `origin`, else the first one.
    fn remote(&self) -> Option<String> {
        let remotes = self.line("remote", &[])?;
        let origin = remotes.lines().find(|name| *name == "origin");
        origin.or(remotes.lines().next()).map(str::to_owned)
    }

    /// The branches that there are: the remote's, as the remote says it now, and those of this checkout.
    pub(crate) fn branches(&self) -> Result<Vec<String>, FetchError> {
        const HEADS: &str = "refs/heads/";
        let remote = self.remote().ok_or(FetchError::NoRemote)?;
        let mut command = self.command("ls-remote");
        command
            .args(["--quiet", "--heads", &remote])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let listed = wait(command.spawn().map_err(GitError::Start)?, "ls-remote")?;
        let mut text = String::from_utf8_lossy(&listed).into_owned();
        let here = ["--format=%(objectname)\t%(refname)", HEADS];
        text += &String::from_utf8_lossy(&self.output("for-each-ref", here)?);
        let name = |line: &str| Some(line.split_once('\t')?.1.strip_prefix(HEADS)?.to_owned());
        Ok(text.lines().filter_map(name).collect())
    }

    fn fetch_from(
        &self,
        remote: &str,
        depth: Option<&str>,
        wanted: &[String],
    ) -> Result<(), FetchError> {
        let mut command = self.command("fetch");
        command
            .args([
                "--quiet",
                "--no-tags",
                "--no-recurse-submodules",
                "--no-write-fetch-head",
                "--no-auto-maintenance",
            ])
            .args(depth)
            .arg(remote)
            .args(wanted)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        wait(command.spawn().map_err(GitError::Start)?, "fetch").map(drop)
    }
}

/// Waits for what speaks to a remote, not for ever; gives what it prints, if that is piped.
fn wait(mut child: Child, command: &'static str) -> Result<Vec<u8>, FetchError> {
    let mut stdout = child.stdout.take();
    let printed = thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(stdout) = &mut stdout {
            let _ = stdout.read_to_end(&mut text);
        }
        text
    });
    let mut stderr = child.stderr.take();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(stderr) = &mut stderr {
            let _ = stderr.read_to_end(&mut text);
        }
        let _ = ended.send(text);
    });
    let Ok(text) = end.recv_timeout(FETCH) else {
        // Politely first: git removes its lock files then.
        if let Some(pid) = i32::try_from(child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = end.recv_timeout(GRACE);
        let _ = child.kill();
        let _ = child.wait();
        return Err(FetchError::TimedOut(command));
    };
    let status = child.wait().map_err(GitError::Start)?;
    match (status.success(), status.code()) {
        (true, _) => Ok(printed.join().unwrap_or_default()),
        (false, Some(_)) => Err(GitError::Failed(command, said(&text)).into()),
        (false, None) => Err(GitError::Killed(command).into()),
    }
}
