//! Before the plan: which registry a run speaks to. Before the first build: that its repositories are there.

use crate::diagnostic::Diagnostic;
use crate::engine::dispatcher::exports_caches;
use crate::error::Error;
use crate::manifest::model::{ProjectManifest, Provider};
use crate::plan::Plan;
use crate::registry::ecr::{Ecr, EcrError};

impl From<EcrError> for Error {
    fn from(error: EcrError) -> Self {
        Self::from(error.diagnostic()).caused_by(error)
    }
}

/// Fills in the host that only ECR knows. A dry run goes on without ECR where account and region say the host already, with
/// a warning.
pub(super) async fn locate(
    manifest: &mut ProjectManifest,
    dry_run: bool,
) -> Result<(Option<Ecr>, Option<Diagnostic>), Error> {
    let Provider::Ecr(settings) = &manifest.registry.provider else {
        return Ok((None, None));
    };
    match Ecr::connect(settings).await {
        Ok(ecr) => {
            manifest.locate(ecr.host(), ecr.plain_http());
            Ok((Some(ecr), None))
        }
        Err(error @ EcrError::OtherAccount { .. }) => Err(error.into()),
        Err(error) if dry_run && settings.host().is_some() => {
            let error = error.diagnostic();
            let title = format!("what the registry has is not known: {}", error.title);
            Ok((None, Some(Diagnostic::warning(title))))
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes the repositories that the run pushes to and that are missing; returns them as `host/path`. Without `registry.create` they are
/// an error.
pub(super) async fn provide(
    ecr: &Ecr,
    plan: &Plan,
    manifest: &ProjectManifest,
) -> Result<Vec<String>, Error> {
    let Provider::Ecr(settings) = &manifest.registry.provider else {
        return Ok(vec![]);
    };
    let mut paths = paths(ecr, plan, exports_caches(plan));
    // Where the release is recorded. Without a channel to move, a run need not be allowed to.
    if ecr.holds(&manifest.state) && !plan.channels.moves.is_empty() {
        paths.push(manifest.state.path().to_owned());
    }
    let made = ecr.provide(&paths, settings.create).await?;
    let named = made.iter().map(|path| format!("{}/{path}", ecr.host()));
    Ok(named.collect())
}

/// Repositories of images and of the caches that are exported, each once, in the order of the run.
fn paths(ecr: &Ecr, plan: &Plan, exports: bool) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for planned in plan.containers.values() {
        let container = &planned.container;
        let cache = planned.keeps_in().filter(|_| exports);
        for repository in std::iter::once(&container.repository).chain(cache) {
            let path = repository.path().to_owned();
            if ecr.holds(repository) && !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    paths
}
