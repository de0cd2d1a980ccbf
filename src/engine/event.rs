//! What happens in a run, as it happens: the one vocabulary of progress. Reports fold it, `--events` and
//! `--progress json` print it as it is, one JSON object a line.
//!
//! The format is versioned by [`FORMAT`]: fields and events may be added within a version, none changes its meaning.

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use super::outcome::{ContainerStatus, Failure};
use crate::changes::base::Base;
use crate::clock;

/// Version of the event format, in `run_started`.
pub const FORMAT: u32 = 1;

/// Longest log line that an event carries, in bytes; longer ones are cut there and end in `…`.
pub const MAX_LINE: usize = 4096;

/// Something that happened, and when.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// UTC, RFC 3339.
    pub time: Timestamp,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Which stream a build step wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// What became of a channel, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelWord {
    /// It stands on the release.
    Moved,
    /// It stood on this commit already.
    Unchanged,
    /// It stands on a newer commit, and stays there.
    Superseded,
    /// A rollback holds it.
    Held,
    /// It stands on another line of history, or on one that is not known, and stays there.
    Stayed,
    /// It did not move though it should have.
    Failed,
}

/// A container of the run, as planned.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedContainer {
    pub container: String,
    /// `host/path` of the image.
    pub repository: String,
    /// Containers of this run that must be built before it.
    pub waits_for: Vec<String>,
    /// Why it is in the run.
    pub reason: String,
}

/// What the sources were compared with to find out which containers changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComparedWith {
    /// The commit's full id; without one every container is a candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Why this commit, or why there is none.
    pub reason: String,
    /// Commits that would have been better and did not hold, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
}

impl From<&Base> for ComparedWith {
    fn from(base: &Base) -> Self {
        Self {
            commit: base.commit.as_ref().map(ToString::to_string),
            reason: base.reason.clone(),
            passed_over: base.passed_over.clone(),
        }
    }
}

/// `step` numbers a container's build steps from 1 in the order in which the builder names them.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    RunStarted {
        format: u32,
        skiff: &'static str,
        release: String,
        /// What builds: engines and builders with their addresses.
        builder: String,
        /// `docker`, `docker-container` or `remote`.
        driver: &'static str,
        /// Why that one.
        chosen_by: String,
        jobs: usize,
        /// Whether containers still start after one has failed.
        keep_going: bool,
        /// Where it decided which containers are in the run: none were named.
        #[serde(skip_serializing_if = "Option::is_none")]
        compared_with: Option<ComparedWith>,
        containers: Vec<PlannedContainer>,
    },
    /// Something the user should know that stops nothing.
    Warning {
        container: Option<String>,
        message: String,
    },
    /// A repository of the registry that was missing was made, with the registry's defaults.
    RepositoryCreated {
        /// `host/path`.
        repository: String,
    },
    ContainerStarted {
        container: String,
    },
    /// The build cache that this build imports, and no other.
    CacheChosen {
        container: String,
        reference: String,
    },
    /// A cache mount was filled with what an earlier run kept; a build follows that needs it.
    MountFilled {
        container: String,
        /// Its id.
        mount: String,
        reference: String,
        kib: u64,
        seconds: f64,
    },
    /// The step of a cache mount that was filled has run.
    MountUsed {
        container: String,
        mount: String,
        /// Of the step.
        seconds: f64,
        /// What the step took with an empty mount, less what it took now and the filling; `null` where that was not measured.
        saved_seconds: Option<f64>,
    },
    /// A cache mount is neither filled nor kept: it was filled so often in a row, and its step took no less time.
    MountLeft {
        container: String,
        mount: String,
        fills: u32,
    },
    /// What a build left in a cache mount was kept for the next run.
    MountKept {
        container: String,
        mount: String,
        reference: String,
        kib: u64,
        seconds: f64,
    },
    StepStarted {
        container: String,
        step: u32,
        name: String,
        /// Steps of the container's Dockerfile that the builder has named by now, cached ones too.
        known: u32,
    },
    /// Progress inside a step (a layer pulled or pushed, the context sent). `total` is 0 when it is not known; both
    /// are bytes; items that count nothing (a layer extracted) have 0 of both. A layer is pulled when a step needs it,
    /// which may be after the `FROM` that named it has finished.
    StepProgress {
        container: String,
        step: u32,
        item: String,
        current: u64,
        total: u64,
        /// The item has ended.
        done: bool,
    },
    StepLog {
        container: String,
        step: u32,
        stream: LogStream,
        line: String,
    },
    StepFinished {
        container: String,
        step: u32,
        name: String,
        cached: bool,
        seconds: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The builder pushed the image and skiff read it back and found it whole.
    ContainerVerified {
        container: String,
        image: String,
    },
    ContainerFinished {
        container: String,
        status: ContainerStatus,
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        cached_steps: u32,
        total_steps: u32,
        seconds: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// A tag was set: an immutable one, or a channel that moved.
    Tagged {
        container: String,
        tag: String,
        digest: String,
        channel: bool,
    },
    /// What is to move was written down; it happens from here on, if need be by the next run.
    ReleaseRecorded {
        release: String,
        /// Where: `host/path:tag`.
        record: String,
    },
    /// What became of a channel that was to move.
    ChannelEnded {
        channel: String,
        release: String,
        outcome: ChannelWord,
    },
    /// The release is over; what follows is for the next run.
    CachesExporting {
        containers: Vec<String>,
    },
    /// Followed by `cache_exported`, or by a warning about this container.
    CacheExportStarted {
        container: String,
        reference: String,
    },
    CacheExported {
        container: String,
        reference: String,
        seconds: f64,
    },
    RunFinished {
        exit_code: u8,
        seconds: f64,
    },
}

/// Where the engine puts its events. Bounded: a slow sink slows the run, nothing is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Events(mpsc::Sender<Event>);

/// Events that may wait for a sink. Memory is bounded by this times [`MAX_LINE`] (4 MiB).
const CAPACITY: usize = 1024;

impl Events {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (Self(sender), receiver)
    }

    /// Returns when there is room. A sink that is gone ends reports, never a build.
    pub(crate) async fn send(&self, kind: EventKind) {
        let _ = self
            .0
            .send(Event {
                time: clock::timestamp(),
                kind,
            })
            .await;
    }

    pub(crate) async fn warn(&self, container: Option<&str>, message: impl Into<String>) {
        self.send(EventKind::Warning {
            container: container.map(str::to_owned),
            message: message.into(),
        })
        .await;
    }
}
