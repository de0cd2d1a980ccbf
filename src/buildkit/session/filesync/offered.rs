//! The files whose metadata was sent, by the number under which the builder asks for them. About 60 bytes for each, since
//! a context may have hundreds of thousands.

use crate::context::entry::{Entry, Kind};
use crate::context::file_id::BlobId;

/// A file that a builder may ask for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Relative to the context.
    pub path: String,
    pub size: u64,
    /// `None`: a socket, which is sent as an empty file.
    pub id: Option<BlobId>,
}

/// Every entry that was sent, in order: its place is its number.
#[derive(Default)]
pub(super) struct Offered {
    records: Vec<Record>,
    /// All last names, one behind the other.
    names: String,
    /// Numbers of the folders above the next entry.
    folders: Vec<u32>,
}

struct Record {
    /// Number of the folder it is in; its own where that is the top.
    parent: u32,
    /// Where its last name begins in `names`. It ends where the next one begins.
    name: usize,
    size: u64,
    id: Option<BlobId>,
    /// Whether its content may be asked for: once, and not for folders, links and devices.
    open: bool,
}

impl Offered {
    /// Adds the next entry. `false`: there is no number left for it.
    pub(super) fn push(&mut self, entry: &Entry) -> bool {
        let Ok(number) = u32::try_from(self.records.len()) else {
            return false;
        };
        self.folders.truncate(entry.path.matches('/').count());
        let name = entry
            .path
            .rsplit_once('/')
            .map_or(entry.path.as_str(), |(_, name)| name);
        self.records.push(Record {
            parent: self.folders.last().copied().unwrap_or(number),
            name: self.names.len(),
            size: entry.size,
            id: entry.id,
            open: matches!(entry.kind, Kind::File | Kind::Socket),
        });
        self.names.push_str(name);
        if entry.kind == Kind::Directory {
            self.folders.push(number);
        }
        true
    }

    /// The file of this number, once.
    pub(super) fn take(&mut self, number: u32) -> Option<Offer> {
        let index = number as usize;
        let record = self.records.get_mut(index).filter(|record| record.open)?;
        record.open = false;
        let (size, id) = (record.size, record.id);
        Some(Offer {
            path: self.path(index),
            size,
            id,
        })
    }

    fn path(&self, mut index: usize) -> String {
        let mut parts = vec![self.name(index)];
        while self.records[index].parent as usize != index {
            index = self.records[index].parent as usize;
            parts.push(self.name(index));
        }
        parts.reverse();
        parts.join("/")
    }

    fn name(&self, index: usize) -> &str {
        let end = self
            .records
            .get(index + 1)
            .map_or(self.names.len(), |next| next.name);
        &self.names[self.records[index].name..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_file_by_its_number_once() {
        let mut offered = Offered::default();
        let entries = [
            ("a", Kind::Directory),
            ("a/b", Kind::Directory),
            ("a/b/c", Kind::File),
            ("a/d", Kind::Socket),
            ("e", Kind::File),
            ("f", Kind::Directory),
            ("f/g", Kind::File),
            ("h", Kind::Fifo),
        ];
        for (path, kind) in &entries {
            assert!(offered.push(&Entry {
                path: (*path).to_owned(),
                kind: kind.clone(),
                mode: 0,
                size: path.len() as u64,
                seconds: 0,
                nanos: 0,
                hard_link: None,
                xattrs: Vec::new(),
                id: None,
            }));
        }
        for (number, (path, kind)) in (0..).zip(&entries) {
            let offer = offered.take(number);
            let has_content = matches!(kind, Kind::File | Kind::Socket);
            let expected = has_content.then(|| (*path).to_owned());
            assert_eq!(offer.map(|offer| offer.path), expected);
            assert_eq!(offered.take(number), None);
        }
        assert_eq!(offered.take(8), None);
    }
}
