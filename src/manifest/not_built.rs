//! What the contract has and this version has not, in one table: an issue that builds something deletes its line.
//!
//! Values are checked against the schema first, so that a typo gets its "did you mean" and not a refusal.

/// One thing that is refused by name.
pub(super) struct NotBuilt {
    /// The place, as `schema.rs` counts them; `[]` stands for the items of a list.
    pub place: &'static str,
    pub when: When,
    /// The remedy.
    pub instead: &'static str,
}

/// Which values of that place.
pub(super) enum When {
    /// Any: the key is not built.
    Given,
    /// Values with this in them.
    Has(&'static str),
}

const fn no(place: &'static str, when: When, instead: &'static str) -> NotBuilt {
    NotBuilt {
        place,
        when,
        instead,
    }
}

use When::{Given, Has};

const LEAVE_OUT: &str = "leave it out";
const NAME_BRANCHES: &str = "write the names of the branches, one by one";

pub(super) const TABLE: &[NotBuilt] = &[
    no("registry.untrusted", Given, LEAVE_OUT),
    no("channels.*[]", Has("*"), NAME_BRANCHES),
    no("channels.*[]", Has("?"), NAME_BRANCHES),
    no("channels.*[]", Has("["), NAME_BRANCHES),
    no(
        "container.tags[]",
        Has("{version}"),
        "use {timestamp}, {sha}, {short_sha}, {branch} or {name}",
    ),
];
