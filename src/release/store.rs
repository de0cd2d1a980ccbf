//! The state repository: records and the channels' checkpoints, read and written.
//!
//! Tags there: `release-NAME` (and `release-NAME.2`, … where the name was used again), `promotion-…`, `rollback-…` hold
//! records and are written once; `channel-NAME` holds a channel's checkpoint and moves.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::record::{self, CHANNEL, Deed, RECORD, Record, Unreadable};
use super::standing::{Lineage, Standing};
use crate::reference::{ImageRef, Repository, Tag};
use crate::registry::error::Problem;
use crate::registry::{Client, RegistryError};

/// Largest document that is read, in bytes: a thousand containers are 1 MB.
const MAX_DOCUMENT: usize = 16 << 20;

/// How many records are read at a time; the client has its own limit for each registry.
const AT_ONCE: usize = 16;

/// Beginnings of the tags that hold records.
const RECORDS: [&str; 3] = ["release-", "promotion-", "rollback-"];

/// Why the state repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{image} cannot be used: {why}")]
    Unreadable {
        image: Box<ImageRef>,
        why: Unreadable,
    },
    #[error("{0}")]
    Unwritable(String),
}

impl StoreError {
    /// What the reader can do.
    pub(crate) fn help(&self, repository: &Repository) -> String {
        match self {
            Self::Registry(error)
                if matches!(
                    *error.problem,
                    Problem::Denied { .. } | Problem::Unauthorized { .. }
                ) =>
            {
                format!(
                    "release records live in {repository}: let this principal read and write there, or name another \
                     repository as `release.state`"
                )
            }
            Self::Unreadable {
                why: Unreadable::Later(_),
                ..
            } => "update skiff".to_owned(),
            Self::Unreadable {
                why: Unreadable::Foreign(_),
                image,
            } => format!(
                "see what put {image} there; name another repository as `release.state`, or delete that tag"
            ),
            _ => format!("see that {repository} can be reached and written to"),
        }
    }
}

/// What was read, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub records: Vec<(Tag, Record)>,
    pub unreadable: Vec<(Tag, Unreadable)>,
}

/// The state repository. What is read once is kept: records never change.
#[derive(Clone)]
pub(crate) struct Store {
    registry: Client,
    pub repository: Repository,
    known: HashMap<Tag, Result<Record, Unreadable>>,
}

impl Store {
    pub(crate) fn new(registry: Client, repository: Repository) -> Self {
        Self {
            registry,
            repository,
            known: HashMap::new(),
        }
    }

    /// The tags of all records.
    pub(crate) async fn tags(&self) -> Result<Vec<Tag>, StoreError> {
        let mut tags = self.registry.list_tags(&self.repository).await?;
        tags.retain(|tag| RECORDS.iter().any(|start| tag.as_str().starts_with(start)));
        Ok(tags)
    }

    /// The channels that have a checkpoint.
    pub(crate) async fn channels(&self) -> Result<Vec<Tag>, StoreError> {
        let tags = self.registry.list_tags(&self.repository).await?;
        let name = |tag: &Tag| Tag::new(tag.as_str().strip_prefix("channel-")?).ok();
        Ok(tags.iter().filter_map(name).collect())
    }

    /// Reads the records under these tags. One that is gone meanwhile is left out.
    pub(crate) async fn records(&mut self, tags: &[Tag]) -> Result<Read, StoreError> {
        let missing = tags.iter().filter(|tag| !self.known.contains_key(*tag));
        let missing: Vec<Tag> = missing.cloned().collect();
        let store = &*self;
        let reads = missing.iter().map(|tag| async move {
            let image = store.repository.tag(tag);
            (tag.clone(), store.document::<Record>(&image, RECORD).await)
        });
        let answers: Vec<_> = stream::iter(reads).buffered(AT_ONCE).collect().await;
        for (tag, answer) in answers {
            match answer {
                Ok(Some(mut record)) => {
                    record.locate(&self.repository.host);
                    self.known.insert(tag, Ok(record))
                }
                Ok(None) => None,
                Err(StoreError::Unreadable { why, .. }) => self.known.insert(tag, Err(why)),
                Err(error) => return Err(error),
            };
        }
        let mut read = Read::default();
        for tag in tags {
            match self.known.get(tag) {
                Some(Ok(record)) => read.records.push((tag.clone(), record.clone())),
                Some(Err(why)) => read.unreadable.push((tag.clone(), why.clone())),
                None => {}
            }
        }
        Ok(read)
    }

    /// The channel's checkpoint; `None`: there is none, or none that can be used, and all follows from the records.
    pub(crate) async fn checkpoint(&self, channel: &Tag) -> Result<Option<Standing>, StoreError> {
        let image = self.checkpoint_at(channel)?;
        match self.document::<Standing>(&image, CHANNEL).await {
            Err(StoreError::Unreadable {
                why: Unreadable::Damaged(why),
                ..
            }) => {
                tracing::warn!(%image, why, "the checkpoint is damaged: going by the records");
                Ok(None)
            }
            Ok(Some(mut standing)) => {
                for placed in standing.containers.values_mut() {
                    placed.repository.host = self.repository.host.clone();
                }
                Ok(Some(standing))
            }
            result => result,
        }
    }

    fn checkpoint_at(&self, channel: &Tag) -> Result<ImageRef, StoreError> {
        let tag = Tag::new(&format!("channel-{channel}"));
        let tag = tag.map_err(|_| {
            StoreError::Unwritable(format!("the channel's name `{channel}` is too long"))
        })?;
        Ok(self.repository.tag(&tag))
    }

    /// Where the channel is to stand, by all records that are there; with the tags of those that its checkpoint did not
    /// take into account, and the checkpoint itself. `without`: as if this record had not been written.
    pub(crate) async fn standing(
        &mut self,
        channel: &Tag,
        lineage: &mut impl Lineage,
        without: Option<&Tag>,
    ) -> Result<View, StoreError> {
        // The list first: what is settled in a later checkpoint and not in this list is then no matter of ours.
        let tags = self.tags().await?;
        let checkpoint = self.checkpoint(channel).await?;
        let mut standing = checkpoint.clone().unwrap_or_else(|| Standing::new(channel));
        let unsettled = |tag: &&Tag| !standing.settled.contains(*tag) && Some(*tag) != without;
        let unsettled: Vec<Tag> = tags.iter().filter(unsettled).cloned().collect();
        let read = self.records(&unsettled).await?;
        let records = read.records.iter().map(|(tag, record)| (tag, record));
        // Git may be asked.
        tokio::task::block_in_place(|| standing.fold(records, lineage));
        // Records that a lifecycle rule took away long ago need not be named any more.
        if standing.settled.len() > 2 * tags.len() + 100 {
            standing.settled.retain(|tag| tags.contains(tag));
        }
        Ok(View {
            checkpoint,
            standing,
            fresh: read.records,
            unreadable: read.unreadable,
        })
    }

    /// Writes a record under the first of its tags that is free, or that holds one which says the same; returns the tag. Where
    /// tags can move, another run may look for the same one at the same time and write over it: who sees that takes the next.
    pub(crate) async fn write(&mut self, record: &Record) -> Result<Tag, StoreError> {
        let (blob, raw) = pack(record, RECORD)?;
        // First: nothing is to come between the look for a tag and the PUT.
        self.blobs(&blob).await?;
        for attempt in 1.. {
            let tag = record_tag(record, attempt)?;
            let image = self.repository.tag(&tag);
            match self.registry.head_manifest(&image).await? {
                Some(standing) if standing.digest == raw.digest => {}
                Some(_) => {
                    let there = self.records(std::slice::from_ref(&tag)).await?.records;
                    if there.iter().any(|(_, there)| there.covers(record)) {
                        return Ok(tag);
                    }
                    continue;
                }
                None => {
                    match self.registry.put_manifest(&image, &raw).await {
                        Ok(_) => {}
                        // Another one was quicker, where tags are immutable.
                        Err(error) if matches!(*error.problem, Problem::Immutable { .. }) => {
                            continue;
                        }
                        Err(error) => return Err(error.into()),
                    }
                    let stands = self.registry.head_manifest(&image).await?;
                    if stands.is_some_and(|stands| stands.digest != raw.digest) {
                        continue;
                    }
                }
            }
            self.known.insert(tag.clone(), Ok(record.clone()));
            return Ok(tag);
        }
        Err(StoreError::Unwritable(
            "no tag is free for the record".into(),
        ))
    }

    /// Writes a channel's checkpoint.
    pub(crate) async fn write_checkpoint(&self, standing: &Standing) -> Result<(), StoreError> {
        let (blob, raw) = pack(standing, CHANNEL)?;
        let image = self.checkpoint_at(&standing.channel)?;
        self.blobs(&blob).await?;
        self.registry.put_manifest(&image, &raw).await?;
        Ok(())
    }

    async fn blobs(&self, blob: &Bytes) -> Result<(), StoreError> {
        let empty = Bytes::from_static(record::empty());
        self.registry.put_blob(&self.repository, &empty).await?;
        self.registry.put_blob(&self.repository, blob).await?;
        Ok(())
    }

    async fn document<T: for<'a> Deserialize<'a>>(
        &self,
        image: &ImageRef,
        media_type: &str,
    ) -> Result<Option<T>, StoreError> {
        let unreadable = |why| StoreError::Unreadable {
            image: Box::new(image.clone()),
            why,
        };
        let raw = match self.registry.get_manifest(image).await {
            Ok(Some(raw)) => raw,
            Ok(None) => return Ok(None),
            Err(error) if is_damage(&error) => {
                return Err(unreadable(Unreadable::Damaged(error.to_string())));
            }
            Err(error) => return Err(error.into()),
        };
        let digest = record::layer(&raw, media_type).map_err(unreadable)?;
        let blob = self
            .registry
            .get_blob(&self.repository, &digest, MAX_DOCUMENT)
            .await;
        let blob = match blob {
            Ok(blob) => blob,
            Err(error) if is_damage(&error) => {
                return Err(unreadable(Unreadable::Damaged(error.to_string())));
            }
            Err(error) => return Err(error.into()),
        };
        record::parse(&blob).map(Some).map_err(unreadable)
    }
}

/// Where a channel stands, and what that was found out from.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub checkpoint: Option<Standing>,
    pub standing: Standing,
    /// Records that the checkpoint did not take into account.
    pub fresh: Vec<(Tag, Record)>,
    pub unreadable: Vec<(Tag, Unreadable)>,
}

/// The content itself is wrong or gone, however often it is asked for.
fn is_damage(error: &RegistryError) -> bool {
    matches!(
        *error.problem,
        Problem::NotFound(_) | Problem::DigestMismatch { .. } | Problem::TooLarge { .. }
    )
}

fn pack<T: Serialize>(
    document: &T,
    media_type: &str,
) -> Result<(Bytes, crate::registry::image::RawManifest), StoreError> {
    record::pack(document, media_type).map_err(|error| StoreError::Unwritable(error.to_string()))
}

/// The tag for a record: by its release's name, or by time where there may be many.
fn record_tag(record: &Record, attempt: u32) -> Result<Tag, StoreError> {
    let time = || record.created.strftime("%Y%m%d-%H%M%S");
    let mut text = match &record.deed {
        Deed::Release { .. } => format!("release-{}", record.release),
        Deed::Promotion { .. } => format!("promotion-{}-{}", time(), record.release),
        Deed::Rollback { .. } => format!("rollback-{}-{}", time(), record.release),
    };
    if attempt > 1 {
        text = format!("{text}.{attempt}");
    }
    Tag::new(&text).map_err(|_| {
        StoreError::Unwritable(format!(
            "the release's name `{}` is too long for a record: use 90 characters or fewer",
            record.release
        ))
    })
}
