//! Moving a channel to where its records say that it is to stand ([`super::standing`]).
//!
//! The order is what makes it safe: the record is written first; then the tags, in one burst; then the checkpoint; then all
//! is read again, until there is nothing left to do. Whoever is killed leaves a record that the checkpoint does not have:
//! the next run, anywhere, finishes it. Of two that promote at once, whichever writes a tag last reads the records after
//! that, and so sees the newer one: a registry has no compare-and-swap, and this needs none.

use std::collections::{BTreeSet, HashMap};

use futures_util::StreamExt as _;
use futures_util::stream;
use indexmap::IndexMap;

use super::lineage::History;
use super::promote::{Move, Unset, set_tags};
use super::record::{Home, Placed, Record, Unreadable};
use super::standing::{Lineage as _, Relation, Standing};
use super::store::{Store, StoreError, View};
use crate::cancel::CancellationToken;
use crate::engine::event::{ChannelWord, EventKind, Events};
use crate::reference::{Digest, ImageRef, InvalidReference, Tag};
use crate::registry::image::RawManifest;
use crate::registry::{Client, RegistryError};

/// How often all is read again before others are left to it: each round follows a change by somebody.
const ROUNDS: usize = 20;

/// How many look-ups are under way at a time; the client has its own limit for each registry.
const AT_ONCE: usize = 16;

/// What moving channels takes.
pub(crate) struct Mover {
    pub store: Store,
    pub history: History,
    pub registry: Client,
    pub events: Events,
    pub cancel: CancellationToken,
    /// Manifests that need not be read again.
    pub manifests: HashMap<Digest, RawManifest>,
}

/// The record that a run has written.
pub(crate) struct Own {
    pub tag: Tag,
    pub release: Tag,
    pub containers: IndexMap<String, Placed>,
    /// What the channel stood on before.
    pub before: IndexMap<String, Placed>,
}

impl Own {
    /// Of somebody who has written none, and finishes what others have left.
    pub(crate) fn nothing(channel: &Tag) -> Self {
        Self {
            tag: channel.clone(),
            release: channel.clone(),
            containers: IndexMap::new(),
            before: IndexMap::new(),
        }
    }
}

/// Why a channel was not moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Registry(#[from] RegistryError),
    #[error("{image} of release {release} is not in the registry any more")]
    Expired { image: Box<ImageRef>, release: Tag },
    #[error("{}", failed.join("; "))]
    Refused {
        failed: Vec<String>,
        /// Tags that stand on the new image and could not be put back.
        left: Vec<String>,
    },
    #[error("others keep moving it")]
    Restless,
    #[error("{0}")]
    Unnamed(String),
    #[error(transparent)]
    Name(#[from] InvalidReference),
}

impl Stopped {
    /// What the reader can do, and what stands where.
    pub(crate) fn help(&self, store: &Store) -> Vec<String> {
        match self {
            Self::Store(error) => vec![error.help(&store.repository)],
            Self::Expired { image, .. } => vec![
                "see the lifecycle rules of its repository: images of releases must outlive them"
                    .into(),
                format!(
                    "build {} again, or move to another release (`skiff releases`)",
                    image.repository.path()
                ),
            ],
            Self::Refused { left, .. } if !left.is_empty() => vec![format!(
                "these stand on the new image, and what they stood on before could not be put back: {}",
                left.join(", ")
            )],
            _ => vec![],
        }
    }
}

impl Mover {
    /// Writes a record, and says so; returns its tag.
    pub(crate) async fn write(&mut self, record: &Record) -> Result<Tag, StoreError> {
        let tag = self.store.write(record).await?;
        let recorded = EventKind::ReleaseRecorded {
            release: record.release.to_string(),
            record: self.store.repository.tag(&tag).to_string(),
        };
        self.events.send(recorded).await;
        Ok(tag)
    }

    /// Moves the channel until nothing is left to move. Only tags that the records speak of are touched: what somebody else
    /// put under a channel's tag stays, unless a record that is new moves that container.
    pub(crate) async fn converge(&mut self, channel: &Tag, own: &Own) -> Result<Standing, Stopped> {
        for _ in 0..ROUNDS {
            let view = self.view(channel, None).await?;
            let moves = self.wrong(channel, &view, own).await?;
            let still = moves.is_empty();
            let moves = self.with_manifests(channel, moves).await?;
            let failed = set_tags(moves, &self.registry, &self.events, &self.cancel).await;
            if !failed.is_empty() {
                return Err(self.put_back(channel, own, failed).await);
            }
            if view.checkpoint.as_ref() != Some(&view.standing) {
                self.store.write_checkpoint(&view.standing).await?;
            } else if still {
                return Ok(view.standing);
            }
        }
        Err(Stopped::Restless)
    }

    /// Where the channel is to stand. A record that only a later skiff can read may be newer than all: nothing moves.
    pub(crate) async fn view(
        &mut self,
        channel: &Tag,
        without: Option<&Tag>,
    ) -> Result<View, StoreError> {
        let view = self
            .store
            .standing(channel, &mut self.history, without)
            .await?;
        for (tag, why) in &view.unreadable {
            if matches!(why, Unreadable::Later(_)) {
                return Err(StoreError::Unreadable {
                    image: Box::new(self.store.repository.tag(tag)),
                    why: why.clone(),
                });
            }
        }
        Ok(view)
    }

    /// What stands under the channel's tags, one of each container.
    pub(crate) async fn found<'a>(
        &self,
        channel: &Tag,
        containers: impl Iterator<Item = (&'a String, Home)>,
    ) -> Result<IndexMap<String, Option<Digest>>, Stopped> {
        let heads = containers.map(|(name, home)| async move {
            let found = self
                .registry
                .head_manifest(&home.on(channel, name)?)
                .await?;
            Ok((name.clone(), found.map(|found| found.digest)))
        });
        let answers: Vec<Result<_, Stopped>> =
            stream::iter(heads).buffered(AT_ONCE).collect().await;
        answers.into_iter().collect()
    }

    /// The images that the channel is to stand on and does not, as far as that is for this run to mend.
    async fn wrong(
        &mut self,
        channel: &Tag,
        view: &View,
        own: &Own,
    ) -> Result<Vec<(String, Placed)>, Stopped> {
        let images = view.standing.containers.iter();
        let images = images.map(|(name, placed)| (name, placed.home()));
        let found = self.found(channel, images).await?;
        let mut touched: BTreeSet<String> = own.containers.keys().cloned().collect();
        for (tag, record) in &view.fresh {
            touched.extend(record.placed(tag).into_keys());
        }
        let mut wrong = Vec::new();
        let mut recorded: Option<HashMap<String, BTreeSet<String>>> = None;
        for (name, placed) in &view.standing.containers {
            let stands = found.get(name).and_then(Option::as_ref);
            if stands == Some(&placed.digest) {
                continue;
            }
            let mut ours = touched.contains(name);
            if let (false, Some(stands)) = (ours, stands) {
                // Left there by a run that ended half-way, or put there by somebody else?
                let recorded = match &mut recorded {
                    Some(recorded) => recorded,
                    none => none.insert(self.recorded().await?),
                };
                ours = recorded
                    .get(name)
                    .is_some_and(|of| of.contains(stands.as_str()));
            }
            if ours {
                wrong.push((name.clone(), placed.clone()));
            }
        }
        Ok(wrong)
    }

    /// All digests that any record has, by container.
    async fn recorded(&mut self) -> Result<HashMap<String, BTreeSet<String>>, StoreError> {
        let tags = self.store.tags().await?;
        let read = self.store.records(&tags).await?;
        let mut recorded: HashMap<String, BTreeSet<String>> = HashMap::new();
        for (tag, record) in &read.records {
            for (name, placed) in record.placed(tag) {
                recorded
                    .entry(name)
                    .or_default()
                    .insert(placed.digest.to_string());
            }
        }
        Ok(recorded)
    }

    /// All manifests are read before the first tag moves: an image that is gone must not leave a mixed set.
    pub(crate) async fn with_manifests(
        &mut self,
        channel: &Tag,
        wrong: Vec<(String, Placed)>,
    ) -> Result<Vec<Move>, Stopped> {
        let mut moves = Vec::new();
        for (container, placed) in wrong {
            let manifest = self.manifest(&placed).await?;
            let tag = placed.home().on(channel, &container)?.tag;
            moves.push(Move {
                container,
                repository: placed.repository,
                tag: tag.unwrap_or_else(|| channel.clone()),
                manifest,
                channel: true,
            });
        }
        Ok(moves)
    }

    async fn manifest(&mut self, placed: &Placed) -> Result<RawManifest, Stopped> {
        if let Some(known) = self.manifests.get(&placed.digest) {
            return Ok(known.clone());
        }
        let image = placed.repository.digest(&placed.digest);
        let Some(manifest) = self.registry.get_manifest(&image).await? else {
            return Err(Stopped::Expired {
                image: Box::new(image),
                release: placed.release.clone(),
            });
        };
        self.manifests
            .insert(placed.digest.clone(), manifest.clone());
        Ok(manifest)
    }

    /// After a failure: what this run's record moved goes back to where the channel stands without it, as far as the tags
    /// still hold what this run put there.
    async fn put_back(&mut self, channel: &Tag, own: &Own, failed: Vec<(Move, Unset)>) -> Stopped {
        let text = |(asked, error): &(Move, Unset)| match error {
            Unset::Refused(error) => error.to_string(),
            Unset::Interrupted => format!("{}:{}: {error}", asked.repository, asked.tag),
        };
        let failed: Vec<String> = failed.iter().map(text).collect();
        let mut left = Vec::new();
        match self.backwards(channel, own).await {
            Ok(moves) => {
                let cancel = CancellationToken::new();
                let back = set_tags(moves, &self.registry, &self.events, &cancel).await;
                left.extend(
                    back.iter()
                        .map(|(asked, _)| asked.repository.tag(&asked.tag).to_string()),
                );
            }
            Err(error) => {
                tracing::debug!(%error, "what moved cannot be put back");
                left.push(format!("any of the set ({error})"));
            }
        }
        Stopped::Refused { failed, left }
    }

    async fn backwards(&mut self, channel: &Tag, own: &Own) -> Result<Vec<Move>, Stopped> {
        let view = self.view(channel, Some(&own.tag)).await?;
        let images = own.containers.iter();
        let images = images.map(|(name, placed)| (name, placed.home()));
        let found = self.found(channel, images).await?;
        let mut wrong = Vec::new();
        for (name, placed) in &own.containers {
            let before = view.standing.containers.get(name);
            let Some(before) = before.or_else(|| own.before.get(name)) else {
                continue;
            };
            let holds_ours = found.get(name).and_then(Option::as_ref) == Some(&placed.digest);
            if holds_ours && before.digest != placed.digest {
                wrong.push((name.clone(), before.clone()));
            }
        }
        self.with_manifests(channel, wrong).await
    }

    /// What became of the images of a record, now that the channel stands here.
    pub(crate) fn verdict(&mut self, standing: &Standing, own: &Own) -> Verdict {
        if let Some(hold) = &standing.hold {
            return Verdict::Held {
                release: standing.release.clone(),
                reason: hold.reason.clone(),
            };
        }
        let mut verdict = Verdict::Unchanged;
        for (name, placed) in &own.containers {
            let stands = standing.containers.get(name);
            let Some(stands) = stands.filter(|stands| stands.record.as_ref() != Some(&own.tag))
            else {
                verdict = verdict.worse(Verdict::Moved);
                continue;
            };
            let relation = tokio::task::block_in_place(|| self.history.relation(stands, placed));
            verdict = verdict.worse(match relation {
                Relation::Same => Verdict::Unchanged,
                Relation::Older => Verdict::Superseded {
                    by: stands.release.clone(),
                    commit: stands.commit.clone(),
                },
                relation => Verdict::Stayed {
                    container: name.clone(),
                    stands: Box::new(stands.clone()),
                    relation,
                    unfetched: self.history.unfetched().map(str::to_owned),
                },
            });
        }
        verdict
    }
}

/// How it ended for one channel, when nothing went wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It stands on the same commit by another record.
    Unchanged,
    /// All that was due stands on a newer commit already.
    Superseded { by: Tag, commit: Option<String> },
    /// It stands on the set, but for containers that a newer release has moved.
    Moved,
    /// A rollback holds it.
    Held {
        release: Option<Tag>,
        reason: Option<String>,
    },
    /// What it stands on is neither older nor newer.
    Stayed {
        container: String,
        stands: Box<Placed>,
        relation: Relation,
        /// Why history that would tell could not be fetched.
        unfetched: Option<String>,
    },
}

impl Verdict {
    /// For events.
    pub(crate) fn word(&self) -> ChannelWord {
        match self {
            Self::Unchanged => ChannelWord::Unchanged,
            Self::Superseded { .. } => ChannelWord::Superseded,
            Self::Moved => ChannelWord::Moved,
            Self::Held { .. } => ChannelWord::Held,
            Self::Stayed { .. } => ChannelWord::Stayed,
        }
    }

    fn worse(self, other: Self) -> Self {
        let rank = |verdict: &Self| match verdict {
            Self::Unchanged => 0,
            Self::Superseded { .. } => 1,
            Self::Moved => 2,
            Self::Held { .. } => 3,
            Self::Stayed { .. } => 4,
        };
        if rank(&other) > rank(&self) {
            other
        } else {
            self
        }
    }
}
