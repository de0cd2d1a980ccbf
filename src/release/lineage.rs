//! Which of two commits is newer: git's ancestry, never a clock, where there is git.

use std::collections::HashMap;

use super::record::Placed;
use super::standing::{Lineage, Relation};
use crate::changes::commit::Commit;
use crate::changes::git::{Ancestry, Checkout};

/// Asks the checkout, each question once, and has it fetch what it lacks to answer. Outside of git the order is that in
/// which releases were recorded.
#[derive(Debug, Default)]
pub(crate) struct History {
    checkout: Option<Checkout>,
    known: HashMap<(String, String), Relation>,
    unfetched: Option<String>,
}

impl History {
    pub(crate) fn new(checkout: Option<Checkout>) -> Self {
        Self {
            checkout,
            ..Self::default()
        }
    }

    /// Why history that was needed could not be fetched.
    pub(crate) fn unfetched(&self) -> Option<&str> {
        self.unfetched.as_deref()
    }

    /// `None`: there is no git to ask.
    fn of_commits(&mut self, old: &str, new: &str) -> Option<Relation> {
        let checkout = self.checkout.as_ref()?;
        let pair = (old.to_owned(), new.to_owned());
        if let Some(known) = self.known.get(&pair) {
            return Some(*known);
        }
        let relation = match (Commit::new(old), Commit::new(new)) {
            (Some(old), Some(new)) => {
                let ask = || related(checkout, &old, &new);
                if self.unfetched.is_some() {
                    ask()
                } else {
                    let answer = checkout.between_commits([&old, &new], ask);
                    answer.unwrap_or_else(|error| {
                        self.unfetched = Some(error.to_string());
                        None
                    })
                }
            }
            _ => None,
        };
        let relation = relation.unwrap_or(Relation::Unknown);
        self.known.insert(pair, relation);
        Some(relation)
    }
}

/// As far as the history that is here tells.
fn related(checkout: &Checkout, old: &Commit, new: &Commit) -> Option<Relation> {
    let (old, new) = (old.as_str(), new.as_str());
    match checkout.ancestry(old, new) {
        Ancestry::Yes => Some(Relation::Newer),
        forwards => match (forwards, checkout.ancestry(new, old)) {
            (_, Ancestry::Yes) => Some(Relation::Older),
            (Ancestry::No, Ancestry::No) => Some(Relation::Diverged),
            _ => None,
        },
    }
}

impl Lineage for History {
    fn relation(&mut self, standing: &Placed, candidate: &Placed) -> Relation {
        // What was there before skiff says nothing of itself.
        match (standing.was_found(), candidate.was_found()) {
            (true, true) => return Relation::Same,
            (true, false) => return Relation::Newer,
            (false, true) => return Relation::Older,
            (false, false) => {}
        }
        let recorded = match candidate.created.cmp(&standing.created) {
            std::cmp::Ordering::Less => Relation::Older,
            std::cmp::Ordering::Equal => Relation::Same,
            std::cmp::Ordering::Greater => Relation::Newer,
        };
        let (Some(old), Some(new)) = (&standing.commit, &candidate.commit) else {
            return recorded;
        };
        if old == new {
            return Relation::Same;
        }
        self.of_commits(old, new).unwrap_or(recorded)
    }
}
