//! File sessions: one per context root at a time, open while a build uses it, so that a context which several builds
//! share is read and sent once. Not longer: all sessions are streams of one connection, and a builder takes 250 of them
//! (Go's `http2.Server`).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use tokio::sync::Mutex;
use tonic::Status;

use crate::buildkit::Builder;
use crate::buildkit::session::filesync::{FileSyncService, LocalDir};
use crate::buildkit::session::{self, Services, Session};
use crate::context::inputs::MAIN;
use crate::context::walk::nothing_known;
use crate::manifest::model::Container;
use crate::reference::Digest;

/// The name under which the Dockerfile frontend asks for the build context; it cannot be chosen.
pub(super) const CONTEXT: &str = MAIN;

/// The folders that sessions serve, by context root: local name → folder.
pub(super) struct FileSessions {
    builder: Builder,
    /// Names this machine in shared keys, so that two machines never update each other's copy.
    machine: String,
    served: BTreeMap<PathBuf, HashMap<String, PathBuf>>,
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
        containers: impl IntoIterator<Item = &'a Container>,
    ) -> Self {
        let mut served: BTreeMap<PathBuf, HashMap<String, PathBuf>> = BTreeMap::new();
        for container in containers {
            let root = served.entry(container.context.clone()).or_default();
            root.insert(CONTEXT.to_owned(), container.context.clone());
            if let Some(folder) = container.dockerfile.parent() {
                root.insert(local_name("dockerfile", folder), folder.to_owned());
            }
            for folder in container.contexts.values() {
                let root = served.entry(folder.clone()).or_default();
                root.insert(local_name("named", folder), folder.clone());
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
        let folders = self.served.get(root).into_iter().flatten();
        let files = FileSyncService::new(
            folders
                .map(|(name, folder)| (name.clone(), local_dir(folder)))
                .collect(),
            Arc::default(),
        );
        let services = Services::files(files.clone(), self.shared_key(root));
        let session = session::open(self.builder.channel.clone(), services).await?;
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
        let session = session::open(self.builder.channel.clone(), services).await?;
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
    }
}
