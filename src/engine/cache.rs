//! The build cache of a container: which one to import, and its export once the release is done.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::event::EventKind;
use super::files::FileSessions;
use super::job::{Built, Shared};
use super::mounts;
use super::solve_request::{Sessions, solve_request};
use super::steps::is_dockerfile_step;
use crate::buildkit::session::content::store::BlobStore;
use crate::buildkit::solve::{Attributes, SolveError, solve};
use crate::buildkit::status::{StatusUpdate, Vertex};
use crate::cache::candidates::{BuildCache, CachePlace};
use crate::cache::labels::STEPS;
use crate::cache::s3::S3Error;
use crate::cache::stored::Seen;
use crate::cache::{local, s3, steps};
use crate::clock;
use crate::manifest::model::Profile;
use crate::plan::PlannedContainer;
use crate::profile;
use crate::reference::{Digest, ImageRef};
use crate::registry::image::RawManifest;

/// The frontend attribute `cache-imports` for a container: its best cache, if there is one. Exactly one is imported:
/// with several the builder takes one at random (moby/buildkit#6418). They are looked up first, as a missing one would be
/// reported as an error by the builder. A build without cache imports none: the builder would fetch its manifest to no end.
pub(super) async fn imports(planned: &PlannedContainer, shared: &Shared) -> Option<Imported> {
    let name = &planned.container.name;
    if planned.without_cache() {
        return None;
    }
    let candidates = &planned.build_cache.imports;
    let found = candidates.iter().map(|place| import(place, shared));
    let mut there = Vec::new();
    for (place, found) in candidates.iter().zip(join_all(found).await) {
        match found {
            Ok(None) => {}
            Ok(Some((kind, attributes))) => there.push((place, kind, attributes)),
            Err(why) => {
                let message = format!("built without the cache {place}: {why}");
                shared.events.warn(Some(name), message).await;
            }
        }
    }
    let best = match there.len() {
        0 => return None,
        1 => 0,
        _ => most_alike(planned, there.iter().map(|(place, ..)| *place), shared).await,
    };
    let (place, kind, attributes) = there.swap_remove(best);
    let chosen = EventKind::CacheChosen {
        container: name.clone(),
        reference: place.to_string(),
    };
    shared.events.send(chosen).await;
    Some(Imported {
        place: place.clone(),
        attribute: attribute(kind, &attributes),
    })
}

/// Which of these caches has most of the container's steps, by what their makers noted; of equals the first.
async fn most_alike(
    planned: &PlannedContainer,
    places: impl Iterator<Item = &CachePlace>,
    shared: &Shared,
) -> usize {
    let own = hashes(planned).await;
    let noted = places.map(|place| noted_steps(place, shared));
    let alike = join_all(noted).await.into_iter().map(|noted| {
        let alike = own.iter().filter(|step| noted.contains(*step));
        alike.count()
    });
    // `max_by_key` keeps the last of equals, and the first is wanted.
    let best = alike
        .enumerate()
        .min_by_key(|(_, count)| std::cmp::Reverse(*count));
    best.map_or(0, |(at, _)| at)
}

async fn hashes(planned: &PlannedContainer) -> Vec<String> {
    let container = planned.container.clone();
    let read = move || steps::hashes(&container, &container.platforms[0]);
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// The hashes of the steps of a cache; none where it does not say.
async fn noted_steps(place: &CachePlace, shared: &Shared) -> Vec<String> {
    let reference = match place {
        CachePlace::Registry(reference) => reference,
        CachePlace::S3(place) => match &shared.bucket {
            Some(bucket) => return bucket.steps(place).await,
            None => return vec![],
        },
        CachePlace::Folder(_) => return vec![],
    };
    let Ok(Some(raw)) = shared.registry.get_manifest(reference).await else {
        return vec![];
    };
    let manifest: Value = serde_json::from_slice(&raw.bytes).unwrap_or_default();
    let noted = manifest["annotations"][STEPS].as_str().unwrap_or_default();
    noted.split(',').map(str::to_owned).collect()
}

/// Notes with a cache that was just written which steps it has. `written`: its digest.
async fn note_steps(
    reference: &ImageRef,
    written: &Digest,
    planned: &PlannedContainer,
    shared: &Shared,
) -> Result<(), String> {
    let steps = hashes(planned).await;
    if steps.is_empty() {
        return Ok(());
    }
    let registry = &shared.registry;
    let raw = registry
        .get_manifest(&reference.repository.digest(written))
        .await;
    let Some(raw) = raw.map_err(|error| error.to_string())? else {
        return Ok(());
    };
    let said = |error: serde_json::Error| error.to_string();
    let mut manifest: Value = serde_json::from_slice(&raw.bytes).map_err(said)?;
    manifest["annotations"][STEPS] = steps.join(",").into();
    let noted = RawManifest::of(&manifest, raw.media_type).map_err(said)?;
    let put = registry.put_manifest(reference, &noted).await;
    put.map(drop).map_err(|error| error.to_string())
}

/// The cache that a build imports.
pub(super) struct Imported {
    pub(super) place: CachePlace,
    /// The frontend attribute.
    pub(super) attribute: String,
}

/// A cache import as the frontend attribute `cache-imports` has it.
pub(super) fn attribute(kind: &str, attributes: &Attributes) -> String {
    serde_json::json!([{ "Type": kind, "Attrs": attributes }]).to_string()
}

/// The same for a later solve: credentials have an end.
async fn again(place: &CachePlace, shared: &Shared) -> Option<String> {
    let (kind, attributes) = import(place, shared).await.ok()??;
    Some(attribute(kind, &attributes))
}

/// Type and attributes of a cache import; `None`: there is no such cache.
async fn import(
    place: &CachePlace,
    shared: &Shared,
) -> Result<Option<(&'static str, Attributes)>, String> {
    match place {
        CachePlace::Registry(reference) => {
            let found = shared.registry.head_manifest(reference).await;
            let found = found.map_err(|error| error.to_string())?;
            let attributes = Attributes::from([("ref".into(), reference.to_string())]);
            Ok(found.map(|_| ("registry", attributes)))
        }
        CachePlace::S3(place) => {
            // Without one, that was said before the first build.
            let Some(bucket) = &shared.bucket else {
                return Ok(None);
            };
            let said = |error: S3Error| format!("{error}: {}", error.help());
            if !bucket.has(place).await.map_err(said)? {
                return Ok(None);
            }
            let attributes = bucket.attributes(place).await.map_err(said)?;
            Ok(Some(("s3", attributes)))
        }
        CachePlace::Folder(folder) => {
            let (folder, name) = (folder.clone(), store_name(folder));
            let found = tokio::task::spawn_blocking(move || local::find(&folder)).await;
            let found = found.map_err(|error| error.to_string())?;
            let digest = found.map_err(|error| error.to_string())?;
            Ok(digest.map(|digest| {
                let attributes = [("src", name), ("digest", digest.to_string())];
                ("local", attributes.map(owned).into())
            }))
        }
    }
}

/// Whether a build failed as its cache lacks something of what it says it has; then that is said.
pub(super) async fn is_damaged(
    imported: &Imported,
    planned: &PlannedContainer,
    shared: &Shared,
) -> bool {
    let Some(what) = lacks(&imported.place, shared).await else {
        return false;
    };
    let place = &imported.place;
    let message = format!("the cache {place} is damaged, building again without the cache: {what}");
    let name = &planned.container.name;
    shared.events.warn(Some(name), message).await;
    true
}

async fn lacks(place: &CachePlace, shared: &Shared) -> Option<String> {
    match place {
        CachePlace::Registry(reference) => {
            let Ok(Some(raw)) = shared.registry.get_manifest(reference).await else {
                return Some("it is gone".to_owned());
            };
            let Seen::Cache(_, mut blobs) = Seen::of(&raw) else {
                return None;
            };
            blobs.remove(&raw.digest);
            let repository = &reference.repository;
            let asked = blobs.into_keys().map(|digest| {
                let (registry, repository) = (shared.registry.clone(), repository.clone());
                async move {
                    let found = registry.has_blob(&repository, &digest).await;
                    // What cannot be looked for is not known to be gone.
                    (!found.unwrap_or(true)).then(|| format!("{digest} is gone"))
                }
            });
            let asked: Vec<_> = asked.collect();
            let answers: Vec<_> = stream::iter(asked)
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            answers.into_iter().flatten().next()
        }
        CachePlace::Folder(folder) => {
            let folder = folder.clone();
            let found = tokio::task::spawn_blocking(move || local::find(&folder)).await;
            found.ok()?.err().map(|error| error.to_string())
        }
        CachePlace::S3(place) => shared.bucket.as_ref()?.lacks(place).await,
    }
}

/// What the builder calls a folder of this machine.
fn store_name(folder: &Path) -> String {
    folder.to_string_lossy().into_owned()
}

/// The folders in which a container has caches, by what the builder calls them.
pub(super) fn folders(caches: &BuildCache) -> BTreeMap<String, BlobStore> {
    let folder = |place: &CachePlace| match place {
        CachePlace::Folder(folder) => Some((store_name(folder), BlobStore::new(folder.clone()))),
        CachePlace::Registry(_) | CachePlace::S3(_) => None,
    };
    let places = caches.imports.iter().chain(&caches.export);
    places.filter_map(folder).collect()
}

fn owned((name, value): (&str, String)) -> (String, String) {
    (name.to_owned(), value)
}

/// Questions to a registry at a time.
const AT_ONCE: usize = 16;

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
    let Some(place) = &planned.build_cache.export else {
        return;
    };
    if matches!(place, CachePlace::S3(_)) && shared.bucket.is_none() {
        return;
    }
    let started = clock::now();
    let container = &planned.container;
    let reference = place.to_string();
    let exporting = EventKind::CacheExportStarted {
        container: container.name.clone(),
        reference: reference.clone(),
    };
    shared.events.send(exporting).await;
    let work = solve_for_cache(planned, built, place, files, shared, cancel);
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
    place: &CachePlace,
    files: &FileSessions,
    shared: &Shared,
    cancel: &CancellationToken,
) -> Result<(), String> {
    let opened = Sessions::open(planned, files, shared).await;
    let sessions = opened.map_err(|error| error.to_string())?;
    let imports = match &built.imported {
        Some(place) => again(place, shared).await,
        None => None,
    };
    let mut request = solve_request(planned, &built.parents, imports.as_ref(), &sessions);
    request.cache_export = Some(export_to(place, planned.container.profile, shared).await?);
    // What is exported was built a moment ago, and is in the builder's cache: without it, it would be built once more, and
    // be something else than what was released.
    request.frontend.remove("no-cache");
    let secrets = request.cache_export.as_ref().map(|(_, to)| s3::secrets(to));
    let (sender, mut updates) = mpsc::channel::<StatusUpdate>(16);
    let (stop, mut anew) = (cancel.child_token(), None);
    let watch = async {
        while let Some(update) = updates.recv().await {
            if let Some(step) = update.vertices.into_iter().find(runs_anew) {
                anew = Some(step.name);
                stop.cancel();
            }
        }
    };
    let (result, ()) = tokio::join!(solve(&shared.builder, request, &stop, sender), watch);
    if let (Err(SolveError::Cancelled), Some(step)) = (&result, anew) {
        return Err(format!(
            "the builder does not have the step any more, and would run it anew: {step}"
        ));
    }
    let response = match result {
        Ok(response) => response,
        Err(SolveError::Cancelled) => return Err("interrupted".into()),
        Err(SolveError::Failed(error)) => {
            let ours = sessions.failure(files).await;
            let message = ours.map_or(error.message, |failure| failure.message);
            return Err(s3::without_secrets(message, &secrets.unwrap_or_default()));
        }
    };
    // BuildKit `cache/remotecache/export.go`: the descriptor of what it wrote.
    let descriptor = response.get("cache.manifest").cloned();
    // Only where several may be chosen from does it matter which steps it has, and the cache is as good without.
    let several = planned.build_cache.one_of_several;
    match place {
        CachePlace::S3(place) => {
            if let Some(bucket) = shared.bucket.as_ref().filter(|_| several) {
                let noted = bucket.note_steps(place, &hashes(planned).await).await;
                if let Err(error) = noted {
                    tracing::warn!(%place, %error, "the steps of the cache are not noted");
                }
            }
            Ok(())
        }
        CachePlace::Registry(reference) => {
            if let Some(written) = descriptor.filter(|_| several).and_then(|d| digest_in(&d)) {
                let noted = note_steps(reference, &written, planned, shared).await;
                if let Err(why) = noted {
                    tracing::warn!(%reference, why, "the steps of the cache are not noted");
                }
            }
            Ok(())
        }
        CachePlace::Folder(folder) => {
            let descriptor = descriptor.ok_or("the builder did not say what it wrote")?;
            let folder = folder.clone();
            let kept = tokio::task::spawn_blocking(move || local::keep(&folder, &descriptor)).await;
            let kept = kept.map_err(|error| error.to_string())?;
            kept.map_err(|error| error.to_string())
        }
    }
}

/// A command of the Dockerfile that really runs. What it makes now is something else than what was released: the next run
/// would build on that, and children of this container would find none of their steps.
fn runs_anew(vertex: &Vertex) -> bool {
    let runs = vertex.started.is_some() && !vertex.cached;
    runs && is_dockerfile_step(&vertex.name) && vertex.name.contains("] RUN ")
}

/// The digest in a descriptor.
fn digest_in(descriptor: &str) -> Option<Digest> {
    let descriptor: Value = serde_json::from_str(descriptor).ok()?;
    Digest::new(descriptor["digest"].as_str()?).ok()
}

/// Type and attributes of a cache export: every intermediate step, as one image manifest, which every registry takes.
async fn export_to(
    place: &CachePlace,
    profile: Profile,
    shared: &Shared,
) -> Result<(&'static str, Attributes), String> {
    if let (CachePlace::S3(place), Some(bucket)) = (place, &shared.bucket) {
        let attributes = bucket.attributes(place).await;
        let mut attributes = attributes.map_err(|error| error.to_string())?;
        attributes.insert("mode".into(), "max".into());
        return Ok(("s3", attributes));
    }
    let compression = profile::cache_compression(profile).to_owned();
    let mut attributes: Attributes = [
        ("mode", "max".to_owned()),
        ("compression", compression),
        ("image-manifest", "true".to_owned()),
        ("oci-mediatypes", "true".to_owned()),
    ]
    .map(owned)
    .into();
    let (kind, name, value) = match place {
        CachePlace::Registry(reference) => ("registry", "ref", reference.to_string()),
        CachePlace::Folder(folder) => ("local", "dest", store_name(folder)),
        CachePlace::S3(_) => return Err("its bucket cannot be used".to_owned()),
    };
    attributes.insert(name.to_owned(), value);
    Ok((kind, attributes))
}
