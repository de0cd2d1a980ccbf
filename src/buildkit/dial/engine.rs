//! The driver `docker`: a Docker Engine gives its BuildKit away by `POST /grpc` with `Upgrade: h2c` on the API socket;
//! gRPC then runs over that very connection (moby `api/server/router/grpc`). By `POST /session` it takes a session in the
//! same way, with the session's headers as those of the request (moby `api/server/router/session`).

use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONNECTION, UPGRADE};
use http_body_util::Empty;
use hyper::body::{Body, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::stream::ANSWER;
use super::{Address, DialError, Dialer, SessionEndpoint, connect};
use crate::buildkit::{Builder, Driver};

/// An engine that has answered.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) address: Address,
    pub(super) docker: Docker,
    pub(super) info: SystemInfo,
}

/// Asks the engine who it is.
pub(super) async fn ask(address: &Address) -> Result<Engine, DialError> {
    let shown = address.to_string();
    address
        .route
        .open()
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => DialError::Permission(shown.clone()),
            _ => DialError::Unreachable(shown.clone(), error),
        })?;
    let not_an_engine =
        |error: bollard::errors::Error| DialError::NotAnEngine(shown.clone(), error.into());
    let docker = client(address).map_err(not_an_engine)?;
    let info = docker.info().await.map_err(|error| match error {
        // A program such as ssh says only now that it cannot get there.
        bollard::errors::Error::IOError { err } if address.route.is_program() => {
            DialError::Unreachable(shown.clone(), err)
        }
        other => not_an_engine(other),
    })?;
    Ok(Engine {
        address: address.clone(),
        docker,
        info,
    })
}

impl Engine {
    /// Without it the engine's BuildKit can neither export a registry cache nor push.
    pub(super) fn has_containerd_store(&self) -> bool {
        self.info.driver_status.iter().flatten().any(|pair| {
            pair.iter()
                .any(|text| text == "io.containerd.snapshotter.v1")
        })
    }

    pub(super) fn version(&self) -> &str {
        self.info.server_version.as_deref().unwrap_or_default()
    }

    pub(super) fn cpus(&self) -> usize {
        let cpus = self.info.ncpu.and_then(|n| usize::try_from(n).ok());
        cpus.unwrap_or(1)
    }

    /// Its own BuildKit.
    pub(super) async fn builder(&self) -> Result<Builder, DialError> {
        let shown = self.address.to_string();
        if !self.has_containerd_store() {
            return Err(DialError::NoContainerdStore(shown));
        }
        let connected = connect(Dialer::Upgrade(self.address.clone()))
            .await
            .map_err(|error| DialError::NoBuildKit(shown.clone(), error))?;
        Ok(Builder {
            channel: connected.channel,
            connects: connected.connects,
            description: format!("docker engine {} at {shown}", self.version()),
            cpus: self.cpus(),
            driver: Driver::Docker,
            sessions: Some(SessionEndpoint(self.address.clone())),
        })
    }
}

/// The Engine API over whatever reaches the engine; a connection for each request, as `ssh` and upgrades want it.
fn client(address: &Address) -> Result<Docker, bollard::errors::Error> {
    let address = address.clone();
    let transport = move |request: BollardRequest| {
        let address = address.clone();
        Box::pin(async move { Ok(send(&address, request).await?) })
    };
    let seconds = ANSWER.as_secs();
    Docker::connect_with_custom_transport(
        transport,
        Some("http://docker"),
        seconds,
        API_DEFAULT_VERSION,
    )
}

/// Sends one request on a connection of its own, which may be upgraded.
async fn send<B>(
    address: &Address,
    mut request: http::Request<B>,
) -> std::io::Result<http::Response<Incoming>>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = address.route.open().await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    let connection = tokio::spawn(connection.with_upgrades());
    // A server wants the path alone, and a host of some name.
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    *request.uri_mut() = path.parse().map_err(std::io::Error::other)?;
    let host = http::HeaderValue::from_static("docker");
    request.headers_mut().insert(http::header::HOST, host);
    let error = match sender.send_request(request).await {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    // The connection may have ended before it was asked anything: it knows why.
    let why = match tokio::time::timeout(LAST_WORDS, connection).await {
        Ok(Ok(Err(why))) => why,
        _ => error,
    };
    Err(std::io::Error::other(why))
}

/// The longest that a connection which takes no request may take to say why.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

/// The path under which BuildKit is served.
pub(super) const GRPC: &str = "/grpc";
/// The path under which sessions are taken.
pub(super) const SESSION: &str = "/session";

/// A fresh connection, upgraded to HTTP/2.
pub(super) async fn upgrade(
    address: &Address,
    path: &str,
    headers: HeaderMap,
) -> std::io::Result<Upgraded> {
    let handshake = async {
        let mut request = http::Request::post(path)
            .body(Empty::<Bytes>::new())
            .map_err(std::io::Error::other)?;
        *request.headers_mut() = headers;
        for (name, value) in [(CONNECTION, "Upgrade"), (UPGRADE, "h2c")] {
            let value = http::HeaderValue::from_static(value);
            request.headers_mut().insert(name, value);
        }
        let response = send(address, request).await?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(std::io::Error::other(format!(
                "POST {path} was answered with {}",
                response.status()
            )));
        }
        hyper::upgrade::on(response)
            .await
            .map_err(std::io::Error::other)
    };
    tokio::time::timeout(ANSWER, handshake).await?
}
