//! The sink of a terminal that can redraw: folds events, and draws a frame at most ten times a second.

use std::time::{Duration, Instant};

use super::output::{Output, stderr_size};
use super::plain::Plain;
use super::state::RunState;
use super::terminal::View;
use crate::clock;
use crate::engine::event::{Event, EventKind};

const FRAME: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Live {
    output: Output,
    state: RunState,
    plain: Plain,
    /// Lines that stay, for the next frame.
    above: Vec<String>,
    frame: usize,
    next: Instant,
}

impl Live {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            state: RunState::default(),
            plain: Plain::default(),
            above: vec![],
            frame: 0,
            next: clock::now(),
        }
    }

    pub(super) fn take(&mut self, event: &Event) {
        self.state.fold(event);
        match &event.kind {
            EventKind::RunStarted { .. }
            | EventKind::Warning { .. }
            | EventKind::RepositoryCreated { .. } => {
                self.above.extend(self.plain.line(event));
            }
            EventKind::ContainerFinished { container, .. } => {
                let line = self.view().built(container);
                self.above.extend(line.map(|line| line.text));
            }
            _ => {}
        }
    }

    /// Until the next frame is due.
    pub(super) fn wait(&self) -> Duration {
        self.next.saturating_duration_since(clock::now())
    }

    pub(super) fn draw(&mut self) {
        let lines = self.view().lines();
        self.output
            .live(&std::mem::take(&mut self.above).join("\n"), lines);
        self.frame += 1;
        self.next = clock::now() + FRAME;
    }

    /// What stays, and nothing else.
    pub(super) fn end(&mut self) {
        self.output
            .live(&std::mem::take(&mut self.above).join("\n"), vec![]);
    }

    fn view(&self) -> View<'_> {
        View {
            state: &self.state,
            now: clock::timestamp(),
            size: stderr_size(),
            color: self.output.color,
            frame: self.frame,
        }
    }
}
