//! What the channel stands on: for each container the commit that it is compared with, which is not the same for all, as
//! a run may release some only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::selection::CANDIDATE;
use crate::changes::Group;
use crate::changes::base::{self, Base, Known};
use crate::changes::commit::Commit;
use crate::changes::git::Checkout;
use crate::manifest::model::ContainerName;
use crate::project::Project;
use crate::reference::Tag;
use crate::release::standing::Standing;
use crate::release::store::{Store, StoreError};

/// The longest that a dry run waits for the records: it is to work without a registry.
const DRY_RUN: Duration = Duration::from_secs(5);

/// Commits that containers are compared with at most; the others are compared with one that is older than theirs.
const MOST: usize = 16;

/// What a channel stands on.
#[derive(Debug)]
pub(super) struct Released {
    channel: Tag,
    /// `None`: of no commit that says what is in the image.
    containers: BTreeMap<ContainerName, Option<Commit>>,
    seconds: BTreeMap<ContainerName, f64>,
    /// The records that have had their effect.
    settled: BTreeSet<Tag>,
}

/// With what containers are compared.
pub(super) struct Compared {
    /// Of the largest group.
    pub(super) base: Base,
    pub(super) groups: Vec<Group>,
    /// Containers that are in the run whatever has changed.
    pub(super) given: HashMap<ContainerName, String>,
}

/// A channel that was looked at.
pub(super) struct Looked {
    pub(super) channel: Tag,
    /// `None`: nothing has been released on it.
    pub(super) found: Result<Option<Released>, StoreError>,
}

impl Looked {
    /// What it stands on. One that cannot be read is one of which nothing is known, which the run itself will say.
    pub(super) fn released(&self) -> Option<&Released> {
        self.found.as_ref().ok()?.as_ref()
    }

    /// The containers of which this channel has any image; `None`: that is not known.
    pub(super) fn names(&self, channel: &Tag) -> Option<BTreeSet<ContainerName>> {
        let found = self.found.as_ref().ok()?;
        let names = found.iter().flat_map(|released| released.containers.keys());
        (self.channel == *channel).then(|| names.cloned().collect())
    }
}

/// Reads the channel's checkpoint: it is written once the tags have moved, so what a killed run left undone still counts as
/// changed. `None`: a dry run that had to wait for it too long.
pub(super) async fn read(store: &Store, channel: &Tag, dry_run: bool) -> Option<Looked> {
    let checkpoint = store.checkpoint(channel);
    let answer = if dry_run {
        tokio::time::timeout(DRY_RUN, checkpoint).await.ok()?
    } else {
        checkpoint.await
    };
    Some(Looked {
        channel: channel.clone(),
        found: answer.map(|standing| standing.map(|standing| Released::new(&standing))),
    })
}

impl Released {
    fn new(standing: &Standing) -> Self {
        let commit = |commit: &Option<String>| commit.as_deref().and_then(Commit::new);
        let containers = standing.containers.iter().map(|(name, placed)| {
            let commit = commit(&placed.commit).filter(|_| !placed.dirty);
            (name.clone(), commit)
        });
        Self {
            channel: standing.channel.clone(),
            containers: containers.collect(),
            seconds: (standing.containers.iter())
                .filter_map(|(name, placed)| Some((name.clone(), placed.seconds?)))
                .collect(),
            settled: standing.settled.clone(),
        }
    }

    /// Whether all of these records have had their effect on this channel.
    pub(super) fn has_settled(&self, channel: &Tag, records: &[Tag]) -> bool {
        self.channel == *channel && records.iter().all(|tag| self.settled.contains(tag))
    }

    /// Whether there is a release of this name, of which nothing needs to be tagged: all of it may have been there.
    pub(super) fn has_release(&self, name: &Tag) -> bool {
        let tag = Tag::new(&format!("release-{name}"));
        tag.is_ok_and(|tag| self.settled.contains(&tag))
    }

    /// How long the container's last build took, where it is known.
    pub(super) fn milliseconds(&self, name: &str) -> Option<u64> {
        let took = Duration::try_from_secs_f64(*self.seconds.get(name)?).ok()?;
        u64::try_from(took.as_millis()).ok()
    }

    /// Groups the project's containers by the commit of their release.
    pub(super) fn compared(
        &self,
        checkout: &Checkout,
        known: &Known<'_>,
        project: &Project,
    ) -> Compared {
        let mut given = HashMap::new();
        let mut members: BTreeMap<Commit, BTreeSet<ContainerName>> = BTreeMap::new();
        let channel = &self.channel;
        for name in project.manifest.containers.keys() {
            let why = match self.containers.get(name) {
                Some(Some(commit)) => {
                    members
                        .entry(commit.clone())
                        .or_default()
                        .insert(name.clone());
                    continue;
                }
                Some(None) => format!("what {channel} stands on is of no known commit"),
                None => format!("never released on {channel}"),
            };
            given.insert(name.clone(), why);
        }
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
        let many = members.len();
        if many > MOST {
            let rest = members.split_off(MOST - 1);
            members.extend(together(checkout, rest, &mut given));
        }
        let mut bases = Vec::new();
        let mut groups = Vec::new();
        for (commit, names) in members {
            let base = base::choose(
                checkout,
                &Known {
                    recorded: Some(commit),
                    ..known.clone()
                },
            );
            match (base.commit.clone(), base.named()) {
                (Some(commit), Some(named)) => groups.push(Group {
                    base: commit,
                    named,
                    members: Some(names),
                }),
                _ => given.extend(names.into_iter().map(|name| (name, CANDIDATE.to_owned()))),
            }
            bases.push(base);
        }
        bases.sort_by_key(|base| base.commit.is_none());
        let nothing = || Base::everything(format!("none was released on {channel}"));
        let mut base = bases.into_iter().next().unwrap_or_else(nothing);
        if many > 1 {
            let others = format!("{} other releases for some containers", many - 1);
            base.passed_over.push(others);
        }
        Compared {
            base,
            groups,
            given,
        }
    }
}

impl Compared {
    /// All containers with the same.
    pub(super) fn all(base: Base) -> Self {
        let group = base.commit.clone().zip(base.named());
        let group = group.map(|(base, named)| Group {
            base,
            named,
            members: None,
        });
        Self {
            base,
            groups: group.into_iter().collect(),
            given: HashMap::new(),
        }
    }
}

/// These as one group, with a commit that all of theirs come from; without one they are candidates.
fn together(
    checkout: &Checkout,
    rest: Vec<(Commit, BTreeSet<ContainerName>)>,
    given: &mut HashMap<ContainerName, String>,
) -> Option<(Commit, BTreeSet<ContainerName>)> {
    let (commits, names): (Vec<_>, Vec<_>) = rest.into_iter().unzip();
    let names: BTreeSet<_> = names.into_iter().flatten().collect();
    let common = checkout.common_ancestor(&commits);
    if common.is_none() {
        given.extend(
            names
                .iter()
                .map(|name| (name.clone(), CANDIDATE.to_owned())),
        );
    }
    common.map(|common| (common, names))
}
