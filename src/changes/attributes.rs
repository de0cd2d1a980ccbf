//! Where git's attributes come from (gitattributes(5); git 2.47 `attr.c`, `bootstrap_attr_stack` and `read_attr`): where
//! nothing of all that is there, no file has any.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::git::run;

/// The name of such a file in any folder of a checkout.
pub(super) const FILE: &str = ".gitattributes";

/// Whether attributes may come from the root of the checkout or from outside its tree: the repository's file (`info`), the
/// user's, the system's, a commit that the environment names. `attr.tree` is the caller's to look at. In doubt there may be
/// some: of a git that cannot tell (before 2.42), or where the name of a file does not come through whole.
pub(super) fn outside(root: &Path, info: &Path) -> bool {
    let is_there = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    let shared = |variable| match run(root, "var", &[variable]) {
        Ok(path) => {
            let path = path.strip_suffix('\n').unwrap_or(&path);
            path.contains(['\n', '\r', char::REPLACEMENT_CHARACTER]) || is_there(&root.join(path))
        }
        Err(_) => true,
    };
    is_there(&root.join(FILE))
        || is_there(info)
        || of_the_environment()
        || shared("GIT_ATTR_GLOBAL")
        || shared("GIT_ATTR_SYSTEM")
}

#[expect(
    clippy::disallowed_methods,
    reason = "git, which inherits it, is asked the same"
)]
fn of_the_environment() -> bool {
    std::env::var_os("GIT_ATTR_SOURCE").is_some()
}

/// Whether one of the folders of these paths has such a file on disk. Files of one folder are beside each other.
pub(super) fn inside<'a>(root: &Path, paths: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut last: &[u8] = &[];
    for path in paths {
        let folder = folder(path);
        // The folders that this one has and the last one had not.
        let mut at = folder;
        while !at.is_empty() && !is_within(last, at) {
            if std::fs::symlink_metadata(root.join(OsStr::from_bytes(at)).join(FILE)).is_ok() {
                return true;
            }
            at = self::folder(at);
        }
        last = folder;
    }
    false
}

/// Whether this path of an index is such a file.
pub(super) fn is_file(path: &[u8]) -> bool {
    path.strip_suffix(FILE.as_bytes())
        .is_some_and(|folder| folder.is_empty() || folder.ends_with(b"/"))
}

fn folder(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/');
    &path[..end.unwrap_or_default()]
}

fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
