//! Serves build contexts to a builder: `moby.filesync.v1.FileSync/DiffCopy`, fsutil's protocol.
//!
//! The builder names a folder and what it wants of it; skiff sends the metadata of every entry, in order; the builder
//! asks for the files it lacks by number and receives their bytes. Nothing is held but names and ids: files are read when
//! they are asked for. A file that is no longer what its metadata said fails the transfer; [`FileSyncService::failure`]
//! tells which one, since what the builder reports of it is an opaque text.

mod asked;
mod offered;
mod transfer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use self::asked::Asked;
use self::transfer::Transfer;
use crate::context::ContextError;
use crate::context::entry::Entry;
use crate::context::walk::KnownId;

/// Packets between the readers and the connection: with [`transfer::CHUNK`] what a transfer holds at most.
const PACKETS: usize = 32;

/// A folder that a builder may read.
#[derive(Clone)]
pub(crate) struct LocalDir {
    pub root: PathBuf,
    /// What is known of its files without reading them.
    pub known: Arc<KnownId>,
    /// Whether this entry is what it was when keys were made. What is not is sent, and told of ([`FileSyncService::strayed`]).
    pub expected: Option<Arc<Expected>>,
}

/// Whether an entry is one that keys were made from.
pub(crate) type Expected = dyn Fn(&Entry) -> bool + Send + Sync;

/// What has been sent so far, over all transfers.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Files whose content was sent whole.
    pub files: AtomicU64,
    /// Bytes of content.
    pub bytes: AtomicU64,
}

/// The service for one session. Clones share everything.
#[derive(Clone)]
pub(crate) struct FileSyncService {
    dirs: Arc<HashMap<String, LocalDir>>,
    ledger: Arc<Ledger>,
}

/// What the transfers of a session leave behind.
struct Ledger {
    progress: Arc<Progress>,
    failure: Mutex<Option<Arc<ContextError>>>,
    strayed: Mutex<Option<String>>,
}

impl FileSyncService {
    /// The method path, for the session's `x-docker-expose-session-grpc-method`.
    pub(crate) const METHOD: &str = "/moby.filesync.v1.FileSync/DiffCopy";

    /// Offers folders under the names that the build refers to them by (`context`, `dockerfile`, …).
    pub(crate) fn new(dirs: HashMap<String, LocalDir>, progress: Arc<Progress>) -> Self {
        Self {
            dirs: Arc::new(dirs),
            ledger: Arc::new(Ledger {
                progress,
                failure: Mutex::new(None),
                strayed: Mutex::new(None),
            }),
        }
    }

    /// The first fault of this side, if there was one. When a build fails, it is the cause.
    pub(crate) fn failure(&self) -> Option<Arc<ContextError>> {
        lock(&self.ledger.failure).clone()
    }

    /// The first path that was offered and is not what keys were made from, if there was one.
    pub(crate) fn strayed(&self) -> Option<String> {
        lock(&self.ledger.strayed).clone()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tonic::async_trait]
impl FileSync for FileSyncService {
    type DiffCopyStream = ReceiverStream<Result<Packet, Status>>;
    type TarStreamStream = ReceiverStream<Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let asked = Asked::read(request.metadata())?;
        // The text of BuildKit's own client.
        let dir = self.dirs.get(&asked.dir).ok_or_else(|| {
            Status::not_found(format!("no access allowed to dir {:?}", asked.dir))
        })?;
        tracing::debug!(dir = asked.dir, filter = ?asked.filter, "the builder asks for a folder");
        let (out, packets) = mpsc::channel(PACKETS);
        Transfer::start(
            dir.clone(),
            asked.filter,
            Arc::clone(&self.ledger),
            out,
            request.into_inner(),
        );
        Ok(Response::new(ReceiverStream::new(packets)))
    }

    /// No builder has asked for it since `DiffCopy` exists; `BuildKit`'s own client does not offer it either.
    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("folders are sent by DiffCopy only"))
    }
}

#[cfg(test)]
mod tests;
