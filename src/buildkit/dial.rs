//! Reaching a builder. The Docker Engine gives its BuildKit away by `POST /grpc` with `Upgrade: h2c` on the API socket;
//! gRPC then runs over that very connection (moby `api/server/router/grpc`).

use std::path::PathBuf;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Endpoint, Uri};

use super::{Builder, CONNECTION_WINDOW, MAX_HEADERS, STREAM_WINDOW};

/// Where a Docker Engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineAddress {
    Unix(PathBuf),
    /// `host:port`, plain.
    Tcp(String),
}

/// Docker's own default.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The longest the engine may take to answer a call that does no work, in seconds.
const ANSWER_SECONDS: u64 = 20;

/// Why no builder could be had. Each text names what was tried; [`DialError::help`] says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("`{0}` is not an address that skiff can reach")]
    Address(String),
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
}

impl DialError {
    /// What the reader can do.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Address(_) => "set DOCKER_HOST to unix:///path/to/docker.sock or tcp://host:port",
            Self::Unreachable(..) => {
                "start the engine (systemctl start docker), or set DOCKER_HOST to the socket of one that runs"
            }
            Self::Permission(_) => {
                "add yourself to the group `docker`, or run as a user that may open the socket"
            }
            Self::NotAnEngine(..) => "see that DOCKER_HOST names a docker engine, 23 or later",
            Self::NoContainerdStore(_) => {
                "put {\"features\": {\"containerd-snapshotter\": true}} into the engine's daemon.json and restart it"
            }
            Self::NoBuildKit(..) => "skiff needs docker engine 23 or later",
        }
    }
}

impl EngineAddress {
    /// From `DOCKER_HOST`; unset or empty means Docker's default socket.
    pub(crate) fn from_docker_host(docker_host: Option<&str>) -> Result<Self, DialError> {
        match docker_host.filter(|host| !host.is_empty()) {
            None => Ok(Self::Unix(DEFAULT_SOCKET.into())),
            Some(host) => match host.split_once("://") {
                Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
                Some(("tcp", address))
                    if address.rsplit_once(':').is_some_and(|(h, p)| {
                        !h.is_empty() && p.trim_end_matches('/').parse::<u16>().is_ok()
                    }) =>
                {
                    Ok(Self::Tcp(address.trim_end_matches('/').to_owned()))
                }
                _ => Err(DialError::Address(host.to_owned())),
            },
        }
    }

    async fn open(&self) -> std::io::Result<Box<dyn Duplex>> {
        let connect = async {
            Ok(match self {
                Self::Unix(path) => {
                    Box::new(tokio::net::UnixStream::connect(path).await?) as Box<dyn Duplex>
                }
                Self::Tcp(address) => Box::new(tokio::net::TcpStream::connect(address).await?),
            })
        };
        tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS), connect).await?
    }

    fn client(&self) -> Result<Docker, bollard::errors::Error> {
        match self {
            Self::Unix(path) => Docker::connect_with_unix(
                &path.to_string_lossy(),
                ANSWER_SECONDS,
                API_DEFAULT_VERSION,
            ),
            Self::Tcp(address) => Docker::connect_with_http(
                &format!("tcp://{address}"),
                ANSWER_SECONDS,
                API_DEFAULT_VERSION,
            ),
        }
    }
}

impl std::fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects to a Docker Engine's BuildKit, after seeing that it can do the job.
pub(crate) async fn engine(address: &EngineAddress) -> Result<Builder, DialError> {
    let shown = address.to_string();
    address.open().await.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => DialError::Permission(shown.clone()),
        _ => DialError::Unreachable(shown.clone(), error),
    })?;
    let not_an_engine =
        |error: bollard::errors::Error| DialError::NotAnEngine(shown.clone(), error.into());
    let info = address
        .client()
        .map_err(not_an_engine)?
        .info()
        .await
        .map_err(not_an_engine)?;
    let containerd_store = info.driver_status.iter().flatten().any(|pair| {
        pair.iter()
            .any(|text| text == "io.containerd.snapshotter.v1")
    });
    if !containerd_store {
        return Err(DialError::NoContainerdStore(shown));
    }

    let dialled = address.clone();
    let channel = Endpoint::from_static("http://docker")
        .http2_max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector(tower::service_fn(move |_: Uri| upgrade(dialled.clone())))
        .await
        .map_err(|error| DialError::NoBuildKit(shown.clone(), error.into()))?;
    let version = info.server_version.unwrap_or_default();
    let cpus = info.ncpu.and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
    Ok(Builder {
        channel,
        description: format!("docker engine {version} at {shown}"),
        cpus,
    })
}

/// A fresh connection, upgraded to gRPC's HTTP/2.
async fn upgrade(address: EngineAddress) -> std::io::Result<Upgraded> {
    let stream = address.open().await?;
    let handshake = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        let request = http::Request::post("/grpc")
            .header(http::header::HOST, "docker")
            .header(http::header::CONNECTION, "Upgrade")
            .header(http::header::UPGRADE, "h2c")
            .body(Empty::<Bytes>::new())
            .map_err(std::io::Error::other)?;
        let response = sender
            .send_request(request)
            .await
            .map_err(std::io::Error::other)?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(std::io::Error::other(format!(
                "POST /grpc was answered with {}",
                response.status()
            )));
        }
        hyper::upgrade::on(response)
            .await
            .map_err(std::io::Error::other)
    };
    tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS), handshake).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_host_is_read_as_docker_does() {
        let address = |host| {
            EngineAddress::from_docker_host(host)
                .map(|a| a.to_string())
                .map_err(|e| e.to_string())
        };
        assert_eq!(address(None), Ok("unix:///var/run/docker.sock".into()));
        assert_eq!(address(Some("")), Ok("unix:///var/run/docker.sock".into()));
        assert_eq!(
            address(Some("unix:///tmp/d.sock")),
            Ok("unix:///tmp/d.sock".into())
        );
        assert_eq!(
            address(Some("tcp://127.0.0.1:2375")),
            Ok("tcp://127.0.0.1:2375".into())
        );
        for wrong in ["ssh://host", "tcp://host", "docker", "unix://"] {
            assert!(address(Some(wrong)).is_err(), "{wrong} was taken");
        }
    }
}
