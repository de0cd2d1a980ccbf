//! A context as one hash, and in a form in which what is sent later can be compared with it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::hex;
use crate::cancel::CancellationToken;
use crate::context::ContextError;
use crate::context::entry::{Entry, Kind};
use crate::context::file_id::BlobId;
use crate::context::filter::Filter;
use crate::context::walk::{self, KnownId};

/// What a context held when its key was made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    /// Of path, type, permission bits, link target and content of every entry.
    pub hash: String,
    /// 32 bytes an entry, sorted.
    seen: Vec<Seen>,
}

/// Whether a walk has threads of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    Own,
    /// The processors have other walks to do.
    None,
}

/// One entry, as far as it takes to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    /// A hash of the path.
    path: u64,
    /// A hash of type, mode and link target.
    kind: u32,
    /// Zeros for what is no file.
    id: BlobId,
}

impl Tree {
    /// Goes through a context. A target that reads nothing of it has the hash of nothing.
    pub(crate) fn of(
        root: &Path,
        filter: &Filter,
        known: &KnownId,
        threads: Threads,
        stop: &CancellationToken,
    ) -> Result<Self, ContextError> {
        let mut hash = Sha256::new();
        let mut seen = Vec::new();
        let sink = |entry: Entry| {
            add(&mut hash, &entry);
            seen.push(Seen::new(&entry));
            Ok(())
        };
        match threads {
            Threads::Own => walk::walk(root, filter, known, stop, sink)?,
            Threads::None => walk::walk_here(root, filter, known, stop, sink)?,
        }
        seen.sort_unstable();
        Ok(Self {
            hash: hex(&hash.finalize()),
            seen,
        })
    }

    /// Whether it held this very entry.
    pub(crate) fn holds(&self, entry: &Entry) -> bool {
        self.seen.binary_search(&Seen::new(entry)).is_ok()
    }

    /// Whether it held anything at this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path_hash(path);
        let at = self.seen.partition_point(|seen| seen.path < path);
        self.seen.get(at).is_some_and(|seen| seen.path == path)
    }

    /// Whether it held the folder that a path is in; the top is always held.
    pub(crate) fn has_folder_of(&self, path: &str) -> bool {
        path.rsplit_once('/')
            .is_none_or(|(folder, _)| self.has(folder))
    }

    /// The content that the file at this path had.
    pub(crate) fn id(&self, path: &str) -> Option<BlobId> {
        let path = path_hash(path);
        let at = self.seen.partition_point(|seen| seen.path < path);
        let found = self.seen.get(at).filter(|seen| seen.path == path)?;
        (found.id != NOTHING).then_some(found.id)
    }
}

const NOTHING: BlobId = BlobId([0; 20]);

impl Seen {
    fn new(entry: &Entry) -> Self {
        let mut kind = DefaultHasher::new();
        (entry.mode, type_letter(entry), link_target(entry)).hash(&mut kind);
        Self {
            path: path_hash(&entry.path),
            #[expect(clippy::cast_possible_truncation, reason = "half of a hash is one too")]
            kind: kind.finish() as u32,
            id: entry.id.unwrap_or(NOTHING),
        }
    }
}

fn path_hash(path: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    path.hash(&mut hash);
    hash.finish()
}

fn add(hash: &mut Sha256, entry: &Entry) {
    let mut text = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    text(entry.path.as_bytes());
    text(&[type_letter(entry)]);
    text(&entry.mode.to_be_bytes());
    text(link_target(entry).as_bytes());
    text(&entry.id.unwrap_or(NOTHING).0);
    if let Kind::Device { major, minor } = entry.kind {
        text(&[major.to_be_bytes(), minor.to_be_bytes()].concat());
    }
    // Those that a builder's own checksum holds (BuildKit `cache/contenthash/tarsum.go`).
    let mut xattrs: Vec<_> = entry
        .xattrs
        .iter()
        .filter(|(name, _)| {
            name == "security.capability"
                || !(name.starts_with("security.") || name.starts_with("system."))
        })
        .collect();
    xattrs.sort_unstable();
    for (name, value) in xattrs {
        text(name.as_bytes());
        text(value);
    }
}

fn type_letter(entry: &Entry) -> u8 {
    match entry.kind {
        Kind::Directory => b'd',
        // A builder is told that a socket is an empty file.
        Kind::File | Kind::Socket => b'f',
        Kind::Symlink { .. } => b'l',
        Kind::Fifo => b'p',
        Kind::Device { .. } => b'c',
    }
}

fn link_target(entry: &Entry) -> &str {
    match &entry.kind {
        Kind::Symlink { target } => target,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::context::walk::nothing_known;

    fn tree(root: &Path, follow: &[&str]) -> Tree {
        let filter = Filter {
            exclude: vec!["ignored".into()],
            follow: follow.iter().map(|f| (*f).to_owned()).collect(),
            ..Filter::default()
        };
        let of = |threads| {
            let stop = CancellationToken::new();
            Tree::of(root, &filter, &nothing_known, threads, &stop).unwrap()
        };
        let (tree, other) = (of(Threads::Own), of(Threads::None));
        assert_eq!(
            (&tree.hash, &tree.seen),
            (&other.hash, &other.seen),
            "the walks differ"
        );
        tree
    }

    fn fill(root: &Path) {
        fs::create_dir_all(root.join("src/empty")).unwrap();
        fs::write(root.join("src/a.py"), "a").unwrap();
        fs::write(root.join("src/b.py"), "b").unwrap();
        fs::write(root.join("other"), "o").unwrap();
        symlink("a.py", root.join("src/link")).unwrap();
    }

    #[test]
    fn each_property_of_a_file_counts_and_no_other() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(one.path());
        fill(two.path());
        let first = tree(one.path(), &["src"]);
        let same = |what: &str| assert_eq!(tree(two.path(), &["src"]).hash, first.hash, "{what}");
        let mut hashes = vec![first.hash.clone()];
        let mut differs = |what: &str| {
            let hash = tree(two.path(), &["src"]).hash;
            assert!(!hashes.contains(&hash), "{what}");
            hashes.push(hash);
        };
        let at = |path: &str| two.path().join(path);
        same("another folder");
        fs::write(at("other"), "changed").unwrap();
        fs::write(at("ignored"), "x").unwrap();
        let file = fs::File::options()
            .write(true)
            .open(at("src/a.py"))
            .unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
            .unwrap();
        same("what is not read, and times");
        fs::write(at("src/a.py"), "A").unwrap();
        differs("content");
        fs::set_permissions(at("src/a.py"), fs::Permissions::from_mode(0o755)).unwrap();
        differs("mode");
        fs::rename(at("src/a.py"), at("src/c.py")).unwrap();
        differs("path");
        fs::remove_file(at("src/link")).unwrap();
        symlink("b.py", at("src/link")).unwrap();
        differs("target");
        fs::remove_file(at("src/link")).unwrap();
        fs::write(at("src/link"), "b.py").unwrap();
        differs("type");
        fs::remove_dir(at("src/empty")).unwrap();
        differs("a folder");
    }

    #[test]
    fn what_it_held_is_known_again() {
        let root = tempfile::tempdir().unwrap();
        fill(root.path());
        let before = tree(root.path(), &[]);
        let entries = |known: &KnownId| {
            let mut entries = Vec::new();
            let stop = CancellationToken::new();
            walk::walk(root.path(), &Filter::default(), known, &stop, |entry| {
                entries.push(entry);
                Ok(())
            })
            .unwrap();
            entries
        };
        assert!(
            entries(&nothing_known)
                .iter()
                .all(|entry| before.holds(entry))
        );
        fs::write(root.path().join("src/a.py"), "A").unwrap();
        let strayed: Vec<_> = entries(&nothing_known)
            .into_iter()
            .filter(|entry| !before.holds(entry))
            .map(|entry| entry.path)
            .collect();
        assert_eq!(strayed, ["src/a.py"]);
        assert!(
            before
                .id("src/a.py")
                .is_some_and(|id| id != entries(&nothing_known)[2].id.unwrap())
        );
        assert_eq!(before.id("src"), None);
        assert_eq!(before.id("nowhere"), None);
    }
}
