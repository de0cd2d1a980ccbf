//! File sessions: one per context root at a time, open while a build uses it, so that a context which several builds
//! share is read and sent once. Not longer: where sessions are streams of one connection, a builder takes 250 of them (Go's
//! `http2.Server`).

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use tokio::sync::Mutex;
use tonic::Status;

use crate::buildkit::Builder;
use crate::buildkit::session::filesync::{FileSyncService, LocalDir};
use crate::buildkit::session::{self, Services, Session};
use crate::context::entry::Entry;
use crate::context::file_id::BlobId;
use crate::context::ignore;
use crate::context::inputs::MAIN;
use crate::context::walk::nothing_known;
use crate::key::tree::Tree;
use crate::plan::PlannedContainer;
use crate::reference::Digest;
use crate::resolve::Keyed;

/// The name under which the Dockerfile frontend asks for the build context; it cannot be chosen.
pub(super) const CONTEXT: &str = MAIN;

/// The folders that sessions serve, by context root: local name → folder.
pub(super) struct FileSessions {
    builder: Builder,
    /// Names this machine in shared keys, so that two machines never update each other's copy.
    machine: String,
    served: BTreeMap<PathBuf, HashMap<String, LocalDir>>,
    open: Mutex<HashMap<PathBuf, Weak<FileSession>>>,
}

/// An open session and the service behind it, which knows why a transfer failed.
pub(super) struct FileSession {
    pub(super) session: Session,
    pub(super) files: FileSyncService,
}

impl FileSessions {
    pub(super) fn new<'a>(
        builder: Builder,
        machine: String,
        containers: impl IntoIterator<Item = &'a PlannedContainer>,
    ) -> Self {
        let containers: Vec<_> = containers.into_iter().collect();
        let mut served: BTreeMap<PathBuf, HashMap<String, LocalDir>> = BTreeMap::new();
        for planned in &containers {
            let container = &planned.container;
            let root = served.entry(container.context.clone()).or_default();
            root.entry(CONTEXT.to_owned())
                .or_insert_with(|| keyed_dir(&container.context, &containers));
            if let Some(folder) = container.dockerfile.parent() {
                root.entry(local_name("dockerfile", folder))
                    .or_insert_with(|| dockerfile_dir(folder, &containers));
            }
            for folder in container.contexts.values() {
                let root = served.entry(folder.clone()).or_default();
                root.entry(local_name("named", folder))
                    .or_insert_with(|| keyed_dir(folder, &containers));
            }
        }
        Self {
            builder,
            machine,
            served,
            open: Mutex::default(),
        }
    }

    /// The same folders, with no session open.
    pub(super) fn anew(&self) -> Self {
        Self {
            builder: self.builder.clone(),
            machine: self.machine.clone(),
            served: self.served.clone(),
            open: Mutex::default(),
        }
    }

    /// The session that serves this root.
    ///
    /// One is opened at a time: a builder that is slow to accept is not asked more often for that.
    pub(super) async fn get(&self, root: &Path) -> Result<Arc<FileSession>, Status> {
        let mut open = self.open.lock().await;
        let known = open.get(root).and_then(Weak::upgrade);
        if let Some(session) = known.filter(|known| known.session.is_open()) {
            return Ok(session);
        }
        let folders = self.served.get(root).cloned().unwrap_or_default();
        let files = FileSyncService::new(folders, Arc::default());
        let services = Services::files(files.clone(), self.shared_key(root));
        let session = session::open(&self.builder, services).await?;
        let opened = Arc::new(FileSession { session, files });
        open.insert(root.to_owned(), Arc::downgrade(&opened));
        Ok(opened)
    }

    /// The next [`FileSessions::get`] opens a new session: what a failed one has sent must not be built from.
    pub(super) async fn forget(&self, root: &Path) {
        self.open.lock().await.remove(root);
    }

    /// A session for a folder that is no context, under this name.
    pub(super) async fn serve(&self, name: &str, folder: &Path) -> Result<FileSession, Status> {
        let folders = HashMap::from([(name.to_owned(), local_dir(folder))]);
        let files = FileSyncService::new(folders, Arc::default());
        let services = Services::files(files.clone(), self.shared_key(folder));
        let session = session::open(&self.builder, services).await?;
        Ok(FileSession { session, files })
    }

    /// Stable from run to run: the builder updates the copy it has instead of asking for everything.
    fn shared_key(&self, root: &Path) -> String {
        Digest::of(format!("{}\0{}", self.machine, root.display()).as_bytes())
            .short()
            .to_owned()
    }
}

/// The local name of a folder: `kind-` and a hash of its path, as two containers that share a root may have their
/// Dockerfiles in different folders.
pub(super) fn local_name(kind: &str, folder: &Path) -> String {
    format!(
        "{kind}-{}",
        Digest::of(folder.as_os_str().as_encoded_bytes()).short()
    )
}

fn local_dir(folder: &Path) -> LocalDir {
    LocalDir {
        root: folder.to_owned(),
        known: Arc::new(nothing_known),
        expected: None,
    }
}

/// A folder of Dockerfiles, each of which is offered as what its key was made from.
fn dockerfile_dir(folder: &Path, containers: &[&PlannedContainer]) -> LocalDir {
    let ids: HashMap<String, BlobId> = containers
        .iter()
        .filter(|planned| planned.container.dockerfile.parent() == Some(folder))
        .filter_map(|planned| {
            let name = planned
                .container
                .dockerfile
                .file_name()?
                .to_str()?
                .to_owned();
            Some((name, planned.keyed.trees.as_ref()?.dockerfile?))
        })
        .collect();
    LocalDir {
        root: folder.to_owned(),
        known: Arc::new(move |entry: &Entry, _: &Metadata| ids.get(&entry.path).copied()),
        expected: None,
    }
}

/// A folder that keys were made from: its files are offered as what they were then. One that has changed since cannot be
/// sent as what it was, and fails; one that was not there is noticed.
fn keyed_dir(folder: &Path, containers: &[&PlannedContainer]) -> LocalDir {
    let mut keys = Vec::new();
    for planned in containers.iter().filter(|planned| planned.reads(folder)) {
        match &planned.keyed.trees {
            Some(trees) if trees.contexts.contains_key(folder) => {
                keys.push(Arc::clone(&planned.keyed));
            }
            Some(_) => {}
            // Nobody knows what was in it.
            None => return local_dir(folder),
        }
    }
    let folder = folder.to_owned();
    let (path, offered) = (folder.clone(), keys.clone());
    LocalDir {
        root: folder.clone(),
        known: Arc::new(move |entry: &Entry, _: &Metadata| {
            trees(&keys, &folder).find_map(|tree| tree.id(&entry.path))
        }),
        expected: Some(Arc::new(move |entry: &Entry| {
            // The builder asks for the ignore file alone first; its effect is in the trees.
            entry.path == ignore::NAME || trees(&offered, &path).any(|tree| tree.holds(entry))
        })),
    }
}

fn trees<'a>(keys: &'a [Arc<Keyed>], folder: &Path) -> impl Iterator<Item = &'a Tree> {
    let trees = keys.iter().filter_map(|keyed| keyed.trees.as_ref());
    trees.filter_map(move |trees| trees.contexts.get(folder))
}
