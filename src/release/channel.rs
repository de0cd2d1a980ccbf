//! Which channels this run may move. Pure: from the manifest's rules and what is known of the sources.

use indexmap::IndexMap;

use crate::manifest::model::Branches;
use crate::reference::Tag;

/// What the sources are, as far as git and the CI's environment tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// The sources are a git checkout.
    pub(crate) checkout: bool,
    /// The commit that is checked out; `None` before the first one, and outside of git.
    pub(crate) commit: Option<String>,
    /// `None`: not known (a detached head).
    pub(crate) branch: Option<String>,
    pub(crate) default_branch: Option<String>,
    /// What `git describe --tags` says of the commit, where a tag of an image is made of it.
    pub(crate) version: Option<String>,
    /// A pull request's number or name.
    pub(crate) pull_request: Option<String>,
    /// Uncommitted files that the run would build from; the first few.
    pub(crate) uncommitted: Vec<String>,
}

impl Sources {
    /// The commit, marked where the sources differ from it; `None` outside of git.
    pub(crate) fn revision(&self) -> Option<String> {
        let commit = self.commit.as_ref()?;
        let mark = if self.uncommitted.is_empty() {
            ""
        } else {
            "-dirty"
        };
        Some(format!("{commit}{mark}"))
    }
}

/// What was asked on the command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChannelRequest {
    /// `--no-promote`, or `build`.
    pub(crate) no_promote: bool,
    /// `--channel`.
    pub(crate) channel: Option<Tag>,
    /// `--allow-dirty`.
    pub(crate) allow_dirty: bool,
}

/// The channels that move once the set is good, and why these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChannelDecision {
    pub(crate) moves: Vec<Tag>,
    /// A sentence for people.
    pub(crate) reason: String,
    /// The sources are of a branch that moves a channel: such runs export caches.
    pub(crate) channel_branch: bool,
}

impl ChannelDecision {
    /// Whether what the run writes may be read by those that move channels.
    pub(crate) fn is_trusted(&self) -> bool {
        self.channel_branch || !self.moves.is_empty()
    }
}

/// Decides, by the manifest's channels.
pub(crate) fn decide(
    channels: &IndexMap<Tag, Branches>,
    sources: &Sources,
    request: &ChannelRequest,
) -> ChannelDecision {
    let by_branch = by_branch(channels, sources);
    let channel_branch = by_branch.as_ref().is_ok_and(|moves| !moves.is_empty());
    let decision = |moves: Vec<Tag>, reason: String| ChannelDecision {
        moves,
        reason,
        channel_branch,
    };
    if request.no_promote {
        return decision(vec![], "no channel moves: not asked to promote".into());
    }
    if let Some(first) = sources.uncommitted.first().filter(|_| !request.allow_dirty) {
        let more = match sources.uncommitted.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let reason = format!(
            "no channel moves: uncommitted changes ({first}{more}); --allow-dirty moves them anyway"
        );
        return decision(vec![], reason);
    }
    if let Some(channel) = &request.channel {
        return decision(vec![channel.clone()], format!("{channel} moves: --channel"));
    }
    match by_branch {
        Err(reason) => decision(
            vec![],
            format!("no channel moves: {reason}; --channel NAME moves one anyway"),
        ),
        Ok(moves) => {
            let names = moves.iter().map(Tag::as_str).collect::<Vec<_>>().join(", ");
            let why = match &sources.branch {
                Some(branch) => format!("branch {branch}"),
                None => "not a git checkout, so there is no branch to go by".into(),
            };
            decision(moves, format!("{names} moves: {why}"))
        }
    }
}

/// The channels that commits of these sources may move.
pub(crate) fn moved_by(channels: &IndexMap<Tag, Branches>, sources: &Sources) -> Vec<Tag> {
    by_branch(channels, sources).unwrap_or_default()
}

/// The channels that the branch may move, at least one; or why there is none.
fn by_branch(channels: &IndexMap<Tag, Branches>, sources: &Sources) -> Result<Vec<Tag>, String> {
    if let Some(name) = &sources.pull_request {
        return Err(format!("pull request {name}"));
    }
    let may_move = |branches: &Branches| match &sources.branch {
        Some(branch) => branches.include(branch, sources.default_branch.as_deref()),
        None => !sources.checkout,
    };
    let moves = channels.iter().filter(|(_, branches)| may_move(branches));
    let moves: Vec<Tag> = moves.map(|(tag, _)| tag.clone()).collect();
    if !moves.is_empty() {
        return Ok(moves);
    }
    Err(match (&sources.branch, &sources.commit) {
        (Some(branch), _) => format!("branch {branch} has no channel"),
        (None, Some(commit)) => {
            let commit: String = commit.chars().take(12).collect();
            format!("commit {commit} is on no branch (detached head)")
        }
        (None, None) if sources.checkout => "there is no commit yet".to_owned(),
        (None, None) => "the manifest has no channels".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(branch: &str) -> Sources {
        Sources {
            checkout: true,
            commit: Some("0123456789abcdef".into()),
            branch: Some(branch.into()),
            default_branch: Some("main".into()),
            ..Sources::default()
        }
    }

    fn reason(named: Option<&str>, sources: &Sources, request: &ChannelRequest) -> String {
        let branches = named.map_or(Branches::Default, |branch| {
            Branches::Named(vec![branch.to_owned()])
        });
        let channels = IndexMap::from([(Tag::new("latest").unwrap(), branches)]);
        let decision = decide(&channels, sources, request);
        assert_eq!(
            decision.moves.is_empty(),
            decision.reason.starts_with("no channel moves"),
            "{}",
            decision.reason
        );
        decision.reason
    }

    #[test]
    fn each_rule_decides_and_says_why() {
        let asked = ChannelRequest::default;
        let dirty = Sources {
            uncommitted: vec!["a.py".into(), "b.py".into()],
            ..on("main")
        };
        let detached = Sources {
            branch: None,
            ..on("main")
        };
        let pull_request = Sources {
            pull_request: Some("#12".into()),
            ..on("main")
        };
        let stable = ChannelRequest {
            channel: Some(Tag::new("stable").unwrap()),
            ..asked()
        };
        let cases = [
            reason(None, &on("main"), &asked()),
            reason(None, &on("feature"), &asked()),
            reason(Some("release"), &on("release"), &asked()),
            reason(Some("release"), &on("main"), &asked()),
            reason(Some("release/*"), &on("release/1.2"), &asked()),
            reason(Some("release/*"), &on("release/1/2"), &asked()),
            reason(None, &dirty, &asked()),
            reason(
                None,
                &dirty,
                &ChannelRequest {
                    allow_dirty: true,
                    ..asked()
                },
            ),
            reason(None, &detached, &asked()),
            reason(None, &pull_request, &asked()),
            reason(None, &on("feature"), &stable),
            reason(None, &Sources::default(), &asked()),
            reason(
                None,
                &Sources {
                    commit: None,
                    ..on("feature")
                },
                &asked(),
            ),
            reason(
                None,
                &on("main"),
                &ChannelRequest {
                    no_promote: true,
                    ..asked()
                },
            ),
        ];
        insta::assert_snapshot!(cases.join("\n"), @r"
        latest moves: branch main
        no channel moves: branch feature has no channel; --channel NAME moves one anyway
        latest moves: branch release
        no channel moves: branch main has no channel; --channel NAME moves one anyway
        latest moves: branch release/1.2
        no channel moves: branch release/1/2 has no channel; --channel NAME moves one anyway
        no channel moves: uncommitted changes (a.py and 1 more); --allow-dirty moves them anyway
        latest moves: branch main
        no channel moves: commit 0123456789ab is on no branch (detached head); --channel NAME moves one anyway
        no channel moves: pull request #12; --channel NAME moves one anyway
        stable moves: --channel
        latest moves: not a git checkout, so there is no branch to go by
        no channel moves: branch feature has no channel; --channel NAME moves one anyway
        no channel moves: not asked to promote
        ");
    }
}
