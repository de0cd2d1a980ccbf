//! What must be there before anything is built: builders, names that are free, records that can be read; and the bucket
//! of the caches, which is good to have.

use super::released::Looked;
use crate::buildkit::dial::choose::Found;
use crate::cache::s3::Bucket;
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::error::Error;
use crate::manifest::model::{CacheBackend, ProjectManifest};
use crate::plan::Plan;
use crate::registry::Client;
use crate::release::names;
use crate::release::store::{Store, StoreError};

/// The bucket of the caches, where they are in one and the run has any; one that cannot be used costs the caches, and never
/// the run.
pub(super) async fn bucket(
    plan: &Plan,
    manifest: &ProjectManifest,
    environment: &Environment,
) -> Result<Option<Bucket>, Diagnostic> {
    let Some(settings) = manifest.cache.bucket() else {
        return Ok(None);
    };
    if !plan.containers.keys().any(|name| plan.builds(name)) {
        return Ok(None);
    }
    match Bucket::open(settings, endpoint(environment)).await {
        Ok(bucket) => Ok(Some(bucket)),
        Err(error) => {
            let name = &settings.bucket;
            let without = match &manifest.cache.backend {
                CacheBackend::S3(_) => "caches",
                _ => "the cache mounts of earlier runs",
            };
            let title =
                format!("built without {without}: the bucket {name} cannot be used: {error}");
            Err(Diagnostic::warning(title).help(error.help()))
        }
    }
}

/// Another S3 than AWS's, by the variables that the AWS SDKs read, and the builder does not.
pub(super) fn endpoint(environment: &Environment) -> Option<&str> {
    let variables = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
    variables.iter().find_map(|name| environment.get(name))
}

/// Builders that can do the job, and a registry in which the names of this run are free.
pub(super) async fn prepare(
    plan: &Plan,
    registry: &Client,
    store: &Store,
    looked: Option<&Looked>,
    builders: impl Future<Output = Result<Found, Error>>,
) -> Result<Found, Error> {
    if !plan.output.push {
        return builders.await;
    }
    let releasable = async {
        let unusable = |error: &StoreError| no_state(error, store).help("nothing was built");
        for channel in &plan.channels.moves {
            match looked.filter(|looked| looked.channel == *channel) {
                Some(looked) => looked.found.as_ref().map_err(unusable).map(drop)?,
                None => store
                    .checkpoint(channel)
                    .await
                    .map_err(|error| unusable(&error))
                    .map(drop)?,
            }
        }
        Ok(())
    };
    let (found, (), ()) = tokio::try_join!(builders, names::free(plan, registry), releasable)?;
    Ok(found)
}

/// The state repository cannot be used.
pub(super) fn no_state(error: &StoreError, store: &Store) -> Diagnostic {
    Diagnostic::error(format!("releases cannot be read: {error}"))
        .help(error.help(&store.repository))
}
