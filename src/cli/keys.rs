//! Keys for a command: from what was asked for to a plan that says what is to be built, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::lock;
use super::request::{DeployRequest, PlanRequest};
use crate::changes::git::Checkout;
use crate::changes::since::{self, Changed};
use crate::clock;
use crate::diagnostic::Diagnostic;
use crate::engine;
use crate::environment::Environment;
use crate::key::BuildReason;
use crate::key::reason::is_files;
use crate::plan::{Plan, PlannedContainer, Work};
use crate::plan_file::PlanFile;
use crate::project::Project;
use crate::registry::Client;
use crate::resolve::{self, Reading, Settings};
use crate::retry::RetryPolicy;

/// The sources of a run's containers.
pub(super) struct Sources {
    pub(super) checkout: Option<Checkout>,
    /// Begun before the channels are known: git is asked for those meanwhile, which takes as long.
    pub(super) reading: Reading,
}

/// Settles what of a plan is to be built. Returns what there is to say.
pub(super) async fn settle(
    plan: &mut Plan,
    project: &Project,
    request: &DeployRequest,
    published: Option<BTreeSet<String>>,
    sources: Sources,
    registry: &Client,
    environment: &Environment,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let dry_run = request.dry_run;
    let registry = &registry.asking(if dry_run {
        RetryPolicy::DRY_RUN
    } else {
        RetryPolicy::QUESTION
    });
    let mut pinned = lock::honour(plan, project, dry_run, registry, environment).await?;
    pinned
        .digests
        .extend(request.given.iter().flat_map(PlanFile::bases));
    let now = clock::timestamp();
    // What is only in the registry cannot be loaded by a builder that does not build it.
    let build_anyway = match (request.output.push, request.output.load) {
        (false, _) => Some("--no-push"),
        (true, true) => Some("--load"),
        (true, false) => None,
    };
    let settings = Settings {
        build_anyway,
        no_cache: request
            .no_cache
            .then(|| now.strftime("%Y%m%dT%H%M%S%3fZ").to_string()),
        builds: !dry_run,
        published,
        compare_all: matches!(request.plan, Some(PlanRequest::Why { .. })),
        attributes: engine::attributes,
        locked: pinned.digests,
        now: u64::try_from(now.as_second()).unwrap_or_default(),
    };
    let mut said = pinned.said;
    said.extend(resolve::settle(plan, project, registry, sources.reading, settings).await);
    said.extend(lock::still_there(plan, project, registry).await?);
    if let Some(checkout) = sources.checkout {
        name_files(plan, &checkout);
    }
    Ok(said)
}

/// Names the files by which contexts differ from the commits of the published images.
fn name_files(plan: &mut Plan, checkout: &Checkout) {
    let mut since_commit: BTreeMap<String, Vec<Changed>> = BTreeMap::new();
    for planned in plan.containers.values_mut() {
        let revision = planned
            .published
            .as_ref()
            .and_then(|p| p.revision.as_deref());
        let Some(commit) = revision.map(|r| r.trim_end_matches("-dirty").to_owned()) else {
            continue;
        };
        let old = planned.published.as_ref().and_then(|p| p.inputs.as_ref());
        let inputs = old.map(|old| planned.keyed.inputs.changes_from(old));
        if !inputs
            .unwrap_or_default()
            .iter()
            .any(|change| is_files(&change.input))
        {
            continue;
        }
        let changed = since_commit.entry(commit).or_insert_with_key(|commit| {
            // Only the reason that is shown depends on this.
            since::since(checkout, commit)
                .ok()
                .flatten()
                .unwrap_or_default()
        });
        let of_this = changed
            .iter()
            .filter(|changed| is_read(planned, &changed.full));
        let named: Vec<_> = of_this.map(|changed| changed.change.clone()).collect();
        if let Some(published) = &mut planned.published {
            published.files.clone_from(&named);
        }
        if let Work::Build(BuildReason::Changed { files, .. }) = &mut planned.work {
            *files = named;
        }
    }
}

/// Whether a file is one that a container's key is made from; of one that is gone, whether it may have been.
fn is_read(planned: &PlannedContainer, file: &Path) -> bool {
    let container = &planned.container;
    if *file == container.dockerfile {
        return true;
    }
    let trees = planned.keyed.trees.as_ref();
    let mut contexts = trees.iter().flat_map(|trees| &trees.contexts);
    contexts.any(|(folder, tree)| {
        let Some(path) = file.strip_prefix(folder).ok().and_then(Path::to_str) else {
            return false;
        };
        tree.has(path) || (!file.exists() && tree.has_folder_of(path))
    })
}
