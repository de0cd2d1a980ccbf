//! Reaching a builder: which one is meant ([`choose`]), where it is ([`address`], [`context`]), and how its BuildKit is
//! spoken to. All drivers end in one gRPC channel that connects again by itself when its connection breaks:
//!
//! - [`engine`] (`docker`): a Docker Engine gives its own BuildKit away over its API socket;
//! - [`remote`]: a buildkitd that listens somewhere;
//! - [`container`] (`docker-container`): a buildkitd in a container that skiff makes, over `buildctl dial-stdio`.

mod address;
mod buildkitd;
pub(crate) mod choose;
mod container;
mod context;
mod engine;
mod error;
mod remote;
mod stream;
mod tls;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{InfoRequest, ListWorkersRequest};
use http::HeaderMap;
use hyper_util::rt::TokioIo;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};

pub(crate) use self::address::Address;
pub(crate) use self::error::DialError;
use self::stream::ANSWER;
pub(crate) use self::stream::Stream;
use super::{Builder, CONNECTION_WINDOW, MAX_HEADERS, STREAM_WINDOW};

/// How to get a connection on which a BuildKit speaks HTTP/2; asked again whenever one is lost.
#[derive(Clone)]
enum Dialer {
    /// The engine's API, upgraded.
    Upgrade(Address),
    Direct(Address),
    /// `buildctl dial-stdio` in a container.
    Exec(container::Exec),
}

impl Dialer {
    async fn dial(&self) -> io::Result<Stream> {
        match self {
            Self::Upgrade(address) => upgraded(address, engine::GRPC, HeaderMap::new()).await,
            Self::Direct(address) => address.route.open().await,
            Self::Exec(exec) => exec.open().await,
        }
    }
}

async fn upgraded(address: &Address, path: &str, headers: HeaderMap) -> io::Result<Stream> {
    let upgraded = engine::upgrade(address, path, headers).await?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

/// Where an engine takes sessions, each on a connection of its own.
#[derive(Clone)]
pub(crate) struct SessionEndpoint(Address);

impl SessionEndpoint {
    /// A connection on which the engine speaks HTTP/2 as a client. `headers`: what the session offers.
    pub(crate) async fn open(&self, headers: HeaderMap) -> io::Result<Stream> {
        upgraded(&self.0, engine::SESSION, headers).await
    }
}

/// A channel to a BuildKit that has answered.
struct Connected {
    channel: Channel,
    /// How often it has connected.
    connects: Arc<AtomicU64>,
    /// `v0.32.2`, if it says so.
    version: Option<String>,
}

/// Whether a builder has caches of type `s3`, as far as it tells what it is: Docker's engine (moby
/// `daemon/internal/builder-next`) marks its workers, and builds BuildKit in without them; others that give a version have
/// them. One that does not answer is as it is: the build will say it.
pub(crate) async fn has_s3(builder: &Builder) -> bool {
    const ENGINE: &str = "org.mobyproject.buildkit.worker.moby.";
    let mut client = ControlClient::new(builder.channel.clone());
    let asked = client.list_workers(ListWorkersRequest::default());
    let Ok(Ok(answer)) = tokio::time::timeout(ANSWER, asked).await else {
        return true;
    };
    answer.into_inner().record.iter().all(|worker| {
        let engine = worker.labels.keys().any(|label| label.starts_with(ENGINE));
        !engine && worker.buildkit_version.is_some()
    })
}

/// Connects and asks for an answer.
async fn connect(dialer: Dialer) -> anyhow::Result<Connected> {
    let connects = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&connects);
    let channel = Endpoint::from_static("http://buildkit")
        .http2_max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let (dialer, count) = (dialer.clone(), Arc::clone(&count));
            async move {
                let stream = dialer.dial().await?;
                count.fetch_add(1, Ordering::Relaxed);
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        }))
        .await?;
    // A connection is made before the other side has said a word of HTTP/2.
    let mut client = ControlClient::new(channel.clone());
    let info = client.info(InfoRequest {});
    let version = match tokio::time::timeout(ANSWER, info).await {
        Ok(Ok(answer)) => answer.into_inner().buildkit_version.map(|v| v.version),
        // BuildKit before 0.11 does not know the question.
        Ok(Err(status)) if status.code() == Code::Unimplemented => None,
        Ok(Err(status)) => return Err(status.into()),
        Err(_) => anyhow::bail!("no answer within {} s", ANSWER.as_secs()),
    };
    Ok(Connected {
        channel,
        connects,
        version: version.filter(|version| !version.is_empty()),
    })
}
