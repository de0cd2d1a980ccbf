//! What a build tells of itself while it runs: BuildKit's status messages as our own types, converted in one place.

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{self as proto, StatusResponse};

/// One message of the status stream. A vertex appears again whenever it changes.
#[derive(Debug, Default)]
pub(crate) struct StatusUpdate {
    pub(crate) vertices: Vec<Vertex>,
    pub(crate) progress: Vec<Progress>,
    pub(crate) logs: Vec<Log>,
    pub(crate) warnings: Vec<String>,
}

/// A node of the build graph.
#[derive(Debug, Clone)]
pub(crate) struct Vertex {
    pub(crate) digest: String,
    pub(crate) name: String,
    pub(crate) cached: bool,
    /// Seconds since the epoch, by the builder's clock.
    pub(crate) started: Option<f64>,
    pub(crate) completed: Option<f64>,
    pub(crate) error: Option<String>,
}

/// Something inside a vertex that counts bytes: a layer, a context.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) vertex: String,
    pub(crate) item: String,
    pub(crate) current: u64,
    /// 0: not known.
    pub(crate) total: u64,
    pub(crate) done: bool,
}

/// A piece of a vertex's output: any bytes, cut anywhere.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) vertex: String,
    pub(crate) stderr: bool,
    pub(crate) bytes: Vec<u8>,
}

impl From<StatusResponse> for StatusUpdate {
    fn from(response: StatusResponse) -> Self {
        Self {
            vertices: response.vertexes.into_iter().map(Vertex::from).collect(),
            progress: response.statuses.into_iter().map(Progress::from).collect(),
            logs: response.logs.into_iter().map(Log::from).collect(),
            warnings: response
                .warnings
                .iter()
                .map(|w| String::from_utf8_lossy(&w.short).into_owned())
                .collect(),
        }
    }
}

impl From<proto::Vertex> for Vertex {
    fn from(vertex: proto::Vertex) -> Self {
        Self {
            digest: vertex.digest,
            name: vertex.name,
            cached: vertex.cached,
            started: vertex.started.map(seconds),
            completed: vertex.completed.map(seconds),
            error: Some(vertex.error).filter(|error| !error.is_empty()),
        }
    }
}

impl From<proto::VertexStatus> for Progress {
    fn from(status: proto::VertexStatus) -> Self {
        Self {
            vertex: status.vertex,
            item: status.id,
            current: status.current.try_into().unwrap_or_default(),
            total: status.total.try_into().unwrap_or_default(),
            done: status.completed.is_some(),
        }
    }
}

impl From<proto::VertexLog> for Log {
    fn from(log: proto::VertexLog) -> Self {
        Self {
            vertex: log.vertex,
            stderr: log.stream == 2,
            bytes: log.msg,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since the epoch fit an f64 to the microsecond"
)]
fn seconds(time: Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}
