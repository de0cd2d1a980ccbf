//! The key of an image: a hash of everything that can influence it. Two builds with the same key are the same image, so
//! one that is in the registry under its key is not built again.
//!
//! | input | what of it | from |
//! |---|---|---|
//! | `attribute:…` | what the Dockerfile frontend is told, but for [`NOT_INPUTS`]: target, platform, network, … | `engine/solve_request.rs` |
//! | `arg:…`, `label:…` | SHA-256 of the value | the same |
//! | `exporter:…` | media types, compression: what shapes the manifest | `profile.rs` |
//! | `dockerfile` | git blob id of the whole file | `project.rs` |
//! | `context` | path, type, permission bits, link target, content of every file that the target can read, after the ignore file ([`tree`]) | `dockerfile/sources.rs`, `context/walk.rs` |
//! | `context:…` | the same of a named context, all of it | the same |
//! | `extra_inputs` | the same of the files outside the context that the manifest names | the manifest |
//! | `image:…` | digest of the manifest or index: `FROM`, `COPY --from`, mounts, `# syntax` | `resolve/` |
//! | `parent:…` | the key of a container that it is built from, and the generation | this |
//! | `age` | which period of `max_age` it is | the clock |
//!
//! Not inputs: modification times, owners, the checkout's path, values of secrets, where the image is sent and which
//! tags it gets, caches, the commit.

pub(crate) mod inputs;
pub(crate) mod reason;
pub(crate) mod tree;

use std::fmt;

use sha2::{Digest as _, Sha256};

pub(crate) use inputs::Inputs;
pub(crate) use reason::BuildReason;

use crate::reference::Tag;

/// Version of keys: it changes whenever the same inputs would make another key, or a key would mean another image.
pub(crate) const VERSION: &str = "1";

/// Label with the key of an image; empty where it has none, since labels are inherited from base images.
pub(crate) const KEY: &str = "skiff.key";
/// Label with the [`Inputs`], as JSON.
pub(crate) const INPUTS: &str = "skiff.inputs";
/// Label with the name that a rebuild without cache gives to what it makes, which the keys of children hold.
pub(crate) const GENERATION: &str = "skiff.generation";

/// Attributes of the frontend that are no inputs. The file's name is none, since its content is; the others are set for a
/// run and change nothing that is in a layer.
pub(crate) const NOT_INPUTS: [&str; 5] = [
    "filename",
    "label:org.opencontainers.image.revision",
    "label:skiff.key",
    "label:skiff.inputs",
    "label:skiff.generation",
];

/// 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// `None`: this is no key.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        (text.len() == 64 && text.chars().all(hex)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag of the image that has this key.
    pub(crate) fn tag(&self) -> Option<Tag> {
        Tag::new(&format!("key-{}", self.0)).ok()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
