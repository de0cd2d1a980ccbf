//! What a run will do: which containers, why, in which order, under which tags. Plain data, made without asking anyone;
//! `--dry-run` prints it, the engine executes it.

use indexmap::IndexMap;

use crate::manifest::model::{Container, ContainerName};
use crate::reference::Tag;
use crate::release::channel::ChannelDecision;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The release's name: the tag that the builder pushes.
    pub(crate) release: Tag,
    /// Parents before children.
    pub(crate) containers: IndexMap<ContainerName, PlannedContainer>,
    pub(crate) channels: ChannelDecision,
    /// Containers that are not in the run though a parent of theirs is.
    pub(crate) outdated: Vec<ContainerName>,
}

#[derive(Debug, Clone)]
pub(crate) struct PlannedContainer {
    pub(crate) container: Container,
    /// Containers of the run that come first.
    pub(crate) parents: Vec<ContainerName>,
    /// Those of them whose image the Dockerfile uses by name.
    pub(crate) images: Vec<ContainerName>,
    /// `false` for a parent that was not asked for: it is built and pushed, and not released.
    pub(crate) released: bool,
    /// The tag that the builder pushes.
    pub(crate) tag: Tag,
    /// Immutable tags that are added once the image is verified.
    pub(crate) tags: Vec<Tag>,
    /// Why it is in the run.
    pub(crate) reason: String,
}

impl Plan {
    /// Containers that are released.
    pub(crate) fn released(&self) -> impl Iterator<Item = (&ContainerName, &PlannedContainer)> {
        self.containers.iter().filter(|(_, planned)| planned.released)
    }
}
