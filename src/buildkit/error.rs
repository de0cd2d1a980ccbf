//! Why a Solve failed: BuildKit's status and the details that travel with it.
//!
//! `grpc-status-details-bin` holds a `google.rpc.Status` whose details are BuildKit's typed errors (`solver/errdefs`),
//! registered with containerd's `typeurl` and so encoded as JSON, with a type URL that ends in `+json`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard_buildkit_proto::google::rpc;
use prost::Message;
use serde::Deserialize;
use tonic::{Code, Status};

/// A build that failed, as far as the builder tells.
#[derive(Debug)]
pub(crate) struct BuildError {
    pub(crate) message: String,
    /// The file and lines of the instruction that failed.
    pub(crate) source: Option<Excerpt>,
    /// The digest of the vertex that failed.
    pub(crate) vertex: Option<String>,
    /// The connection to the builder broke: nothing is known of the build.
    pub(crate) connection_lost: bool,
}

/// A part of a file that the frontend read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) file: String,
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) first_line: usize,
    pub(crate) last_line: usize,
}

/// `errdefs.Source`: the Go struct embeds the protobuf message, hence the nested spelling.
#[derive(Deserialize)]
struct SourceDetail {
    info: Option<SourceInfo>,
    #[serde(default)]
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct SourceInfo {
    #[serde(default)]
    filename: String,
    /// Base64, as Go encodes bytes in JSON.
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct Range {
    start: Option<Position>,
    end: Option<Position>,
}

#[derive(Deserialize)]
struct Position {
    #[serde(default)]
    line: usize,
}

/// `errdefs.Vertex`.
#[derive(Deserialize)]
struct VertexDetail {
    digest: String,
}

impl From<&Status> for BuildError {
    fn from(status: &Status) -> Self {
        let mut error = Self {
            message: status.message().to_owned(),
            source: None,
            vertex: None,
            // tonic reports a broken transport as Unknown or Unavailable, with the cause attached; a status from the
            // builder has none.
            connection_lost: std::error::Error::source(status).is_some()
                && matches!(
                    status.code(),
                    Code::Unknown | Code::Unavailable | Code::Internal | Code::Cancelled
                ),
        };
        let details = rpc::Status::decode(status.details())
            .map(|status| status.details)
            .unwrap_or_default();
        for detail in details {
            let kind = detail
                .type_url
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .trim_end_matches("+json");
            match kind {
                "errdefs.Source" | "github.com.moby.buildkit.solver.errdefs.Source" => {
                    error.source = error.source.or_else(|| excerpt(&detail.value));
                }
                "errdefs.Vertex" | "github.com.moby.buildkit.solver.errdefs.Vertex" => {
                    error.vertex = serde_json::from_slice::<VertexDetail>(&detail.value)
                        .ok()
                        .map(|v| v.digest);
                }
                _ => {}
            }
        }
        error
    }
}

fn excerpt(json: &[u8]) -> Option<Excerpt> {
    let detail: SourceDetail = serde_json::from_slice(json).ok()?;
    let info = detail.info?;
    let range = detail.ranges.first()?;
    let first_line = range.start.as_ref()?.line.max(1);
    let last_line = range
        .end
        .as_ref()
        .map_or(first_line, |end| end.line.max(first_line));
    let text = String::from_utf8_lossy(&BASE64_STANDARD.decode(&info.data).ok()?).into_owned();
    Some(Excerpt {
        file: info.filename,
        text,
        first_line,
        last_line,
    })
}
