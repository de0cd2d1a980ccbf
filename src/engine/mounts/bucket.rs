//! Versions of cache mounts in a bucket: notes, and the steps that they lead the builder to ([`crate::cache::s3::note`]).

use super::Measured;
use super::solve::OwnBuild;
use super::versions::{Content, Kept};
use crate::buildkit::new_id;
use crate::cache::mounts::{CacheMount, KEPT};
use crate::cache::s3::note::{MountNote, S3Mount, layers};
use crate::cache::s3::{Bucket, S3Error};
use crate::clock;
use crate::engine::job::Shared;
use crate::engine::solve_request::pins;
use crate::manifest::model::Platform;
use crate::plan::PlannedContainer;
use crate::reference::ImageRef;

/// The type of cache, in BuildKit's words.
const S3: &str = "s3";

fn said(error: &S3Error) -> String {
    format!("{error}: {}", error.help())
}

/// Without one, that was said before the first build.
fn bucket(shared: &Shared) -> Result<&Bucket, String> {
    let bucket = shared.bucket.as_ref();
    bucket.ok_or_else(|| "the bucket cannot be used".to_owned())
}

/// A version; what another skiff kept in a way of its own is as good as not there, and will be written over.
pub(super) async fn look_up(
    version: &S3Mount,
    mount: &CacheMount,
    platform: &Platform,
    shared: &Shared,
) -> Result<Option<Kept>, String> {
    let Some(note) = read(version, shared).await? else {
        return Ok(None);
    };
    if note.stages(mount, platform).is_none() {
        return Ok(None);
    }
    Ok(Some(Kept {
        inputs: note.inputs.clone(),
        cold: note.cold,
        losses: note.losses,
        created: Some(note.created),
        content: Content::Steps {
            version: version.clone(),
            note: Box::new(note),
        },
    }))
}

async fn read(version: &S3Mount, shared: &Shared) -> Result<Option<MountNote>, String> {
    let bytes = bucket(shared)?
        .get(&version.key())
        .await
        .map_err(|error| said(&error))?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let note = MountNote::read(&bytes);
    note.map(Some)
        .ok_or_else(|| format!("{version} is something else"))
}

/// The build that fills a mount from a version. Where the builder does not find the steps there, it runs them, in an empty
/// mount, which makes them fail: nothing is filled.
pub(super) async fn filling(
    version: &S3Mount,
    note: &MountNote,
    mount: &CacheMount,
    base: &str,
    platform: &Platform,
    shared: &Shared,
) -> Result<OwnBuild, String> {
    let stages = note.stages(mount, platform);
    let stages = stages.ok_or_else(|| "it has other steps".to_owned())?;
    let place = version.steps(&note.nonce);
    let attributes = bucket(shared)?
        .attributes(&place)
        .await
        .map_err(|error| said(&error))?;
    Ok(OwnBuild {
        dockerfile: stages + &mount.filling(base, KEPT, &new_id()),
        imports: Some((S3, attributes)),
        ..OwnBuild::default()
    })
}

/// The build that keeps a mount, and the note that is to lead to it.
pub(super) async fn keeping(
    version: &S3Mount,
    mount: &CacheMount,
    base: &str,
    known: &str,
    planned: &PlannedContainer,
    shared: &Shared,
) -> Result<(OwnBuild, MountNote), String> {
    let base = pinned(base, planned)?;
    let platform = &planned.container.platforms[0];
    let made_from = (known, new_id());
    let note = MountNote::new(mount, platform, base, made_from, clock::timestamp());
    let place = version.steps(&note.nonce);
    let attributes = bucket(shared)?.attributes(&place).await;
    let mut attributes = attributes.map_err(|error| said(&error))?;
    // Of the steps the last one's layer only: with `max` the base image would be kept, too.
    attributes.insert("mode".into(), "min".into());
    let build = OwnBuild {
        dockerfile: mount.keeping(&note.base.to_string(), known, &note.nonce),
        exports: Some((S3, attributes)),
        ..OwnBuild::default()
    };
    Ok((build, note))
}

/// The image that a stage begins with, by the digest that the run takes it at.
fn pinned(base: &str, planned: &PlannedContainer) -> Result<ImageRef, String> {
    let image: ImageRef = base.parse().map_err(|_| {
        format!("its stage begins with `{base}`, and has no shell that could copy it")
    })?;
    let name = image.to_string();
    match pins(planned).get(&name) {
        Some(pinned) => pinned
            .parse()
            .map_err(|_| format!("`{pinned}` is no image")),
        None => Ok(image),
    }
}

/// Writes the note of what the builder has kept. What was under it before goes.
pub(super) async fn settle(
    version: &S3Mount,
    mut note: MountNote,
    measured: &Measured,
    before: Option<&Kept>,
    shared: &Shared,
) -> Result<(), String> {
    let bucket = bucket(shared)?;
    let steps = version.steps(&note.nonce).key();
    let written = bucket.get(&steps).await.map_err(|error| said(&error))?;
    note.cold = measured.cold;
    note.losses = measured.losses;
    note.layers = layers(&written.unwrap_or_default());
    if note.layers.is_empty() {
        return Err(format!(
            "the builder has written no layer to {}",
            version.steps(&note.nonce)
        ));
    }
    write(version, &note, bucket).await?;
    if let Some(Content::Steps { note: before, .. }) = before.map(|kept| &kept.content) {
        // Nothing leads there any more. Where that is not allowed, the bucket's own rule takes it away.
        let old = version.steps(&before.nonce);
        if let Err(error) = bucket.delete(&old.key()).await {
            tracing::debug!(%old, %error, "what was kept before stays");
        }
    }
    Ok(())
}

async fn write(version: &S3Mount, note: &MountNote, bucket: &Bucket) -> Result<(), String> {
    let bytes = note.written().map_err(|error| error.to_string())?;
    bucket
        .put(&version.key(), &bytes)
        .await
        .map_err(|error| said(&error))
}

/// Notes how often in a row a version saved nothing.
pub(super) async fn note_losses(
    version: &S3Mount,
    note: &MountNote,
    losses: u32,
    shared: &Shared,
) -> Result<(), String> {
    let now = read(version, shared).await?;
    let Some(mut now) = now.filter(|now| now.nonce == note.nonce) else {
        return Ok(());
    };
    now.losses = losses;
    write(version, &now, bucket(shared)?).await
}
