//! What changed: git, asked by subprocess, and what follows from its answers. The commit to compare with ([`base`]), the
//! paths that differ from it ([`diff`]), the containers that those concern ([`affected`]).
//!
//! What must stay true: where something is not known, a container is affected. Git is asked a handful of times, never
//! once a container.

pub(crate) mod affected;
pub(crate) mod base;
pub(crate) mod commit;
pub(crate) mod diff;
pub(crate) mod gaps;
pub(crate) mod git;
pub(crate) mod history;
pub(crate) mod index;
pub(crate) mod manifest;
pub(crate) mod since;
mod unseen;

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use indexmap::IndexMap;

use self::affected::{Cause, Evidence};
use self::commit::Commit;
use self::diff::Change;
use self::git::{Checkout, GitError};
use self::manifest::ManifestChange;
use crate::graph::Graph;
use crate::manifest::model::{ContainerName, ProjectManifest};
use crate::manifest::ways::{self, Ways};

/// The containers that something has changed for between `base` and the files of the checkout, whose commit is `head` and
/// differs from them in `uncommitted`.
pub(crate) fn detect(
    checkout: &Checkout,
    (manifest, graph): (&ProjectManifest, &Graph),
    (base, head): (&Commit, &Commit),
    uncommitted: &[Change],
) -> Result<IndexMap<ContainerName, Cause>, GitError> {
    let committed = checkout.between(base, head.as_str())?;
    let changes = diff::merged(committed, uncommitted);
    let evidence = Evidence {
        top: checkout.root(),
        ways: if changes.iter().any(|change| change.link) {
            ways::of(manifest)
        } else {
            Ways::default()
        },
        manifest: manifest_change(checkout, manifest, base, &changes),
        unseen: unseen::unseen(checkout, manifest)?,
        changes: &changes,
    };
    Ok(affected::affected(manifest, graph, evidence))
}

/// What became of the manifest; `None`: its file is the same.
fn manifest_change(
    checkout: &Checkout,
    manifest: &ProjectManifest,
    base: &Commit,
    changes: &[Change],
) -> Option<ManifestChange> {
    let all = |why: &str| Some(ManifestChange::All(why.to_owned()));
    let differs = |path: &Path| {
        let path = path.strip_prefix(checkout.root()).ok()?;
        let found = changes.binary_search_by(|change| change.path.as_path().cmp(path));
        found.is_ok().then(|| path.to_owned())
    };
    // Its folder without links, its own name as it was given: perhaps a link itself.
    let given = manifest.root.join(manifest.path.file_name()?);
    let Ok(real) = given.canonicalize() else {
        return all("cannot be read");
    };
    if real != given && differs(&given).is_some() {
        return all("is another file");
    }
    let path = differs(&real)?;
    let Ok(new) = std::fs::read_to_string(&real) else {
        return all("cannot be read");
    };
    let object = [base.as_str().as_bytes(), b":", path.as_os_str().as_bytes()].concat();
    let object = std::ffi::OsStr::from_bytes(&object);
    // None that git can show: there was none.
    let old = checkout.output("cat-file", [std::ffi::OsStr::new("blob"), object]);
    let old = old
        .ok()
        .map(|text| String::from_utf8_lossy(&text).into_owned());
    Some(manifest::compare(old.as_deref(), &new, manifest))
}

#[cfg(test)]
mod tests;
