//! What git's index knows of files without reading them: the blob ids of those that have not changed since git looked at
//! them, as `git status` tells (gitformat-index(5); git 2.47 `read-cache.c`, `ie_match_stat`).
//!
//! What must stay true: an id is given only where the file on disk has exactly these bytes. In doubt there is none, and
//! the file is hashed: what another attribute than none may convert on its way into git (`text`, `filter` and so LFS, …),
//! what is as young as the index itself, what git was told not to look at, an index of a kind not read here.

use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::attributes;
use super::git::{Checkout, GitError, run, run_with_magic};
use crate::context::entry::Entry;
use crate::context::file_id::BlobId;
use crate::context::walk::KnownId;

/// Files of a checkout whose content is known, sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Index {
    root: PathBuf,
    /// All paths, one behind the other.
    paths: Vec<u8>,
    records: Vec<Record>,
    /// A file of attributes is in it.
    has_attributes: bool,
}

/// A file as git saw it last.
#[derive(Debug)]
struct Record {
    start: usize,
    length: u32,
    /// A hash of its [`Stat`]: of hundreds of thousands of files each byte counts.
    stat: u64,
    id: BlobId,
}

/// The 32 bits that the index keeps of each number.
#[derive(Debug, Hash)]
struct Stat {
    ctime: (u32, u32),
    mtime: (u32, u32),
    inode: u32,
    mode: u32,
    owner: (u32, u32),
    size: u32,
}

/// Bytes of the index that are read at a time.
const BUFFER: usize = 256 << 10;

/// Records that room is made for before they are read.
const MOST_AT_ONCE: usize = 1 << 20;

/// Files that no attribute lets git convert, whatever sets it: in the tree, in `.git/info`, the user's or the system's.
const UNCONVERTED: &str = ":(attr:!filter !text !eol !ident !working-tree-encoding !crlf)";

impl Index {
    /// Reads the index of this checkout. An error, or an index that is not read here, is nothing known.
    pub(crate) fn read(checkout: &Checkout) -> Arc<Self> {
        let index = Self::try_read(checkout).unwrap_or_else(|error| {
            tracing::debug!(%error, "git's index is not used");
            None
        });
        Arc::new(index.unwrap_or_default())
    }

    fn try_read(checkout: &Checkout) -> Result<Option<Self>, GitError> {
        let root = checkout.root();
        let settings = ["--get-regexp", "^(core\\.autocrlf|attr\\.tree)$"];
        // It fails where there is none.
        let settings = run(root, "config", &settings).unwrap_or_default();
        let last = |name| settings.lines().rfind(|line| line.starts_with(name));
        // Line endings are converted without any attribute then.
        if last("core.autocrlf").is_some_and(|line| !line.ends_with(" false")) {
            return Ok(None);
        }
        let files = ["--git-path", "index", "--git-path", "info/attributes"];
        let files = run(root, "rev-parse", &files)?;
        let mut files = files.lines().map(|file| root.join(file));
        let (Some(file), Some(info)) = (files.next(), files.next()) else {
            return Ok(None);
        };
        // The time first: should the index be replaced meanwhile, more files are too young.
        let Ok(written) = std::fs::symlink_metadata(&file) else {
            return Ok(None);
        };
        let unconverted = || run_with_magic(root, "ls-files", &["-z", "--", UNCONVERTED]);
        let (parsed, outside, asked) = std::thread::scope(|scope| {
            let parsing = scope.spawn(|| {
                let file = File::open(&file).ok()?;
                // Behind all else is a checksum.
                let length = file.metadata().ok()?.len().checked_sub(20)?;
                parse(
                    BufReader::with_capacity(BUFFER, file).take(length),
                    &written,
                )
            });
            let outside = last("attr.tree").is_some() || attributes::outside(root, &info);
            let asked = outside.then(unconverted);
            (parsing.join().ok().flatten(), outside, asked)
        });
        let Some(mut index) = parsed else {
            return Ok(None);
        };
        root.clone_into(&mut index.root);
        if outside || index.has_attributes || attributes::inside(root, index.paths()) {
            // Git goes through all files for it.
            let unconverted = asked.unwrap_or_else(unconverted)?;
            index.keep(unconverted.as_bytes());
        }
        Ok(Some(index))
    }

    fn paths(&self) -> impl Iterator<Item = &[u8]> {
        let path = |record: &Record| &self.paths[record.start..][..record.length as usize];
        self.records.iter().map(path)
    }

    /// Forgets all but these paths, each followed by a zero byte, in the index's order.
    fn keep(&mut self, paths: &[u8]) {
        let mut wanted = paths.split(|byte| *byte == 0).peekable();
        let all = &self.paths;
        self.records.retain(|record| {
            let path = &all[record.start..][..record.length as usize];
            while wanted
                .next_if(|wanted| !wanted.is_empty() && *wanted < path)
                .is_some()
            {}
            wanted.peek() == Some(&path)
        });
    }

    /// What is known of the files below a folder.
    pub(crate) fn known(self: &Arc<Self>, folder: &Path) -> Arc<KnownId> {
        let index = Arc::clone(self);
        let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let Ok(below) = real.strip_prefix(&self.root) else {
            return Arc::new(crate::context::walk::nothing_known);
        };
        let mut prefix = below.as_os_str().as_encoded_bytes().to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        // Who goes through the folder comes to its files in nearly the index's order.
        let next = AtomicUsize::new(0);
        Arc::new(move |entry: &Entry, metadata: &Metadata| {
            let at = index.find(&prefix, entry.path.as_bytes(), next.load(Relaxed))?;
            next.store(at + 1, Relaxed);
            let record = &index.records[at];
            (record.stat == stat(metadata).hash()).then_some(record.id)
        })
    }

    /// The place of the record of a file, perhaps `likely`.
    fn find(&self, prefix: &[u8], rest: &[u8], likely: usize) -> Option<usize> {
        let of = |record: &Record| &self.paths[record.start..][..record.length as usize];
        let is_it = |record: &Record| of(record).strip_prefix(prefix) == Some(rest);
        if self.records.get(likely).is_some_and(is_it) {
            return Some(likely);
        }
        let order = |record: &Record| {
            let path = of(record);
            let (start, end) = path.split_at(path.len().min(prefix.len()));
            start.cmp(prefix).then_with(|| end.cmp(rest))
        };
        self.records.binary_search_by(order).ok()
    }
}

impl Stat {
    fn hash(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        Hash::hash(self, &mut hash);
        hash.finish()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "git cuts these numbers to 32 bits as well"
)]
fn stat(metadata: &Metadata) -> Stat {
    Stat {
        ctime: (metadata.ctime() as u32, metadata.ctime_nsec() as u32),
        mtime: (metadata.mtime() as u32, metadata.mtime_nsec() as u32),
        inode: metadata.ino() as u32,
        // The type, and whether it may be executed: all that git keeps.
        mode: if metadata.mode() & 0o100 == 0 {
            0o100_644
        } else {
            0o100_755
        },
        owner: (metadata.uid(), metadata.gid()),
        size: metadata.len() as u32,
    }
}

/// Takes bytes from the front of a file.
struct Bytes<R>(R);

impl<R: BufRead> Bytes<R> {
    fn take<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let mut taken = [0; COUNT];
        self.0.read_exact(&mut taken).ok()?;
        Some(taken)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        let skipped = io::copy(&mut (&mut self.0).take(count), &mut io::sink());
        (skipped.ok()? == count).then_some(())
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take()?))
    }

    /// Appends what comes up to the next zero byte, which is taken too.
    fn text(&mut self, text: &mut Vec<u8>) -> Option<()> {
        self.0.read_until(0, text).ok()?;
        (text.pop()? == 0).then_some(())
    }

    /// The variable-length number of index version 4 (git's `decode_varint`).
    fn varint(&mut self) -> Option<usize> {
        let [mut byte] = self.take()?;
        let mut value = usize::from(byte & 127);
        while byte & 128 != 0 {
            [byte] = self.take()?;
            value = value.checked_add(1)?.checked_mul(128)? + usize::from(byte & 127);
        }
        Some(value)
    }
}

/// Bytes of an entry before its path, without the flags that only some have.
const HEAD: usize = 62;

/// `None`: not an index of version 2 to 4 with SHA-1 ids, or one that lies in two files. It is read piece by piece: that of a
/// large monorepo has dozens of megabytes.
fn parse(bytes: impl BufRead, written: &Metadata) -> Option<Index> {
    let written = stat(written).mtime;
    let mut rest = Bytes(bytes);
    if rest.take()? != *b"DIRC" {
        return None;
    }
    let version = rest.number()?;
    if !(2..=4).contains(&version) {
        return None;
    }
    let count = rest.number()?;
    let mut index = Index::default();
    // A file that lies about its length ends soon.
    index.records.reserve((count as usize).min(MOST_AT_ONCE));
    let mut path = Vec::new();
    for _ in 0..count {
        let head: [u8; HEAD] = rest.take()?;
        let number = |at: usize| {
            head[at..]
                .first_chunk()
                .map(|&bytes| u32::from_be_bytes(bytes))
        };
        let ctime = (number(0)?, number(4)?);
        let mtime = (number(8)?, number(12)?);
        // The device is between them.
        let (inode, mode) = (number(20)?, number(24)?);
        let owner = (number(28)?, number(32)?);
        let size = number(36)?;
        let id = BlobId(*head[40..].first_chunk()?);
        let flags = u16::from_be_bytes(*head[60..].first_chunk()?);
        let is_extended = version >= 3 && flags & 0x4000 != 0;
        let extended = if is_extended {
            u16::from_be_bytes(rest.take()?)
        } else {
            0
        };
        if version == 4 {
            let shared = path.len().checked_sub(rest.varint()?)?;
            path.truncate(shared);
            rest.text(&mut path)?;
        } else {
            path.clear();
            rest.text(&mut path)?;
            // Padded with zeros to a multiple of eight, one of which ended the path.
            let length = HEAD + 2 * usize::from(is_extended) + path.len() + 1;
            rest.skip((length.next_multiple_of(8) - length) as u64)?;
        }
        index.has_attributes |= attributes::is_file(&path);
        // Assumed unchanged, in a merge; not in the checkout, only intended to be added.
        let told = flags & 0x8000 != 0 || flags & 0x3000 != 0 || extended & 0x6000 != 0;
        let is_file = matches!(mode, 0o100_644 | 0o100_755);
        // Written at the same time as the index or later: it may have changed unseen ("racy git").
        let young = mtime >= written;
        if told || !is_file || young {
            continue;
        }
        let stat = Stat {
            ctime,
            mtime,
            inode,
            mode,
            owner,
            size,
        };
        let stat = stat.hash();
        index.records.push(Record {
            start: index.paths.len(),
            length: u32::try_from(path.len()).ok()?,
            stat,
            id,
        });
        index.paths.extend_from_slice(&path);
    }
    while let Some(name) = rest.take() {
        // A split index: the other half is in another file.
        if name == *b"link" {
            return None;
        }
        let length = rest.number()?;
        rest.skip(length.into())?;
    }
    Some(index)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    use super::*;

    struct Repository(tempfile::TempDir);

    impl Repository {
        fn new() -> Self {
            let repository = Self(tempfile::tempdir().unwrap());
            repository.git(&["init", "-q", "-b", "main"]);
            repository
        }

        fn git(&self, arguments: &[&str]) {
            let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
            let command = Command::new("git")
                .current_dir(self.0.path())
                .args(identity)
                .args(arguments)
                .output()
                .unwrap();
            assert!(command.status.success(), "{command:?}");
        }

        /// A file older than what git will write next.
        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            file.set_modified(past).unwrap();
        }

        /// Which of these files are known below a folder; each one known must be right.
        fn known(&self, folder: &str, paths: &[&str]) -> Vec<String> {
            let root = self.0.path().canonicalize().unwrap();
            let checkout = Checkout::find(&root).unwrap().unwrap();
            let known = Index::read(&checkout).known(&root.join(folder));
            let stop = crate::cancel::CancellationToken::new();
            let mut found = Vec::new();
            for path in paths {
                let full = root.join(folder).join(path);
                let metadata = fs::symlink_metadata(&full).unwrap();
                let entry = Entry::read(&full, (*path).to_owned(), &metadata).unwrap();
                if let Some(id) = known(&entry, &metadata) {
                    let mut buffer = vec![0; 1000];
                    let read = crate::context::file_id::of_file(
                        &full,
                        path,
                        metadata.len(),
                        &mut buffer,
                        &stop,
                    );
                    assert_eq!(read.unwrap(), Some(id), "{path}");
                    found.push((*path).to_owned());
                }
            }
            found
        }
    }

    #[test]
    fn files_that_git_has_seen_are_known_in_every_version_of_the_index() {
        let repository = Repository::new();
        let paths = [
            "a",
            "a-b/c.py",
            "a/b.py",
            "z/long/path/to/a/file",
            "z/long/path/tp",
        ];
        for path in &paths[1..] {
            repository.write(path, path);
        }
        repository.git(&["add", "."]);
        for version in ["2", "3", "4"] {
            repository.git(&["update-index", "--index-version", version]);
            assert_eq!(repository.known("", &paths[1..]), paths[1..], "{version}");
            assert_eq!(repository.known("z/long", &["path/tp"]), ["path/tp"]);
        }
    }

    #[test]
    fn what_changed_since_or_is_in_doubt_is_not() {
        let repository = Repository::new();
        let paths = [
            "assumed", "kept", "mode", "new", "skipped", "touched", "written",
        ];
        for path in paths.iter().filter(|path| **path != "new") {
            repository.write(path, "1");
        }
        repository.git(&["add", "."]);
        repository.write("new", "1");
        repository.git(&["update-index", "--assume-unchanged", "assumed"]);
        repository.git(&["update-index", "--skip-worktree", "skipped"]);
        repository.write("written", "2");
        let at = |path: &str| repository.0.path().join(path);
        fs::File::options()
            .write(true)
            .open(at("touched"))
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        let mut mode = fs::metadata(at("mode")).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        fs::set_permissions(at("mode"), mode).unwrap();
        assert_eq!(repository.known("", &paths), ["kept"]);
        // As young as the index: a change within the same tick would not be seen.
        fs::write(at("young"), "1").unwrap();
        let future = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        fs::File::options()
            .write(true)
            .open(at("young"))
            .unwrap()
            .set_modified(future)
            .unwrap();
        repository.git(&["add", "young"]);
        assert!(repository.known("", &["young"]).is_empty());
    }

    #[test]
    fn what_git_may_convert_is_not() {
        let repository = Repository::new();
        repository.write(
            ".gitattributes",
            "*.txt text=auto\n*.bin filter=lfs\n*.dat -diff\n",
        );
        let paths = ["a.bin", "a.dat", "a.py", "a.txt"];
        for path in paths {
            repository.write(path, "line\r\n");
        }
        // Without LFS at hand.
        repository.git(&["-c", "filter.lfs.clean=cat", "add", "."]);
        assert_eq!(repository.known("", &paths), ["a.dat", "a.py"]);
        repository.git(&["config", "core.autocrlf", "input"]);
        assert!(repository.known("", &paths).is_empty());
    }

    #[test]
    fn wherever_it_is_said_that_git_may_convert() {
        let known = |file: &str, settings: &[&str]| {
            let repository = Repository::new();
            let paths = ["a.py", "b/c/d/e.py", "b/c/e.py", "c/e.py"];
            for path in paths {
                repository.write(path, "1");
            }
            repository.git(&["add", "."]);
            repository.write(file, "*.py text\n");
            if !settings.is_empty() {
                repository.git(settings);
            }
            repository.known("", &paths)
        };
        let all = ["a.py", "b/c/d/e.py", "b/c/e.py", "c/e.py"];
        assert_eq!(known("b/other", &[]), all);
        assert_eq!(known("b/c/.gitattributes", &[]), ["a.py", "c/e.py"]);
        assert_eq!(known("b/c/d/.gitattributes", &[]), [all[0], all[2], all[3]]);
        assert!(known(".gitattributes", &[]).is_empty());
        assert!(known(".git/info/attributes", &[]).is_empty());
        let settings = ["config", "core.attributesFile", ".git/mine"];
        assert!(known(".git/mine", &settings).is_empty());
        // Git takes what is in the index where nothing is on disk.
        let repository = Repository::new();
        repository.write("c/e.py", "1");
        repository.write("c/.gitattributes", "*.py text\n");
        repository.git(&["add", "."]);
        fs::remove_file(repository.0.path().join("c/.gitattributes")).unwrap();
        assert!(repository.known("", &["c/e.py"]).is_empty());
    }

    #[test]
    fn an_index_in_two_files_or_none_is_nothing_known() {
        let repository = Repository::new();
        repository.write("a", "1");
        assert!(repository.known("", &["a"]).is_empty());
        repository.git(&["add", "."]);
        assert_eq!(repository.known("", &["a"]), ["a"]);
        repository.git(&["update-index", "--split-index"]);
        assert!(repository.known("", &["a"]).is_empty());
    }
}
