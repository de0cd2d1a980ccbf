//! What is kept between runs so that the next one is faster, and where: decisions only, which the engine carries out.
//!
//! [`candidates`]: build caches by branch. What must stay true: a run of one branch never writes what another branch's
//! run relies on, and a cache that is missing or broken costs time, never a deploy. [`steps`]: by
//! which of several is chosen. [`mounts`]: what `RUN --mount=type=cache` leaves behind;
//! [`unwise`]: those of which a word is due. [`local`]: a cache in a folder;
//! [`s3`]: in a bucket.
//!
//! What is kept is found again by [`survey`], by what it is ([`stored`]); [`prune`] takes it away.

pub(crate) mod candidates;
pub(crate) mod labels;
pub(crate) mod local;
pub(crate) mod mounts;
pub(crate) mod prune;
pub(crate) mod s3;
pub(crate) mod steps;
pub(crate) mod stored;
pub(crate) mod survey;
pub(crate) mod unwise;
