//! The time. Nobody else asks the system for it.

use std::time::Instant;

use jiff::Timestamp;

/// For durations: never goes backwards.
#[expect(clippy::disallowed_methods, reason = "the one owner of the time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// For records and names: wall-clock time, UTC.
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::now()
}
