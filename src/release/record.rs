//! What is written down of releases, and in which form it lies in the state repository.
//!
//! A [`Record`] is written once, under a tag of its own, before anything moves: a release, a promotion, a rollback, or
//! what a channel stood on before skiff. Records are the truth: where a channel is to stand follows from them
//! ([`super::standing`]), whatever happens to those who move its tags.
//!
//! In the registry each is an OCI artifact (OCI image spec 1.1, "Guidelines for Artifact Usage"): a manifest with
//! `artifactType`, the empty config, and one layer, the JSON. ECR takes artifacts of this form (its user guide, "Container
//! image manifest format support") and wants the config's blob to be there, as the spec does.

use bytes::Bytes;
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::manifest::model::Container;
use crate::reference::{Digest, ImageRef, InvalidReference, RegistryHost, Repository, Tag};
use crate::registry::image::RawManifest;
use crate::registry::media_type;

/// Version of the JSON. A reader refuses later ones.
pub(crate) const FORMAT: u32 = 1;

/// The release that stands for what a channel stood on before skiff moved it.
pub(crate) const BEFORE_SKIFF: &str = "0";

/// Media type of a record, as artifact and as layer.
pub(crate) const RECORD: &str = "application/vnd.skiff.release.v1+json";

/// Media type of a channel's checkpoint ([`super::standing::Standing`]).
pub(crate) const CHANNEL: &str = "application/vnd.skiff.channel.v1+json";

/// The config of an artifact that has none: `{}`.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Something that was done, or is to be done, to the channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub format: u32,
    /// The name of the release: the one made, or the one moved to.
    pub release: Tag,
    /// When it was written, UTC, by the clock of whoever wrote it: for people, and for order where git has none.
    pub created: Timestamp,
    /// The commit of the sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The sources differed from the commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dirty: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Who did it: a person, or what a CI says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci_url: Option<String>,
    /// `--reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(flatten)]
    pub deed: Deed,
}

/// What a record is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Deed {
    /// A set of images was pushed, and is to be moved to by these channels, if any.
    Release {
        containers: IndexMap<String, Published>,
        channels: IndexMap<Tag, Due>,
    },
    /// Channels were told to move to a release that exists.
    Promotion {
        containers: IndexMap<String, Placed>,
        channels: IndexMap<Tag, Due>,
    },
    /// A channel was put back, and is held there.
    Rollback {
        channel: Tag,
        /// The channel's epoch from then on.
        epoch: u64,
        /// All that the channel stands on from then on.
        containers: IndexMap<String, Placed>,
    },
}

/// An image of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub repository: Repository,
    /// Other containers are in the repository: tags begin with the container's name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    pub digest: Digest,
    /// What the first of the channels stood on before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The content key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub status: PublishedStatus,
    /// How long its build took, push and check included.
    pub seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PublishedStatus {
    /// By this run.
    Built,
    /// By an earlier one: its content is the same.
    Skipped,
    /// Found under the channel's tag.
    Found,
}

/// Where a container's images are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    pub repository: Repository,
    /// Other containers' are there too.
    pub shared: bool,
}

impl Home {
    /// The container's image under a channel's tag.
    pub(crate) fn on(&self, channel: &Tag, container: &str) -> Result<ImageRef, InvalidReference> {
        Ok(self.repository.tag(&channel.of(container, self.shared)?))
    }
}

impl From<&Container> for Home {
    fn from(container: &Container) -> Self {
        Self {
            repository: container.repository.clone(),
            shared: container.shared,
        }
    }
}

impl Published {
    pub(crate) fn home(&self) -> Home {
        Home {
            repository: self.repository.clone(),
            shared: self.shared,
        }
    }

    fn took(&self) -> Option<f64> {
        (self.status == PublishedStatus::Built).then_some(self.seconds)
    }
}

/// A channel that a record moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Due {
    /// The epoch it belongs to: a rollback begins a new one, and what was due before it does not move the channel any more.
    pub epoch: u64,
    /// Moves the channel whatever it stands on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Ends the hold of the epoch before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lifts_hold: bool,
    /// The release that the channel stood on before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_release: Option<Tag>,
    /// What the channel stood on before, containers of other releases too.
    pub before: IndexMap<String, Placed>,
}

/// An image that a channel stands on, and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub repository: Repository,
    /// Other containers are in the repository: tags begin with the container's name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    pub digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub release: Tag,
    /// The tag of the record that put it there: its `before` says what was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The sources differed from the commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dirty: bool,
    /// When the release was recorded, or promoted.
    pub created: Timestamp,
    /// How long its build took, where it was built for that release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

impl Placed {
    pub(crate) fn home(&self) -> Home {
        Home {
            repository: self.repository.clone(),
            shared: self.shared,
        }
    }

    /// It was there before skiff, and nothing is known of its commit.
    pub(crate) fn was_found(&self) -> bool {
        self.release.as_str() == BEFORE_SKIFF
    }
}

impl Record {
    /// The images of a release as a channel would stand on them.
    pub(crate) fn placed(&self, tag: &Tag) -> IndexMap<String, Placed> {
        match &self.deed {
            Deed::Rollback { containers, .. } => containers.clone(),
            Deed::Promotion { containers, .. } => {
                let mut containers = containers.clone();
                for placed in containers.values_mut() {
                    placed.record = Some(tag.clone());
                    placed.created = self.created;
                }
                containers
            }
            Deed::Release { containers, .. } => containers
                .iter()
                .map(|(name, image)| {
                    let placed = Placed {
                        repository: image.repository.clone(),
                        shared: image.shared,
                        digest: image.digest.clone(),
                        key: image.key.clone(),
                        release: self.release.clone(),
                        record: Some(tag.clone()),
                        commit: self.commit.clone(),
                        dirty: self.dirty,
                        created: self.created,
                        seconds: image.took(),
                    };
                    (name.clone(), placed)
                })
                .collect(),
        }
    }

    /// Its images are in the registry in which it lies, by whatever name that is reached here.
    pub(crate) fn locate(&mut self, host: &RegistryHost) {
        let placed: Vec<&mut Placed> = match &mut self.deed {
            Deed::Release {
                containers,
                channels,
            } => {
                for image in containers.values_mut() {
                    image.repository.host = host.clone();
                }
                let before = channels
                    .values_mut()
                    .flat_map(|due| due.before.values_mut());
                before.collect()
            }
            Deed::Promotion {
                containers,
                channels,
            } => {
                let before = channels
                    .values_mut()
                    .flat_map(|due| due.before.values_mut());
                containers.values_mut().chain(before).collect()
            }
            Deed::Rollback { containers, .. } => containers.values_mut().collect(),
        };
        for placed in placed {
            placed.repository.host = host.clone();
        }
    }

    /// How this channel is moved, if a release or a promotion moves it.
    pub(crate) fn due(&self, channel: &Tag) -> Option<&Due> {
        match &self.deed {
            Deed::Release { channels, .. } | Deed::Promotion { channels, .. } => {
                channels.get(channel)
            }
            Deed::Rollback { .. } => None,
        }
    }

    /// Whether this record says all that a later attempt at the same release has to say.
    pub(crate) fn covers(&self, later: &Self) -> bool {
        let (
            Deed::Release {
                containers,
                channels,
            },
            Deed::Release {
                containers: theirs,
                channels: due,
            },
        ) = (&self.deed, &later.deed)
        else {
            return false;
        };
        let images = |of: &IndexMap<String, Published>| -> Vec<(String, Repository, Digest)> {
            let image = |(name, image): (&String, &Published)| {
                (name.clone(), image.repository.clone(), image.digest.clone())
            };
            of.iter().map(image).collect()
        };
        let moves = |of: &IndexMap<Tag, Due>| -> Vec<(Tag, u64, bool)> {
            of.iter()
                .map(|(tag, due)| (tag.clone(), due.epoch, due.force))
                .collect()
        };
        self.release == later.release
            && (&self.commit, self.dirty) == (&later.commit, later.dirty)
            && images(containers) == images(theirs)
            && moves(channels) == moves(due)
    }
}

/// Why what lies in the state repository cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is not of skiff (its type is `{0}`)")]
    Foreign(String),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("a later version of skiff wrote it (format {0}, and this one reads {FORMAT})")]
    Later(u64),
}

/// The blob and the manifest that carry this document.
pub(crate) fn pack<T: Serialize>(
    document: &T,
    media_type: &str,
) -> serde_json::Result<(Bytes, RawManifest)> {
    let blob = Bytes::from(serde_json::to_vec_pretty(document)?);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": media_type,
        "config": {"mediaType": EMPTY, "digest": Digest::of(empty()), "size": empty().len()},
        "layers": [{"mediaType": media_type, "digest": Digest::of(&blob), "size": blob.len()}],
    });
    let raw = RawManifest::of(&manifest, media_type::OCI_MANIFEST.to_owned())?;
    Ok((blob, raw))
}

/// The empty config's content.
pub(crate) fn empty() -> &'static [u8] {
    b"{}"
}

/// The digest of the document in a manifest, if it is of this type.
pub(crate) fn layer(raw: &RawManifest, media_type: &str) -> Result<Digest, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest {
        artifact_type: Option<String>,
        #[serde(default)]
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layer {
        media_type: String,
        digest: Digest,
    }
    let manifest: Manifest = serde_json::from_slice(&raw.bytes)
        .map_err(|error| Unreadable::Damaged(error.to_string()))?;
    let found = manifest.artifact_type.unwrap_or_default();
    if found != media_type {
        let found = if found.is_empty() {
            raw.media_type.clone()
        } else {
            found
        };
        return Err(Unreadable::Foreign(found));
    }
    match manifest.layers.as_slice() {
        [layer] if layer.media_type == media_type => Ok(layer.digest.clone()),
        _ => Err(Unreadable::Damaged("it has not one layer".into())),
    }
}

/// Reads a document's JSON.
pub(crate) fn parse<T: for<'a> Deserialize<'a>>(blob: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Version {
        format: u64,
    }
    let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
    let version: Version = serde_json::from_slice(blob).map_err(damaged)?;
    if version.format > u64::from(FORMAT) {
        return Err(Unreadable::Later(version.format));
    }
    serde_json::from_slice(blob).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn record() -> Record {
        let repository: Repository = "localhost:5000/team/train".parse().unwrap();
        let published = Published {
            repository,
            shared: false,
            digest: Digest::of(b"2"),
            previous: Some(Digest::of(b"1")),
            key: None,
            status: PublishedStatus::Built,
            seconds: 1.5,
        };
        let due = Due {
            epoch: 0,
            force: false,
            lifts_hold: false,
            previous_release: None,
            before: IndexMap::new(),
        };
        Record {
            format: FORMAT,
            release: Tag::new("r1").unwrap(),
            created: "2026-11-24T12:00:00Z".parse().unwrap(),
            commit: Some("0123456789abcdef".into()),
            dirty: false,
            branch: Some("main".into()),
            actor: Some("jo".into()),
            ci_url: None,
            reason: None,
            deed: Deed::Release {
                containers: IndexMap::from([("train".into(), published)]),
                channels: IndexMap::from([(Tag::new("latest").unwrap(), due)]),
            },
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_its_form_is_fixed() {
        let (blob, raw) = pack(&record(), RECORD).unwrap();
        assert_eq!(layer(&raw, RECORD).unwrap(), Digest::of(&blob));
        assert_eq!(parse::<Record>(&blob).unwrap(), record());
        insta::assert_snapshot!(String::from_utf8_lossy(&blob), @r#"
        {
          "format": 1,
          "release": "r1",
          "created": "2026-11-24T12:00:00Z",
          "commit": "0123456789abcdef",
          "branch": "main",
          "actor": "jo",
          "kind": "release",
          "containers": {
            "train": {
              "repository": "localhost:5000/team/train",
              "digest": "sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35",
              "previous": "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
              "status": "built",
              "seconds": 1.5
            }
          },
          "channels": {
            "latest": {
              "epoch": 0,
              "before": {}
            }
          }
        }
        "#);
    }

    #[test]
    fn what_is_not_a_record_is_told_apart() {
        let (blob, raw) = pack(&record(), RECORD).unwrap();
        let foreign = layer(&raw, CHANNEL).unwrap_err();
        assert_eq!(foreign, Unreadable::Foreign(RECORD.into()));
        let cut = parse::<Record>(&blob[..blob.len() / 2]).unwrap_err();
        assert!(matches!(cut, Unreadable::Damaged(_)), "{cut}");
        let later = parse::<Record>(br#"{"format": 2, "news": true}"#).unwrap_err();
        assert_eq!(later, Unreadable::Later(2));
    }
}
