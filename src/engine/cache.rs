//! The registry cache of a container: which one to import, and its export once the release is done.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::event::EventKind;
use super::files::FileSessions;
use super::job::{Built, Shared};
use super::mounts;
use super::solve_request::{Sessions, solve_request};
use crate::buildkit::solve::{SolveError, solve};
use crate::clock;
use crate::plan::PlannedContainer;
use crate::profile;

/// The frontend attribute `cache-imports` for a container: its best cache, if there is one. Exactly one is imported:
/// with several the builder takes one at random (moby/buildkit#6418). They are looked up first, as a missing one would be
/// reported as an error by the builder. A build without cache imports none: the builder would fetch its manifest to no end.
pub(super) async fn imports(planned: &PlannedContainer, shared: &Shared) -> Option<String> {
    let name = &planned.container.name;
    if planned.without_cache() {
        return None;
    }
    let candidates = &planned.build_cache.imports;
    let found = candidates
        .iter()
        .map(|reference| shared.registry.head_manifest(reference));
    for (reference, found) in candidates.iter().zip(join_all(found).await) {
        match found {
            Ok(None) => {}
            Ok(Some(_)) => {
                let reference = reference.to_string();
                let attributes = serde_json::json!({ "ref": reference });
                let chosen = EventKind::CacheChosen {
                    container: name.clone(),
                    reference,
                };
                shared.events.send(chosen).await;
                let import = serde_json::json!([{ "Type": "registry", "Attrs": attributes }]);
                return Some(import.to_string());
            }
            Err(error) => {
                let message = format!("built without the cache {reference}: {error}");
                shared.events.warn(Some(name), message).await;
            }
        }
    }
    None
}

/// An export that is not done by then is given up: nobody waits for it, and the next run exports again.
const LIMIT: Duration = Duration::from_mins(5);

/// Keeps a built container's cache mounts and exports its cache, every intermediate step of it.
///
/// It is a solve of its own, after the release: within the build's own solve a registry that stalls would hold the
/// build, as an export has no time limit. `files` must be sessions that no build has used: a file source is keyed by its
/// session, and only when that key misses does the builder go by content, which is the key that can be exported
/// (otherwise: "skipping cache export for empty result").
pub(super) async fn export(
    planned: &PlannedContainer,
    built: &Built,
    files: &FileSessions,
    shared: &Shared,
    cancel: &CancellationToken,
) {
    mounts::keep(&built.mounts, planned, shared, cancel).await;
    let Some(reference) = &planned.build_cache.export else {
        return;
    };
    let started = clock::now();
    let container = &planned.container;
    let reference = reference.to_string();
    let exporting = EventKind::CacheExportStarted {
        container: container.name.clone(),
        reference: reference.clone(),
    };
    shared.events.send(exporting).await;
    let work = solve_for_cache(planned, built, &reference, files, shared, cancel);
    let result = tokio::time::timeout(LIMIT, work).await;
    let why = match result {
        Ok(Ok(())) => {
            let seconds = started.elapsed().as_secs_f64();
            let container = container.name.clone();
            let exported = EventKind::CacheExported {
                container,
                reference,
                seconds,
            };
            return shared.events.send(exported).await;
        }
        Ok(Err(why)) => why,
        Err(_) => format!("not done within {} s", LIMIT.as_secs()),
    };
    let message = format!("the cache was not exported to {reference}: {why}");
    shared.events.warn(Some(&container.name), message).await;
}

async fn solve_for_cache(
    planned: &PlannedContainer,
    built: &Built,
    reference: &str,
    files: &FileSessions,
    shared: &Shared,
    cancel: &CancellationToken,
) -> Result<(), String> {
    let opened = Sessions::open(&planned.container, files, shared).await;
    let sessions = opened.map_err(|error| error.to_string())?;
    let mut request = solve_request(
        planned,
        &built.parents,
        built.cache_imports.as_ref(),
        &sessions,
    );
    let attributes = [
        ("ref", reference),
        ("mode", "max"),
        (
            "compression",
            profile::cache_compression(planned.container.profile),
        ),
        ("image-manifest", "true"),
        ("oci-mediatypes", "true"),
    ];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
    request.cache_export = Some(attributes.into());
    // What is exported was built a moment ago, and is in the builder's cache: without it, it would be built once more, and
    // be something else than what was released.
    request.frontend.remove("no-cache");
    let (sender, mut updates) = mpsc::channel(16);
    let ignore = async { while updates.recv().await.is_some() {} };
    let (result, ()) = tokio::join!(solve(&shared.builder, request, cancel, sender), ignore);
    match result {
        Ok(_) => Ok(()),
        Err(SolveError::Cancelled) => Err("interrupted".into()),
        Err(SolveError::Failed(error)) => {
            let ours = sessions.failure(files).await;
            Err(ours.map_or(error.message, |failure| failure.message))
        }
    }
}
