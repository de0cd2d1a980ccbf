//! The one walk of a build context: [`super::tree`] finds the entries, two threads hash the files among them, and the
//! caller receives all in order. Never more than a few hundred entries are under way.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::entry::{Entry, Inode, Kind};
use super::file_id::{self, BlobId};
use super::filter::{Filter, Rules};
use super::{ContextError, tree};
use crate::cancel::CancellationToken;

/// Says what is in a file where that is known without reading it, from git's index for instance. It sees the entry as the
/// file system has it, with its true nanoseconds; the metadata adds inode and change time, which git's index compares.
pub(crate) type KnownId = dyn Fn(&Entry, &Metadata) -> Option<BlobId> + Send + Sync;

/// Nothing is known: every file is read.
pub(crate) fn nothing_known(_: &Entry, _: &Metadata) -> Option<BlobId> {
    None
}

/// Threads that hash. Two keep a disk cache busy; more only take the builder's processors.
const LANES: usize = 2;
/// Entries between the threads, for each of them.
const AHEAD: usize = 128;

/// A file to hash.
struct Job {
    full: PathBuf,
    name: String,
    size: u64,
}

/// An entry on its way to the sink.
struct Pending {
    entry: Entry,
    inode: Option<Inode>,
    /// The thread that will say what is in it.
    lane: Option<usize>,
}

/// Goes through `root` and hands every entry that `filter` keeps to `sink`: folders before their contents, names sorted
/// by bytes within a folder. Blocks; ends with [`ContextError::Stopped`] soon after `stop` is cancelled.
pub(crate) fn walk(
    root: &Path,
    filter: &Filter,
    known: &KnownId,
    stop: &CancellationToken,
    mut sink: impl FnMut(Entry) -> Result<(), ContextError>,
) -> Result<(), ContextError> {
    let root_error = root_error(root);
    let root = &folder(root)?;
    let rules = Rules::new(root, filter)?;
    thread::scope(|scope| {
        let (entries, pending) = sync_channel(AHEAD);
        let mut jobs = Vec::with_capacity(LANES);
        let mut ids = Vec::with_capacity(LANES);
        for _ in 0..LANES {
            let (job, todo) = sync_channel(AHEAD);
            let (done, id) = sync_channel(AHEAD);
            thread::Builder::new()
                .name("hash".to_owned())
                .spawn_scoped(scope, move || hash(&todo, &done, stop))
                .map_err(&root_error)?;
            jobs.push(job);
            ids.push(id);
        }
        let scout = thread::Builder::new()
            .name("walk".to_owned())
            .spawn_scoped(scope, move || {
                scout(root, &rules, known, stop, &jobs, &entries)
            })
            .map_err(&root_error)?;
        let collected = collect(&pending, &ids, &mut sink);
        // The scout, should it still run, ends at its next send.
        drop((pending, ids));
        let scouted = scout
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        collected.and(scouted)
    })
}

/// The same without threads of its own, for who goes through many folders at a time.
pub(crate) fn walk_here(
    root: &Path,
    filter: &Filter,
    known: &KnownId,
    stop: &CancellationToken,
    mut sink: impl FnMut(Entry) -> Result<(), ContextError>,
) -> Result<(), ContextError> {
    let root = &folder(root)?;
    let rules = Rules::new(root, filter)?;
    let mut links = HardLinks::default();
    let mut buffer = Vec::new();
    tree::walk(root, &rules, stop, &mut |mut entry, metadata| {
        if entry.kind == Kind::File {
            let mut id = known(&entry, metadata);
            if id.is_none() {
                buffer.resize(file_id::CHUNK, 0);
                let full = root.join(&entry.path);
                id = file_id::of_file(&full, &entry.path, entry.size, &mut buffer, stop)?;
            }
            let Some(id) = id else {
                // Gone before it could be read.
                return Ok(());
            };
            entry.set_id(id);
        }
        let inode = entry.inode(metadata);
        links.mark(&mut entry, inode);
        sink(entry)
    })
}

fn root_error(root: &Path) -> impl Fn(io::Error) -> ContextError {
    |source| ContextError::Root {
        path: root.to_owned(),
        source,
    }
}

/// The folder by its true name.
fn folder(root: &Path) -> Result<PathBuf, ContextError> {
    let real = root.canonicalize().map_err(root_error(root))?;
    if !real.is_dir() {
        return Err(root_error(root)(io::ErrorKind::NotADirectory.into()));
    }
    Ok(real)
}

/// Finds entries, and gives the files among them to the lanes in turn.
fn scout(
    root: &Path,
    rules: &Rules,
    known: &KnownId,
    stop: &CancellationToken,
    jobs: &[SyncSender<Job>],
    entries: &SyncSender<Pending>,
) -> Result<(), ContextError> {
    let mut turn = 0;
    tree::walk(root, rules, stop, &mut |mut entry, metadata| {
        let mut lane = None;
        if entry.kind == Kind::File {
            if let Some(id) = known(&entry, metadata) {
                entry.set_id(id);
            } else {
                turn = (turn + 1) % LANES;
                lane = Some(turn);
                let job = Job {
                    full: root.join(&entry.path),
                    name: entry.path.clone(),
                    size: entry.size,
                };
                jobs[turn].send(job).map_err(|_| ContextError::Stopped)?;
            }
        }
        let inode = entry.inode(metadata);
        entries
            .send(Pending { entry, inode, lane })
            .map_err(|_| ContextError::Stopped)
    })
}

/// Hashes what comes, in order, until nobody wants it.
fn hash(
    todo: &Receiver<Job>,
    done: &SyncSender<Result<Option<BlobId>, ContextError>>,
    stop: &CancellationToken,
) {
    let mut buffer = vec![0; file_id::CHUNK];
    for Job { full, name, size } in todo {
        let id = file_id::of_file(&full, &name, size, &mut buffer, stop);
        if done.send(id).is_err() {
            return;
        }
    }
}

/// The names of files that have several, each with the first one.
#[derive(Default)]
struct HardLinks(HashMap<Inode, (String, Option<BlobId>)>);

impl HardLinks {
    /// Says of an entry whether it is another name of one before.
    fn mark(&mut self, entry: &mut Entry, inode: Option<Inode>) {
        let Some(inode) = inode else {
            return;
        };
        match self.0.get(&inode) {
            Some((path, id)) => {
                entry.hard_link = Some(path.clone());
                if let Some(id) = id {
                    entry.set_id(*id);
                }
            }
            None => {
                self.0.insert(inode, (entry.path.clone(), entry.id));
            }
        }
    }
}

/// Brings entries and ids together again, and finds the hard links among what is really there.
fn collect(
    pending: &Receiver<Pending>,
    ids: &[Receiver<Result<Option<BlobId>, ContextError>>],
    sink: &mut impl FnMut(Entry) -> Result<(), ContextError>,
) -> Result<(), ContextError> {
    let mut links = HardLinks::default();
    for Pending {
        mut entry,
        inode,
        lane,
    } in pending
    {
        if let Some(lane) = lane {
            match ids[lane].recv().map_err(|_| ContextError::Stopped)?? {
                Some(id) => entry.set_id(id),
                // Gone before it could be read.
                None => continue,
            }
        }
        links.mark(&mut entry, inode);
        sink(entry)?;
    }
    Ok(())
}

impl Entry {
    fn set_id(&mut self, id: BlobId) {
        self.id = Some(id);
        self.nanos = id.nanos();
    }
}

#[cfg(test)]
mod tests;
