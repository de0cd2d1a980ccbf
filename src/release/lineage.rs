//! Which of two commits is newer: git's ancestry, never a clock, where there is git.

use std::collections::HashMap;

use super::record::Placed;
use super::standing::{Lineage, Relation};
use crate::changes::git::{Ancestry, Checkout};

/// Asks the checkout, each question once. Outside of git the order is that in which releases were recorded.
#[derive(Debug, Default)]
pub(crate) struct History {
    checkout: Option<Checkout>,
    known: HashMap<(String, String), Ancestry>,
}

impl History {
    pub(crate) fn new(checkout: Option<Checkout>) -> Self {
        Self {
            checkout,
            known: HashMap::new(),
        }
    }

    fn ancestry(&mut self, ancestor: &str, descendant: &str) -> Option<Ancestry> {
        let checkout = self.checkout.as_ref()?;
        let pair = (ancestor.to_owned(), descendant.to_owned());
        let answer = self
            .known
            .entry(pair)
            .or_insert_with(|| checkout.ancestry(ancestor, descendant));
        Some(*answer)
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
        match self.ancestry(old, new) {
            None => recorded,
            Some(Ancestry::Yes) => Relation::Newer,
            Some(forwards) => match (forwards, self.ancestry(new, old)) {
                (_, Some(Ancestry::Yes)) => Relation::Older,
                (Ancestry::No, Some(Ancestry::No)) => Relation::Diverged,
                _ => Relation::Unknown,
            },
        }
    }
}
