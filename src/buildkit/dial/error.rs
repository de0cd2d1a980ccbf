//! Why no builder could be had.

use super::address::Peer;

/// Each text names what was tried; [`DialError::help`] says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("`{0}` is not an address that skiff can reach")]
    Address(String, Peer),
    #[error("no docker engine answers at {0}")]
    Unreachable(String, #[source] std::io::Error),
    #[error("permission denied on the docker engine's socket {0}")]
    Permission(String),
    #[error("the docker engine at {0} does not answer as one")]
    NotAnEngine(String, #[source] anyhow::Error),
    #[error(
        "the docker engine at {0} has no containerd image store, so it can neither export a registry cache nor push while it builds"
    )]
    NoContainerdStore(String),
    #[error("the docker engine at {0} does not let skiff speak to its BuildKit")]
    NoBuildKit(String, #[source] anyhow::Error),
    /// The docker context, who names it, and those that there are.
    #[error("the docker context `{0}` ({1}) does not exist; there are: {list}", list = .2.join(", "))]
    NoContext(String, String, Vec<String>),
    #[error("docker's configuration {0} cannot be used: {1}")]
    DockerConfig(String, String),
    /// A file or name, and what is wrong with it.
    #[error("TLS to the builder: {0}: {1}")]
    Tls(String, String),
    #[error("`builder.driver = \"remote\"` needs a builder's address")]
    NoEndpoint,
    #[error("`{0}` is not a builder")]
    NotABuilder(String),
    #[error("no BuildKit answers at {0}")]
    NoRemote(String, #[source] anyhow::Error),
    /// Every endpoint of a pool, with its reason.
    #[error("none of the {n} builders answers: {list}", n = .0.len(), list = .0.join("; "))]
    NoneOfPool(Vec<String>),
    /// The image.
    #[error("the builder's image {0} cannot be pulled")]
    Image(String, #[source] anyhow::Error),
    /// What was attempted.
    #[error("the builder's container {0}")]
    Container(String, #[source] anyhow::Error),
    /// The container, and the last lines that it wrote.
    #[error("the BuildKit in the container {0} does not answer")]
    Silent(String, #[source] anyhow::Error),
    #[error("there is no container {0} in the docker engine at {1}")]
    NoContainer(String, String),
}

impl DialError {
    /// The innermost cause, where the reason is.
    pub(crate) fn cause(&self) -> Option<String> {
        let mut cause = std::error::Error::source(self)?;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Some(cause.to_string())
    }

    /// What and why, in one line.
    pub(crate) fn full(&self) -> String {
        match self.cause() {
            Some(cause) => format!("{self} ({cause})"),
            None => self.to_string(),
        }
    }

    /// What the reader can do.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Address(_, Peer::Engine) => {
                "an engine is at unix:///path/to/docker.sock, tcp://host:port or ssh://user@host; see DOCKER_HOST and `docker context ls`"
            }
            Self::Address(_, Peer::BuildKit) | Self::NotABuilder(_) => {
                "a builder is at unix:///path/to/buildkitd.sock, tcp://host:port, tls://host:port, ssh://user@host or docker-container://NAME, \
                 or it is a driver: docker, docker-container"
            }
            Self::Unreachable(..) => {
                "start the engine (systemctl start docker), or set DOCKER_HOST to the socket of one that runs; ssh must work without asking"
            }
            Self::Permission(_) => {
                "add yourself to the group `docker`, or run as a user that may open the socket"
            }
            Self::NotAnEngine(..) => "see that DOCKER_HOST names a docker engine, 23 or later",
            Self::NoContainerdStore(_) => {
                "use `driver = \"docker-container\"`, or put {\"features\": {\"containerd-snapshotter\": true}} into the engine's daemon.json and restart it"
            }
            Self::NoBuildKit(..) => "skiff needs docker engine 23 or later",
            Self::NoContext(..) => "see `docker context ls`",
            Self::DockerConfig(..) => "mend the file, or set DOCKER_HOST, which comes first",
            Self::Tls(..) => {
                "certificates are PEM files: ca.pem, cert.pem and key.pem in the folder that BUILDKIT_TLS_DIR names (DOCKER_CERT_PATH for an engine)"
            }
            Self::NoEndpoint => {
                "write `endpoints = [\"tcp://host:1234\"]` below [builder], or set BUILDKIT_HOST"
            }
            Self::NoRemote(..) | Self::NoneOfPool(_) => {
                "see that buildkitd runs there and that the address is right; one that speaks TLS needs its certificates in BUILDKIT_TLS_DIR"
            }
            Self::Image(..) => {
                "see the name in `builder.image`, and that the engine reaches its registry (docker pull says more)"
            }
            Self::Container(..) | Self::Silent(..) => {
                "docker logs says more; `docker rm -f` of that container lets skiff make a new one"
            }
            Self::NoContainer(..) => "see `docker ps -a`",
        }
    }
}
