//! What changed: git, asked by subprocess, and what follows from its answers. The commit to compare with ([`base`]), the
//! paths that differ from it ([`diff`]), the containers that those concern ([`affected`]).
//!
//! What must stay true: where something is not known, a container is affected. Git is asked a handful of times, never
//! once a container.

pub(crate) mod affected;
mod attributes;
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

use std::collections::{BTreeSet, HashMap};
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

/// Containers that are compared with the same commit.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) base: Commit,
    /// The commit and why it is this one, for people.
    pub(crate) named: String,
    /// `None`: all.
    pub(crate) members: Option<BTreeSet<ContainerName>>,
}

/// The sources that are compared.
pub(crate) struct Present<'a> {
    pub(crate) checkout: &'a Checkout,
    pub(crate) manifest: &'a ProjectManifest,
    pub(crate) graph: &'a Graph,
    pub(crate) head: &'a Commit,
    /// What the files differ in from that commit.
    pub(crate) uncommitted: &'a [Change],
}

impl Present<'_> {
    /// The containers that something has changed for since the commit of their group, each with the reason. `given`: those
    /// that are in it for another reason.
    pub(crate) fn affected(
        &self,
        groups: &[Group],
        given: HashMap<ContainerName, String>,
    ) -> Result<IndexMap<ContainerName, String>, GitError> {
        let mut reasons = given;
        for (name, (path, why)) in unseen::unseen(self.checkout, self.manifest)? {
            let reason = affected::unknown(&path, why, self.manifest);
            reasons.entry(name).or_insert(reason);
        }
        for group in groups {
            let is_member = |name: &ContainerName| {
                let members = group.members.as_ref();
                members.is_none_or(|members| members.contains(name))
            };
            for (name, cause) in self.directly(&group.base)? {
                if is_member(&name) {
                    let reason = || cause.since(&group.named);
                    reasons.entry(name).or_insert_with(reason);
                }
            }
        }
        Ok(affected::with_children(reasons, self.manifest, self.graph))
    }

    fn directly(&self, base: &Commit) -> Result<HashMap<ContainerName, Cause>, GitError> {
        let (checkout, manifest) = (self.checkout, self.manifest);
        let committed = checkout.between(base, self.head.as_str())?;
        let changes = diff::merged(committed, self.uncommitted);
        let evidence = Evidence {
            top: checkout.root(),
            ways: if changes.iter().any(|change| change.link) {
                ways::of(manifest)
            } else {
                Ways::default()
            },
            manifest: manifest_change(checkout, manifest, base, &changes),
            changes: &changes,
        };
        Ok(affected::directly(manifest, &evidence))
    }
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
