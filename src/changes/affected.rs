//! From paths that differ to the containers that they concern.
//!
//! A container is concerned by what is below its contexts and not excluded by the ignore rules that hold for them now; by
//! its Dockerfile and ignore files wherever they are; by links on the way to these; by what the manifest says of it; by
//! the containers that it is built from. A builder follows no link out of a context, so what is behind one does not
//! count, and the link itself does.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::diff::{Change, How, printable};
use super::manifest::ManifestChange;
use super::unseen::Unseen;
use crate::context::filter::Rules;
use crate::context::ignore::IgnoreFile;
use crate::graph::Graph;
use crate::manifest::model::{Container, ContainerName, ProjectManifest};
use crate::manifest::ways::Ways;

/// Why a container is affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// As people write it: relative to the manifest's folder.
    Path {
        path: String,
        how: How,
        uncommitted: bool,
    },
    Manifest {
        /// Its file's name.
        file: String,
        what: String,
    },
}

impl Cause {
    /// For people: `src/main.py changed since BASE`.
    pub(crate) fn since(&self, base: &str) -> String {
        match self {
            Self::Path {
                path,
                how,
                uncommitted,
            } => {
                let verb = match how {
                    How::Added => "is new",
                    How::Deleted => "was deleted",
                    How::Changed => "changed",
                };
                let mark = if *uncommitted { ", not committed" } else { "" };
                format!("{path} {verb} since {base}{mark}")
            }
            Self::Manifest { file, what } => format!("{file} {what} since {base}"),
        }
    }
}

/// What is known of the changes.
pub(crate) struct Evidence<'a> {
    /// The top of the checkout.
    pub(crate) top: &'a Path,
    /// Sorted by path.
    pub(crate) changes: &'a [Change],
    pub(crate) manifest: Option<ManifestChange>,
    /// Looked at where a link changed.
    pub(crate) ways: Ways,
}

/// The containers that something of their own changed for, each with the first cause. Reads the ignore files of contexts in
/// which something changed.
pub(crate) fn directly(
    manifest: &ProjectManifest,
    evidence: &Evidence<'_>,
) -> HashMap<ContainerName, Cause> {
    let mut causes: HashMap<ContainerName, Cause> = HashMap::new();
    for name in manifest.containers.keys() {
        let what = match &evidence.manifest {
            Some(ManifestChange::All(why)) => Some(why),
            Some(ManifestChange::Some(differences)) => differences.get(name),
            None => None,
        };
        if let Some(what) = what {
            let file = shown(&manifest.path, &manifest.root);
            let what = what.clone();
            causes.insert(name.clone(), Cause::Manifest { file, what });
        }
    }
    let index = Index::new(manifest);
    for change in evidence.changes {
        let path = evidence.top.join(&change.path);
        let mut concerned = |name: &str| {
            causes
                .entry(name.to_owned())
                .or_insert_with(|| Cause::Path {
                    path: shown(&path, &manifest.root),
                    how: change.how,
                    uncommitted: change.uncommitted,
                });
        };
        index.concerned(&path, change, &evidence.ways, &mut concerned);
    }
    causes
}

/// Why a container is a candidate though nothing is known to have changed.
pub(crate) fn unknown(path: &Path, why: Unseen, manifest: &ProjectManifest) -> String {
    let why = match why {
        Unseen::Outside => "outside of the git checkout",
        Unseen::OtherRepository => "in another git repository",
        Unseen::Ignored => "ignored by git",
    };
    let path = shown(path, &manifest.root);
    format!("{path} is {why}: whether it changed is not known")
}

/// These containers and all that are built from them, in the manifest's order.
pub(crate) fn with_children(
    mut reasons: HashMap<ContainerName, String>,
    manifest: &ProjectManifest,
    graph: &Graph,
) -> IndexMap<ContainerName, String> {
    for name in graph.order() {
        if reasons.contains_key(name) {
            continue;
        }
        if let Some(parent) = graph.parents_of(name).find(|p| reasons.contains_key(*p)) {
            reasons.insert(name.to_owned(), format!("built from {parent}"));
        }
    }
    let names = manifest.containers.keys();
    names
        .filter_map(|name| Some((name.clone(), reasons.remove(name)?)))
        .collect()
}

/// A folder of which a container gets what the ignore rules leave.
struct Folder<'a> {
    container: &'a Container,
    /// For the main context.
    dockerfile: Option<&'a Path>,
    root: &'a Path,
    rules: OnceCell<Option<Rules>>,
}

impl Folder<'_> {
    /// Whether a builder can get this path, or something below it. Rules that cannot be read exclude nothing.
    fn keeps(&self, path: &Path, is_dir: bool) -> bool {
        let rules = self.rules.get_or_init(|| {
            let file = IgnoreFile::of(self.root, self.dockerfile).ok()?;
            let patterns = file.map(|file| file.filter().exclude);
            Rules::excluding(&patterns.unwrap_or_default()).ok()
        });
        let Ok(path) = path.strip_prefix(self.root) else {
            return false;
        };
        let path = path.to_string_lossy();
        let keep = |rules: &Rules| rules.keep(&path, is_dir).unwrap_or(true);
        rules.as_ref().is_none_or(keep)
    }
}

/// Finds the containers that a path concerns in as many steps as the path has parts.
struct Index<'a> {
    folders: Vec<Folder<'a>>,
    by_root: HashMap<&'a Path, Vec<usize>>,
    /// Files that count for these containers, whatever the ignore rules say.
    files: HashMap<PathBuf, Vec<&'a Container>>,
    /// The manifest's folder, and what its `extra_inputs` name below it. Rules that cannot be read name everything.
    root: &'a Path,
    extra: Vec<(&'a Container, Option<Rules>)>,
}

impl<'a> Index<'a> {
    fn new(manifest: &'a ProjectManifest) -> Self {
        let mut index = Self {
            folders: Vec::new(),
            by_root: HashMap::new(),
            files: HashMap::new(),
            root: &manifest.root,
            extra: Vec::new(),
        };
        for container in manifest.containers.values() {
            let dockerfile = container.dockerfile.as_path();
            index.file(container, dockerfile);
            index.file(container, &with_suffix(dockerfile, NAME));
            if manifest.pin {
                // Whose images it has new digests of, keys tell.
                index.file(container, &manifest.lock_file());
            }
            index.folder(container, &container.context, Some(dockerfile));
            for root in container.contexts.values() {
                index.folder(container, root, None);
            }
            if !container.extra_inputs.is_empty() {
                let rules = Rules::excluding(&container.extra_inputs).ok();
                index.extra.push((container, rules));
            }
        }
        index
    }

    fn folder(&mut self, container: &'a Container, root: &'a Path, dockerfile: Option<&'a Path>) {
        // Beside a Dockerfile's own ignore file this one is a file like any other.
        let own = dockerfile.map(|dockerfile| with_suffix(dockerfile, NAME));
        if own.is_none_or(|own| !own.is_file()) {
            self.file(container, &root.join(NAME));
        }
        let number = self.folders.len();
        self.by_root.entry(root).or_default().push(number);
        self.folders.push(Folder {
            container,
            dockerfile,
            root,
            rules: OnceCell::new(),
        });
    }

    /// The file, and what it leads to as a link.
    fn file(&mut self, container: &'a Container, path: &Path) {
        const MAX_LINKS: usize = 40;
        let mut at = path.to_owned();
        for _ in 0..MAX_LINKS {
            let target = std::fs::read_link(&at).ok();
            self.files.entry(at.clone()).or_default().push(container);
            let Some(target) = target else { return };
            let folder = at.parent().unwrap_or(Path::new("/")).to_owned();
            let next = folder.join(target);
            // The folder without links, as changed paths have it.
            let real = next.parent().and_then(|folder| folder.canonicalize().ok());
            at = match (real, next.file_name()) {
                (Some(folder), Some(name)) => folder.join(name),
                _ => return,
            };
        }
    }

    fn concerned(&self, path: &Path, change: &Change, ways: &Ways, found: &mut impl FnMut(&str)) {
        for container in self.files.get(path).into_iter().flatten() {
            found(&container.name);
        }
        for root in path.ancestors() {
            for number in self.by_root.get(root).into_iter().flatten() {
                let folder = &self.folders[*number];
                // The root itself differs where it was a link or a repository.
                if root == path || folder.keeps(path, change.repository) {
                    found(&folder.container.name);
                }
            }
        }
        for (container, rules) in &self.extra {
            let Ok(path) = path.strip_prefix(self.root) else {
                continue;
            };
            let path = path.to_string_lossy();
            let left_out = |rules: &Rules| rules.keep(&path, false).unwrap_or(false);
            if change.repository || !rules.as_ref().is_some_and(left_out) {
                found(&container.name);
            }
        }
        if change.repository {
            self.at_or_below(path, found);
        }
        if change.link
            && ways.lead_through(path)
            && let Ok(real) = path.canonicalize()
        {
            self.at_or_below(&real, found);
        }
    }

    /// Containers with a context or a Dockerfile there.
    fn at_or_below(&self, path: &Path, found: &mut impl FnMut(&str)) {
        for folder in self.folders.iter().filter(|f| f.root.starts_with(path)) {
            found(&folder.container.name);
        }
        for (_, containers) in self.files.iter().filter(|(f, _)| f.starts_with(path)) {
            for container in containers {
                found(&container.name);
            }
        }
    }
}

const NAME: &str = ".dockerignore";

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// A path for people: relative to the manifest's folder, with `..` where it is not below it.
fn shown(path: &Path, base: &Path) -> String {
    if let Ok(below) = path.strip_prefix(base) {
        return printable(below);
    }
    let common = base.ancestors().find(|folder| path.starts_with(folder));
    let Some(common) = common.filter(|common| *common != Path::new("/")) else {
        return printable(path);
    };
    let up = base
        .strip_prefix(common)
        .map_or(0, |rest| rest.components().count());
    let rest = path.strip_prefix(common).unwrap_or(path);
    printable(&Path::new(&"../".repeat(up)).join(rest))
}
