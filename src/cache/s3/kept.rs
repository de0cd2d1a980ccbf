//! The cache mounts that a bucket has, by their notes: found, and taken away. The layers are left to the bucket's lifecycle
//! rule: build caches may have the same ones, and a build may be about to rely on them.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use super::note::{MountNote, S3Mount};
use super::{Bucket, S3Error};
use crate::cache::prune::Pruned;
use crate::cache::stored::{Content, Owner, Place, StoredCache};
use crate::cache::survey::AT_ONCE;
use crate::diagnostic::Diagnostic;
use crate::manifest::model::{ContainerName, ProjectManifest, S3Settings};
use crate::reference::{Digest, Tag};
use crate::registry::ecr::ImageTimes;

/// Finds them. `mounted`: the mounts that the Dockerfiles have now. What is no note is left out.
pub(crate) async fn survey(
    settings: &S3Settings,
    manifest: &ProjectManifest,
    mounted: &BTreeMap<Tag, Vec<ContainerName>>,
    bucket: &Bucket,
) -> Result<Vec<StoredCache>, S3Error> {
    let keys = bucket.list(&S3Mount::beginning(settings)).await?;
    let versions = keys.iter().filter_map(|key| S3Mount::of_key(settings, key));
    let looks = versions.map(|version| look(version, bucket));
    let found: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let mut caches = Vec::new();
    for found in found {
        let Some((version, digest, note)) = found? else {
            continue;
        };
        let here = manifest.containers.get_key_value(&version.container);
        let containers: Vec<_> = here.map(|(name, _)| name.clone()).into_iter().collect();
        let users = mounted.get(&version.tag).into_iter().flatten();
        caches.push(StoredCache {
            owner: Owner {
                in_use: users.clone().any(|user| containers.contains(user)),
                containers,
                branch: None,
            },
            place: Place::S3(version),
            digest,
            content: Content::Mount {
                id: note.id,
                made: Some(note.created),
                cold: note.cold,
            },
            blobs: note.layers,
            times: ImageTimes::default(),
        });
    }
    Ok(caches)
}

/// A note, and its digest.
async fn look(
    version: S3Mount,
    bucket: &Bucket,
) -> Result<Option<(S3Mount, Digest, MountNote)>, S3Error> {
    let Some(bytes) = bucket.get(&version.key()).await? else {
        return Ok(None);
    };
    let note = MountNote::read(&bytes);
    Ok(note.map(|note| (version, Digest::of(&bytes), note)))
}

/// Takes a version away, if it is still what was looked at.
pub(crate) async fn prune(
    cache: StoredCache,
    version: &S3Mount,
    bucket: &Bucket,
    pruned: &mut Pruned,
) {
    let gone = async {
        match look(version.clone(), bucket).await? {
            Some((_, digest, note)) if digest == cache.digest => {
                // The note first: what it leads to is not to be missing.
                bucket.delete(&version.key()).await?;
                bucket.delete(&version.steps(&note.nonce).key()).await?;
                Ok::<_, S3Error>(true)
            }
            _ => Ok(false),
        }
    };
    match gone.await {
        Ok(true) => pruned.deleted.push(cache),
        Ok(false) => pruned.moved.push(cache.place),
        Err(error) => {
            let title = format!("{version} was not deleted: {error}");
            pruned
                .failed
                .push(Diagnostic::error(title).help(error.help()));
        }
    }
}
