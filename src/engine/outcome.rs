//! How a run ended, container by container, as data. Decides the exit code.

use indexmap::IndexMap;
use serde::Serialize;

use crate::error::ErrorKind;
use crate::reference::{Digest, Tag};
use crate::release::converge::Verdict;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerStatus {
    /// Built, pushed and checked.
    Built,
    /// The registry has an image that was made from the very same inputs.
    Skipped,
    /// Its build, push or check failed.
    Failed,
    /// Not finished because of something else: an interrupt, a parent or another container that failed.
    Cancelled,
}

impl ContainerStatus {
    /// There is an image that may be released.
    pub(crate) fn is_good(self) -> bool {
        matches!(self, Self::Built | Self::Skipped)
    }
}

/// Why a container failed, for people and machines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Failure {
    /// What failed, one lower-case fragment.
    pub message: String,
    /// The build step, as the builder names it: `[stage 2/5] RUN …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Where in which Dockerfile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The step's last lines, at most [`LOG_TAIL`].
    pub log: Vec<String>,
    /// Facts that explain it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the reader can do.
    pub helps: Vec<String>,
}

/// Lines of a step's output that are kept for its failure.
pub const LOG_TAIL: usize = 200;

/// Lines of a Dockerfile, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Location {
    pub file: String,
    pub first_line: usize,
    pub last_line: usize,
    /// The file's text as the builder saw it.
    #[serde(skip)]
    pub text: String,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }

    #[must_use]
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.helps.push(text.into());
        self
    }
}

/// How one container ended.
#[derive(Debug, Clone)]
pub(crate) struct ContainerOutcome {
    pub(crate) status: ContainerStatus,
    pub(crate) digest: Option<Digest>,
    /// Tags that stand on the digest now, channels last.
    pub(crate) tags: Vec<Tag>,
    pub(crate) cached_steps: u32,
    pub(crate) total_steps: u32,
    pub(crate) seconds: f64,
    pub(crate) failure: Option<Failure>,
}

/// What became of the channels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Promotion {
    /// None was due: asked for, or by the rules of the channels.
    NotDue(String),
    /// The run was interrupted before it came to this.
    Interrupted,
    /// What became of each channel that was due; at least one.
    Channels(Vec<(Tag, ChannelOutcome)>),
    /// It was due, and this is why nothing was moved.
    Failed(Vec<String>),
}

/// What became of one channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ChannelOutcome {
    Ended(Box<Verdict>),
    /// Why it was not moved, what stands where, what to do.
    Failed(Vec<String>),
}

impl ChannelOutcome {
    /// It is where it should be.
    pub(crate) fn is_good(&self) -> bool {
        match self {
            Self::Ended(verdict) => !matches!(**verdict, Verdict::Stayed { .. }),
            Self::Failed(_) => false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct RunOutcome {
    pub(crate) containers: IndexMap<String, ContainerOutcome>,
    pub(crate) promotion: Promotion,
    /// Cache mounts that were left alone, each with its container.
    pub(crate) mounts_left: Vec<(String, String)>,
    pub(crate) seconds: f64,
}

impl RunOutcome {
    /// `None`: all good.
    pub(crate) fn error_kind(&self) -> Option<ErrorKind> {
        if self.promotion == Promotion::Interrupted {
            return Some(ErrorKind::Interrupted);
        }
        if self.containers.values().any(|c| !c.status.is_good()) {
            return Some(ErrorKind::Build);
        }
        let missed = match &self.promotion {
            Promotion::Failed(_) => true,
            Promotion::Channels(channels) => channels.iter().any(|(_, ended)| !ended.is_good()),
            Promotion::NotDue(_) | Promotion::Interrupted => false,
        };
        missed.then_some(ErrorKind::Promotion)
    }
}
