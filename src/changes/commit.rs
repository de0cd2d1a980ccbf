//! A commit's full id.

use std::fmt;

/// 40 or 64 hexadecimal digits (SHA-1 or SHA-256), in lower case, not all zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Commit(String);

impl Commit {
    /// `None` for anything but a full id; zeros are how git and CIs write "no commit".
    pub(crate) fn new(text: &str) -> Option<Self> {
        let is_id = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
        (is_id && text.bytes().any(|b| b != b'0')).then(|| Self(text.to_ascii_lowercase()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, for people.
    pub(crate) fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_ids_are_commits() {
        let id = "0123456789abcdef0123456789ABCDEF01234567";
        let commit = Commit::new(id).unwrap();
        assert_eq!(commit.short(), "0123456789ab");
        assert_eq!(commit.as_str(), id.to_lowercase());
        let zeros = "0".repeat(40);
        for text in ["", "main", &id[1..], &zeros, &format!("{}g", &id[1..])] {
            assert_eq!(Commit::new(text), None, "{text}");
        }
    }
}
