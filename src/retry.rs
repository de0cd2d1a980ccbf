//! One retry policy for everything that crosses a network: exponential backoff with full jitter, a deadline over all
//! attempts, and the server's `Retry-After` where it sends one.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::clock;

/// How often, how fast and how long to try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryPolicy {
    /// Attempts after the first one.
    pub retries: usize,
    /// The first pause, before jitter; each next one doubles.
    pub first_delay: Duration,
    /// No pause is longer than this, unless the server asks for it.
    pub max_delay: Duration,
    /// No new attempt starts after this long.
    pub deadline: Duration,
}

impl RetryPolicy {
    /// For requests to a registry: outlasts a burst of ECR's throttling (a bucket refills within seconds).
    pub(crate) const REGISTRY: Self = Self {
        retries: 6,
        first_delay: Duration::from_millis(200),
        max_delay: Duration::from_secs(8),
        deadline: Duration::from_mins(1),
    };

    /// For a question to a registry without whose answer a run goes on, though it may build more than it had to.
    pub(crate) const QUESTION: Self = Self {
        deadline: Duration::from_secs(12),
        ..Self::REGISTRY
    };

    /// For the questions of who only wants to know what a run would do, perhaps where there is no network at all.
    pub(crate) const DRY_RUN: Self = Self {
        retries: 2,
        first_delay: Duration::from_millis(200),
        max_delay: Duration::from_secs(1),
        deadline: Duration::from_secs(3),
    };
}

/// What an attempt says of its failure.
pub(crate) enum Failure<E> {
    /// Worth another attempt, not before `after` when the server said so.
    Transient { error: E, after: Option<Duration> },
    /// No attempt will succeed.
    Permanent(E),
}

/// Runs `attempt` until it succeeds, fails for good, or the policy ends. The last error is returned.
pub(crate) async fn retry<T, E, F, Fut>(policy: RetryPolicy, mut attempt: F) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    let started = clock::now();
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(policy.first_delay)
        .with_max_delay(policy.max_delay)
        .with_max_times(policy.retries)
        .with_jitter()
        .build();
    loop {
        let (error, after) = match attempt().await {
            Ok(value) => return Ok(value),
            Err(Failure::Permanent(error)) => return Err(error),
            Err(Failure::Transient { error, after }) => (error, after),
        };
        let Some(pause) = pauses.next() else {
            return Err(error);
        };
        let pause = after.map_or(pause, |asked| asked.max(pause));
        if started.elapsed() + pause > policy.deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: RetryPolicy = RetryPolicy {
        retries: 3,
        first_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(2),
        deadline: Duration::from_secs(5),
    };

    #[tokio::test]
    async fn tries_again_until_it_works() {
        let mut left = 2;
        let result = retry(QUICK, || {
            left -= 1;
            let failed = left >= 0;
            async move {
                if failed {
                    Err(Failure::Transient {
                        error: "busy",
                        after: None,
                    })
                } else {
                    Ok("done")
                }
            }
        });
        assert_eq!(result.await, Ok("done"));
    }

    #[tokio::test]
    async fn stops_at_the_first_permanent_failure_and_at_the_last_retry() {
        let mut calls = 0;
        let denied: Result<(), _> = retry(QUICK, || {
            calls += 1;
            async { Err(Failure::Permanent("denied")) }
        })
        .await;
        assert_eq!((denied, calls), (Err("denied"), 1));

        let mut calls = 0;
        let busy: Result<(), _> = retry(QUICK, || {
            calls += 1;
            async {
                Err(Failure::Transient {
                    error: "busy",
                    after: None,
                })
            }
        })
        .await;
        assert_eq!((busy, calls), (Err("busy"), 4));
    }

    #[tokio::test]
    async fn a_wait_past_the_deadline_is_not_waited() {
        let started = clock::now();
        let result: Result<(), _> = retry(QUICK, || async {
            Err(Failure::Transient {
                error: "later",
                after: Some(Duration::from_mins(1)),
            })
        })
        .await;
        assert_eq!(result, Err("later"));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
