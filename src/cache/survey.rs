//! All caches of a project, found in its registries, and cache mounts in its bucket. Reads only.
//!
//! Where caches lie beside images, only tags with the names of caches are looked at; in a repository that has no images,
//! every tag, so that what a container has left behind that is no more is found too.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{StreamExt as _, stream};

use super::candidates::is_cache_tag;
use super::mounts;
use super::s3::{self, Bucket};
use super::stored::{Content, Owner, Place, Seen, StoredCache};
use crate::diagnostic::Diagnostic;
use crate::manifest::model::{CacheMounts, Container, ContainerName, ProjectManifest};
use crate::reference::{ImageRef, Repository, Tag};
use crate::registry::ecr::Ecr;
use crate::registry::image::ImageConfig;
use crate::registry::{Client, RegistryError};

/// What was found.
pub(crate) struct Survey {
    /// By repository and tag.
    pub(crate) caches: Vec<StoredCache>,
    /// All tags of the repositories that were looked at.
    pub(crate) tags: BTreeMap<Repository, Vec<Tag>>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Questions to a registry at a time.
pub(super) const AT_ONCE: usize = 16;

/// Largest image config that is read, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// Looks through the repositories of these containers' caches; without names, of all. `bucket`: where cache mounts are in
/// one.
pub(crate) async fn survey(
    manifest: &ProjectManifest,
    names: &[ContainerName],
    registry: &Client,
    ecr: Option<&Ecr>,
    bucket: Option<&Bucket>,
) -> Result<Survey, RegistryError> {
    let asked = |name: &ContainerName| names.is_empty() || names.contains(name);
    let containers: Vec<&Container> = manifest.containers.values().collect();
    let repositories: BTreeSet<&Repository> = containers
        .iter()
        .filter(|container| asked(&container.name))
        .flat_map(|container| cached_in(container))
        .collect();
    let mounted = mounted(&containers).await;
    // What lies in the registry though mounts are kept in a bucket was kept before that was so.
    let here = match &manifest.cache.mounts {
        CacheMounts::S3(_) => &BTreeMap::new(),
        CacheMounts::Registry | CacheMounts::Off => &mounted,
    };
    let mut survey = Survey {
        caches: vec![],
        tags: BTreeMap::new(),
        warnings: vec![],
    };
    for repository in repositories {
        let tags = registry.list_tags(repository).await?;
        let users: Vec<&Container> = containers
            .iter()
            .filter(|container| cached_in(container).any(|cached| cached == repository))
            .copied()
            .collect();
        let has_images = *repository == manifest.state
            || containers
                .iter()
                .any(|container| images_in(container).any(|images| images == repository));
        let may_be = |tag: &&Tag| {
            !has_images
                || tag.as_str().starts_with(mounts::TAGS)
                || users.iter().any(|container| is_cache_tag(container, tag))
        };
        let images: Vec<_> = tags
            .iter()
            .filter(may_be)
            .map(|tag| repository.tag(tag))
            .collect();
        let looks = images.iter().map(|image| look(image, registry));
        let found: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
        let mut caches = Vec::new();
        for (image, found) in images.iter().zip(found) {
            match found {
                Ok(Some(cache)) => caches.push(cache),
                Ok(None) => {}
                Err(error) => survey
                    .warnings
                    .push(Diagnostic::warning(format!("{image} is left out: {error}"))),
            }
        }
        for cache in &mut caches {
            cache.owner = owner(cache, &users, here);
        }
        if let Some(ecr) = ecr.filter(|ecr| ecr.holds(repository) && !caches.is_empty()) {
            let told = tell_times(&mut caches, ecr, repository).await;
            survey.warnings.extend(told);
        }
        survey.tags.insert(repository.clone(), tags);
        survey.caches.extend(caches);
    }
    if let (CacheMounts::S3(settings), Some(bucket)) = (&manifest.cache.mounts, bucket) {
        match s3::kept::survey(settings, manifest, &mounted, bucket).await {
            Ok(found) => survey.caches.extend(found),
            Err(error) => survey.warnings.push(unread(&settings.bucket, &error)),
        }
    }
    survey
        .caches
        .retain(|cache| names.is_empty() || cache.owner.containers.iter().any(asked));
    Ok(survey)
}

/// The cache mounts of a bucket cannot be looked at.
pub(crate) fn unread(bucket: &str, error: &s3::S3Error) -> Diagnostic {
    let title = format!("the cache mounts in the bucket {bucket} are left out: {error}");
    Diagnostic::warning(title).help(error.help())
}

/// Where a container has caches: those of trusted runs, and of the others.
fn cached_in(container: &Container) -> impl Iterator<Item = &Repository> {
    let untrusted = container.untrusted.as_ref().map(|places| &places.cache);
    std::iter::once(&container.cache_repository).chain(untrusted)
}

fn images_in(container: &Container) -> impl Iterator<Item = &Repository> {
    let untrusted = container.untrusted.as_ref().map(|places| &places.images);
    std::iter::once(&container.repository).chain(untrusted)
}

/// What a tag stands on, if it is a cache.
async fn look(image: &ImageRef, registry: &Client) -> Result<Option<StoredCache>, RegistryError> {
    let Some(raw) = registry.get_manifest(image).await? else {
        return Ok(None);
    };
    let (content, blobs) = match Seen::of(&raw) {
        Seen::Cache(content, blobs) => (content, blobs),
        Seen::Foreign => return Ok(None),
        Seen::Image(config, blobs) => {
            let read = registry.get_blob(&image.repository, &config.digest, MAX_CONFIG);
            let config = ImageConfig::parse(&read.await?).ok();
            match config.as_ref().and_then(Content::of_image) {
                Some(content) => (content, blobs),
                None => return Ok(None),
            }
        }
    };
    Ok(Some(StoredCache {
        place: Place::Registry(image.clone()),
        digest: raw.digest,
        content,
        blobs,
        owner: Owner::default(),
        times: crate::registry::ecr::ImageTimes::default(),
    }))
}

/// The tags of the mounts that the Dockerfiles have now.
async fn mounted(containers: &[&Container]) -> BTreeMap<Tag, Vec<ContainerName>> {
    let containers: Vec<Container> = containers.iter().map(|c| (*c).clone()).collect();
    let read = move || {
        let mut tags: BTreeMap<Tag, Vec<ContainerName>> = BTreeMap::new();
        for container in &containers {
            let platform = &container.platforms[0];
            for mount in mounts::of(container, platform) {
                for tag in mount.tags(container, platform) {
                    let names = tags.entry(tag).or_default();
                    if !names.contains(&container.name) {
                        names.push(container.name.clone());
                    }
                }
            }
        }
        tags
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// Whose a cache is, by its tag. `users`: the containers that keep theirs in its repository.
fn owner(
    cache: &StoredCache,
    users: &[&Container],
    mounted: &BTreeMap<Tag, Vec<ContainerName>>,
) -> Owner {
    let Some(tag) = cache.place.tag() else {
        return Owner::default();
    };
    let only = match users {
        [only] => vec![only.name.clone()],
        _ => vec![],
    };
    if matches!(cache.content, Content::Mount { .. }) {
        let here = |name: &&ContainerName| users.iter().any(|user| user.name == **name);
        let found = mounted.get(tag).into_iter().flatten().filter(here);
        let containers: Vec<_> = found.cloned().collect();
        return Owner {
            in_use: !containers.is_empty(),
            containers: if containers.is_empty() {
                only
            } else {
                containers
            },
            branch: None,
        };
    }
    // `train-gpu` is not a branch of `train`, where there is a container of that name.
    let of = users.iter().filter(|user| is_cache_tag(user, tag));
    let Some(user) = of.max_by_key(|user| user.cache_tag.as_str().len()) else {
        return Owner::default();
    };
    let rest = tag.as_str().strip_prefix(user.cache_tag.as_str());
    let branch = rest.and_then(|rest| rest.strip_prefix('-'));
    Owner {
        containers: vec![user.name.clone()],
        branch: branch.map(str::to_owned),
        in_use: branch.is_none(),
    }
}

/// Fills in what ECR knows of the times; without the right to ask, that is said, and nothing is missing but times.
async fn tell_times(
    caches: &mut [StoredCache],
    ecr: &Ecr,
    repository: &Repository,
) -> Option<Diagnostic> {
    let times: HashMap<_, _> = match ecr.image_times(repository.path()).await {
        Ok(times) => times,
        Err(error) => {
            let found = error.diagnostic();
            let title = format!(
                "when caches were pushed and used is not known: {}",
                found.title
            );
            let warning = Diagnostic::warning(title);
            let warning = found.notes.into_iter().fold(warning, Diagnostic::note);
            return Some(found.helps.into_iter().fold(warning, Diagnostic::help));
        }
    };
    for cache in caches {
        cache.times = times.get(&cache.digest).copied().unwrap_or_default();
    }
    None
}
