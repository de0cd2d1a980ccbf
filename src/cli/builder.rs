//! The builders of a run: chosen, reached, and seen to be able to do what is asked.

use super::request::DeployRequest;
use crate::buildkit::Driver;
use crate::buildkit::dial::choose::{self, Found, UsedRegistry, Wanted};
use crate::buildkit::dial::{self, DialError};
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::error::Error;
use crate::manifest::model::{Cache, CacheBackend, CacheMounts};
use crate::plan::Plan;
use crate::project::Project;
use crate::registry::credentials::CredentialSources;

/// Builders for this plan.
pub(super) async fn find(
    plan: &Plan,
    project: &Project,
    request: &DeployRequest,
    credentials: &CredentialSources,
    environment: &Environment,
) -> Result<Found, Error> {
    let cache = &project.manifest.cache;
    let s3 = cache.bucket().is_some();
    let wanted = Wanted {
        s3,
        flag: &request.builder,
        settings: &project.manifest.builder,
        environment,
        registries: &registries(plan, project),
        credentials,
        load: plan.output.load,
    };
    let found = choose::find(wanted).await.map_err(no_builder)?;
    for builder in &found.builders {
        able(plan, builder.driver)?;
        if s3 && !dial::has_s3(builder).await {
            let title = format!("{} has no S3 caches", builder.description);
            return Err(Diagnostic::error(title)
                .note("Docker's own BuildKit is built without them, and others have them from version 0.11 on")
                .help("let a BuildKit of its own build: `driver = \"docker-container\"` below [builder], or `--builder`")
                .help(format!("or write {} below [cache]", without_s3(cache)))
                .into());
        }
    }
    Ok(found)
}

/// What to write in the place of `"s3"`.
fn without_s3(cache: &Cache) -> String {
    let backend = matches!(cache.backend, CacheBackend::S3(_));
    let mounts = matches!(cache.mounts, CacheMounts::S3(_));
    let keys = [("backend", backend), ("mounts", mounts)].into_iter();
    let lines = keys
        .filter(|(_, s3)| *s3)
        .map(|(key, _)| format!("`{key} = \"registry\"`"));
    lines.collect::<Vec<_>>().join(" and ")
}

/// Every registry that the run pushes to.
fn registries(plan: &Plan, project: &Project) -> Vec<UsedRegistry> {
    let own = &project.manifest.registry;
    let mut used: Vec<UsedRegistry> = Vec::new();
    for planned in plan.containers.values() {
        let container = &planned.container;
        let written = [&container.repository, &container.cache_repository];
        let read = [container.trusted_repository(), container.trusted_cache()];
        for repository in written.into_iter().chain(read) {
            let host = repository.host.clone();
            let plain_http = host.is_loopback() || (host == own.host && own.plain_http);
            let registry = UsedRegistry { host, plain_http };
            if !used.contains(&registry) {
                used.push(registry);
            }
        }
    }
    used
}

/// What only the engine's own BuildKit can do is refused before anything is built.
fn able(plan: &Plan, driver: Driver) -> Result<(), Diagnostic> {
    if driver == Driver::Docker {
        return Ok(());
    }
    let name = driver.name();
    let parent = plan.containers.iter().find(|(_, planned)| planned.wanted);
    match parent {
        Some((parent, _)) if !plan.output.push => Err(Diagnostic::error(format!(
            "with `--no-push` the driver \"{name}\" cannot build from `{parent}`, which would not be in the registry"
        ))
        .note("it has no image store from which another container could take its parent")
        .help("push, use `--builder docker`, or name only containers that are built from no other")),
        _ => Ok(()),
    }
}

fn no_builder(error: DialError) -> Error {
    let diagnostic = Diagnostic::error(error.to_string()).help(error.help());
    let diagnostic = match error.cause() {
        Some(cause) => diagnostic.note(cause),
        None => diagnostic,
    };
    Error::from(diagnostic).caused_by(error)
}
