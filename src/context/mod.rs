//! What a build context holds: which files of a folder are part of it, and what each of them is.
//!
//! The rules are those of Docker's own client, which the Dockerfile frontend relies on: `moby/patternmatcher` for one
//! list of patterns ([`pattern`]) and the files that hold them ([`ignore`]), `tonistiigi/fsutil` for a walk with include, exclude and follow lists ([`filter`],
//! [`follow`], [`walk`]). What must stay true: the walk of this room is the only one, so what a key is computed from is
//! what is sent; and nothing that is excluded is opened.

pub(crate) mod entry;
pub(crate) mod file_id;
pub(crate) mod filter;
mod follow;
mod glob;
pub(crate) mod ignore;
pub(crate) mod inputs;
pub(crate) mod lexical;
mod matcher;
pub(crate) mod pattern;
mod regex;
mod tree;
pub(crate) mod walk;

use std::io;
use std::path::{Path, PathBuf};

/// Why a context could not be read or sent. Each text names the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    #[error("build context `{}`: {source}", path.display())]
    Root { path: PathBuf, source: io::Error },
    #[error(
        "pattern `{pattern}` is malformed: {reason}; correct it in .dockerignore, or in the COPY or ADD that names it"
    )]
    Pattern {
        pattern: String,
        reason: &'static str,
    },
    #[error(
        "line {number} of `{}` is 64 KiB or longer, which no builder reads: split it",
        path.display()
    )]
    LongLine { path: PathBuf, number: usize },
    #[error("cannot read `{path}`: {source}; make it readable or exclude it in .dockerignore")]
    Read { path: String, source: io::Error },
    #[error(
        "name is not UTF-8, which a builder cannot take: `{0}`; rename it or exclude it in .dockerignore"
    )]
    NotUtf8(String),
    #[error("file changed while it was sent: {0}")]
    Changed(String),
    /// More than a protocol of 32-bit file numbers can hold.
    #[error("build context `{}` has more than 4,294,967,295 files", .0.display())]
    TooMany(PathBuf),
    /// Whoever wanted the context no longer does: not a fault.
    #[error("reading the build context was stopped")]
    Stopped,
}

impl ContextError {
    /// A path of the file system that cannot be read.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.display().to_string(),
            source,
        }
    }
}

/// Whether a path was there a moment ago and no longer is. Go's fsutil takes both for "not exist".
fn vanished(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// A path of a Dockerfile, taken from the top of its context; `.` is the whole of it.
pub(crate) fn relative(path: &str) -> String {
    match lexical::join("/", path).trim_start_matches('/') {
        "" => ".".to_owned(),
        path => path.to_owned(),
    }
}
