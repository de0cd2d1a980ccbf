//! The identity of a file's content: the id git gives it as a blob, which `git ls-files` often knows without a read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sha1::{Digest, Sha1};

use super::{ContextError, vanished};
use crate::cancel::CancellationToken;

/// SHA-1 of `blob <size>\0<bytes>`: git's object id of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlobId(pub [u8; 20]);

impl BlobId {
    /// The nanoseconds that a builder is told of a file's modification time. Its differ trusts size and time alone, so a
    /// rewrite that keeps both would not be sent again; layers cut times to seconds, so no digest depends on this.
    pub(crate) fn nanos(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d]) % 1_000_000_000
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl serde::Serialize for BlobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

/// Hashes content as it passes.
pub(crate) struct BlobHasher(Sha1);

impl BlobHasher {
    /// For content of `size` bytes: git puts the size in front.
    pub(crate) fn new(size: u64) -> Self {
        Self(Sha1::new_with_prefix(format!("blob {size}\0")))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> BlobId {
        BlobId(self.0.finalize().into())
    }
}

/// Opens a regular file, and nothing else that may stand there by now: no link is followed, no FIFO waited for. `None`:
/// it is no longer a regular file of `size` bytes.
pub(crate) fn open(full: &Path, size: u64) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(full, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A link, or a socket.
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    Ok((metadata.is_file() && metadata.len() == size).then_some(file))
}

/// Bytes that are read, hashed and sent at a time.
pub(super) const CHUNK: usize = 64 << 10;

/// The id of a file that is `size` bytes long; `None` when it is gone. `name` is what a change is
/// reported as.
pub(crate) fn of_file(
    full: &Path,
    name: &str,
    size: u64,
    buffer: &mut [u8],
    stop: &CancellationToken,
) -> Result<Option<BlobId>, ContextError> {
    let mut file = match open(full, size) {
        Ok(Some(file)) => file,
        Ok(None) => return Err(ContextError::Changed(name.to_owned())),
        Err(error) if vanished(&error) => return Ok(None),
        Err(error) => return Err(ContextError::read(full, error)),
    };
    let mut hasher = BlobHasher::new(size);
    let mut left = size;
    loop {
        if stop.is_cancelled() {
            return Err(ContextError::Stopped);
        }
        let read = match file.read(buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ContextError::read(full, error)),
        };
        hasher.update(&buffer[..read]);
        match left.checked_sub(read as u64) {
            Some(0) if read == 0 => return Ok(Some(hasher.finish())),
            Some(rest) if read > 0 => left = rest,
            _ => return Err(ContextError::Changed(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(content: &[u8]) -> BlobId {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, content).unwrap();
        let size = content.len() as u64;
        of_file(
            &path,
            "f",
            size,
            &mut vec![0; CHUNK],
            &CancellationToken::new(),
        )
        .unwrap()
        .unwrap()
    }

    #[test]
    fn ids_are_git_s() {
        assert_eq!(
            id(b"").to_string(),
            "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
        );
        assert_eq!(
            id(b"hello\n").to_string(),
            "ce013625030ba8dba906f756967f9e9ca394464a"
        );
        let mut hasher = BlobHasher::new(3 * CHUNK as u64 + 1);
        let large = vec![7; 3 * CHUNK + 1];
        large.chunks(1000).for_each(|part| hasher.update(part));
        assert_eq!(id(&large), hasher.finish());
    }

    #[test]
    fn another_size_than_expected_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "1234").unwrap();
        let stop = CancellationToken::new();
        for size in [3, 5] {
            let error = of_file(&path, "f", size, &mut vec![0; CHUNK], &stop).unwrap_err();
            assert_eq!(error.to_string(), "file changed while it was sent: f");
        }
        let gone = of_file(&folder.path().join("g"), "g", 0, &mut vec![0; CHUNK], &stop);
        assert_eq!(gone.unwrap(), None);
        stop.cancel();
        let stopped = of_file(&path, "f", 4, &mut vec![0; CHUNK], &stop);
        assert!(matches!(stopped, Err(ContextError::Stopped)));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("f"), "").unwrap();
        std::os::unix::fs::symlink("f", at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), Mode::RUSR).unwrap();
        for name in ["link", "socket", "fifo"] {
            assert!(open(&at(name), 0).unwrap().is_none(), "{name}");
        }
        assert!(open(&at("f"), 0).unwrap().is_some());
    }
}
