//! What people and machines get to see of a run: sinks fed from the event stream by one thread, and the summary.

pub(crate) mod failure;
pub(crate) mod metadata;
pub(crate) mod output;
mod plain;
pub(crate) mod plan;
pub(crate) mod summary;

use std::fs::File;
use std::io::{BufWriter, Write as _};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::engine::event::{Event, EventKind};

use self::output::Output;
use self::plain::Plain;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
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
        let mut plain = Plain::default();
        let mut file = file.map(BufWriter::new);
        while let Some(event) = events.blocking_recv() {
            if file.is_some() || progress == Progress::Json {
                // An event is plain data: serialising it cannot fail.
                let line = serde_json::to_string(&event).unwrap_or_default();
                if progress == Progress::Json {
                    output.out(&line);
                }
                if let Some(open) = &mut file {
                    let written =
                        writeln!(open, "{line}").and_then(|()| flush_when_idle(open, &events));
                    if let Err(error) = written {
                        output.err(&format!(
                            "warning: the events file is not written any more: {error}"
                        ));
                        file = None;
                    }
                }
            }
            let shown = match progress {
                Progress::Plain => true,
                Progress::Quiet => matches!(
                    event.kind,
                    EventKind::Warning { .. } | EventKind::RepositoryCreated { .. }
                ),
                Progress::Json => false,
            };
            if let Some(line) = plain.line(&event).filter(|_| shown) {
                output.err(&line);
            }
        }
    })
}

/// Readers of the file see what happened as soon as nothing more is waiting.
fn flush_when_idle(
    file: &mut BufWriter<File>,
    events: &mpsc::Receiver<Event>,
) -> std::io::Result<()> {
    if events.is_empty() {
        file.flush()
    } else {
        Ok(())
    }
}
