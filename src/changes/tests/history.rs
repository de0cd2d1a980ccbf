//! Shallow and narrow clones: what is missing is fetched, or everything is a candidate.

use super::repository::Repository;
use crate::changes::base::{Before, Known, Told};
use crate::changes::commit::Commit;
use crate::changes::git::Ancestry;

fn before(commit: &Commit) -> Known<'static> {
    Known {
        told: Told {
            before: Some(Before::Commit(commit.clone(), "before the push")),
            silent: None,
        },
        branch: Some("main"),
        default_branch: Some("main"),
        ..Known::default()
    }
}

fn long(count: usize) -> (Repository, Vec<Commit>) {
    let repository = Repository::new();
    let commits = (0..count).map(|_| repository.commit()).collect();
    (repository, commits)
}

#[test]
fn a_shallow_clone_is_deepened_until_the_commit_is_there() {
    let (origin, commits) = long(70);
    for (wanted, shallow_after) in [(67, true), (5, false)] {
        let clone = origin.clone(&["--depth", "1"]);
        let refs = clone.git(&["for-each-ref"]);
        let base = clone.base(before(&commits[wanted]));
        assert_eq!(base.commit.as_ref(), Some(&commits[wanted]), "{base:?}");
        assert_eq!(clone.checkout().is_shallow(), shallow_after);
        // Nothing else is touched.
        assert_eq!(clone.git(&["for-each-ref"]), refs);
        assert!(!clone.root.join(".git/FETCH_HEAD").exists());
    }
    // One that is there needs no fetch: the remote is gone.
    let clone = origin.clone(&["--depth", "3"]);
    clone.git(&["remote", "set-url", "origin", "file:///nowhere"]);
    assert!(clone.base(before(&commits[68])).commit.is_some());
}

#[test]
fn a_commit_that_the_remote_lost_is_passed_over() {
    let (origin, commits) = long(3);
    origin.git(&["reset", "-q", "--hard", commits[0].as_str()]);
    origin.write("x", "rewritten");
    let rewritten = origin.commit();
    let clone = origin.clone(&["--depth", "1"]);
    let base = clone.base(before(&commits[2]));
    assert_eq!(clone.head(), rewritten);
    assert_eq!(
        base.sentence(),
        format!(
            "every container is a candidate: main is the default branch, and what was built of it last is not known; \
             {} (before the push) is not in the history",
            commits[2].short()
        )
    );
}

#[test]
fn a_fetch_that_fails_leaves_everything_a_candidate() {
    let (origin, commits) = long(3);
    let clone = origin.clone(&["--depth", "1"]);
    clone.git(&["remote", "set-url", "origin", "file:///nowhere"]);
    let base = clone.base(before(&commits[0]));
    assert_eq!(base.commit, None);
    assert!(
        base.reason
            .starts_with("git fetch failed: fatal: '/nowhere'"),
        "{}",
        base.reason
    );
    assert!(!base.reason.contains('\n'));
    clone.git(&["remote", "remove", "origin"]);
    let base = clone.base(before(&commits[0]));
    assert_eq!(base.reason, "there is no remote to fetch more history from");
}

#[test]
fn a_pull_request_s_base_is_fetched_where_it_is_missing() {
    let (origin, commits) = long(60);
    origin.git(&["checkout", "-q", "-b", "feature", commits[3].as_str()]);
    origin.commit();
    // As GitHub's runners do it: the merge alone, with a depth of one, on no branch.
    origin.git(&["checkout", "-q", "--detach", "main"]);
    origin.git(&["merge", "-q", "--no-ff", "--no-edit", "feature"]);
    let merge = origin.head();
    origin.git(&["update-ref", "refs/pull/1/merge", merge.as_str()]);
    origin.git(&["checkout", "-q", "feature"]);
    let runner = Repository::new();
    let url = format!("file://{}", origin.root.display());
    runner.git(&["remote", "add", "origin", &url]);
    runner.git(&["fetch", "-q", "--depth", "1", "origin", "refs/pull/1/merge"]);
    runner.git(&["checkout", "-q", "--detach", "FETCH_HEAD"]);
    let pull_request = || Known {
        told: Told {
            before: Some(Before::Branch("main".to_owned())),
            silent: None,
        },
        ..Known::default()
    };
    let base = runner.base(pull_request());
    assert_eq!(base.commit, Some(commits[59].clone()), "{base:?}");
    assert!(base.reason == "merge-base with main");

    // A whole clone of one branch, in which the other one is missing.
    let narrow = origin.clone(&["--single-branch", "--branch", "feature"]);
    let feature = Known {
        branch: Some("feature"),
        default_branch: Some("main"),
        ..Known::default()
    };
    let base = narrow.base(feature);
    assert_eq!(base.commit, Some(commits[3].clone()), "{base:?}");
    let gone = Known {
        told: Told {
            before: Some(Before::Branch("gone".to_owned())),
            silent: None,
        },
        ..Known::default()
    };
    let base = narrow.base(gone);
    assert!(
        base.commit.is_none() && base.reason.contains("gone"),
        "{base:?}"
    );
}

#[test]
fn a_commit_made_in_a_shallow_clone_is_unknown_to_the_remote() {
    let (origin, commits) = long(5);
    let clone = origin.clone(&["--depth", "1"]);
    clone.git(&["checkout", "-q", "-b", "mine"]);
    clone.commit();
    let base = clone.base(before(&commits[1]));
    assert_eq!(base.commit, Some(commits[1].clone()), "{base:?}");
}

#[test]
fn what_lies_between_two_commits_is_fetched_whichever_of_them_is_missing() {
    let (origin, commits) = long(70);
    let related = |clone: &Repository, one: &Commit, other: &Commit| {
        let checkout = clone.checkout();
        let ask = || match checkout.ancestry(one.as_str(), other.as_str()) {
            Ancestry::Unknown => None,
            known => Some(known),
        };
        checkout.between_commits([one, other], ask).unwrap()
    };
    // In a step; by more than that.
    for (older, shallow_after) in [(60, true), (5, false)] {
        let clone = origin.clone(&["--depth", "1"]);
        let refs = clone.git(&["for-each-ref"]);
        let head = clone.head();
        assert_eq!(related(&clone, &commits[older], &head), Some(Ancestry::Yes));
        assert_eq!(clone.checkout().is_shallow(), shallow_after);
        assert_eq!(clone.git(&["for-each-ref"]), refs);
    }
    // Commits that are newer than the clone, and one that the remote does not know.
    let (shallow, whole) = (origin.clone(&["--depth", "1"]), origin.clone(&[]));
    let newer = origin.commit();
    origin.git(&["reset", "-q", "--hard", "HEAD~1"]);
    origin.git(&["branch", "newer", newer.as_str()]);
    for clone in [&shallow, &whole] {
        let head = clone.head();
        assert_eq!(related(clone, &head, &newer), Some(Ancestry::Yes));
        let foreign = Commit::new(&"ab".repeat(20)).unwrap();
        assert_eq!(related(clone, &foreign, &head), None);
    }
}
