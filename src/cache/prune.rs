//! Which caches to take away, and taking them away.
//!
//! What must stay true: no tag goes but that of a cache that was chosen. Most registries delete by digest, and every tag
//! that stands on it goes: a digest that also has another tag is left alone. ECR deletes by tag.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use super::s3::{self, Bucket};
use super::stored::{Content, Place, StoredCache};
use super::survey::AT_ONCE;
use crate::diagnostic::Diagnostic;
use crate::manifest::model::ContainerName;
use crate::reference::{Digest, ImageRef, Repository, Tag};
use crate::registry::ecr::Ecr;
use crate::registry::{Client, RegistryError};

/// Caches of branches: container and tag.
pub(crate) type BranchCaches = BTreeSet<(ContainerName, Tag)>;

/// What is to go: what all of these say.
#[derive(Debug, Default)]
pub(crate) struct Criteria {
    /// Also what every run of a channel's branch uses, and what is of no container of the manifest.
    pub(crate) all: bool,
    /// Neither written nor read for this long.
    pub(crate) older_than: Option<Duration>,
    /// These only.
    pub(crate) named: Option<BranchCaches>,
    /// Only caches of branches, and none of these.
    pub(crate) living: Option<BranchCaches>,
}

/// What follows from that.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) goes: Vec<StoredCache>,
    /// What would go with `--all`.
    pub(crate) spared: Vec<StoredCache>,
    pub(crate) stays: Vec<StoredCache>,
}

impl Criteria {
    pub(crate) fn choose(&self, caches: Vec<StoredCache>, now: Timestamp) -> Choice {
        let mut choice = Choice::default();
        for cache in caches {
            let needed = cache.owner.in_use || cache.owner.containers.is_empty();
            let list = if !self.fits(&cache, now) {
                &mut choice.stays
            } else if needed && !self.all {
                &mut choice.spared
            } else {
                &mut choice.goes
            };
            list.push(cache);
        }
        choice
    }

    fn fits(&self, cache: &StoredCache, now: Timestamp) -> bool {
        let among = |branches: &BranchCaches| {
            let tag = cache.place.tag().cloned();
            let container = cache.owner.containers.first().cloned();
            container
                .zip(tag)
                .is_some_and(|key| branches.contains(&key))
        };
        let is_build = matches!(cache.content, Content::Build { .. });
        let young = |age| !cache.is_older_than(age, now);
        let gone = |living| {
            // Whether a pull request is still open git cannot tell.
            let branch = cache.owner.branch.as_deref();
            let number = |name: &str| name.strip_prefix("pr-")?.chars().next();
            let is_branch = |name: &str| !number(name).is_some_and(|c| c.is_ascii_digit());
            is_build && branch.is_some_and(is_branch) && !among(living)
        };
        !self.older_than.is_some_and(young)
            && self
                .named
                .as_ref()
                .is_none_or(|named| is_build && among(named))
            && self.living.as_ref().is_none_or(gone)
    }
}

/// Tags by what they stand on.
type Standing = HashMap<(Repository, Digest), Vec<Tag>>;

/// Those tags of the caches' repositories, beside their own, that would go with them.
pub(crate) async fn shared_with(
    goes: &[StoredCache],
    tags: &BTreeMap<Repository, Vec<Tag>>,
    registry: &Client,
    ecr: Option<&Ecr>,
) -> Result<Standing, RegistryError> {
    let own: BTreeSet<String> = goes.iter().map(|c| c.place.to_string()).collect();
    let by_digest = goes
        .iter()
        .filter_map(|cache| Some(&cache.place.image()?.repository))
        .filter(|repository| !ecr.is_some_and(|ecr| ecr.holds(repository)));
    let repositories: BTreeSet<&Repository> = by_digest.collect();
    let mut others: Vec<ImageRef> = Vec::new();
    for repository in repositories {
        let tags = tags.get(repository).into_iter().flatten();
        others.extend(tags.map(|tag| repository.tag(tag)));
    }
    others.retain(|image| !own.contains(&image.to_string()));
    let asked = others.into_iter().map(|image| async move {
        let found = registry.head_manifest(&image).await?;
        Ok::<_, RegistryError>((image, found))
    });
    let found: Vec<_> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    let mut standing = Standing::new();
    for (image, found) in found {
        if let (Some(found), Some(tag)) = (found, image.tag) {
            let key = (image.repository, found.digest);
            standing.entry(key).or_default().push(tag);
        }
    }
    Ok(standing)
}

/// Takes those out that cannot go alone, each with the tags beside it.
pub(crate) fn shielded(
    goes: Vec<StoredCache>,
    standing: &Standing,
) -> (Vec<StoredCache>, Vec<(StoredCache, Vec<Tag>)>) {
    let mut shielded = Vec::new();
    let mut alone = Vec::new();
    for cache in goes {
        let image = cache.place.image();
        let key = image.map(|image| (image.repository.clone(), cache.digest.clone()));
        match key.and_then(|key| standing.get(&key)) {
            Some(tags) => shielded.push((cache, tags.clone())),
            None => alone.push(cache),
        }
    }
    (alone, shielded)
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Pruned {
    pub(crate) deleted: Vec<StoredCache>,
    /// What is something else by now.
    pub(crate) moved: Vec<Place>,
    pub(crate) failed: Vec<Diagnostic>,
}

/// Takes them away. What fails is reported, and the rest goes on; a registry that deletes nothing is asked once.
pub(crate) async fn prune(
    goes: Vec<StoredCache>,
    registry: &Client,
    ecr: Option<&Ecr>,
    bucket: Option<&Bucket>,
) -> Pruned {
    let mut pruned = Pruned::default();
    let mut by_repository: BTreeMap<Repository, Vec<StoredCache>> = BTreeMap::new();
    for cache in goes {
        match (cache.place.clone(), bucket) {
            (Place::Registry(image), _) => {
                let caches = by_repository.entry(image.repository).or_default();
                caches.push(cache);
            }
            (Place::S3(version), Some(bucket)) => {
                s3::kept::prune(cache, &version, bucket, &mut pruned).await;
            }
            // Nobody could have found it.
            (Place::S3(_), None) => {}
        }
    }
    for (repository, caches) in by_repository {
        let caches = unmoved(caches, registry, &mut pruned).await;
        match ecr.filter(|ecr| ecr.holds(&repository)) {
            Some(ecr) => by_tag(&repository, caches, ecr, &mut pruned).await,
            None => by_digest(&repository, caches, registry, &mut pruned).await,
        }
    }
    pruned
}

/// A run may have written one of them since they were looked at.
async fn unmoved(
    caches: Vec<StoredCache>,
    registry: &Client,
    pruned: &mut Pruned,
) -> Vec<StoredCache> {
    let asked = caches.into_iter().map(|cache| async move {
        let Some(image) = cache.place.image() else {
            return (cache, Ok(None));
        };
        let found = registry.head_manifest(image).await;
        (cache, found)
    });
    let found: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut unmoved = Vec::new();
    for (cache, found) in found {
        match found {
            Ok(Some(found)) if found.digest == cache.digest => unmoved.push(cache),
            Ok(_) => pruned.moved.push(cache.place),
            Err(error) => pruned.failed.push(Diagnostic::error(error.to_string())),
        }
    }
    unmoved
}

async fn by_tag(repository: &Repository, caches: Vec<StoredCache>, ecr: &Ecr, pruned: &mut Pruned) {
    let tags = caches.iter().filter_map(|cache| cache.place.tag().cloned());
    let tags: Vec<Tag> = tags.collect();
    match ecr.delete_tags(repository.path(), &tags).await {
        Err(error) => pruned.failed.push(error.diagnostic()),
        Ok(failed) => {
            for (tag, why) in &failed {
                let title = format!("ECR did not delete {repository}:{tag}: {why}");
                pruned.failed.push(Diagnostic::error(title));
            }
            let stays = |cache: &StoredCache| {
                let tag = cache.place.tag().map(Tag::as_str);
                failed
                    .iter()
                    .any(|(failed, _)| Some(failed.as_str()) == tag)
            };
            let deleted = caches.into_iter().filter(|cache| !stays(cache));
            pruned.deleted.extend(deleted);
        }
    }
}

async fn by_digest(
    repository: &Repository,
    caches: Vec<StoredCache>,
    registry: &Client,
    pruned: &mut Pruned,
) {
    let mut by_digest: BTreeMap<Digest, Vec<StoredCache>> = BTreeMap::new();
    for cache in caches {
        by_digest
            .entry(cache.digest.clone())
            .or_default()
            .push(cache);
    }
    for (digest, caches) in by_digest {
        match registry.delete_manifest(repository, &digest).await {
            // It may be gone already: then it is not there, as was wished.
            Ok(_) => pruned.deleted.extend(caches),
            Err(error) if error.is_unsupported() => {
                let host = &repository.host;
                let refused = Diagnostic::error(format!("{host} deletes nothing: {error}"))
                    .help("a registry of distribution deletes with `storage.delete.enabled: true` in its configuration (REGISTRY_STORAGE_DELETE_ENABLED=true)")
                    .help("other registries have rules of their own that take old tags away");
                return pruned.failed.push(refused);
            }
            Err(error) => pruned.failed.push(Diagnostic::error(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stored::Owner;
    use super::super::stored::tests::stored;
    use super::*;

    const NOW: &str = "2026-01-31T00:00:00Z";
    const OLD: &str = "2026-01-01T00:00:00Z";

    fn owned(tag: &str, branch: Option<&str>, written: &str) -> StoredCache {
        let owner = Owner {
            containers: vec!["etl".into()],
            branch: branch.map(str::to_owned),
            in_use: branch.is_none(),
        };
        StoredCache {
            owner,
            ..stored(&format!("localhost:1/a:{tag}"), tag, written)
        }
    }

    fn all() -> Vec<StoredCache> {
        let stranger = StoredCache {
            owner: Owner::default(),
            ..owned("strange", None, OLD)
        };
        vec![
            owned("buildcache", None, OLD),
            owned("buildcache-x", Some("x"), OLD),
            owned("buildcache-y", Some("y"), NOW),
            owned("buildcache-pr-1", Some("pr-1"), OLD),
            stranger,
        ]
    }

    /// Tags that go / that are spared.
    fn choose(criteria: &Criteria) -> String {
        let choice = criteria.choose(all(), NOW.parse().unwrap());
        let tags = |caches: &[StoredCache]| {
            let tags = caches.iter().filter_map(|c| c.place.tag());
            tags.map(Tag::as_str).collect::<Vec<_>>().join(" ")
        };
        format!("{} / {}", tags(&choice.goes), tags(&choice.spared))
    }

    fn caches(tags: &[&str]) -> BranchCaches {
        let tags = tags.iter().map(|tag| Tag::new(tag).unwrap());
        tags.map(|tag| ("etl".to_owned(), tag)).collect()
    }

    #[test]
    fn what_is_in_use_and_what_is_not_ours_go_with_all_only() {
        let fortnight = Some(Duration::from_hours(14 * 24));
        let cases = [
            Criteria {
                all: true,
                ..Criteria::default()
            },
            Criteria {
                older_than: fortnight,
                ..Criteria::default()
            },
            Criteria {
                older_than: fortnight,
                all: true,
                ..Criteria::default()
            },
            Criteria {
                named: Some(caches(&["buildcache", "buildcache-y"])),
                ..Criteria::default()
            },
            Criteria {
                named: Some(caches(&["buildcache-y"])),
                older_than: fortnight,
                ..Criteria::default()
            },
            Criteria {
                living: Some(caches(&["buildcache", "buildcache-y"])),
                ..Criteria::default()
            },
        ];
        insta::assert_snapshot!(cases.map(|c| choose(&c)).join("\n"), @r"
        buildcache buildcache-x buildcache-y buildcache-pr-1 strange / 
        buildcache-x buildcache-pr-1 / buildcache strange
        buildcache buildcache-x buildcache-pr-1 strange / 
        buildcache-y / buildcache
         / 
        buildcache-x / 
        ");
    }

    #[test]
    fn a_digest_that_has_another_tag_is_left_alone() {
        let (x, y) = (
            owned("buildcache-x", Some("x"), OLD),
            owned("buildcache-y", Some("y"), OLD),
        );
        let repository = x.place.image().unwrap().repository.clone();
        let key = (repository, x.digest.clone());
        let standing = Standing::from([(key, vec![Tag::new("v1").unwrap()])]);
        let (alone, shielded) = shielded(vec![x, y], &standing);
        assert_eq!(alone[0].place.to_string(), "localhost:1/a:buildcache-y");
        assert_eq!(shielded[0].1[0].as_str(), "v1");
    }
}
