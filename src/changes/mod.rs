//! What git knows of the sources.

pub(crate) mod gaps;
pub(crate) mod git;
pub(crate) mod index;
pub(crate) mod since;
