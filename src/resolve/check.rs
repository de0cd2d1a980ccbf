//! Whether an image in a registry is what the manifest asks for: after a push, and when it is found under its key.

use crate::manifest::model::{Container, Platform};
use crate::profile::{self, Mismatch};
use crate::reference::{Digest, Repository};
use crate::registry::error::Problem;
use crate::registry::image::{ImageConfig, ImageIndex, ImageManifest, NotAnImage, RawManifest};
use crate::registry::{Client, RegistryError, media_type};

/// Largest image config that is read, in bytes: the history of 127 layers is far smaller.
const MAX_CONFIG: usize = 4 << 20;

/// Why it is not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("it cannot be read back: {0}")]
    Unread(#[from] RegistryError),
    #[error("not all of it is in the registry")]
    Missing,
    #[error("it is an image for one platform, not for all that were asked for")]
    OneOnly,
    #[error(transparent)]
    NotAnImage(#[from] NotAnImage),
    #[error("{0}")]
    Mismatch(String),
}

impl Unfit {
    /// Whether the registry did not let it be found out.
    pub(super) fn is_unknown_of(error: &RegistryError) -> bool {
        !matches!(
            *error.problem,
            Problem::NotFound(_) | Problem::DigestMismatch { .. } | Problem::TooLarge { .. }
        )
    }
}

/// Reads what belongs to a manifest, and compares it with what is asked for: its digest, the profile, the platforms.
/// Returns the config of each image.
pub(crate) async fn check(
    container: &Container,
    repository: &Repository,
    pushed: &Digest,
    raw: &RawManifest,
    registry: &Client,
) -> Result<Vec<ImageConfig>, Unfit> {
    let may_be_index = container.profile.one_platform().is_none();
    if may_be_index && media_type::is_index(&raw.media_type) {
        check_index(container, pushed, raw, repository, registry).await
    } else if let [platform] = &container.platforms[..] {
        let config = check_image(container, platform, pushed, raw, repository, registry);
        Ok(vec![config.await?])
    } else {
        Err(Unfit::OneOnly)
    }
}

/// The list, and each image of it.
async fn check_index(
    container: &Container,
    pushed: &Digest,
    raw: &RawManifest,
    repository: &Repository,
    registry: &Client,
) -> Result<Vec<ImageConfig>, Unfit> {
    let index = ImageIndex::parse(raw)?;
    if index.digest != *pushed {
        let (expected, actual) = (pushed.clone(), index.digest);
        return Err(mismatch(&[Mismatch::Digest { expected, actual }]));
    }
    let provenance = profile::has_provenance(container.profile, &container.args);
    let images = profile::verify_index(&container.platforms, provenance, &index)
        .map_err(|found| mismatch(&found))?;
    let mut configs = Vec::with_capacity(images.len());
    for (platform, entry) in images {
        let image = repository.digest(&entry.digest);
        let raw = registry.get_manifest(&image).await?;
        let raw = raw.ok_or(Unfit::Missing)?;
        let config = check_image(
            container,
            platform,
            &entry.digest,
            &raw,
            repository,
            registry,
        );
        configs.push(config.await?);
    }
    Ok(configs)
}

/// One image for one platform.
async fn check_image(
    container: &Container,
    platform: &Platform,
    pushed: &Digest,
    raw: &RawManifest,
    repository: &Repository,
    registry: &Client,
) -> Result<ImageConfig, Unfit> {
    let manifest = ImageManifest::parse(raw)?;
    let config = registry
        .get_blob(repository, &manifest.config.digest, MAX_CONFIG)
        .await?;
    let config = ImageConfig::parse(&config)?;
    profile::verify(container.profile, platform, pushed, &manifest, &config)
        .map_err(|found| mismatch(&found))?;
    Ok(config)
}

fn mismatch(found: &[Mismatch]) -> Unfit {
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    Unfit::Mismatch(found.join("; "))
}
