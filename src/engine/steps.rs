//! One container's build steps: folds the builder's status updates into events, and remembers what a summary or a
//! failure needs. Pure.

use std::collections::VecDeque;

use indexmap::IndexMap;

use super::event::{EventKind, LogStream};
use super::log_lines::LineSplitter;
use super::outcome::LOG_TAIL;
use crate::buildkit::status::{StatusUpdate, Vertex};

/// The steps of one solve, keyed by the builder's vertex digest, in order of appearance.
pub(super) struct Steps {
    container: String,
    steps: IndexMap<String, Step>,
}

struct Step {
    name: String,
    state: State,
    cached: bool,
    /// Its last beginning, by the builder's clock.
    started: f64,
    /// Of a step that has ended.
    seconds: f64,
    error: Option<String>,
    stdout: LineSplitter,
    stderr: LineSplitter,
    /// The last lines, for a failure; let go of when the step ends well.
    tail: VecDeque<String>,
}

#[derive(PartialEq, Clone, Copy)]
enum State {
    Named,
    Running,
    Ended,
}

/// A step that failed.
pub(super) struct FailedStep<'a> {
    pub(super) name: &'a str,
    pub(super) error: &'a str,
    pub(super) log: Vec<String>,
}

impl Steps {
    pub(super) fn new(container: &str) -> Self {
        Self {
            container: container.to_owned(),
            steps: IndexMap::new(),
        }
    }

    /// Takes in one update; returns what happened.
    pub(super) fn fold(&mut self, update: StatusUpdate) -> Vec<EventKind> {
        let mut events = Vec::new();
        let mut ended = Vec::new();
        for vertex in update.vertices {
            self.fold_vertex(vertex, &mut events, &mut ended);
        }
        // Known only now: one update names many.
        let (_, count) = self.counts();
        for event in &mut events {
            if let EventKind::StepStarted { known, .. } = event {
                *known = count;
            }
        }
        for progress in update.progress {
            if let Some((step, _)) = self.find(&progress.vertex) {
                events.push(EventKind::StepProgress {
                    container: self.container.clone(),
                    step,
                    item: progress.item,
                    current: progress.current,
                    total: progress.total,
                    done: progress.done,
                });
            }
        }
        for log in update.logs {
            self.fold_log(&log.vertex, log.stderr, &log.bytes, &mut events);
        }
        for message in update.warnings {
            events.push(EventKind::Warning {
                container: Some(self.container.clone()),
                message,
            });
        }
        // Steps end after the log lines that came in the same update.
        for (digest, seconds) in ended {
            self.end(&digest, seconds, &mut events);
        }
        events
    }

    /// Steps of the Dockerfile: (cached, all).
    pub(super) fn counts(&self) -> (u32, u32) {
        let dockerfile = || {
            self.steps
                .values()
                .filter(|step| is_dockerfile_step(&step.name))
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (
            count(dockerfile().filter(|step| step.cached).count()),
            count(dockerfile().count()),
        )
    }

    /// Seconds of the `RUN` with this flag; `None`: it did not run, or not to a good end.
    pub(super) fn ran_with(&self, flag: &str) -> Option<f64> {
        let flag = format!("--mount={flag} ");
        let ran = |step: &&Step| {
            let ended = step.state == State::Ended && step.error.is_none() && !step.cached;
            ended && is_dockerfile_step(&step.name) && step.name.contains(&flag)
        };
        self.steps
            .values()
            .filter(ran)
            .map(|step| step.seconds)
            .reduce(f64::max)
    }

    /// The step that failed: the one with this digest, or the first that ended with an error of its own.
    pub(super) fn failed(&self, digest: Option<&str>) -> Option<FailedStep<'_>> {
        let named = digest.and_then(|digest| self.steps.get(digest));
        let own_error = || {
            let failed = self.steps.values().filter(|step| step.error.is_some());
            failed.min_by_key(|step| {
                step.error
                    .as_ref()
                    .is_some_and(|error| error.contains("context canceled"))
            })
        };
        let step = named.or_else(own_error)?;
        Some(FailedStep {
            name: &step.name,
            error: step.error.as_deref().unwrap_or_default(),
            log: step.tail.iter().cloned().collect(),
        })
    }

    /// A step that has started and not ended, the last one named.
    pub(super) fn running(&self) -> Option<FailedStep<'_>> {
        let running = self
            .steps
            .values()
            .rev()
            .find(|step| step.state == State::Running)?;
        Some(FailedStep {
            name: &running.name,
            error: "",
            log: running.tail.iter().cloned().collect(),
        })
    }

    /// Commands of the Dockerfile run, which may be silent for as long as they like.
    pub(super) fn runs_commands(&self) -> bool {
        self.steps
            .values()
            .any(|step| step.state == State::Running && is_dockerfile_step(&step.name))
    }

    /// The build failed while it read files of this side, or before any step.
    pub(super) fn read_failed(&self, digest: Option<&str>) -> bool {
        self.failed(digest)
            .is_none_or(|step| is_load_step(step.name))
    }

    /// The build went well and the push did not.
    pub(super) fn push_failed(&self) -> bool {
        self.failed(None)
            .is_some_and(|step| is_export_step(step.name))
    }

    /// Steps that the update ends, with their seconds, go to `ended`.
    fn fold_vertex(
        &mut self,
        vertex: Vertex,
        events: &mut Vec<EventKind>,
        ended: &mut Vec<(String, f64)>,
    ) {
        let entry = self.steps.entry(vertex.digest.clone());
        let number = number(entry.index());
        let step = entry.or_insert_with(|| Step {
            name: vertex.name,
            state: State::Named,
            cached: false,
            started: 0.0,
            seconds: 0.0,
            error: None,
            stdout: LineSplitter::default(),
            stderr: LineSplitter::default(),
            tail: VecDeque::new(),
        });
        step.cached |= vertex.cached;
        step.error = vertex.error.or(step.error.take());
        let begun = vertex.started.is_some_and(|at| at > step.started);
        if begun && step.state != State::Named && is_export_step(&step.name) {
            // BuildKit pushes after the export, as a second go of the same vertex.
            ended.retain(|(digest, _)| *digest != vertex.digest);
            if step.state == State::Ended {
                step.state = State::Named;
            }
        }
        step.started = vertex.started.unwrap_or(step.started);
        if vertex.started.is_some() && step.state == State::Named {
            step.state = State::Running;
            events.push(EventKind::StepStarted {
                container: self.container.clone(),
                step: number,
                name: step.name.clone(),
                known: 0,
            });
        }
        if let (Some(started), Some(completed)) = (vertex.started, vertex.completed)
            && step.state == State::Running
        {
            ended.push((vertex.digest, (completed - started).max(0.0)));
        }
    }

    fn fold_log(&mut self, digest: &str, stderr: bool, bytes: &[u8], events: &mut Vec<EventKind>) {
        let Some((_, step)) = self.find(digest) else {
            return;
        };
        let lines = if stderr {
            step.stderr.push(bytes)
        } else {
            step.stdout.push(bytes)
        };
        self.log_lines(digest, stderr, lines, events);
    }

    fn log_lines(
        &mut self,
        digest: &str,
        stderr: bool,
        lines: Vec<String>,
        events: &mut Vec<EventKind>,
    ) {
        let container = self.container.clone();
        let stream = if stderr {
            LogStream::Stderr
        } else {
            LogStream::Stdout
        };
        let Some((number, step)) = self.find(digest) else {
            return;
        };
        for line in lines {
            if step.tail.len() == LOG_TAIL {
                step.tail.pop_front();
            }
            step.tail.push_back(line.clone());
            events.push(EventKind::StepLog {
                container: container.clone(),
                step: number,
                stream,
                line,
            });
        }
    }

    fn end(&mut self, digest: &str, seconds: f64, events: &mut Vec<EventKind>) {
        // One update may hold several versions of a vertex that has ended.
        if self
            .find(digest)
            .is_none_or(|(_, step)| step.state == State::Ended)
        {
            return;
        }
        for stderr in [false, true] {
            let Some((_, step)) = self.find(digest) else {
                return;
            };
            let last = if stderr {
                step.stderr.finish()
            } else {
                step.stdout.finish()
            };
            self.log_lines(digest, stderr, last.into_iter().collect(), events);
        }
        let container = self.container.clone();
        let Some((number, step)) = self.find(digest) else {
            return;
        };
        step.state = State::Ended;
        step.seconds = seconds;
        if step.error.is_none() {
            step.tail = VecDeque::new();
        }
        events.push(EventKind::StepFinished {
            container,
            step: number,
            name: step.name.clone(),
            cached: step.cached,
            seconds,
            error: step.error.clone(),
        });
    }

    fn find(&mut self, digest: &str) -> Option<(u32, &mut Step)> {
        self.steps
            .get_full_mut(digest)
            .map(|(index, _, step)| (number(index), step))
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

/// `[2/5] RUN …` or `[stage 2/5] RUN …`: an instruction that does something, in contrast to `[internal] …`,
/// `exporting …` and the like, and to `[1/5] FROM …`, which is never cached nor run.
pub(crate) fn is_dockerfile_step(name: &str) -> bool {
    let Some((inside, instruction)) = name
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    else {
        return false;
    };
    let count = inside.rsplit(' ').next().unwrap_or_default();
    let counted = count
        .split_once('/')
        .is_some_and(|(n, of)| n.parse::<u32>().is_ok() && of.parse::<u32>().is_ok());
    // `LINK COPY …` only joins what `COPY --link …` of the same number made.
    counted && !instruction.starts_with("FROM ") && !instruction.starts_with("LINK ")
}

/// `[internal] load build context`, `[context common] load from client` and the like: files of this side are read.
fn is_load_step(name: &str) -> bool {
    name.starts_with('[') && name.contains("] load ")
}

/// The builder's own step that makes and pushes the image.
pub(crate) fn is_export_step(name: &str) -> bool {
    name.starts_with("exporting to ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buildkit::status::Log;

    fn vertex(
        digest: &str,
        name: &str,
        times: (Option<f64>, Option<f64>),
        error: Option<&str>,
    ) -> Vertex {
        Vertex {
            digest: digest.into(),
            name: name.into(),
            cached: false,
            started: times.0,
            completed: times.1,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn a_step_is_told_from_start_to_end_with_its_log() {
        let mut steps = Steps::new("train");
        steps.fold(StatusUpdate {
            vertices: vec![vertex(
                "a",
                "[internal] load build definition",
                (Some(1.0), Some(2.0)),
                None,
            )],
            ..StatusUpdate::default()
        });
        let mut told = steps.fold(StatusUpdate {
            vertices: vec![vertex("b", "[2/3] RUN make", (Some(2.0), None), None)],
            ..StatusUpdate::default()
        });
        told.extend(steps.fold(StatusUpdate {
            vertices: vec![vertex(
                "b",
                "[2/3] RUN make",
                (Some(2.0), Some(3.5)),
                Some("exit code: 2"),
            )],
            logs: vec![Log {
                vertex: "b".into(),
                stderr: true,
                bytes: b"no rule\nto make".to_vec(),
            }],
            ..StatusUpdate::default()
        }));
        insta::assert_snapshot!(
            told.iter().map(|event| serde_json::to_string(event).unwrap()).collect::<Vec<_>>().join("\n"),
            @r#"
        {"event":"step_started","container":"train","step":2,"name":"[2/3] RUN make","known":1}
        {"event":"step_log","container":"train","step":2,"stream":"stderr","line":"no rule"}
        {"event":"step_log","container":"train","step":2,"stream":"stderr","line":"to make"}
        {"event":"step_finished","container":"train","step":2,"name":"[2/3] RUN make","cached":false,"seconds":1.5,"error":"exit code: 2"}
        "#
        );
        assert_eq!(steps.counts(), (0, 1));
        assert_eq!(steps.failed(None).unwrap().log, ["no rule", "to make"]);
    }

    #[test]
    fn a_push_is_the_second_go_of_the_export() {
        let export = |times| vertex("e", "exporting to image", times, None);
        let update = |vertices| StatusUpdate {
            vertices,
            ..StatusUpdate::default()
        };
        let first = export((Some(1.0), Some(2.0)));
        let (pushing, done) = ((Some(3.0), None), (Some(3.0), Some(7.0)));
        let mut apart = Steps::new("train");
        apart.fold(update(vec![export((Some(1.0), None))]));
        apart.fold(update(vec![first.clone()]));
        assert!(apart.running().is_none());
        apart.fold(update(vec![export(pushing)]));
        assert_eq!(apart.running().unwrap().name, "exporting to image");
        let mut at_once = Steps::new("train");
        at_once.fold(update(vec![first, export(pushing)]));
        assert_eq!(at_once.running().unwrap().name, "exporting to image");
        for mut steps in [apart, at_once] {
            let told = steps.fold(update(vec![export(done), export(done)]));
            assert!(
                matches!(told[..], [EventKind::StepFinished { seconds, .. }] if (seconds - 4.0).abs() < 0.01),
                "{told:?}"
            );
            assert!(steps.running().is_none());
        }
    }

    #[test]
    fn only_instructions_count_as_steps() {
        assert!(is_dockerfile_step("[stage-1 2/5] RUN x"));
        assert!(is_dockerfile_step("[1/2] COPY . ."));
        for other in [
            "[1/1] FROM x",
            "[2/4] LINK COPY --link a b",
            "[internal] load metadata",
            "[auth] team/x:pull",
            "exporting to image",
            "importing cache",
        ] {
            assert!(!is_dockerfile_step(other), "{other}");
        }
    }
}
