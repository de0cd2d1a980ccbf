//! Runs a plan: builds what is ready, in parallel, verifies what was pushed, and hands the whole set to the release.
//!
//! [`dispatcher`] owns the state of a run; a [`job`] is one container from build to verified image; [`event`] is how
//! everybody else learns of it. Nothing here prints.

mod builders;
mod cache;
pub(crate) mod dispatcher;
pub mod event;
mod failure;
mod files;
mod job;
mod log_lines;
mod mounts;
pub mod outcome;
pub(crate) mod private;
pub(crate) mod releasing;
mod scheduler;
mod solve_request;
pub(crate) mod stall;
pub(crate) mod steps;
mod verify;

pub(crate) use solve_request::attributes;
