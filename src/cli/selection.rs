//! Which containers a run is about, and what is known of the sources that they are built from.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use indexmap::IndexMap;

use super::keys;
use super::released::{Compared, Released};
use super::request::{DeployRequest, Selection};
use crate::changes::Present;
use crate::changes::base::{self, Base, Known, Told};
use crate::changes::commit::Commit;
use crate::changes::diff::{Change, printable};
use crate::changes::git::{Checkout, GitError, UNSTEADY};
use crate::changes::index::Index;
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::manifest::model::ProjectManifest;
use crate::plan_file::PlanFile;
use crate::project::{self, Project};
use crate::release::channel::Sources;
use crate::release::ci;
use crate::resolve::Reading;

/// What git and the CI say, before it is known which containers are meant.
pub(super) struct Survey {
    pub(super) checkout: Option<Checkout>,
    pub(super) sources: Sources,
    told: Told,
    uncommitted: Uncommitted,
    /// Being read, where it is known already that contexts will be.
    index: Option<JoinHandle<Arc<Index>>>,
}

/// What is not committed, of the whole checkout. Git looks at every file for it, which takes as long as all else.
enum Uncommitted {
    /// It may not be needed.
    Unasked,
    Asked(JoinHandle<Result<Vec<Change>, GitError>>),
    Known(Vec<Change>),
    /// Files change while git reads them.
    Unsteady,
}

/// The containers of a run.
pub(super) struct Selected {
    /// In the manifest's order, with the reason for each.
    pub(super) containers: IndexMap<String, String>,
    /// What the sources were compared with, where that decided.
    pub(super) base: Option<Base>,
}

/// Why a container is in a run that has nothing to compare with.
pub(super) const CANDIDATE: &str = "a candidate: there is nothing to compare with";

/// As a name it means every container; the manifest gives it to none.
const ALL: &str = "all";

impl Survey {
    pub(super) fn new(
        manifest: &ProjectManifest,
        selection: &Selection,
        environment: &Environment,
    ) -> Result<Self, Diagnostic> {
        let mut sources = Sources::default();
        let mut uncommitted = Uncommitted::Unasked;
        let mut index = None;
        let checkout = Checkout::find(&manifest.root)?;
        if let Some(checkout) = &checkout {
            if matches!(selection, Selection::Changed { .. }) {
                uncommitted = Uncommitted::ask(checkout);
                let checkout = checkout.clone();
                index = beside("index", move || Index::read(&checkout));
            }
            sources = Sources {
                checkout: true,
                commit: checkout.commit(),
                branch: checkout.branch(),
                default_branch: checkout.default_branch(),
                version: None,
                pull_request: None,
                uncommitted: vec![],
            };
        }
        let told = ci::complete(&mut sources, environment);
        Ok(Self {
            checkout,
            sources,
            told,
            uncommitted,
            index,
        })
    }

    /// The containers that were asked for. `released`: what the channel stands on, where records say it.
    pub(super) fn select(
        &mut self,
        project: &Project,
        DeployRequest {
            selection, given, ..
        }: &DeployRequest,
        released: Option<&Released>,
    ) -> Result<Selected, Vec<Diagnostic>> {
        let containers = match selection {
            Selection::All { reason } => every(project, reason),
            Selection::Named(names) => named(project, names)?,
            Selection::Planned(names) => planned(project, names, given.as_ref())?,
            Selection::Changed { since } => {
                let changed = self.changed(project, since.as_deref(), released);
                return changed.map_err(|error| vec![error]);
            }
        };
        Ok(Selected {
            containers,
            base: None,
        })
    }

    fn changed(
        &mut self,
        project: &Project,
        since: Option<&str>,
        released: Option<&Released>,
    ) -> Result<Selected, Diagnostic> {
        let candidates = |base: Base| Selected {
            containers: every(project, CANDIDATE),
            base: Some(base),
        };
        let Some(checkout) = &self.checkout else {
            if since.is_some() {
                let error = Diagnostic::error("--since needs a git checkout, and there is none");
                return Err(error.help("name the containers, or use --all"));
            }
            return Ok(candidates(Base::everything("this is no git checkout")));
        };
        let head = self.sources.commit.as_deref().and_then(Commit::new);
        let known = Known {
            head: head.clone(),
            recorded: None,
            told: self.told.clone(),
            branch: self.sources.branch.as_deref(),
            default_branch: self.sources.default_branch.as_deref(),
        };
        let compared = match (since, released) {
            (Some(revision), _) => Compared::all(asked(checkout, revision)?),
            (None, Some(released)) => released.compared(checkout, &known, project),
            (None, None) => Compared::all(base::choose(checkout, &known)),
        };
        let (false, Some(head)) = (compared.groups.is_empty(), head) else {
            return Ok(candidates(compared.base));
        };
        let Some(uncommitted) = self.uncommitted.answer(checkout)? else {
            let why = "files change while git reads them";
            return Ok(candidates(Base::everything(why)));
        };
        let present = Present {
            checkout,
            manifest: &project.manifest,
            graph: &project.graph,
            head: &head,
            uncommitted,
        };
        let found = present.affected(&compared.groups, compared.given);
        Ok(match found {
            Ok(containers) => Selected {
                containers,
                base: Some(compared.base),
            },
            Err(error) => candidates(Base::everything(format!(
                "what changed cannot be told: {}",
                error.to_string().replace('\n', "; ")
            ))),
        })
    }

    /// Begins to read what these containers and their parents are made from.
    pub(super) fn read(&mut self, project: &Project, selected: &Selected) -> keys::Sources {
        let names = selected.containers.keys().map(String::as_str);
        let (reading, checkout) = (self.index.take(), self.checkout.clone());
        let index = move || match (reading, checkout) {
            (Some(reading), _) => joined(reading),
            (None, Some(checkout)) => Index::read(&checkout),
            (None, None) => Arc::default(),
        };
        keys::Sources {
            checkout: self.checkout.clone(),
            reading: Reading::begin(project, project.graph.closure(names), index),
        }
    }

    /// The sources that these containers and their parents are built from.
    pub(super) fn sources(
        mut self,
        project: &Project,
        selected: &IndexMap<String, String>,
    ) -> Result<Sources, Diagnostic> {
        let mut sources = self.sources;
        let Some(checkout) = &self.checkout else {
            return Ok(sources);
        };
        let manifest = &project.manifest;
        let mut paths: Vec<PathBuf> = vec![manifest.path.clone()];
        if manifest.pin {
            paths.push(manifest.lock_file());
        }
        for name in project.graph.closure(selected.keys().map(String::as_str)) {
            if let Some(container) = manifest.containers.get(name) {
                paths.extend([container.context.clone(), container.dockerfile.clone()]);
                paths.extend(container.contexts.values().cloned());
            }
        }
        let mut tags = manifest.containers.values().flat_map(|c| &c.tags);
        if tags.any(|tag| tag.contains("{version}")) {
            sources.version = checkout.version();
        }
        sources.uncommitted = if matches!(self.uncommitted, Uncommitted::Unasked) {
            checkout.uncommitted(&paths)?
        } else {
            match self.uncommitted.answer(checkout)? {
                Some(changes) => among(checkout, changes, &paths),
                None => vec![UNSTEADY.to_owned()],
            }
        };
        Ok(sources)
    }
}

impl Uncommitted {
    /// Asks on a thread of its own.
    fn ask(checkout: &Checkout) -> Self {
        let checkout = checkout.clone();
        let asking = beside("status", move || checkout.uncommitted_changes());
        asking.map_or(Self::Unasked, Self::Asked)
    }

    /// The changes, once they are known; `None`: files change while git reads them.
    fn answer(&mut self, checkout: &Checkout) -> Result<Option<&[Change]>, GitError> {
        let answer = match std::mem::replace(self, Self::Unasked) {
            Self::Unasked => checkout.uncommitted_changes(),
            Self::Asked(asking) => joined(asking),
            Self::Known(changes) => Ok(changes),
            // Git maps the files it hashes: one that shrinks meanwhile ends it with SIGBUS.
            Self::Unsteady => Err(GitError::Killed("status")),
        };
        *self = match answer {
            Ok(changes) => Self::Known(changes),
            Err(GitError::Killed(_)) => Self::Unsteady,
            Err(error) => return Err(error),
        };
        Ok(match self {
            Self::Known(changes) => Some(changes),
            _ => None,
        })
    }
}

/// Works on a thread of its own. `None`: there is none to be had, and the work is to be done when it is needed.
fn beside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<JoinHandle<T>> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).ok()
}

fn joined<T>(work: JoinHandle<T>) -> T {
    work.join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Those of these changes that concern one of these paths.
fn among(checkout: &Checkout, changes: &[Change], paths: &[PathBuf]) -> Vec<String> {
    let concerned = |change: &&Change| {
        let full = checkout.root().join(&change.path);
        let inside = |path: &PathBuf| change.repository && path.starts_with(&full);
        paths
            .iter()
            .any(|path| full.starts_with(path) || inside(path))
    };
    let files = changes.iter().filter(concerned);
    files.map(|change| printable(&change.path)).collect()
}

/// `--since`.
fn asked(checkout: &Checkout, revision: &str) -> Result<Base, Diagnostic> {
    let Some(commit) = checkout.resolve(revision) else {
        let error = Diagnostic::error(format!("--since: there is no commit `{revision}` here"));
        return Err(if checkout.is_shallow() {
            error.help(
                "this is a shallow clone: fetch more of its history, or name a commit that it has",
            )
        } else {
            error.help("name a commit, a branch or a tag of this repository")
        });
    };
    Ok(Base {
        commit: Some(commit),
        reason: "--since".to_owned(),
        passed_over: vec![],
    })
}

fn every(project: &Project, reason: &str) -> IndexMap<String, String> {
    let names = project.manifest.containers.keys();
    names
        .map(|name| (name.clone(), reason.to_owned()))
        .collect()
}

/// Containers of a plan, with its reasons: all, or these.
fn planned(
    project: &Project,
    names: &[String],
    given: Option<&PlanFile>,
) -> Result<IndexMap<String, String>, Vec<Diagnostic>> {
    let wanted = if names.is_empty() {
        &[ALL.to_owned()][..]
    } else {
        names
    };
    let mut selected = named(project, wanted)?;
    let planned: HashMap<&str, &str> = (given.into_iter().flat_map(PlanFile::released))
        .map(|planned| (planned.name.as_str(), planned.selected.as_str()))
        .collect();
    let missing = names
        .iter()
        .filter(|name| *name != ALL && !planned.contains_key(name.as_str()));
    let errors: Vec<Diagnostic> = missing
        .map(|name| {
            Diagnostic::error(format!("the plan does not release `{name}`"))
                .help("name containers of the plan, or none for all of it")
        })
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    selected.retain(|name, _| planned.contains_key(name.as_str()));
    for (name, reason) in &mut selected {
        if let Some(planned) = planned.get(name.as_str()) {
            (*planned).clone_into(reason);
        }
    }
    Ok(selected)
}

fn named(project: &Project, names: &[String]) -> Result<IndexMap<String, String>, Vec<Diagnostic>> {
    let containers = &project.manifest.containers;
    let unknown = |name: &&String| *name != ALL && !containers.contains_key(name.as_str());
    let errors: Vec<Diagnostic> = names
        .iter()
        .filter(unknown)
        .map(|name| project::unknown(name, &project.manifest))
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let all = names.iter().any(|name| name == ALL);
    let asked = containers.keys().filter(|name| all || names.contains(name));
    let reason = if all { ALL } else { "named" };
    Ok(asked
        .map(|name| (name.clone(), reason.to_owned()))
        .collect())
}
