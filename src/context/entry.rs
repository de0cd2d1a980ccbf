//! One path of a context with all that a builder is told of it, and nothing else: no owner, no access times.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::io::Errno;

use super::ContextError;
use super::file_id::BlobId;

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink {
        /// As it stands in the link; not resolved.
        target: String,
    },
    Fifo,
    /// Builders are told that it is an empty file.
    Socket,
    Device {
        major: u64,
        minor: u64,
    },
}

/// One path of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative to the context, with `/`.
    pub path: String,
    pub kind: Kind,
    /// Go's `fs.FileMode`: type bits and permissions.
    pub mode: u32,
    /// Bytes; 0 for a folder, the length of the target for a link.
    pub size: u64,
    /// Modification time since 1970: seconds, and nanoseconds below a second. A file's nanoseconds are made from its
    /// content (see [`BlobId::nanos`]).
    pub seconds: i64,
    pub nanos: u32,
    /// The path that came before and is the same file, where there is one.
    pub hard_link: Option<String>,
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// What is in a file; `None` for everything else.
    pub id: Option<BlobId>,
}

/// Identifies a file that has several names: device and inode.
pub(super) type Inode = (u64, u64);

impl Entry {
    /// Reads what the file system says of `full`, without following or opening it. The content's `id` is not known yet.
    pub(crate) fn read(
        full: &Path,
        path: String,
        metadata: &Metadata,
    ) -> Result<Self, ContextError> {
        Ok(Self {
            mode: go_mode(metadata.mode()),
            size: if metadata.is_dir() { 0 } else { metadata.len() },
            seconds: metadata.mtime(),
            nanos: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            hard_link: None,
            xattrs: xattrs(full)?,
            id: None,
            path,
            kind: kind(full, metadata)?,
        })
    }

    /// Whether other paths can be the same file: for those, and only those, builders are told so.
    pub(super) fn inode(&self, metadata: &Metadata) -> Option<Inode> {
        let linkable = !matches!(self.kind, Kind::Directory | Kind::Symlink { .. });
        (linkable && metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()))
    }
}

fn kind(full: &Path, metadata: &Metadata) -> Result<Kind, ContextError> {
    let file_type = metadata.file_type();
    Ok(if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_symlink() {
        let target = fs::read_link(full).map_err(|e| ContextError::read(full, e))?;
        let target = target.into_os_string().into_string().map_err(|target| {
            ContextError::NotUtf8(format!("{} -> {}", full.display(), target.display()))
        })?;
        Kind::Symlink { target }
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if file_type.is_socket() {
        Kind::Socket
    } else if file_type.is_block_device() || file_type.is_char_device() {
        let device = metadata.rdev();
        // The split of a device number that fsutil uses.
        Kind::Device {
            major: (device >> 8) & 0xfff,
            minor: (device & 0xff) | ((device >> 12) & 0xf_ff00),
        }
    } else {
        Kind::File
    })
}

/// The permission bits of Go's `fs.FileMode` as Unix has them: `0o7777` at most.
pub(crate) fn permissions(mode: u32) -> u32 {
    (mode >> 23 & 1) << 11 | (mode >> 22 & 1) << 10 | (mode >> 20 & 1) << 9 | mode & 0o777
}

/// Unix mode bits as Go's `fs.FileMode`. A socket has no type bit: fsutil clears it.
fn go_mode(mode: u32) -> u32 {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const FIFO: u32 = 1 << 25;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const CHAR_DEVICE: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;
    let kind = match mode & 0o170_000 {
        0o040_000 => DIR,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHAR_DEVICE,
        0o010_000 => FIFO,
        _ => 0,
    };
    let flag = |bit: u32, flag: u32| if mode & bit == 0 { 0 } else { flag };
    kind | flag(0o4000, SETUID) | flag(0o2000, SETGID) | flag(0o1000, STICKY) | (mode & 0o777)
}

/// Extended attributes, without the ones Apple's tools leave behind. One that cannot be read is left out, as fsutil does.
fn xattrs(full: &Path) -> Result<Vec<(String, Vec<u8>)>, ContextError> {
    let names = match grown(|buffer| rustix::fs::llistxattr(full, buffer)) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(ContextError::read(full, error.into())),
    };
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0) {
        if name.is_empty() || name.starts_with(b"com.apple.") {
            continue;
        }
        let Ok(name) = std::str::from_utf8(name) else {
            let name = String::from_utf8_lossy(name);
            return Err(ContextError::NotUtf8(format!(
                "{} (attribute {name})",
                full.display()
            )));
        };
        if let Ok(value) = grown(|buffer| rustix::fs::lgetxattr(full, name, buffer)) {
            found.push((name.to_owned(), value));
        }
    }
    Ok(found)
}

/// Calls `read` with a buffer that is large enough. Most lists are empty, and fit the first.
fn grown(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(length) => return Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    // Linux allows neither a list nor a value of more than 64 KiB.
    let mut large = vec![0; 64 << 10];
    let length = read(&mut large)?;
    large.truncate(length);
    Ok(large)
}

/// What a folder has under a name.
pub(super) struct Named {
    pub(super) name: OsString,
    pub(super) is_dir: bool,
    /// It holds the folder open: the kernel then looks up this name alone, not the whole path.
    open: Option<fs::DirEntry>,
}

impl Named {
    /// Without following links. `full`: the whole path.
    pub(super) fn metadata(&self, full: &Path) -> io::Result<Metadata> {
        match &self.open {
            // Another folder may have come to its place meanwhile.
            Some(entry) => entry.metadata().or_else(|_| fs::symlink_metadata(full)),
            None => fs::symlink_metadata(full),
        }
    }

    /// Lets go of the folder. `false`: it did before.
    pub(super) fn close(&mut self) -> bool {
        self.open.take().is_some()
    }
}

/// A folder's names, sorted by bytes: the order of Go's `os.ReadDir`, and so the order builders insist on.
pub(super) fn names(folder: &Path) -> io::Result<Vec<Named>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_dir = match entry.file_type() {
            Ok(file_type) => file_type.is_dir(),
            Err(error) if super::vanished(&error) => continue,
            Err(error) => return Err(error),
        };
        names.push(Named {
            name: entry.file_name(),
            is_dir,
            open: Some(entry),
        });
    }
    names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_go_s() {
        for (unix, go) in [
            (0o100_644, 0o644),
            (0o040_755, (1 << 31) | 0o755),
            (0o041_777, (1 << 31) | (1 << 20) | 0o777),
            (0o120_777, (1 << 27) | 0o777),
            (0o104_755, (1 << 23) | 0o755),
            (0o102_755, (1 << 22) | 0o755),
            (0o010_600, (1 << 25) | 0o600),
            (0o020_600, (1 << 26) | (1 << 21) | 0o600),
            (0o060_600, (1 << 26) | 0o600),
            (0o140_755, 0o755),
        ] {
            assert_eq!(go_mode(unix), go, "{unix:o}");
            assert_eq!(permissions(go), unix & 0o7777, "{unix:o}");
        }
    }
}
