//! Quotas of registries that are kept to rather than run into.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// Lets a few pass at once and then one per interval. Shared by all who count against one quota.
pub(super) struct Pace {
    interval: Duration,
    /// How far ahead of its turn one may pass.
    ahead: Duration,
    /// When the next one's turn is.
    turn: Mutex<Instant>,
}

impl Pace {
    /// ECR's quota on `PutImage`, which a PUT of a manifest is: 10 a second per account and region.
    pub(super) fn of_ecr() -> Self {
        Self::new(Duration::from_millis(100), 5)
    }

    fn new(interval: Duration, at_once: u32) -> Self {
        Self {
            interval,
            ahead: interval * at_once.saturating_sub(1),
            turn: Mutex::new(clock::now()),
        }
    }

    /// Returns when it is the caller's turn. Turns are given in the order of the calls.
    pub(super) async fn pass(&self) {
        tokio::time::sleep(self.wait(clock::now())).await;
    }

    fn wait(&self, now: Instant) -> Duration {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = (*turn).max(now);
        *turn = mine + self.interval;
        mine.saturating_duration_since(now)
            .saturating_sub(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_pass_at_once_and_then_one_per_interval() {
        let pace = Pace::new(Duration::from_millis(100), 3);
        let start = clock::now();
        let waits: Vec<u128> = (0..6).map(|_| pace.wait(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        // Nothing is saved up beyond that.
        let later = start + Duration::from_mins(1);
        let waits: Vec<u128> = (0..4).map(|_| pace.wait(later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100]);
    }
}
