//! Setting tags on images that are in the registry: a PUT of the manifest's own bytes, so that the digest stays.

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::cancel::{CancellationToken, overdue};
use crate::engine::event::{EventKind, Events};
use crate::reference::{Repository, Tag};
use crate::registry::image::RawManifest;
use crate::registry::{Client, RegistryError};

/// A tag to set on a verified image.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    pub(crate) container: String,
    pub(crate) repository: Repository,
    pub(crate) tag: Tag,
    pub(crate) manifest: RawManifest,
    pub(crate) channel: bool,
}

/// Why a tag could not be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unset {
    #[error(transparent)]
    Refused(#[from] RegistryError),
    #[error("given up after the interrupt")]
    Interrupted,
}

/// Sets all of them, a few at a time; returns those that could not be set. Every one is tried: a set that is mixed for
/// a while is mended by the next run, one that is left half-way on purpose is not. An interrupt does not stop it, unless
/// the registry lets it wait for long.
pub(crate) async fn set_tags(
    moves: Vec<Move>,
    registry: &Client,
    events: &Events,
    cancel: &CancellationToken,
) -> Vec<(Move, Unset)> {
    /// Well within what one registry host is asked at once.
    const AT_ONCE: usize = 4;
    let work = stream::iter(moves.into_iter().map(|asked| async move {
        let image = asked.repository.tag(&asked.tag);
        let result = tokio::select! {
            result = registry.put_manifest(&image, &asked.manifest) => result.map_err(Unset::from),
            () = overdue(cancel) => Err(Unset::Interrupted),
        };
        (asked, result)
    }));
    let mut done = std::pin::pin!(work.buffer_unordered(AT_ONCE));
    let mut failed = Vec::new();
    while let Some((asked, result)) = done.next().await {
        match result {
            Ok(_) => {
                let digest = asked.manifest.digest.to_string();
                let (container, tag, channel) =
                    (asked.container, asked.tag.to_string(), asked.channel);
                events
                    .send(EventKind::Tagged {
                        container,
                        tag,
                        digest,
                        channel,
                    })
                    .await;
            }
            Err(error) => failed.push((asked, error)),
        }
    }
    failed
}
