//! Names that are given once: a release's name and the immutable tags. Looked up before anything is built.

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::diagnostic::Diagnostic;
use crate::error::{Error, ErrorKind};
use crate::plan::{Plan, PlannedContainer, Work};
use crate::reference::{Repository, Tag};
use crate::registry::image::{ImageConfig, ImageIndex, ImageManifest};
use crate::registry::{Client, RegistryError};

/// Label with the commit that an image was built from (OCI image spec, annotations).
pub(crate) const REVISION: &str = "org.opencontainers.image.revision";

/// Label with the repository that an image was built for. Labels are inherited from base images: a revision is believed
/// only beside this one, when it names the very repository.
pub(crate) const REPOSITORY: &str = "skiff.repository";

/// Largest image config that is read, in bytes.
const MAX_CONFIG: usize = 4 << 20;

/// How many look-ups are under way at a time; the client has its own limit for each registry.
const AT_ONCE: usize = 16;

/// Sees that every immutable tag of the run is free, or stands on an image of this very commit. Where it is not, or where
/// the registry cannot be asked, nothing must be built.
pub(crate) async fn free(plan: &Plan, registry: &Client) -> Result<(), Error> {
    let names = plan.released().flat_map(|(name, planned)| {
        let tags = planned.immutable_tags().into_iter();
        tags.map(move |tag| (name, planned, tag))
    });
    let looked_up = stream::iter(names).map(|(name, planned, tag)| async move {
        Ok::<_, RegistryError>((name, tag, taken(planned, tag, plan, registry).await?))
    });
    let answers: Vec<_> = looked_up.buffered(AT_ONCE).collect().await;
    let mut errors = Vec::new();
    for answer in answers {
        let (name, tag, taken) = answer.map_err(|error| {
            let diagnostic = Diagnostic::error(format!("the registry cannot be used: {error}"));
            Error::from(diagnostic.help("nothing was built")).caused_by(error)
        })?;
        if let Some(by) = taken {
            let error = format!("`{name}` has `{tag}` already, {by}");
            let help =
                "give another name (--release, TIMESTAMP, --tag), or none; nothing was built";
            errors.push(Diagnostic::error(error).help(help));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::NameTaken, errors))
    }
}

/// What else stands under the tag.
async fn taken(
    planned: &PlannedContainer,
    tag: &Tag,
    plan: &Plan,
    registry: &Client,
) -> Result<Option<String>, RegistryError> {
    let repository = &planned.container.repository;
    let Some(standing) = registry.head_manifest(&repository.tag(tag)).await? else {
        return Ok(None);
    };
    if let Work::Keep(manifest) = &planned.work
        && manifest.digest == standing.digest
    {
        return Ok(None);
    }
    let revision = revision(repository, tag, registry).await?;
    // What has uncommitted changes is never known to be the same.
    let ours = plan
        .revision
        .as_ref()
        .filter(|ours| !ours.ends_with("-dirty"));
    Ok(match revision {
        Some(theirs) if Some(&theirs) == ours => None,
        Some(theirs) => Some(format!("built from commit {theirs}")),
        None => Some("and nothing says from what it was built".to_owned()),
    })
}

/// The commit that the image says it was built from, as far as that can be believed.
pub(crate) async fn revision(
    repository: &Repository,
    tag: &Tag,
    registry: &Client,
) -> Result<Option<String>, RegistryError> {
    let Some(mut raw) = registry.get_manifest(&repository.tag(tag)).await? else {
        return Ok(None);
    };
    // The images of an index are of one build.
    if let Ok(index) = ImageIndex::parse(&raw)
        && let Some(entry) = index.images().next()
    {
        let image = repository.digest(&entry.digest);
        let Some(first) = registry.get_manifest(&image).await? else {
            return Ok(None);
        };
        raw = first;
    }
    let Ok(manifest) = ImageManifest::parse(&raw) else {
        return Ok(None);
    };
    let config = registry
        .get_blob(repository, &manifest.config.digest, MAX_CONFIG)
        .await?;
    let Ok(config) = ImageConfig::parse(&config) else {
        return Ok(None);
    };
    let ours = config.labels.get(REPOSITORY) == Some(&repository.to_string());
    Ok(config.labels.get(REVISION).filter(|_| ours).cloned())
}
