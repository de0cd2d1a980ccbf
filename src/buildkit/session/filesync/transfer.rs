//! One `DiffCopy` call: a thread that walks, a few that read, a task that listens.
//!
//! Files are only read on blocking threads. The channel to the connection is the one place where they wait: what the
//! builder does not take is not read.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use bollard_buildkit_proto::fsutil::types::{Packet, Stat, packet::PacketType};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::offered::{Offer, Offered};
use super::{Ledger, LocalDir, lock};
use crate::cancel::CancellationToken;
use crate::context::entry::{Entry, Kind};
use crate::context::file_id::{self, BlobHasher};
use crate::context::filter::Filter;
use crate::context::{ContextError, walk};

/// Files that are sent at the same time, as many as `BuildKit`'s own client does.
const READERS: usize = 4;
/// Bytes of content in one packet.
pub(super) const CHUNK: u64 = 64 << 10;

type Out = mpsc::Sender<Result<Packet, Status>>;

/// What the threads of a transfer share.
pub(super) struct Transfer {
    dir: LocalDir,
    offered: Mutex<Offered>,
    out: Out,
    ledger: Arc<Ledger>,
    /// Cancelled when the call is over, for whatever reason.
    over: CancellationToken,
}

impl Transfer {
    /// Begins to answer a call. It ends by itself: when the builder has what it wants, goes away, or something fails.
    pub(super) fn start(
        dir: LocalDir,
        filter: Filter,
        ledger: Arc<Ledger>,
        out: Out,
        requests: Streaming<Packet>,
    ) {
        let transfer = Arc::new(Self {
            dir,
            offered: Mutex::default(),
            out,
            ledger,
            over: CancellationToken::new(),
        });
        // Numbers only: a builder that asks for all files at once costs four bytes for each.
        let (wanted, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..READERS {
            let (reader, queue) = (Arc::clone(&transfer), Arc::clone(&queue));
            tokio::task::spawn_blocking(move || reader.serve(&queue));
        }
        let walker = Arc::clone(&transfer);
        tokio::task::spawn_blocking(move || walker.offer(&filter));
        tokio::spawn(async move { transfer.listen(requests, wanted).await });
    }

    /// Sends the metadata of all that is wanted, and an empty packet behind it.
    fn offer(&self, filter: &Filter) {
        let sent = walk::walk(
            &self.dir.root,
            filter,
            &*self.dir.known,
            &self.over,
            |entry| {
                if self
                    .dir
                    .expected
                    .as_ref()
                    .is_some_and(|expected| !expected(&entry))
                {
                    lock(&self.ledger.strayed).get_or_insert_with(|| entry.path.clone());
                }
                if !lock(&self.offered).push(&entry) {
                    return Err(ContextError::TooMany(self.dir.root.clone()));
                }
                self.send(Packet {
                    r#type: PacketType::PacketStat.into(),
                    stat: Some(stat(entry)),
                    ..Packet::default()
                })
            },
        );
        let ended = sent.and_then(|()| {
            self.send(Packet {
                r#type: PacketType::PacketStat.into(),
                ..Packet::default()
            })
        });
        if let Err(error) = ended {
            self.fail(error);
        }
    }

    /// Queues what the builder asks for, until it is done or gone.
    async fn listen(&self, mut requests: Streaming<Packet>, wanted: Sender<u32>) {
        let _over = self.over.clone().drop_guard();
        loop {
            let packet = tokio::select! {
                () = self.out.closed() => return,
                () = self.over.cancelled() => return,
                packet = requests.message() => packet,
            };
            let Ok(Some(packet)) = packet else { return };
            match packet.r#type() {
                PacketType::PacketReq => {
                    let _ = wanted.send(packet.id);
                }
                PacketType::PacketFin => {
                    let fin = Packet {
                        r#type: PacketType::PacketFin.into(),
                        ..Packet::default()
                    };
                    let _ = self.out.send(Ok(fin)).await;
                    return;
                }
                PacketType::PacketErr => {
                    let reason = String::from_utf8_lossy(&packet.data).into_owned();
                    tracing::debug!(reason, "the builder gave up on a folder");
                    let _ = self.out.send(Err(Status::aborted(reason))).await;
                    return;
                }
                PacketType::PacketStat | PacketType::PacketData => {}
            }
        }
    }

    /// Sends one file after the other, until no more will be asked for.
    fn serve(&self, queue: &Mutex<Receiver<u32>>) {
        loop {
            let next = lock(queue).recv();
            let Ok(number) = next else { return };
            let Some(offer) = lock(&self.offered).take(number) else {
                let status = Status::invalid_argument(format!("invalid file id {number}"));
                let _ = self.out.blocking_send(Err(status));
                self.over.cancel();
                return;
            };
            if let Err(error) = self.send_file(number, &offer) {
                self.fail(error);
                return;
            }
        }
    }

    /// Sends a file's bytes and an empty packet behind them, unless they are not what was offered.
    fn send_file(&self, number: u32, offer: &Offer) -> Result<(), ContextError> {
        if let Some(id) = offer.id {
            let changed = || ContextError::Changed(offer.path.clone());
            let full = self.dir.root.join(&offer.path);
            let read_error = |source: io::Error| match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => changed(),
                _ => ContextError::read(&full, source),
            };
            let file = file_id::open(&full, offer.size).map_err(read_error)?;
            let mut file = file.ok_or_else(changed)?;
            let mut hasher = BlobHasher::new(offer.size);
            let mut left = offer.size;
            while left > 0 {
                let want = left.min(CHUNK);
                let mut data = Vec::with_capacity(usize::try_from(want).unwrap_or_default());
                file.by_ref()
                    .take(want)
                    .read_to_end(&mut data)
                    .map_err(read_error)?;
                if data.len() as u64 != want {
                    return Err(changed());
                }
                hasher.update(&data);
                left -= want;
                self.send_data(number, data)?;
            }
            if file.read(&mut [0]).map_err(read_error)? > 0 || hasher.finish() != id {
                return Err(changed());
            }
        }
        // Only this packet makes the file whole on the other side.
        self.send_data(number, Vec::new())?;
        self.ledger.progress.files.fetch_add(1, Relaxed);
        Ok(())
    }

    fn send_data(&self, number: u32, data: Vec<u8>) -> Result<(), ContextError> {
        let bytes = data.len() as u64;
        self.send(Packet {
            r#type: PacketType::PacketData.into(),
            id: number,
            data,
            ..Packet::default()
        })?;
        self.ledger.progress.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// Waits until the connection takes the packet.
    fn send(&self, packet: Packet) -> Result<(), ContextError> {
        if self.over.is_cancelled() {
            return Err(ContextError::Stopped);
        }
        self.out
            .blocking_send(Ok(packet))
            .map_err(|_| ContextError::Stopped)
    }

    /// Tells the builder and the owner. What follows from a call that is over anyway is told to nobody.
    fn fail(&self, error: ContextError) {
        if matches!(error, ContextError::Stopped) || self.over.is_cancelled() {
            return;
        }
        let text = error.to_string();
        lock(&self.ledger.failure).get_or_insert(Arc::new(error));
        let told = Packet {
            r#type: PacketType::PacketErr.into(),
            data: text.clone().into_bytes(),
            ..Packet::default()
        };
        let _ = self.out.blocking_send(Ok(told));
        let _ = self.out.blocking_send(Err(Status::aborted(text)));
        self.over.cancel();
    }
}

/// An entry as fsutil's wire type. The owner is always root: what `BuildKit`'s own client does to a context.
fn stat(entry: Entry) -> Stat {
    let mut stat = Stat {
        path: entry.path,
        mode: entry.mode,
        uid: 0,
        gid: 0,
        size: i64::try_from(entry.size).unwrap_or(i64::MAX),
        mod_time: entry
            .seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(entry.nanos.into()),
        linkname: entry.hard_link.unwrap_or_default(),
        devmajor: 0,
        devminor: 0,
        xattrs: HashMap::from_iter(entry.xattrs),
    };
    match entry.kind {
        Kind::Symlink { target } => stat.linkname = target,
        Kind::Device { major, minor } => {
            stat.devmajor = i64::try_from(major).unwrap_or(i64::MAX);
            stat.devminor = i64::try_from(minor).unwrap_or(i64::MAX);
        }
        Kind::Directory | Kind::File | Kind::Fifo | Kind::Socket => {}
    }
    stat
}
