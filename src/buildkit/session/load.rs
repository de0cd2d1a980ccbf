//! Takes the tar archive of an image from a builder (`moby.filesync.v1.FileSend/DiffCopy`, BuildKit
//! `session/filesync/filesync.go`) and hands it to the local engine as it comes; nothing of it is kept here.

use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::ImportImageOptionsBuilder;
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSend;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tonic::{Request, Response, Status, Streaming};

/// The longest that the engine may take to answer: it first reads all of the image, which is as slow as the builder.
const LIMIT: Duration = Duration::from_hours(6);

/// The engine that images are loaded into.
#[derive(Clone)]
pub(crate) struct Loader {
    docker: Docker,
}

impl Loader {
    pub(crate) const METHOD: &str = "/moby.filesync.v1.FileSend/DiffCopy";

    pub(crate) fn new(docker: Docker) -> Self {
        Self {
            docker: docker.with_timeout(LIMIT),
        }
    }
}

#[tonic::async_trait]
impl FileSend for Loader {
    type DiffCopyStream = tokio_stream::Empty<Result<BytesMessage, Status>>;

    /// The answer ends when the engine has the image: the builder waits for it.
    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let bytes = request.into_inner().map_ok(|message| message.data.into());
        let options = ImportImageOptionsBuilder::default().build();
        let mut answers = self.docker.import_image_stream(options, bytes, None);
        while let Some(answer) = answers.next().await {
            answer.map_err(|error| {
                Status::internal(format!("the engine did not load the image: {error}"))
            })?;
        }
        Ok(Response::new(tokio_stream::empty()))
    }
}
