//! What a key is made from, as far as it is known.

use std::time::Duration;

use serde::Serialize;

use crate::buildkit::solve::Attributes;
use crate::key::{Inputs, Key};
use crate::release::names;

/// What a key lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Unknown {
    /// The input that is not known. `None`: no input; the container is one that has no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<String>,
    pub(crate) why: String,
}

#[derive(Default)]
pub(super) struct Made {
    pub(super) inputs: Inputs,
    pub(super) unknown: Vec<Unknown>,
}

impl Made {
    pub(super) fn key(&self) -> Option<Key> {
        self.unknown.is_empty().then(|| self.inputs.key())
    }

    pub(super) fn lack(&mut self, input: Option<String>, why: impl Into<String>) {
        let why = why.into();
        self.unknown.push(Unknown { input, why });
    }

    /// Sets what the frontend is told. `located`: it is known which registry the image is for.
    pub(super) fn attributes(&mut self, attributes: &Attributes, located: bool) {
        let repository = format!("label:{}", names::REPOSITORY);
        let known = |(name, _): &(&String, &String)| located || **name != repository;
        self.inputs.attributes(attributes.iter().filter(known));
        if !located {
            self.lack(Some(repository), "which registry it is for is not known");
        }
    }
}

/// The period of `max_age` that it is now. Periods begin at a time of the container's own, so that not all are built
/// again in the same hour.
pub(super) fn age(name: &str, max_age: Duration, now: u64) -> u64 {
    let period = max_age.as_secs().max(1);
    let offset = name.bytes().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    now.wrapping_add(offset % period) / period
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_age_lasts_as_long_as_it_may() {
        let week = Duration::from_hours(7 * 24);
        let now = 1_790_000_000;
        let turns: Vec<u64> = (now..now + 3 * 7 * 86_400)
            .step_by(3600)
            .map(|now| age("train", week, now))
            .collect();
        let distinct: BTreeSet<_> = turns.iter().collect();
        assert!((3..=4).contains(&distinct.len()));
        assert!(turns.is_sorted());
        assert_ne!(
            age("a", Duration::from_secs(1), 5),
            age("a", Duration::from_secs(1), 6)
        );
    }
}
