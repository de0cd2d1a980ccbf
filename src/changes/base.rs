//! Which commit the sources are compared with, and why that one.
//!
//! The best answer is the commit that was released last; next, what the CI says was there before; next, where the branch
//! left the default branch. Without an answer every container is a candidate: never the commit before this one, which
//! says nothing about what was built.

use super::commit::Commit;
use super::git::Checkout;
use super::history::{FetchError, Reached};

/// What the sources are compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// `None`: with nothing, every container is a candidate.
    pub(crate) commit: Option<Commit>,
    /// A fragment: `merge-base with main`; without a commit, why there is none.
    pub(crate) reason: String,
    /// Why better answers did not hold.
    pub(crate) passed_over: Vec<String>,
}

impl Base {
    pub(crate) fn everything(reason: impl Into<String>) -> Self {
        Self {
            commit: None,
            reason: reason.into(),
            passed_over: vec![],
        }
    }

    /// `0123456789ab (merge-base with main)`.
    pub(crate) fn named(&self) -> Option<String> {
        let commit = self.commit.as_ref()?;
        Some(format!("{} ({})", commit.short(), self.reason))
    }

    /// The whole, as one sentence.
    pub(crate) fn sentence(&self) -> String {
        let commit = self.commit.as_ref().map(Commit::as_str);
        sentence(commit, &self.reason, &self.passed_over)
    }
}

/// What the parts of a [`Base`] say.
pub(crate) fn sentence(commit: Option<&str>, reason: &str, passed_over: &[String]) -> String {
    let text = match commit {
        Some(commit) => format!("compared with {commit:.12} ({reason})"),
        None => format!("every container is a candidate: {reason}"),
    };
    let passed_over = passed_over.iter().map(|why| format!("; {why}"));
    text + &passed_over.collect::<String>()
}

/// What a CI says of the state before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) before: Option<Before>,
    /// Why it says nothing, where it should.
    pub(crate) silent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Before {
    /// The branch stood on this commit; the text says who says so.
    Commit(Commit, &'static str),
    /// This is to become part of a branch.
    Branch(String),
}

/// What is known beside the checkout.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known<'a> {
    pub(crate) head: Option<Commit>,
    /// The commit of the release on which the channel stands.
    pub(crate) recorded: Option<Commit>,
    pub(crate) told: Told,
    pub(crate) branch: Option<&'a str>,
    pub(crate) default_branch: Option<&'a str>,
}

/// Chooses the commit. What cannot be fetched ends the search: who guesses on builds too little.
pub(crate) fn choose(checkout: &Checkout, known: &Known<'_>) -> Base {
    let Some(head) = &known.head else {
        return Base::everything("there is no commit yet");
    };
    let mut search = Search {
        checkout,
        head,
        passed_over: known.told.silent.iter().cloned().collect(),
    };
    let found = search.find(known);
    let passed_over = search.passed_over;
    match found {
        Ok((commit, reason)) => Base {
            commit,
            reason,
            passed_over,
        },
        Err(error) => Base {
            passed_over,
            ..Base::everything(error.to_string().replace('\n', "; "))
        },
    }
}

struct Search<'a> {
    checkout: &'a Checkout,
    head: &'a Commit,
    passed_over: Vec<String>,
}

type Found = Result<(Option<Commit>, String), FetchError>;

impl Search<'_> {
    fn find(&mut self, known: &Known<'_>) -> Found {
        if let Some(commit) = &known.recorded
            && self.holds(commit, "the last release")?
        {
            return Ok((Some(commit.clone()), "the last release".to_owned()));
        }
        match &known.told.before {
            Some(Before::Commit(commit, who)) if self.holds(commit, who)? => {
                return Ok((Some(commit.clone()), (*who).to_owned()));
            }
            Some(Before::Branch(branch)) => {
                if let Some(commit) = self.leaves(branch)? {
                    return Ok((Some(commit), format!("merge-base with {branch}")));
                }
            }
            _ => {}
        }
        let told = known.told.before.as_ref();
        match known.default_branch {
            None => Ok((
                None,
                "no default branch is known to compare with".to_owned(),
            )),
            Some(branch) if known.branch == Some(branch) => Ok((
                None,
                format!(
                    "{branch} is the default branch, and what was built of it last is not known"
                ),
            )),
            Some(branch) => {
                let asked = told == Some(&Before::Branch(branch.to_owned()));
                let fork = if asked { None } else { self.leaves(branch)? };
                Ok(match fork {
                    Some(commit) => (Some(commit), format!("merge-base with {branch}")),
                    None => (None, "what was built last is not known".to_owned()),
                })
            }
        }
    }

    /// Whether this commit is one to compare with.
    fn holds(&mut self, commit: &Commit, who: &str) -> Result<bool, FetchError> {
        let why = match self.checkout.reach(commit, self.head)? {
            Reached::Ancestor => return Ok(true),
            Reached::Elsewhere => "is no ancestor of this one",
            Reached::Absent => "is not in the history",
        };
        self.passed_over
            .push(format!("{} ({who}) {why}", commit.short()));
        Ok(false)
    }

    /// Where this commit's history leaves the branch, if it does.
    fn leaves(&mut self, branch: &str) -> Result<Option<Commit>, FetchError> {
        let why = match self.checkout.fork_point(self.head, branch)? {
            Some(fork) if fork != *self.head => return Ok(Some(fork)),
            Some(_) => "contains this commit",
            None => "shares no history with this commit, or is not there",
        };
        self.passed_over.push(format!("{branch} {why}"));
        Ok(None)
    }
}
