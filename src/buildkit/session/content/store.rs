//! Blobs in a folder, by digest (OCI image layout 1.1, "Blobs"). What is there is whole: a blob gets its name when its
//! size and digest have been checked.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::reference::Digest;

/// A folder of blobs.
#[derive(Debug, Clone)]
pub(crate) struct BlobStore {
    root: PathBuf,
}

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("it has {0} bytes, and not {1}")]
    Size(u64, u64),
    #[error("its digest is {0}, and not {1}")]
    Digest(Digest, Digest),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl BlobStore {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where a blob is or would be; `None`: only SHA-256 is kept.
    pub(crate) fn path(&self, digest: &Digest) -> Option<PathBuf> {
        let hex = digest.as_str().strip_prefix("sha256:")?;
        Some(self.blobs().join(hex))
    }

    /// The folder of the blobs.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// A blob's size in bytes, if it is there.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        let metadata = std::fs::metadata(self.path(digest)?).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// At most `length` bytes from there on; fewer at the end.
    pub(super) fn read(&self, digest: &Digest, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let path = self.path(digest).ok_or(io::ErrorKind::NotFound)?;
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::with_capacity(length);
        file.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Begins a blob.
    pub(super) fn write(&self) -> io::Result<BlobWriter> {
        std::fs::create_dir_all(self.blobs())?;
        let ingest = self.root.join("ingest");
        std::fs::create_dir_all(&ingest)?;
        Ok(BlobWriter {
            file: NamedTempFile::new_in(ingest)?,
            hash: Sha256::new(),
            written: 0,
        })
    }
}

/// A blob that is being written; gone unless it is committed.
pub(super) struct BlobWriter {
    file: NamedTempFile,
    hash: Sha256,
    /// In bytes.
    pub(super) written: u64,
}

impl BlobWriter {
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Begins again.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.as_file_mut().set_len(0)?;
        self.file.rewind()?;
        self.hash = Sha256::new();
        self.written = 0;
        Ok(())
    }

    /// Keeps it, if it is what was expected.
    pub(super) fn commit(
        self,
        store: &BlobStore,
        size: Option<u64>,
        expected: Option<&Digest>,
    ) -> Result<Digest, WriteError> {
        let digest = digest(self.hash);
        if let Some(size) = size.filter(|size| *size != self.written) {
            return Err(WriteError::Size(self.written, size));
        }
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(WriteError::Digest(digest, expected.clone()));
        }
        let path = store
            .path(&digest)
            .ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        persist(self.file, &path)?;
        Ok(digest)
    }
}

fn digest(hash: Sha256) -> Digest {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    // 64 hex digits always parse; were they not to, this is no blob's digest.
    Digest::new(&text).unwrap_or_else(|_| Digest::of(text.as_bytes()))
}

/// Temporary files are the owner's alone; a cache may be others' too.
fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(permissions)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_there_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::new(folder.path().into());
        let digest = Digest::of(b"content");
        let mut writer = store.write().unwrap();
        writer.add(b"other").unwrap();
        writer.restart().unwrap();
        writer.add(b"con").unwrap();
        writer.add(b"tent").unwrap();
        assert_eq!(store.size(&digest), None);
        let kept = writer.commit(&store, Some(7), Some(&digest)).unwrap();
        assert_eq!((kept, store.size(&digest)), (digest.clone(), Some(7)));
        assert_eq!(store.read(&digest, 3, 100).unwrap(), b"tent");
        assert_eq!(store.read(&digest, 0, 3).unwrap(), b"con");
    }

    #[test]
    fn a_blob_that_is_not_what_was_announced_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::new(folder.path().into());
        let begun = || {
            let mut writer = store.write().unwrap();
            writer.add(b"content").unwrap();
            writer
        };
        let size = begun().commit(&store, Some(8), None).unwrap_err();
        insta::assert_snapshot!(size, @"it has 7 bytes, and not 8");
        let other = Digest::of(b"other");
        assert!(begun().commit(&store, None, Some(&other)).is_err());
        assert_eq!(store.blobs().read_dir().unwrap().count(), 0);
        assert_eq!(folder.path().join("ingest").read_dir().unwrap().count(), 0);
    }
}
