//! Which commit is compared with, and why.

use super::repository::Repository;
use crate::changes::base::{Before, Known, Told};
use crate::changes::commit::Commit;

/// A repository of `count` commits.
fn history(count: usize) -> (Repository, Vec<Commit>) {
    let repository = Repository::new();
    let commits = (0..count).map(|_| repository.commit()).collect();
    (repository, commits)
}

fn before(commit: &Commit) -> Told {
    Told {
        before: Some(Before::Commit(commit.clone(), "before the push")),
        silent: None,
    }
}

fn into(branch: &str) -> Told {
    Told {
        before: Some(Before::Branch(branch.to_owned())),
        silent: None,
    }
}

/// On this branch, with `main` as the default.
fn on(branch: &str) -> Known<'_> {
    Known {
        branch: Some(branch),
        default_branch: Some("main"),
        ..Known::default()
    }
}

/// The sentence, with commits as numbers.
fn said(repository: &Repository, commits: &[Commit], known: Known<'_>) -> String {
    let mut text = repository.base(known).sentence();
    for (number, commit) in commits.iter().enumerate() {
        text = text.replace(commit.short(), &format!("#{number}"));
    }
    text
}

#[test]
fn the_best_that_holds_is_taken_and_it_is_said() {
    let (repository, commits) = history(4);
    let other = {
        repository.git(&["checkout", "-q", "--orphan", "elsewhere"]);
        let other = repository.commit();
        repository.git(&["checkout", "-q", "main"]);
        other
    };
    let said = |known| said(&repository, &commits, known).replace(other.short(), "#other");
    let released = |commit: &Commit| Known {
        recorded: Some(commit.clone()),
        ..on("main")
    };
    let absent = Commit::new(&"1234567890".repeat(4)).unwrap();
    let cases = [
        said(released(&commits[1])),
        said(released(&commits[3])),
        said(Known {
            told: before(&commits[2]),
            ..released(&other)
        }),
        said(Known {
            told: before(&commits[2]),
            ..released(&absent)
        }),
        said(Known {
            told: before(&other),
            ..on("main")
        }),
        said(Known {
            told: before(&absent),
            ..on("main")
        }),
        said(Known {
            told: Told {
                before: None,
                silent: Some("the event file x is not JSON".into()),
            },
            ..on("main")
        }),
        said(on("main")),
        said(Known {
            branch: None,
            ..on("")
        }),
        said(Known {
            default_branch: None,
            ..on("main")
        }),
        said(Known {
            default_branch: Some("gone"),
            ..on("main")
        }),
        said(Known {
            told: into("main"),
            ..on("main")
        }),
    ];
    insta::assert_snapshot!(cases.join("\n"), @r"
    compared with #1 (the last release)
    compared with #3 (the last release)
    compared with #2 (before the push); #other (the last release) is no ancestor of this one
    compared with #2 (before the push); 123456789012 (the last release) is not in the history
    every container is a candidate: main is the default branch, and what was built of it last is not known; #other (before the push) is no ancestor of this one
    every container is a candidate: main is the default branch, and what was built of it last is not known; 123456789012 (before the push) is not in the history
    every container is a candidate: main is the default branch, and what was built of it last is not known; the event file x is not JSON
    every container is a candidate: main is the default branch, and what was built of it last is not known
    every container is a candidate: what was built last is not known; main contains this commit
    every container is a candidate: no default branch is known to compare with
    every container is a candidate: there is no remote to fetch more history from
    every container is a candidate: main is the default branch, and what was built of it last is not known; main contains this commit
    ");
}

#[test]
fn a_branch_is_compared_with_where_it_left() {
    let (repository, mut commits) = history(2);
    repository.git(&["checkout", "-q", "-b", "feature"]);
    commits.push(repository.commit());
    repository.git(&["checkout", "-q", "main"]);
    commits.push(repository.commit());
    repository.git(&["checkout", "-q", "feature"]);
    let fork = "compared with #1 (merge-base with main)";
    assert_eq!(said(&repository, &commits, on("feature")), fork);
    // As CIs check it out.
    repository.git(&["checkout", "-q", "--detach"]);
    assert_eq!(
        said(
            &repository,
            &commits,
            Known {
                branch: None,
                ..on("")
            }
        ),
        fork
    );
    // A merge of main moves it.
    repository.git(&["checkout", "-q", "feature"]);
    repository.git(&["merge", "-q", "--no-edit", "main"]);
    let merged = "compared with #3 (merge-base with main)";
    assert_eq!(said(&repository, &commits, on("feature")), merged);
    // What GitHub builds for a pull request: a merge of both, on no branch.
    repository.git(&["checkout", "-q", "--detach", "main"]);
    repository.git(&["merge", "-q", "--no-ff", "--no-edit", "feature"]);
    let pull_request = Known {
        told: into("main"),
        ..Known::default()
    };
    assert_eq!(said(&repository, &commits, pull_request), merged);
}

#[test]
fn before_the_first_commit_everything_is_a_candidate() {
    let repository = Repository::new();
    assert_eq!(
        repository.base(on("main")).sentence(),
        "every container is a candidate: there is no commit yet"
    );
}

#[test]
fn the_first_commit_of_all_has_nothing_before_it() {
    let (repository, commits) = history(1);
    let root = Known {
        told: before(&commits[0]),
        ..on("main")
    };
    assert_eq!(
        said(&repository, &commits, root),
        "compared with #0 (before the push)"
    );
}
