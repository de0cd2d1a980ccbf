//! The BuildKit client: transport, sessions, Solve and Status, errors. It knows images, caches and contexts as BuildKit
//! names them, and nothing of manifests, runs or reports.

pub(crate) mod dial;
pub(crate) mod error;
pub(crate) mod session;
pub(crate) mod solve;
pub(crate) mod status;
pub(crate) mod usage;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tonic::transport::Channel;

/// A BuildKit that answers. Cheap to clone: all clones share one connection.
#[derive(Clone)]
pub(crate) struct Builder {
    pub(crate) channel: Channel,
    /// How often the channel has connected: what was under way on a connection is lost with it.
    pub(crate) connects: Arc<AtomicU64>,
    /// What it is and where, for people: `docker engine 28.5.2 (unix:///run/docker.sock)`.
    pub(crate) description: String,
    /// CPUs of the machine it runs on.
    pub(crate) cpus: usize,
    pub(crate) driver: Driver,
    /// Where it takes sessions, if not by `Control.Session`.
    pub(crate) sessions: Option<dial::SessionEndpoint>,
}

/// How a builder is reached, and so what it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// The engine's own BuildKit, which has the engine's image store.
    Docker,
    /// A buildkitd in a container of skiff's. It has no image store.
    Container,
    /// A buildkitd that somebody runs. It has no image store.
    Remote,
}

impl Driver {
    /// Its name in `builder.driver`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Container => "docker-container",
            Self::Remote => "remote",
        }
    }
}

/// Largest message either way. tonic's default of 4 MiB is less than a Status of a chatty build.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// Largest header list either way. Exclude patterns travel as headers, and so do error details; hyper's default is 16 KiB.
pub(crate) const MAX_HEADERS: u32 = 1 << 20;

/// Flow-control windows: large enough that a context is not sent in lock-step.
pub(crate) const STREAM_WINDOW: u32 = 4 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 16 << 20;

/// A random identifier of 25 letters and digits, as BuildKit's own clients make them.
pub(crate) fn new_id() -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .take(25)
        .collect()
}
