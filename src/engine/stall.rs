//! Builds that hang without a word: a registry that takes a push and then says nothing holds the builder's Solve for
//! ever. What a build's own commands do is never judged by its silence; `timeout` is for that.

use std::time::Duration;

use super::outcome::Failure;
use super::steps::Steps;

/// The longest that the builder's own work (pull, export, push, reading a context) may go without any progress. It
/// reports none while it compresses a layer, and the largest layers take minutes.
pub(crate) const DEFAULT: Duration = Duration::from_mins(15);

/// The variable that says otherwise, a duration as in `containers.toml`.
pub(crate) const VARIABLE: &str = "SKIFF_STALL_TIMEOUT";

/// The failure of a build that has not said anything for `limit`.
pub(super) fn failure(limit: Duration, steps: &Steps) -> Failure {
    let seconds = limit.as_secs();
    let step = steps.running().map(|step| step.name.to_owned());
    let place = step.as_deref().unwrap_or("the builder");
    let mut failure = Failure::new(format!("stalled: no progress for {seconds} s: {place}"));
    failure.step = step;
    failure
        .help("see that the registries answer; running the same command again is safe")
        .help(format!("{VARIABLE}=30m waits longer"))
}
