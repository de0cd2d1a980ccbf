//! Progress for logs and pipes: a line for everything that happens, each with the seconds since the start, the
//! container and the step. Nothing is overwritten.

use jiff::Timestamp;

use super::output::seconds;
use crate::changes::base;
use crate::engine::event::{
    ChannelWord, ComparedWith, Event, EventKind, LogStream, PlannedContainer,
};
use crate::engine::outcome::ContainerStatus;

/// The builder's own steps are shown only when they took this long.
const WORTH_A_LINE: f64 = 0.5;

/// What earlier events said that later lines need.
#[derive(Debug, Default)]
pub(super) struct Plain {
    started: Option<Timestamp>,
    /// Width of the longest container name.
    width: usize,
}

impl Plain {
    /// The line that this event is worth, if any.
    pub(super) fn line(&mut self, event: &Event) -> Option<String> {
        let (container, text) = match &event.kind {
            EventKind::RunStarted { containers, .. } => {
                self.started = Some(event.time);
                let widths = containers.iter().map(|c| c.container.chars().count());
                self.width = widths.max().unwrap_or(0);
                return run_start(&event.kind);
            }
            EventKind::Warning { container, message } => {
                let container = container
                    .as_ref()
                    .map_or(String::new(), |name| format!("{name}: "));
                return Some(format!("warning: {container}{message}"));
            }
            EventKind::RepositoryCreated { repository } => {
                return Some(format!(
                    "created the repository {repository}, which was missing"
                ));
            }
            EventKind::ReleaseRecorded { release, record } => {
                return Some(format!("release {release} is recorded as {record}"));
            }
            EventKind::ChannelEnded {
                channel,
                release,
                outcome,
            } => return Some(channel_end(channel, release, *outcome)),
            EventKind::ContainerStarted { container } => (container, "started".to_owned()),
            EventKind::StepStarted {
                container,
                step,
                name,
                ..
            } if is_instruction(name) => (container, format!("#{step} {}", one_line(name))),
            EventKind::StepLog {
                container,
                step,
                stream,
                line,
            } => {
                let mark = if *stream == LogStream::Stderr {
                    '!'
                } else {
                    '|'
                };
                (container, format!("#{step} {mark} {line}"))
            }
            EventKind::StepFinished { container, .. } => (container, step_end(&event.kind)?),
            EventKind::ContainerVerified { container, image } => {
                (container, format!("pushed and verified {image}"))
            }
            EventKind::ContainerFinished { container, .. } => {
                (container, container_end(&event.kind)?)
            }
            EventKind::Tagged {
                container,
                tag,
                digest,
                ..
            } => (container, format!("{tag} is {digest}")),
            EventKind::CacheChosen {
                container,
                reference,
            } => (container, format!("imports the cache {reference}")),
            EventKind::MountFilled { container, .. }
            | EventKind::MountUsed { container, .. }
            | EventKind::MountLeft { container, .. }
            | EventKind::MountKept { container, .. } => (container, mount(&event.kind)?),
            EventKind::CachesExporting { containers } => {
                return Some(format!(
                    "exporting the caches of {} for the next run",
                    count(containers.len())
                ));
            }
            EventKind::CacheExported {
                container,
                reference,
                seconds: took,
            } => (
                container,
                format!("cache exported to {reference} in {}", seconds(*took)),
            ),
            EventKind::StepStarted { .. }
            | EventKind::StepProgress { .. }
            | EventKind::CacheExportStarted { .. }
            | EventKind::RunFinished { .. } => return None,
        };
        let since = self.started.map_or(0.0, |started| {
            event.time.duration_since(started).as_secs_f64()
        });
        Some(format!(
            "{:>7} {container:width$} {text}",
            seconds(since),
            width = self.width
        ))
    }
}

fn channel_end(channel: &str, release: &str, outcome: ChannelWord) -> String {
    let ended = match outcome {
        ChannelWord::Moved => "moved to",
        ChannelWord::Unchanged => "stands on this commit already:",
        ChannelWord::Superseded => "stands on a newer commit than",
        ChannelWord::Held => "is held, and not moved by",
        ChannelWord::Stayed => "stays, and is not moved by",
        ChannelWord::Failed => "could not be moved to",
    };
    format!("{channel} {ended} release {release}")
}

fn mount(event: &EventKind) -> Option<String> {
    Some(match event {
        EventKind::MountFilled {
            mount,
            kib,
            seconds: took,
            ..
        } => format!(
            "cache mount {mount} filled with {} MiB in {}",
            kib.div_ceil(1024),
            seconds(*took)
        ),
        EventKind::MountUsed {
            mount,
            saved_seconds: Some(saved),
            ..
        } if *saved >= 0.0 => format!("cache mount {mount} saved {}", seconds(*saved)),
        EventKind::MountUsed {
            mount,
            saved_seconds: Some(saved),
            ..
        } => format!(
            "cache mount {mount} cost {} more than it saved",
            seconds(-saved)
        ),
        EventKind::MountLeft { mount, fills, .. } => format!(
            "cache mount {mount} left alone: filled {fills} times in a row, it saved nothing"
        ),
        EventKind::MountKept {
            mount,
            kib,
            seconds: took,
            ..
        } => format!(
            "cache mount {mount} kept, {} MiB in {}",
            kib.div_ceil(1024),
            seconds(*took)
        ),
        _ => return None,
    })
}

fn step_end(event: &EventKind) -> Option<String> {
    let EventKind::StepFinished {
        step,
        name,
        cached,
        seconds: took,
        error,
        ..
    } = event
    else {
        return None;
    };
    Some(match (error, cached) {
        // What it is has a line of its own.
        (Some(error), _) if is_instruction(name) => format!("#{step} failed: {error}"),
        (Some(error), _) => format!("#{step} {name} failed: {error}"),
        (None, true) => format!("#{step} cached"),
        (None, false) if is_instruction(name) => format!("#{step} done in {}", seconds(*took)),
        (None, false) if *took >= WORTH_A_LINE => format!("#{step} {name} {}", seconds(*took)),
        (None, false) => return None,
    })
}

fn container_end(event: &EventKind) -> Option<String> {
    let EventKind::ContainerFinished {
        status,
        cached_steps,
        total_steps,
        seconds: took,
        failure,
        ..
    } = event
    else {
        return None;
    };
    let why = failure
        .as_ref()
        .map_or("", |failure| failure.message.as_str());
    Some(match status {
        ContainerStatus::Built => {
            format!(
                "built in {}, {cached_steps} of {total_steps} steps cached",
                seconds(*took)
            )
        }
        ContainerStatus::Skipped => "skipped: unchanged".to_owned(),
        ContainerStatus::Failed => format!("failed: {why}"),
        ContainerStatus::Cancelled => format!("cancelled: {why}"),
    })
}

fn count(containers: usize) -> String {
    let plural = if containers == 1 { "" } else { "s" };
    format!("{containers} container{plural}")
}

fn run_start(event: &EventKind) -> Option<String> {
    let EventKind::RunStarted {
        skiff,
        release,
        builder,
        driver,
        chosen_by,
        jobs,
        compared_with,
        containers,
        ..
    } = event
    else {
        return None;
    };
    let count = count(containers.len());
    let (why, selection) = match compared_with {
        Some(compared) => (String::new(), selection(compared, containers)),
        None => (format!(" ({})", reasons(containers)), String::new()),
    };
    Some(format!(
        "skiff {skiff}: release {release}, {count}{why}, {jobs} at a time, {builder} (driver {driver}: {chosen_by}){selection}"
    ))
}

/// How the run's containers were found: a line for the commit, and one for each container that is compared with it.
fn selection(compared: &ComparedWith, containers: &[PlannedContainer]) -> String {
    let commit = compared.commit.as_deref();
    let sentence = base::sentence(commit, &compared.reason, &compared.passed_over);
    let line = |c: &PlannedContainer| format!("\n  {}: {}", c.container, c.reason);
    let compared = containers.iter().filter(|_| compared.commit.is_some());
    format!("\n{sentence}{}", compared.map(line).collect::<String>())
}

/// Why containers are in the run, each reason once.
fn reasons(containers: &[PlannedContainer]) -> String {
    let mut reasons: Vec<&str> = containers.iter().map(|c| c.reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons.join("; ")
}

/// A step of the Dockerfile, in contrast to `[internal] …` and `exporting …`.
fn is_instruction(name: &str) -> bool {
    name.starts_with('[') && !name.starts_with("[internal]") && !name.starts_with("[auth]")
}

/// Here-documents make step names of many lines.
fn one_line(name: &str) -> &str {
    name.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_reads_like_a_log() {
        let train = || "train".to_owned();
        let planned = PlannedContainer {
            container: train(),
            repository: "localhost:5000/team/train".into(),
            waits_for: vec![],
            reason: "all".into(),
        };
        let finished =
            |step, name: &str, cached, seconds, error: Option<&str>| EventKind::StepFinished {
                container: train(),
                step,
                name: name.into(),
                cached,
                seconds,
                error: error.map(str::to_owned),
            };
        let channel_ended = |outcome| EventKind::ChannelEnded {
            channel: "latest".into(),
            release: "r1".into(),
            outcome,
        };
        let kinds = [
            EventKind::RunStarted {
                format: 1,
                skiff: "0.1.0",
                release: "r1".into(),
                builder: "docker engine".into(),
                driver: "docker",
                chosen_by: "--builder".into(),
                jobs: 2,
                keep_going: false,
                compared_with: None,
                containers: vec![planned],
            },
            EventKind::ContainerStarted { container: train() },
            finished(1, "[internal] load build definition", false, 0.1, None),
            EventKind::StepStarted {
                container: train(),
                step: 2,
                name: "[1/2] RUN make\nmore".into(),
                known: 2,
            },
            EventKind::StepLog {
                container: train(),
                step: 2,
                stream: LogStream::Stderr,
                line: "cc a.c".into(),
            },
            finished(2, "[1/2] RUN make\nmore", false, 3.0, None),
            finished(3, "[2/2] COPY . .", true, 0.0, None),
            finished(4, "exporting to image", false, 2.0, None),
            EventKind::Warning {
                container: Some(train()),
                message: "no cache".into(),
            },
            EventKind::ReleaseRecorded {
                release: "r1".into(),
                record: "localhost:5000/team/skiff:release-r1".into(),
            },
            channel_ended(ChannelWord::Moved),
            channel_ended(ChannelWord::Unchanged),
            channel_ended(ChannelWord::Superseded),
            channel_ended(ChannelWord::Held),
            channel_ended(ChannelWord::Stayed),
            channel_ended(ChannelWord::Failed),
        ];
        let mut plain = Plain::default();
        let mut time: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut lines = Vec::new();
        for kind in kinds {
            lines.extend(plain.line(&Event { time, kind }));
            time += std::time::Duration::from_secs(1);
        }
        insta::assert_snapshot!(lines.join("\n"), @r"
        skiff 0.1.0: release r1, 1 container (all), 2 at a time, docker engine (driver docker: --builder)
           1.0s train started
           3.0s train #2 [1/2] RUN make
           4.0s train #2 ! cc a.c
           5.0s train #2 done in 3.0s
           6.0s train #3 cached
           7.0s train #4 exporting to image 2.0s
        warning: train: no cache
        release r1 is recorded as localhost:5000/team/skiff:release-r1
        latest moved to release r1
        latest stands on this commit already: release r1
        latest stands on a newer commit than release r1
        latest is held, and not moved by release r1
        latest stays, and is not moved by release r1
        latest could not be moved to release r1
        ");
    }
}
