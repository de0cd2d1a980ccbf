use super::*;
use crate::engine::event::{LogStream, PlannedContainer};
use crate::engine::outcome::Failure;

/// A run told event by event, one second apart.
pub(in crate::report) struct Told {
    pub(in crate::report) state: RunState,
    pub(in crate::report) now: Timestamp,
}

impl Told {
    /// Containers with those that each waits for.
    pub(in crate::report) fn new(containers: &[(&str, &[&str])]) -> Self {
        let mut told = Self {
            state: RunState::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
        };
        told.tell(EventKind::RunStarted {
            format: 1,
            skiff: "0.1.0",
            release: "r1".into(),
            builder: "docker engine".into(),
            driver: "docker",
            chosen_by: "--builder".into(),
            jobs: 2,
            keep_going: false,
            compared_with: None,
            containers: containers
                .iter()
                .map(|(name, parents)| PlannedContainer {
                    container: (*name).to_owned(),
                    repository: String::new(),
                    waits_for: parents.iter().map(|p| (*p).to_owned()).collect(),
                    reason: "all".into(),
                })
                .collect(),
        });
        told
    }

    pub(in crate::report) fn tell(&mut self, kind: EventKind) {
        self.now += std::time::Duration::from_secs(1);
        self.state.fold(&Event {
            time: self.now,
            kind,
        });
    }

    pub(in crate::report) fn start(&mut self, container: &str) {
        let container = container.to_owned();
        self.tell(EventKind::ContainerStarted { container });
    }

    pub(in crate::report) fn step(&mut self, container: &str, step: u32, name: &str, known: u32) {
        self.tell(EventKind::StepStarted {
            container: container.into(),
            step,
            name: name.into(),
            known,
        });
    }

    pub(in crate::report) fn progress(
        &mut self,
        container: &str,
        step: u32,
        item: &str,
        (current, total): (u64, u64),
    ) {
        self.tell(EventKind::StepProgress {
            container: container.into(),
            step,
            item: item.into(),
            current,
            total,
            done: total > 0 && current == total,
        });
    }

    pub(in crate::report) fn log(&mut self, container: &str, step: u32, line: &str) {
        self.tell(EventKind::StepLog {
            container: container.into(),
            step,
            stream: LogStream::Stdout,
            line: line.into(),
        });
    }

    pub(in crate::report) fn step_end(&mut self, container: &str, step: u32, cached: bool) {
        self.tell(EventKind::StepFinished {
            container: container.into(),
            step,
            name: String::new(),
            cached,
            seconds: 1.0,
            error: None,
        });
    }

    pub(in crate::report) fn finish(&mut self, container: &str, status: ContainerStatus) {
        let failed = status == ContainerStatus::Failed;
        self.tell(EventKind::ContainerFinished {
            container: container.into(),
            status,
            digest: None,
            cached_steps: 1,
            total_steps: 2,
            seconds: 3.5,
            failure: failed.then(|| Failure {
                step: Some("[2/2] RUN make all".into()),
                ..Failure::new("exit code: 2")
            }),
        });
    }
}

fn activity(told: &Told) -> Activity<'_> {
    told.state.containers["train"].activity().unwrap()
}

#[test]
fn a_container_goes_from_waiting_to_built() {
    let mut told = Told::new(&[("base", &[]), ("train", &["base"])]);
    let phase = |told: &Told| told.state.phase();
    let train = &told.state.containers["train"];
    assert_eq!(told.state.awaited(train).collect::<Vec<_>>(), ["base"]);
    told.start("base");
    told.finish("base", ContainerStatus::Built);
    let train = &told.state.containers["train"];
    assert_eq!(told.state.awaited(train).count(), 0);
    assert_eq!(phase(&told), Phase::Building);
    told.start("train");
    told.tell(EventKind::ContainerVerified {
        container: "train".into(),
        image: String::new(),
    });
    assert_eq!(told.state.counts().running, 1);
    told.finish("train", ContainerStatus::Built);
    assert_eq!(phase(&told), Phase::Releasing);
    let export = |container: &str| EventKind::CacheExportStarted {
        container: container.into(),
        reference: String::new(),
    };
    told.tell(EventKind::CachesExporting { containers: vec![] });
    told.tell(export("base"));
    told.tell(export("train"));
    assert_eq!(phase(&told), Phase::ExportingCaches);
    told.tell(EventKind::Warning {
        container: Some("base".into()),
        message: "the cache was not exported".into(),
    });
    assert_eq!(told.state.counts().exported, 1);
}

#[test]
fn steps_are_counted_once_though_a_push_is_tried_again() {
    let mut told = Told::new(&[("train", &[])]);
    told.start("train");
    for _ in 0..2 {
        told.step("train", 1, "[internal] load metadata", 0);
        told.step("train", 2, "[2/3] RUN a", 2);
        told.step_end("train", 2, true);
        told.step("train", 3, "[3/3] RUN b", 2);
    }
    let counts = StepCounts {
        done: 1,
        cached: 1,
        total: 2,
    };
    assert_eq!(told.state.steps(), counts);
}

#[test]
fn an_image_is_pulled_after_its_step_has_ended() {
    let mut told = Told::new(&[("train", &[])]);
    told.start("train");
    told.step("train", 1, "[1/2] FROM python@sha256:00", 1);
    told.step_end("train", 1, false);
    assert_eq!(told.state.containers["train"].activity(), None);
    told.progress("train", 1, "sha256:aa", (10, 40));
    told.progress("train", 1, "sha256:bb", (20, 20));
    assert_eq!(activity(&told).bytes, Some((30, 60)));
    told.progress("train", 1, "sha256:aa", (40, 40));
    told.progress("train", 1, "extracting sha256:aa", (0, 0));
    assert_eq!(activity(&told).item, Some("extracting sha256:aa"));
    assert_eq!(activity(&told).bytes, None);
    assert_eq!(told.state.bytes().pulled, 60);
    told.step("train", 2, "[2/2] RUN make", 1);
    told.log("train", 2, "cc a.c");
    let now = activity(&told);
    assert_eq!((now.step, now.others), ("[2/2] RUN make", 1));
    assert_eq!(now.last_line, Some("cc a.c"));
    told.finish("train", ContainerStatus::Failed);
    assert_eq!(told.state.bytes().pulled, 60);
    assert_eq!(told.state.phase(), Phase::Ending);
}

#[test]
fn what_comes_after_the_end_changes_nothing() {
    let mut told = Told::new(&[("train", &[])]);
    told.start("train");
    told.finish("train", ContainerStatus::Built);
    let before = told.state.steps();
    told.step("train", 1, "[1/9] RUN late", 9);
    told.tell(EventKind::Warning {
        container: Some("unknown".into()),
        message: String::new(),
    });
    assert_eq!(told.state.steps(), before);
}
