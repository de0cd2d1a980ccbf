//! Goes through a folder, depth first, and finds what a filter keeps. Knows names and metadata, never contents.
//!
//! Order and laziness are fsutil's: names sorted by bytes in each folder, a folder before its contents, and a folder that
//! is not wanted itself only once something below it is.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::entry::{self, Entry, Named};
use super::filter::{Matched, Rules, Verdict};
use super::{ContextError, vanished};
use crate::cancel::CancellationToken;

/// Receives each entry with what the file system says of it, before its content is known. An error ends the walk.
pub(super) type Found<'a> = dyn FnMut(Entry, &Metadata) -> Result<(), ContextError> + 'a;

/// Entries between two looks at whether the walk is to stop.
const STEPS: u32 = 64;

/// A folder on the way from the top to where the walk is.
struct Open {
    /// Relative to the root; empty for the root itself.
    path: PathBuf,
    matched: Matched,
    reported: bool,
    names: std::vec::IntoIter<Named>,
}

impl Open {
    /// Lets go of it while the walk is further down: trees may be deeper than a process may have open files.
    fn close(&mut self) {
        for name in self.names.as_mut_slice() {
            if !name.close() {
                // Done before.
                return;
            }
        }
    }
}

/// Reports every entry below `root` that `rules` keep. What vanishes meanwhile was never there.
pub(super) fn walk(
    root: &Path,
    rules: &Rules,
    stop: &CancellationToken,
    found: &mut Found<'_>,
) -> Result<(), ContextError> {
    let names = entry::names(root).map_err(|e| ContextError::read(root, e))?;
    let root = &Root::new(root);
    // A stack of our own: trees may be deeper than a thread's.
    let mut open = vec![Open {
        path: PathBuf::new(),
        matched: Matched::default(),
        reported: true,
        names: names.into_iter(),
    }];
    let mut own = Matched::default();
    let mut steps: u32 = 0;
    while let Some(folder) = open.last_mut() {
        // Asking takes a lock that several walks share.
        if steps.is_multiple_of(STEPS) && stop.is_cancelled() {
            return Err(ContextError::Stopped);
        }
        steps = steps.wrapping_add(1);
        let Some(next) = folder.names.next() else {
            open.pop();
            continue;
        };
        let is_dir = next.is_dir;
        let path = folder.path.join(&next.name);
        let verdict = rules.judge(&path.to_string_lossy(), is_dir, &folder.matched, &mut own)?;
        if verdict == Verdict::Prune {
            continue;
        }
        if verdict == Verdict::Keep
            && !(report_parents(root, &mut open, found)?
                && report(root, &path, |full| next.metadata(full), found)?)
        {
            continue;
        }
        if is_dir && let Some(names) = root.at(&path, |full| contents(full, verdict))? {
            if let Some(above) = open.last_mut() {
                above.close();
            }
            open.push(Open {
                path,
                matched: std::mem::take(&mut own),
                reported: verdict == Verdict::Keep,
                names: names.into_iter(),
            });
        }
    }
    Ok(())
}

/// The folder that is gone through.
struct Root<'a> {
    full: &'a Path,
    /// The same by the shortest way from where the process is: the kernel looks up each folder of a path, every time.
    near: &'a Path,
}

impl<'a> Root<'a> {
    fn new(full: &'a Path) -> Self {
        let here = std::env::current_dir().unwrap_or_default();
        let near = full.strip_prefix(here).unwrap_or(full);
        Self { full, near }
    }

    /// Does something with a path of it. What fails is done again by the full path, which errors then have.
    fn at<T>(
        &self,
        path: &Path,
        action: impl Fn(&Path) -> Result<T, ContextError>,
    ) -> Result<T, ContextError> {
        action(&self.near.join(path)).or_else(|_| action(&self.full.join(path)))
    }
}

/// The names in a folder; `None` where there are none to be had and that is no fault.
fn contents(full: &Path, verdict: Verdict) -> Result<Option<Vec<Named>>, ContextError> {
    match entry::names(full) {
        Ok(names) => Ok(Some(names)),
        Err(error) if vanished(&error) => Ok(None),
        // Excluded, and only looked into because of an exception.
        Err(error)
            if verdict == Verdict::Descend && error.kind() == io::ErrorKind::PermissionDenied =>
        {
            Ok(None)
        }
        Err(error) => Err(ContextError::read(full, error)),
    }
}

/// Reports the folders above, as far as they have not been. `false`: one of them is gone.
fn report_parents(
    root: &Root<'_>,
    open: &mut [Open],
    found: &mut Found<'_>,
) -> Result<bool, ContextError> {
    for folder in open.iter_mut().filter(|folder| !folder.reported) {
        if !report(root, &folder.path, |full| fs::symlink_metadata(full), found)? {
            return Ok(false);
        }
        folder.reported = true;
    }
    Ok(true)
}

/// Reports one entry. `false`: it is gone.
fn report(
    root: &Root<'_>,
    path: &Path,
    stat: impl Fn(&Path) -> io::Result<Metadata>,
    found: &mut Found<'_>,
) -> Result<bool, ContextError> {
    let Some(name) = path.to_str() else {
        return Err(ContextError::NotUtf8(path.display().to_string()));
    };
    let read = root.at(path, |full| {
        let metadata = stat(full).map_err(|e| ContextError::read(full, e))?;
        Ok((Entry::read(full, name.to_owned(), &metadata)?, metadata))
    });
    match read {
        Ok((entry, metadata)) => found(entry, &metadata).map(|()| true),
        Err(ContextError::Read { source, .. }) if vanished(&source) => Ok(false),
        Err(error) => Err(error),
    }
}
