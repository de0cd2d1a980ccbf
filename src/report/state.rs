//! What stands where in a run that is going on: events folded into what a view needs. Pure; the only clock is the
//! events' own.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use jiff::Timestamp;

use crate::engine::event::{Event, EventKind};
use crate::engine::outcome::ContainerStatus;
use crate::engine::steps::{is_dockerfile_step, is_export_step};

/// The builder's step that takes in the build context.
const CONTEXT: &str = "[internal] load build context";

/// Characters kept of a step's last line of output: nobody's terminal is wider.
const LAST_LINE: usize = 400;

/// A run, container by container in the order of its plan.
#[derive(Debug, Default)]
pub(super) struct RunState {
    pub(super) started: Option<Timestamp>,
    pub(super) containers: IndexMap<String, ContainerState>,
    keep_going: bool,
    exporting: bool,
}

/// What the run as a whole is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Building,
    /// All is built; tags and channels are set.
    Releasing,
    /// Everybody has the images; the next run will have the caches.
    ExportingCaches,
    /// Something was not built: nothing more will be done.
    Ending,
}

#[derive(Debug, Default)]
pub(super) struct ContainerState {
    waits_for: Vec<String>,
    pub(super) status: Status,
    /// Steps of the Dockerfile.
    pub(super) steps: StepCounts,
    /// The builder's steps by number, while the container is built.
    told: BTreeMap<u32, Step>,
    moved: Bytes,
    pub(super) cache: CacheExport,
    /// It has an image already, and is not built.
    pub(super) kept: bool,
}

#[derive(Debug, Default, PartialEq)]
pub(super) enum Status {
    #[default]
    Waiting,
    Building {
        since: Timestamp,
    },
    /// In the registry, and found whole there.
    Pushed {
        since: Timestamp,
    },
    Built {
        seconds: f64,
    },
    Failed {
        seconds: f64,
        /// The step, as the builder names it.
        step: Option<String>,
        message: String,
    },
    Cancelled,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheExport {
    #[default]
    None,
    Running {
        since: Timestamp,
    },
    Ended,
}

/// How many steps there are, as far as is known, how many have ended, and how many of these were cached.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepCounts {
    pub(super) done: u32,
    pub(super) cached: u32,
    pub(super) total: u32,
}

/// Bytes moved so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes {
    pub(super) pulled: u64,
    pub(super) pushed: u64,
    /// Of build contexts, to the builder.
    pub(super) sent: u64,
}

/// How many containers are how far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) all: usize,
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) built: usize,
    pub(super) failed: usize,
    pub(super) cancelled: usize,
    pub(super) exported: usize,
}

#[derive(Debug)]
struct Step {
    name: String,
    ended: bool,
    failed: bool,
    cached: bool,
    items: BTreeMap<String, Item>,
    last_line: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    current: u64,
    total: u64,
    done: bool,
}

/// What a container does now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Activity<'a> {
    /// The step, as the builder names it.
    pub(super) step: &'a str,
    /// What of it: `extracting`, `pushing layers`.
    pub(super) item: Option<&'a str>,
    /// Bytes moved and to move; of a total of 0 nothing is known.
    pub(super) bytes: Option<(u64, u64)>,
    pub(super) last_line: Option<&'a str>,
    /// Steps that run beside it.
    pub(super) others: usize,
}

impl RunState {
    pub(super) fn fold(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted {
                containers,
                keep_going,
                ..
            } => {
                self.keep_going = *keep_going;
                self.started = Some(event.time);
                self.containers = containers
                    .iter()
                    .map(|planned| {
                        let container = ContainerState {
                            waits_for: planned.waits_for.clone(),
                            ..ContainerState::default()
                        };
                        (planned.container.clone(), container)
                    })
                    .collect();
            }
            EventKind::ContainerStarted { container }
            | EventKind::StepStarted { container, .. }
            | EventKind::StepProgress { container, .. }
            | EventKind::StepLog { container, .. }
            | EventKind::StepFinished { container, .. }
            | EventKind::ContainerVerified { container, .. }
            | EventKind::ContainerFinished { container, .. }
            | EventKind::CacheExportStarted { container, .. }
            | EventKind::CacheExported { container, .. }
            | EventKind::Warning {
                container: Some(container),
                ..
            } => {
                if let Some(state) = self.containers.get_mut(container) {
                    state.fold(event);
                }
            }
            EventKind::CachesExporting { .. } => self.exporting = true,
            EventKind::Warning {
                container: None, ..
            }
            | EventKind::RepositoryCreated { .. }
            | EventKind::CacheChosen { .. }
            | EventKind::MountFilled { .. }
            | EventKind::MountUsed { .. }
            | EventKind::MountKept { .. }
            | EventKind::MountLeft { .. }
            | EventKind::Tagged { .. }
            | EventKind::ReleaseRecorded { .. }
            | EventKind::ChannelEnded { .. }
            | EventKind::RunFinished { .. } => {}
        }
    }

    pub(super) fn phase(&self) -> Phase {
        let counts = self.counts();
        if counts.waiting + counts.running > 0 {
            Phase::Building
        } else if self.exporting {
            Phase::ExportingCaches
        } else if counts.built == counts.all {
            Phase::Releasing
        } else {
            Phase::Ending
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for container in self.containers.values() {
            counts.all += 1;
            counts.exported += usize::from(container.cache == CacheExport::Ended);
            *match container.status {
                Status::Waiting => &mut counts.waiting,
                Status::Building { .. } | Status::Pushed { .. } => &mut counts.running,
                Status::Built { .. } => &mut counts.built,
                Status::Failed { .. } => &mut counts.failed,
                Status::Cancelled => &mut counts.cancelled,
            } += 1;
        }
        counts
    }

    /// Steps of all containers that have started.
    pub(super) fn steps(&self) -> StepCounts {
        let mut sum = StepCounts::default();
        for StepCounts {
            done,
            cached,
            total,
        } in self.containers.values().map(|c| c.steps)
        {
            sum.done += done;
            sum.cached += cached;
            sum.total += total;
        }
        sum
    }

    pub(super) fn bytes(&self) -> Bytes {
        let all = self.containers.values().map(ContainerState::bytes);
        all.fold(Bytes::default(), Bytes::plus)
    }

    /// The container whose failure lets nothing new start.
    pub(super) fn stopped_by(&self) -> Option<&str> {
        let mut containers = self.containers.iter();
        let failed = containers.find(|(_, c)| matches!(c.status, Status::Failed { .. }))?;
        (!self.keep_going).then_some(failed.0.as_str())
    }

    /// The parents that a container still waits for. None: for its turn only.
    pub(super) fn awaited<'a>(
        &'a self,
        container: &'a ContainerState,
    ) -> impl Iterator<Item = &'a str> {
        let missing = |name: &&String| {
            let parent = self.containers.get(*name);
            parent.is_none_or(|parent| !matches!(parent.status, Status::Built { .. }))
        };
        container
            .waits_for
            .iter()
            .filter(missing)
            .map(String::as_str)
    }
}

impl ContainerState {
    fn fold(&mut self, event: &Event) {
        let since = event.time;
        match &event.kind {
            EventKind::ContainerStarted { .. } => self.status = Status::Building { since },
            EventKind::ContainerVerified { .. } => {
                if let Status::Building { since } = self.status {
                    self.status = Status::Pushed { since };
                }
            }
            EventKind::ContainerFinished { .. } => self.finish(&event.kind),
            EventKind::CacheExportStarted { .. } => self.cache = CacheExport::Running { since },
            EventKind::CacheExported { .. } => self.cache = CacheExport::Ended,
            // The builder's steps are not told while a cache is exported: this is the export's own end.
            EventKind::Warning { .. } => {
                if matches!(self.cache, CacheExport::Running { .. }) {
                    self.cache = CacheExport::Ended;
                }
            }
            kind if self.is_running() => self.fold_step(kind),
            _ => {}
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.status, Status::Building { .. } | Status::Pushed { .. })
    }

    fn fold_step(&mut self, event: &EventKind) {
        match event {
            EventKind::StepStarted {
                step, name, known, ..
            } => {
                self.steps.total = self.steps.total.max(*known);
                // A push that is tried again tells the steps again, from 1.
                if let Some(again) = self.told.insert(*step, Step::new(name)) {
                    self.moved = self.moved.plus(again.bytes());
                }
            }
            EventKind::StepProgress {
                step,
                item,
                current,
                total,
                done,
                ..
            } => {
                if let Some(step) = self.told.get_mut(step) {
                    let item = step.items.entry(item.clone()).or_insert(Item {
                        current: 0,
                        total: 0,
                        done: false,
                    });
                    item.current = item.current.max(*current);
                    item.total = item.total.max(*total);
                    item.done |= done;
                }
            }
            EventKind::StepLog { step, line, .. } => {
                if let (Some(step), false) = (self.told.get_mut(step), line.is_empty()) {
                    step.last_line = Some(line.chars().take(LAST_LINE).collect());
                }
            }
            EventKind::StepFinished {
                step,
                cached,
                error,
                ..
            } => {
                if let Some(step) = self.told.get_mut(step) {
                    step.ended = true;
                    step.cached = *cached;
                    step.failed = error.is_some();
                    step.last_line = None;
                }
            }
            _ => {}
        }
        let ended = self
            .told
            .values()
            .filter(|s| s.ended && !s.failed && is_dockerfile_step(&s.name));
        (self.steps.done, self.steps.cached) = ended.fold((0, 0), |(done, cached), step| {
            (done + 1, cached + u32::from(step.cached))
        });
    }

    fn finish(&mut self, event: &EventKind) {
        let EventKind::ContainerFinished {
            status,
            cached_steps,
            total_steps,
            seconds,
            failure,
            ..
        } = event
        else {
            return;
        };
        self.moved = self.bytes();
        self.told.clear();
        self.steps.cached = *cached_steps;
        self.steps.total = *total_steps;
        let seconds = *seconds;
        self.status = match status {
            ContainerStatus::Built | ContainerStatus::Skipped => {
                self.kept = *status == ContainerStatus::Skipped;
                self.steps.done = *total_steps;
                Status::Built { seconds }
            }
            ContainerStatus::Failed => Status::Failed {
                seconds,
                step: failure.as_ref().and_then(|failure| failure.step.clone()),
                message: failure
                    .as_ref()
                    .map_or(String::new(), |failure| failure.message.clone()),
            },
            ContainerStatus::Cancelled => Status::Cancelled,
        };
    }

    fn bytes(&self) -> Bytes {
        let steps = self.told.values().map(Step::bytes);
        steps.fold(self.moved, Bytes::plus)
    }

    /// The step that says most: an instruction before the pull of an image, this before the builder's own
    /// doings; among equals always the same.
    pub(super) fn activity(&self) -> Option<Activity<'_>> {
        let active = || self.told.values().filter(|step| step.is_active());
        let step = active().min_by_key(|step| step.rank())?;
        let uncounted =
            |(_, item): &(&String, &Item)| !item.done && item.total == 0 && item.current == 0;
        Some(Activity {
            step: &step.name,
            item: step
                .items
                .iter()
                .find(uncounted)
                .map(|(name, _)| name.as_str()),
            bytes: step.moving(),
            last_line: step.last_line.as_deref(),
            others: active().count() - 1,
        })
    }
}

impl Step {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ended: false,
            failed: false,
            cached: false,
            items: BTreeMap::new(),
            last_line: None,
        }
    }

    /// An image is pulled when it is needed, long after its own step has ended.
    fn is_active(&self) -> bool {
        !self.ended || self.items.values().any(|item| !item.done)
    }

    /// Bytes of all items, and how many there are to be, while one of them is under way.
    fn moving(&self) -> Option<(u64, u64)> {
        let under_way = |item: &Item| {
            !item.done && item.current > 0 && (item.total == 0 || item.current < item.total)
        };
        let sum = |sum: (u64, u64), item: &Item| {
            (
                sum.0.saturating_add(item.current),
                sum.1.saturating_add(item.total),
            )
        };
        let items = || self.items.values();
        items().any(under_way).then(|| items().fold((0, 0), sum))
    }

    fn rank(&self) -> u8 {
        if is_dockerfile_step(&self.name) {
            0
        } else if !self.name.starts_with("[internal]") {
            1
        } else {
            2
        }
    }

    fn bytes(&self) -> Bytes {
        let moved = self
            .items
            .values()
            .fold(0, |sum: u64, item| sum.saturating_add(item.current));
        let mut bytes = Bytes::default();
        if is_export_step(&self.name) {
            bytes.pushed = moved;
        } else if self.name == CONTEXT {
            bytes.sent = moved;
        } else if !self.name.starts_with("[internal]") {
            bytes.pulled = moved;
        }
        bytes
    }
}

impl Bytes {
    fn plus(self, other: Self) -> Self {
        Self {
            pulled: self.pulled.saturating_add(other.pulled),
            pushed: self.pushed.saturating_add(other.pushed),
            sent: self.sent.saturating_add(other.sent),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
