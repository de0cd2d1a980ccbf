//! Which build caches a run may import, best first, and the one it exports.
//!
//! The branches that move a channel share the container's own tag (`buildcache`). With `export = "always"` every other
//! branch, and every pull request, has a tag of its own, `buildcache-<branch>`: it starts from the default branch's cache
//! and never writes to it. Where the manifest has `registry.untrusted`, the branch's own is there, and the others are where
//! trusted runs keep them. A published image is no candidate: without inline cache, which skiff does not write, there is
//! nothing in it that a builder could import.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::s3::S3Place;
use crate::manifest::model::{CacheBackend, CacheExport, Container, ProjectManifest};
use crate::reference::{Digest, ImageRef, Repository, Tag};
use crate::release::channel::{Sources, moved_by};

/// Where a build cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CachePlace {
    Registry(ImageRef),
    /// A folder of this machine, see [`super::local`].
    Folder(PathBuf),
    /// A bucket, see [`super::s3`].
    S3(S3Place),
}

impl fmt::Display for CachePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Folder(folder) => folder.display().fmt(f),
            Self::S3(place) => place.fmt(f),
        }
    }
}

impl CachePlace {
    /// Where a container keeps the cache of this name.
    fn of(
        container: &Container,
        repository: &Repository,
        backend: &CacheBackend,
        tag: &Tag,
    ) -> Self {
        match backend {
            CacheBackend::Local(folder) => {
                Self::Folder(folder.join(&container.name).join(tag.as_str()))
            }
            CacheBackend::S3(settings) => Self::S3(S3Place {
                bucket: settings.bucket.clone(),
                prefix: settings.prefix.clone(),
                name: format!("{}/{tag}", container.name),
            }),
            CacheBackend::Registry | CacheBackend::None => Self::Registry(repository.tag(tag)),
        }
    }
}

/// The build caches of one container in one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BuildCache {
    /// The first one that exists is imported, and no other.
    pub(crate) imports: Vec<CachePlace>,
    /// Where the run's cache goes. `None`: it is not exported.
    pub(crate) export: Option<CachePlace>,
    /// Other runs export elsewhere, so that a run may have several to choose from.
    pub(crate) one_of_several: bool,
}

impl BuildCache {
    /// Those that are in a bucket, which cannot be used, are neither imported nor exported.
    pub(crate) fn leave_bucket(&mut self) {
        let elsewhere = |place: &CachePlace| !matches!(place, CachePlace::S3(_));
        self.imports.retain(elsewhere);
        self.export = self.export.take().filter(elsewhere);
    }

    /// By the manifest's rules and what is known of the sources.
    pub(crate) fn of(container: &Container, manifest: &ProjectManifest, sources: &Sources) -> Self {
        if manifest.cache.backend == CacheBackend::None {
            return Self::default();
        }
        let own = match &sources.pull_request {
            // Its branch may have any name, that of the default branch too.
            Some(name) => {
                let name = name.trim_start_matches('#');
                tag_for(&format!("pr-{name}"), container, manifest)
            }
            None => tag_of_branch(sources.branch.as_deref(), container, manifest, sources),
        };
        let default = sources.default_branch.as_deref();
        let default = tag_of_branch(default, container, manifest, sources);
        let export = match manifest.cache.export {
            CacheExport::Never => None,
            CacheExport::Channels => own.clone().filter(|tag| *tag == container.cache_tag),
            CacheExport::Always => own.clone(),
        };
        let mut imports = Vec::new();
        if manifest.cache.export == CacheExport::Always {
            imports.extend([own.clone(), default].into_iter().flatten());
        }
        imports.push(container.cache_tag.clone());
        let mut seen = BTreeSet::new();
        imports.retain(|tag| seen.insert(tag.clone()));
        let place = |tag: &Tag| {
            let repository = if own.as_ref() == Some(tag) {
                &container.cache_repository
            } else {
                container.trusted_cache()
            };
            CachePlace::of(container, repository, &manifest.cache.backend, tag)
        };
        Self {
            imports: imports.iter().map(place).collect(),
            export: export.as_ref().map(place),
            one_of_several: manifest.cache.export == CacheExport::Always,
        }
    }
}

/// Whether a tag is that of a cache of this container, of one branch or another.
pub(crate) fn is_cache_tag(container: &Container, tag: &Tag) -> bool {
    let rest = tag.as_str().strip_prefix(container.cache_tag.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The tag of a branch's cache, of this container among those of the manifest; `None`: nobody knows the branch.
pub(crate) fn tag_of_branch(
    branch: Option<&str>,
    container: &Container,
    manifest: &ProjectManifest,
    sources: &Sources,
) -> Option<Tag> {
    let here = Sources {
        branch: branch.map(str::to_owned),
        pull_request: None,
        ..sources.clone()
    };
    if !moved_by(&manifest.channels, &here).is_empty() {
        return Some(container.cache_tag.clone());
    }
    tag_for(branch?, container, manifest)
}

/// Digits of the hash that tells apart what would have the same tag otherwise.
const HASH: usize = 8;

/// `buildcache-<branch>`, with the characters that a tag cannot have replaced, as in the tag pattern `{branch}`.
///
/// Where several containers keep their caches in one repository, or the name is too long, a hash of container and branch
/// is appended: `train` on a branch `gpu` is not `train-gpu`.
fn tag_for(branch: &str, container: &Container, manifest: &ProjectManifest) -> Option<Tag> {
    /// Characters that a tag has at most (OCI distribution spec 1.1).
    const LONGEST: usize = 128;
    let word = |c: char| match c {
        c if c.is_ascii_alphanumeric() || "_.-".contains(c) => c,
        _ => '-',
    };
    let slug: String = branch.chars().map(word).collect();
    let slug = slug.trim_matches('-');
    let mut text = format!("{}-{slug}", container.cache_tag);
    let others = manifest.containers.values().any(|other| {
        other.name != container.name && other.cache_repository == container.cache_repository
    });
    if others || slug.is_empty() || text.len() > LONGEST {
        let hash = Digest::of(format!("{}\0{branch}", container.name).as_bytes());
        text.truncate(LONGEST - HASH - 1);
        text = format!("{}-{}", text.trim_end_matches('-'), &hash.short()[..HASH]);
    }
    Tag::new(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a project with the containers `etl` and `etl-gpu`.
    fn manifest(more: &str) -> ProjectManifest {
        let dir = tempfile::tempdir().unwrap();
        for name in ["etl", "etl-gpu"] {
            let folder = dir.path().join("containers").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("Dockerfile"), "FROM scratch\n").unwrap();
        }
        let path = dir.path().join("containers.toml");
        let head = "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"localhost:5000\"\n\
                    [discover]\nroots = [\"containers/*\"]\n";
        std::fs::write(&path, format!("{head}{more}")).unwrap();
        crate::manifest::load(&path, "containers.toml").unwrap().0
    }

    fn on(branch: &str) -> Sources {
        Sources {
            checkout: true,
            branch: Some(branch.into()),
            default_branch: Some("main".into()),
            ..Sources::default()
        }
    }

    /// Tags to import, and the tag to export.
    fn tags(more: &str, sources: &Sources) -> String {
        let manifest = manifest(more);
        let cache = BuildCache::of(&manifest.containers["etl"], &manifest, sources);
        let tag = |place: &CachePlace| match place {
            CachePlace::Registry(reference) => reference.tag.as_ref().unwrap().to_string(),
            place => place.to_string(),
        };
        let imports: Vec<_> = cache.imports.iter().map(tag).collect();
        let export = cache.export.as_ref().map_or_else(|| "nothing".into(), tag);
        format!("{} -> {export}", imports.join(", "))
    }

    #[test]
    fn without_its_bucket_a_run_has_no_caches_in_it() {
        let of = |cache: &str| {
            let manifest = manifest(cache);
            let container = &manifest.containers["etl"];
            let mut caches = BuildCache::of(container, &manifest, &on("feature"));
            let before = (caches.imports.len(), caches.export.is_some());
            caches.leave_bucket();
            (before, (caches.imports.len(), caches.export.is_some()))
        };
        let always = "export = \"always\"";
        let s3 = format!("[cache]\nbackend = \"s3\"\nbucket = \"caches\"\n{always}");
        assert_eq!(of(&s3), ((2, true), (0, false)));
        assert_eq!(of(&format!("[cache]\n{always}")), ((2, true), (2, true)));
    }

    #[test]
    fn a_branch_without_a_channel_reads_the_shared_cache_and_keeps_its_own() {
        let always = "[cache]\nexport = \"always\"\n";
        let pull_request = Sources {
            pull_request: Some("#12".into()),
            ..on("main")
        };
        let detached = Sources {
            branch: None,
            ..on("main")
        };
        let cases = [
            tags("", &on("main")),
            tags("", &on("feature/x")),
            tags("", &pull_request),
            tags(always, &on("main")),
            tags(always, &on("feature/x")),
            tags(always, &pull_request),
            tags(always, &detached),
            tags(
                "[cache]\nexport = \"always\"\n[channels]\nlatest = [\"release\"]\n",
                &on("feature/x"),
            ),
            tags("[cache]\nexport = \"never\"\n", &on("main")),
            tags("[cache]\nbackend = \"none\"\n", &on("main")),
            tags(
                "[cache]\nbackend = \"local\"\ndir = \"/caches\"\nexport = \"always\"\n",
                &on("feature/x"),
            ),
            tags(
                "[cache]\nbackend = \"s3\"\nbucket = \"caches\"\nprefix = \"team\"\n",
                &on("main"),
            ),
            tags("", &Sources::default()),
        ];
        insta::assert_snapshot!(cases.join("\n"), @r"
        buildcache -> buildcache
        buildcache -> nothing
        buildcache -> nothing
        buildcache -> buildcache
        buildcache-feature-x, buildcache -> buildcache-feature-x
        buildcache-pr-12, buildcache -> buildcache-pr-12
        buildcache -> nothing
        buildcache-feature-x, buildcache-main, buildcache -> buildcache-feature-x
        buildcache -> nothing
         -> nothing
        /caches/etl/buildcache-feature-x, /caches/etl/buildcache -> /caches/etl/buildcache-feature-x
        s3://caches/team/manifests/etl/buildcache -> s3://caches/team/manifests/etl/buildcache
        buildcache -> buildcache
        ");
    }

    #[test]
    fn in_one_repository_no_branch_has_the_tag_of_another_container() {
        let shared = "ref = \"localhost:5000/caches:{name}\"\nexport = \"always\"\n";
        let manifest = manifest(&format!("[cache]\n{shared}"));
        let containers = &manifest.containers;
        let of = |name: &str, branch: &str| {
            let cache = BuildCache::of(&containers[name], &manifest, &on(branch));
            cache.export.unwrap().to_string()
        };
        assert_eq!(of("etl-gpu", "main"), "localhost:5000/caches:etl-gpu");
        assert_ne!(of("etl", "gpu"), of("etl-gpu", "main"));
        assert_ne!(of("etl", "gpu-x"), of("etl-gpu", "x"));
        assert!(of("etl", &"long".repeat(90)).len() <= "localhost:5000/caches:".len() + 128);
    }
}
