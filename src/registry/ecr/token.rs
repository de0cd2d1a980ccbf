//! A registry token and when to renew it.

use std::time::{Duration, Instant};

use aws_sdk_ecr::primitives::DateTime;
use aws_sdk_ecr::types::AuthorizationData;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::error::EcrError;
use crate::clock;
use crate::secret::Secret;

/// What logs in as user `AWS`.
pub(super) struct Token {
    pub(super) password: Secret,
    /// From then on the next who asks renews it.
    pub(super) renew: Instant,
    end: Option<Instant>,
}

/// How long a token lives (Amazon ECR user guide, "Private registry authentication"). This machine's clock may be wrong:
/// nothing is believed that would be longer.
const LIFE: Duration = Duration::from_hours(12);

/// What is left of a token that is handed out: enough for a long build and its push, as the builder keeps what it got.
const LEFT: Duration = Duration::from_hours(1);

/// An end in the past is an emulator's, or a wrong clock: the token is good, for how long is not known.
const UNKNOWN: Duration = Duration::from_mins(1);

impl Token {
    pub(super) fn new(data: &AuthorizationData) -> Result<Self, EcrError> {
        let malformed = || EcrError::Malformed("it has no token of the form `AWS:password`");
        let text = data.authorization_token().ok_or_else(malformed)?;
        let decoded = BASE64_STANDARD.decode(text).map_err(|_| malformed())?;
        let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
        let password = decoded.strip_prefix("AWS:").ok_or_else(malformed)?;
        let end = data.expires_at().map_or(0, DateTime::secs);
        let left = u64::try_from(end - clock::timestamp().as_second()).unwrap_or_default();
        let life = Duration::from_secs(left).min(LIFE);
        Ok(Self {
            password: Secret::new(password),
            renew: clock::now() + handed_out_for(life),
            end: (!life.is_zero()).then(|| clock::now() + life),
        })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.end.is_some_and(|end| clock::now() < end)
    }

    /// Not to be renewed by everybody who asks while that fails.
    pub(super) fn postpone(&mut self) {
        self.renew = clock::now() + UNKNOWN;
    }
}

/// How long a token that lives this long is handed out.
fn handed_out_for(life: Duration) -> Duration {
    if life.is_zero() {
        return UNKNOWN;
    }
    life.saturating_sub(LEFT.min(life / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_a_token_that_is_about_to_end() {
        for (life, handed_out) in [
            (LIFE, Duration::from_hours(11)),
            (Duration::from_mins(30), Duration::from_mins(15)),
            (Duration::from_secs(4), Duration::from_secs(2)),
            (Duration::ZERO, UNKNOWN),
        ] {
            assert_eq!(handed_out_for(life), handed_out, "{life:?}");
        }
    }

    #[test]
    fn an_end_that_cannot_be_is_not_believed() {
        let token = |seconds: i64| {
            let end = clock::timestamp().as_second() + seconds;
            let data = AuthorizationData::builder()
                .authorization_token(BASE64_STANDARD.encode("AWS:p"))
                .expires_at(DateTime::from_secs(end))
                .build();
            let token = Token::new(&data).unwrap_or_else(|error| panic!("{error}"));
            token.renew - clock::now()
        };
        assert!(token(-300_000_000) <= UNKNOWN);
        assert!(token(10 * 365 * 86_400) <= Duration::from_hours(11));
        assert!(token(60) <= Duration::from_secs(30));
    }
}
