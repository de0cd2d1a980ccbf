//! Hosts that do not answer, for who asks many questions and can go on without the answers: each costs its retries once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::error::{Problem, RegistryError};
use super::http::{Request, Response, Transport};
use crate::reference::RegistryHost;
use crate::retry::RetryPolicy;

/// How much longer than its retries an answer is waited for: the last of them may be one that gets none.
const SLACK: Duration = Duration::from_secs(3);

/// Why a host was silent: the parts of [`Problem::Unreachable`].
type Why = (String, Option<&'static str>);

/// Those of a client.
#[derive(Default)]
pub(super) struct Silence(Mutex<HashMap<RegistryHost, Why>>);

impl Silence {
    /// Sends a request, unless its host was silent before.
    pub(super) async fn send(
        &self,
        transport: &Transport,
        request: &Request<'_>,
        policy: RetryPolicy,
    ) -> Result<Response, RegistryError> {
        let host = request.place.host();
        let error = |(reason, remedy): Why| RegistryError {
            operation: request.operation.clone(),
            url: host.to_string(),
            problem: Box::new(Problem::Unreachable {
                reason,
                remedy,
                transient: false,
            }),
        };
        let known = self.hosts().get(host).cloned();
        if let Some(why) = known {
            return Err(error(why));
        }
        let patience = policy.deadline + SLACK;
        let answer = tokio::time::timeout(patience, transport.send(request, policy)).await;
        let answer = answer.unwrap_or_else(|_| {
            let reason = format!("no answer within {} s", patience.as_secs());
            Err(error((reason, None)))
        });
        if let Err(error) = &answer
            && let Problem::Unreachable { reason, remedy, .. } = &*error.problem
        {
            let why = (reason.clone(), *remedy);
            self.hosts().entry(host.clone()).or_insert(why);
        }
        answer
    }

    fn hosts(&self) -> std::sync::MutexGuard<'_, HashMap<RegistryHost, Why>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
