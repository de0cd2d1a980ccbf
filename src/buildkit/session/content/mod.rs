//! A folder of blobs that a builder reads and writes through the session (`containerd.services.content.v1.Content`): its
//! caches of type `local` (BuildKit `session/content`, `cache/remotecache/local`). Only what those call is there.

mod messages;
pub(crate) mod store;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request as HttpRequest, Response as HttpResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use self::messages::{
    AbortRequest, Empty, Info, InfoRequest, InfoResponse, ReadContentRequest, ReadContentResponse,
    WriteAction, WriteContentRequest, WriteContentResponse,
};
use self::store::{BlobStore, BlobWriter, WriteError};
use super::super::MAX_MESSAGE;
use crate::reference::Digest;

/// Which store a call is for (BuildKit `session/content/attachable.go`).
const STORE: &str = "buildkit-attachable-store-id";

/// Bytes that are sent at a time.
const CHUNK: usize = 1 << 20;

/// The folders that a session offers, by the names that the builder knows them by.
#[derive(Clone)]
pub(crate) struct ContentService {
    stores: Arc<BTreeMap<String, BlobStore>>,
}

impl ContentService {
    pub(crate) const METHODS: [&str; 4] = [
        "/containerd.services.content.v1.Content/Info",
        "/containerd.services.content.v1.Content/Read",
        "/containerd.services.content.v1.Content/Write",
        "/containerd.services.content.v1.Content/Abort",
    ];

    /// `stores`: by what a cache's attribute `src` or `dest` says.
    pub(crate) fn new(stores: BTreeMap<String, BlobStore>) -> Self {
        let named = stores.into_iter();
        let named = named.map(|(name, store)| (format!("local:{name}"), store));
        Self {
            stores: Arc::new(named.collect()),
        }
    }

    fn store(&self, metadata: &MetadataMap) -> Result<BlobStore, Status> {
        let id = metadata.get(STORE).and_then(|id| id.to_str().ok());
        let store = id.and_then(|id| self.stores.get(id));
        let store = store.ok_or_else(|| Status::not_found("there is no such store"));
        store.cloned()
    }

    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let store = self.store(request.metadata())?;
        let digest = digest(&request.into_inner().digest)?;
        let size = blocking({
            let digest = digest.clone();
            move || Ok(store.size(&digest))
        });
        let size = size.await?.ok_or_else(|| missing(&digest))?;
        let info = Info {
            digest: digest.to_string(),
            size: signed(size),
            ..Info::default()
        };
        Ok(Response::new(InfoResponse { info: Some(info) }))
    }

    fn read(
        &self,
        request: Request<ReadContentRequest>,
    ) -> Result<Response<Answers<ReadContentResponse>>, Status> {
        let store = self.store(request.metadata())?;
        let ReadContentRequest {
            digest: name,
            offset,
            size,
        } = request.into_inner();
        let digest = digest(&name)?;
        let all = store.size(&digest).ok_or_else(|| missing(&digest))?;
        let begin = u64::try_from(offset).unwrap_or(0);
        if begin > all {
            return Err(Status::out_of_range("beyond the end of the blob"));
        }
        let asked = u64::try_from(size).unwrap_or(0);
        let end = match asked {
            0 => all,
            asked => begin.saturating_add(asked).min(all),
        };
        let (sender, receiver) = mpsc::channel(2);
        tokio::spawn(async move {
            let mut at = begin;
            while at < end {
                let length = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
                let (store, digest) = (store.clone(), digest.clone());
                let read = blocking(move || store.read(&digest, at, length)).await;
                let answer = read.and_then(|bytes| {
                    if bytes.is_empty() {
                        return Err(Status::data_loss("the blob has become shorter"));
                    }
                    Ok(ReadContentResponse {
                        offset: signed(at),
                        data: bytes.into(),
                    })
                });
                let ended = answer.is_err();
                at += answer.as_ref().map_or(0, |a| a.data.len() as u64);
                if sender.send(answer).await.is_err() || ended {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    fn write(
        &self,
        request: Request<Streaming<WriteContentRequest>>,
    ) -> Result<Response<Answers<WriteContentResponse>>, Status> {
        let store = self.store(request.metadata())?;
        let mut messages = request.into_inner();
        let (sender, receiver) = mpsc::channel(2);
        tokio::spawn(async move {
            let mut ingest = Ingest::new(store);
            loop {
                // The builder has gone, or changed its mind: what was written is dropped.
                let Ok(Some(message)) = messages.message().await else {
                    return;
                };
                let last = message.action == i32::from(WriteAction::Commit);
                let answer = ingest.take(message).await;
                let ended = last || answer.is_err();
                if sender.send(answer).await.is_err() || ended {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

type Answers<T> = ReceiverStream<Result<T, Status>>;

/// One write, from its first message to its commit.
struct Ingest {
    store: BlobStore,
    writer: Option<BlobWriter>,
    total: Option<u64>,
    expected: Option<Digest>,
}

impl Ingest {
    fn new(store: BlobStore) -> Self {
        Self {
            store,
            writer: None,
            total: None,
            expected: None,
        }
    }

    async fn take(&mut self, message: WriteContentRequest) -> Result<WriteContentResponse, Status> {
        if !message.expected.is_empty() {
            let expected = digest(&message.expected)?;
            if self.store.size(&expected).is_some() {
                return Err(Status::already_exists(format!("{expected} is there")));
            }
            self.expected = Some(expected);
        }
        self.total = u64::try_from(message.total)
            .ok()
            .filter(|total| *total > 0)
            .or(self.total);
        let action = WriteAction::try_from(message.action)
            .map_err(|_| Status::invalid_argument("an unknown action"))?;
        let (store, writer) = (self.store.clone(), self.writer.take());
        let (total, expected) = (self.total, self.expected.clone());
        let work = move || -> Result<(Option<BlobWriter>, WriteContentResponse), Status> {
            let mut writer = match writer {
                Some(writer) => writer,
                None => store.write().map_err(|error| failed(&error.into()))?,
            };
            let mut answer = WriteContentResponse {
                action: message.action,
                total: total.map_or(0, signed),
                ..WriteContentResponse::default()
            };
            if action != WriteAction::Stat {
                let at = u64::try_from(message.offset).unwrap_or(0);
                let moved = match at {
                    _ if at == writer.written => Ok(()),
                    0 => writer.restart(),
                    _ => return Err(Status::out_of_range("a write goes on where it was")),
                };
                let added = moved.and_then(|()| writer.add(&message.data));
                added.map_err(|error| failed(&error.into()))?;
            }
            answer.offset = signed(writer.written);
            if action == WriteAction::Commit {
                let kept = writer.commit(&store, total, expected.as_ref());
                answer.digest = kept.map_err(|error| failed(&error))?.to_string();
                return Ok((None, answer));
            }
            Ok((Some(writer), answer))
        };
        let done = tokio::task::spawn_blocking(work).await;
        let (writer, answer) = done.map_err(|error| Status::internal(error.to_string()))??;
        self.writer = writer;
        Ok(answer)
    }
}

fn failed(error: &WriteError) -> Status {
    match error {
        WriteError::Io(_) => Status::internal(format!("the cache cannot be written: {error}")),
        _ => Status::failed_precondition(error.to_string()),
    }
}

fn missing(digest: &Digest) -> Status {
    Status::not_found(format!("{digest} is not there"))
}

fn digest(text: &str) -> Result<Digest, Status> {
    Digest::new(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Sizes are signed on the wire, and far below that.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Status::internal(error.to_string()))?;
    done.map_err(|error| Status::internal(format!("the cache cannot be read: {error}")))
}

impl NamedService for ContentService {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

/// A future of a call, as tonic wants it.
type Answer<T> = std::pin::Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

struct InfoCall(ContentService);
impl UnaryService<InfoRequest> for InfoCall {
    type Response = InfoResponse;
    type Future = Answer<InfoResponse>;
    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.info(request).await })
    }
}

struct ReadCall(ContentService);
impl ServerStreamingService<ReadContentRequest> for ReadCall {
    type Response = ReadContentResponse;
    type ResponseStream = Answers<ReadContentResponse>;
    type Future = Answer<Self::ResponseStream>;
    fn call(&mut self, request: Request<ReadContentRequest>) -> Self::Future {
        Box::pin(std::future::ready(self.0.read(request)))
    }
}

struct WriteCall(ContentService);
impl StreamingService<WriteContentRequest> for WriteCall {
    type Response = WriteContentResponse;
    type ResponseStream = Answers<WriteContentResponse>;
    type Future = Answer<Self::ResponseStream>;
    fn call(&mut self, request: Request<Streaming<WriteContentRequest>>) -> Self::Future {
        Box::pin(std::future::ready(self.0.write(request)))
    }
}

/// What was written of it is dropped with its stream.
struct AbortCall;
impl UnaryService<AbortRequest> for AbortCall {
    type Response = Empty;
    type Future = std::future::Ready<Result<Response<Empty>, Status>>;
    fn call(&mut self, _: Request<AbortRequest>) -> Self::Future {
        std::future::ready(Ok(Response::new(Empty {})))
    }
}

impl tower::Service<HttpRequest<Body>> for ContentService {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<HttpResponse<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default();
            Ok(match method {
                "Info" => {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.unary(InfoCall(service), request).await
                }
                "Read" => {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.server_streaming(ReadCall(service), request).await
                }
                "Write" => {
                    let grpc = Grpc::new(ProstCodec::default());
                    // A builder sends up to 8 MiB at a time (containerd `defaults.DefaultMaxSendMsgSize`).
                    let mut grpc = grpc.max_decoding_message_size(MAX_MESSAGE);
                    grpc.streaming(WriteCall(service), request).await
                }
                "Abort" => {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.unary(AbortCall, request).await
                }
                _ => Status::unimplemented("no cache in a folder needs it").into_http(),
            })
        })
    }
}
