//! What people and machines get to see of a run: sinks fed from the event stream by one thread, and the summary.

pub(crate) mod caches;
mod cells;
pub(crate) mod failure;
pub(crate) mod inputs;
mod live;
pub(crate) mod metadata;
pub(crate) mod output;
mod plain;
pub(crate) mod plan;
mod region;
pub(crate) mod releases;
mod row;
mod state;
pub(crate) mod summary;
mod terminal;
pub(crate) mod why;

use std::fs::File;
use std::io::{BufWriter, Write as _};

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::engine::event::{Event, EventKind};

use self::live::Live;
use self::output::Output;
use self::plain::Plain;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// What is done now, redrawn in place, on a terminal that stderr is.
    Terminal,
    /// A line for everything that happens, on stderr.
    Plain,
    /// Every event as a JSON object a line, on stdout.
    Json,
    /// Nothing but warnings, and what was made in the registry beside images.
    Quiet,
}

/// Feeds the sinks until the last [`crate::engine::event::Events`] is dropped. Writing blocks, so it has a thread of its
/// own; a slow one slows the run through the bounded channel.
pub(crate) fn spawn(
    mut events: mpsc::Receiver<Event>,
    progress: Progress,
    file: Option<File>,
    output: Output,
) -> JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        let runtime = Handle::current();
        let mut sinks = Sinks {
            progress,
            plain: Plain::default(),
            live: (progress == Progress::Terminal).then(|| Live::new(output.clone())),
            file: file.map(BufWriter::new),
            output,
        };
        loop {
            let event = match sinks.live.as_ref().map(Live::wait) {
                None => events.blocking_recv(),
                Some(Duration::ZERO) => {
                    sinks.live.as_mut().map(Live::draw);
                    continue;
                }
                Some(wait) => {
                    match runtime.block_on(async { timeout(wait, events.recv()).await }) {
                        Ok(event) => event,
                        // A frame is due.
                        Err(_) => continue,
                    }
                }
            };
            let Some(event) = event else { break };
            sinks.take(&event, events.is_empty());
        }
        if let Some(live) = &mut sinks.live {
            live.end();
        }
    })
}

struct Sinks {
    progress: Progress,
    plain: Plain,
    live: Option<Live>,
    file: Option<BufWriter<File>>,
    output: Output,
}

impl Sinks {
    /// `idle`: no other event is waiting.
    fn take(&mut self, event: &Event, idle: bool) {
        if self.file.is_some() || self.progress == Progress::Json {
            // An event is plain data: serialising it cannot fail.
            let line = serde_json::to_string(event).unwrap_or_default();
            if self.progress == Progress::Json {
                self.output.out(&line);
            }
            self.write_file(&line, idle);
        }
        let shown = match self.progress {
            Progress::Plain => true,
            Progress::Quiet => matches!(
                event.kind,
                EventKind::Warning { .. } | EventKind::RepositoryCreated { .. }
            ),
            Progress::Json | Progress::Terminal => false,
        };
        if let Some(line) = self.plain.line(event).filter(|_| shown) {
            self.output.err(&line);
        }
        if let Some(live) = &mut self.live {
            live.take(event);
        }
    }

    /// Readers of the file see what happened as soon as nothing more is waiting.
    fn write_file(&mut self, line: &str, idle: bool) {
        let Some(file) = &mut self.file else { return };
        let written =
            writeln!(file, "{line}").and_then(|()| if idle { file.flush() } else { Ok(()) });
        if let Err(error) = written {
            let message = format!("warning: the events file is not written any more: {error}");
            self.output.err(&message);
            self.file = None;
        }
    }
}
