//! The driver `remote`: a buildkitd that listens on a socket, a port, or behind ssh.

use super::{Address, DialError, Dialer, connect};
use crate::buildkit::{Builder, Driver};

/// CPUs that a remote builder is taken to have, as it does not say.
const CPUS: usize = 4;

pub(super) async fn builder(address: &Address) -> Result<Builder, DialError> {
    let shown = address.to_string();
    let connected = connect(Dialer::Direct(address.clone()))
        .await
        .map_err(|error| DialError::NoRemote(shown.clone(), error))?;
    let version = connected
        .version
        .map_or_else(String::new, |v| format!(" {v}"));
    Ok(Builder {
        channel: connected.channel,
        connects: connected.connects,
        description: format!("buildkit{version} at {shown}"),
        cpus: CPUS,
        driver: Driver::Remote,
        sessions: None,
    })
}

/// All that answer, in the order given, and what is wrong with the others.
pub(super) async fn pool(
    addresses: &[Address],
) -> Result<(Vec<Builder>, Vec<DialError>), DialError> {
    let asked = futures_util::future::join_all(addresses.iter().map(builder)).await;
    let mut builders = Vec::new();
    let mut dead = Vec::new();
    for answer in asked {
        match answer {
            Ok(builder) => builders.push(builder),
            Err(error) => dead.push(error),
        }
    }
    if !builders.is_empty() {
        return Ok((builders, dead));
    }
    if dead.len() == 1
        && let Some(error) = dead.pop()
    {
        return Err(error);
    }
    Err(DialError::NoneOfPool(
        dead.iter().map(DialError::full).collect(),
    ))
}
