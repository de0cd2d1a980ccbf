//! What is kept between runs so that the next one is faster, and where: decisions only, which the engine carries out.
//!
//! [`candidates`]: build caches by branch. What must stay true: a run of one branch never writes what another branch's
//! run relies on, and a cache that is missing or broken costs time, never a deploy. [`mounts`]: what `RUN
//! --mount=type=cache` leaves behind.

pub(crate) mod candidates;
pub(crate) mod mounts;
