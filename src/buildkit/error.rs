//! Why a Solve failed: BuildKit's status and the details that travel with it.
//!
//! `grpc-status-details-bin` holds a `google.rpc.Status` whose details are BuildKit's typed errors (`solver/errdefs`),
//! registered with containerd's `typeurl` and so encoded as JSON, with a type URL that ends in `+json`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard_buildkit_proto::google::rpc;
use prost::Message;
use serde::Deserialize;
use tonic::Status;

/// A build that failed, as far as the builder tells.
#[derive(Debug)]
pub(crate) struct BuildError {
    pub(crate) message: String,
    /// The file and lines of the instruction that failed.
    pub(crate) source: Option<Excerpt>,
    /// The digest of the vertex that failed.
    pub(crate) vertex: Option<String>,
    /// The answer did not come through whole (a broken connection, error details beyond every limit): `message` is of the
    /// transport.
    pub(crate) answer_lost: bool,
    /// The builder does not answer any more: nothing is known of the build.
    pub(crate) connection_lost: bool,
}

/// A part of a file that the frontend read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
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
            // A status from the builder has no cause; one that tonic made of a broken stream has.
            answer_lost: std::error::Error::source(status).is_some(),
            connection_lost: false,
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
    // An instruction of several lines has a range for each of them.
    let lines = detail
        .ranges
        .iter()
        .flat_map(|range| [&range.start, &range.end]);
    let lines = lines.flatten().map(|position| position.line.max(1));
    let (first_line, last_line) = (lines.clone().min()?, lines.max()?);
    let text = String::from_utf8_lossy(&BASE64_STANDARD.decode(&info.data).ok()?).into_owned();
    Some(Excerpt {
        text,
        first_line,
        last_line,
    })
}
