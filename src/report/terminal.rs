//! The live view of a run: a line for each container that is built or has failed, one for those that wait, and one for
//! the whole. Those that are done scroll up. Pure: lines from a [`RunState`], a time and a size.
//!
//! Whatever the size: no line is wider than the terminal less one cell (some wrap when the last one is written), and all
//! of them together leave one row to the cursor.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::cells;
use super::output::{Size, seconds};
use super::region::Line;
use super::row::{Row, Style};
use super::state::{Activity, CacheExport, ContainerState, Phase, RunState, Status, StepCounts};
use crate::engine::steps::is_export_step;

/// A moment's view: what it takes to draw it.
pub(super) struct View<'a> {
    pub(super) state: &'a RunState,
    pub(super) now: Timestamp,
    pub(super) size: Size,
    pub(super) color: bool,
    /// Counts frames: what turns, turns with it.
    pub(super) frame: usize,
}

const TURNING: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const BUILT: &str = "✓";
const FAILED: &str = "✗";
const WAITING: &str = "·";

/// Cells of the longest times: `59m59s`, `99h59m`.
const TIME: usize = 6;
/// Names are cut to this, and to three tenths of the width.
const NAME: usize = 28;

/// What there is room for.
#[derive(Clone, Copy)]
struct Layout {
    name: usize,
    steps: usize,
    /// With how many were cached.
    cached: bool,
    time: bool,
    bytes: bool,
}

impl View<'_> {
    /// The region, top to bottom.
    pub(super) fn lines(&self) -> Vec<Line> {
        // The cursor's row.
        let rows = self.size.rows.saturating_sub(1);
        if rows == 0 || self.state.started.is_none() {
            return vec![];
        }
        let mut lines = self.containers(rows - 1);
        lines.push(self.totals());
        lines
    }

    /// A container that has been built, for good.
    pub(super) fn built(&self, name: &str) -> Option<Line> {
        let container = self.state.containers.get(name)?;
        let Status::Built { seconds: took } = container.status else {
            return None;
        };
        let layout = self.layout();
        let mut row = self.named(Style::Good, BUILT, name, &layout);
        let StepCounts { cached, total, .. } = container.steps;
        let text = match total {
            _ if container.kept => "unchanged".to_owned(),
            0 => "built, no steps".to_owned(),
            _ if cached == total => format!("built, all {total} steps cached"),
            _ => format!("built, {cached} of {total} steps cached"),
        };
        doing(&mut row, &[(Style::Plain, &text)], "", &layout);
        time(&mut row, took, &layout);
        Some(row.line())
    }

    /// Running ones first, then those that failed, then who waits: each on a line while there is room.
    fn containers(&self, room: usize) -> Vec<Line> {
        let all = || self.state.containers.iter();
        let running: Vec<_> = all().filter(|(_, c)| busy_since(c).is_some()).collect();
        let failed: Vec<_> = all()
            .filter(|(_, c)| matches!(c.status, Status::Failed { .. }))
            .collect();
        let waiting: Vec<_> = all().filter(|(_, c)| c.status == Status::Waiting).collect();
        let layout = self.layout();
        let waiting = if running.len() + failed.len() + waiting.len() <= room {
            let line = |(name, container): &(&String, &ContainerState)| {
                self.waiting(name, container, &layout)
            };
            waiting.iter().map(line).collect()
        } else if waiting.is_empty() || running.len() + failed.len() >= room {
            vec![]
        } else {
            vec![self.all_waiting(&waiting)]
        };
        let mut lines = self.some(
            &running,
            room - waiting.len(),
            "running",
            |(name, container)| self.running(name, container, &layout),
        );
        let room = room - waiting.len() - lines.len();
        lines.extend(self.some(&failed, room, "failed", |(name, container)| {
            self.failed(name, container, &layout)
        }));
        lines.extend(waiting);
        lines
    }

    /// As many as there is room for; the last line says how many more there are.
    fn some<T>(
        &self,
        items: &[T],
        room: usize,
        what: &str,
        line: impl Fn(&T) -> Line,
    ) -> Vec<Line> {
        if items.len() <= room {
            return items.iter().map(line).collect();
        }
        // The totals say how many there are.
        if room < 2 {
            return items[..room].iter().map(line).collect();
        }
        let shown = room - 1;
        let mut lines: Vec<_> = items[..shown].iter().map(line).collect();
        let mut row = self.row();
        row.push(
            Style::Dim,
            &format!("  and {} more {what}", items.len() - shown),
        );
        lines.push(row.line());
        lines
    }

    fn running(&self, name: &str, container: &ContainerState, layout: &Layout) -> Line {
        let turning = TURNING[self.frame % TURNING.len()];
        let mut row = self.named(Style::Busy, turning, name, layout);
        let counted = matches!(container.status, Status::Building { .. });
        steps(&mut row, counted.then_some(container.steps), layout);
        let activity = container.activity();
        let text = now_doing(container, activity.as_ref());
        let bytes = activity.as_ref().and_then(|a| a.bytes).map(bytes_of);
        let others = match activity.as_ref().map_or(0, |a| a.others) {
            0 => String::new(),
            others => format!("  +{others}"),
        };
        let last_line = activity.as_ref().and_then(|a| a.last_line);
        let last_line = last_line.map_or(String::new(), |line| format!("  {line}"));
        let texts = [
            (Style::Plain, text.as_str()),
            (Style::Dim, &others),
            (Style::Dim, &last_line),
        ];
        doing(
            &mut row,
            &texts,
            bytes.as_deref().unwrap_or_default(),
            layout,
        );
        if let Some(since) = busy_since(container) {
            time(&mut row, self.since(since), layout);
        }
        row.line()
    }

    fn failed(&self, name: &str, container: &ContainerState, layout: &Layout) -> Line {
        let mut row = self.named(Style::Bad, FAILED, name, layout);
        if let Status::Failed {
            seconds: took,
            step,
            message,
        } = &container.status
        {
            steps(&mut row, Some(container.steps), layout);
            let what = step.as_deref().map_or(message.clone(), instruction);
            doing(&mut row, &[(Style::Bad, &what)], "", layout);
            time(&mut row, *took, layout);
        }
        row.line()
    }

    fn waiting(&self, name: &str, container: &ContainerState, layout: &Layout) -> Line {
        let mut row = self.named(Style::Dim, WAITING, name, layout);
        row.push(Style::Dim, &self.waits_for(container));
        row.line()
    }

    fn waits_for(&self, container: &ContainerState) -> String {
        let parents: Vec<_> = self.state.awaited(container).collect();
        match (self.state.stopped_by(), parents.as_slice()) {
            (Some(failed), _) => format!("not started, as {failed} failed"),
            (None, []) => "waits for its turn".to_owned(),
            (None, parents) => format!("waits for {}", parents.join(", ")),
        }
    }

    /// All that wait on one line, by what they wait for.
    fn all_waiting(&self, waiting: &[(&String, &ContainerState)]) -> Line {
        if let Some(failed) = self.state.stopped_by() {
            let mut row = self.row();
            row.push(
                Style::Dim,
                &format!(
                    "{WAITING} {} not started, as {failed} failed",
                    waiting.len()
                ),
            );
            return row.line();
        }
        let mut groups: BTreeMap<String, usize> = BTreeMap::new();
        for (_, container) in waiting {
            let parents: Vec<_> = self.state.awaited(container).collect();
            let group = match parents.as_slice() {
                [] => "their turn".to_owned(),
                parents => parents.join(" and "),
            };
            *groups.entry(group).or_default() += 1;
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let groups: Vec<_> = groups
            .iter()
            .map(|(what, count)| format!("{count} for {what}"))
            .collect();
        let mut row = self.row();
        row.push(
            Style::Dim,
            &format!("{WAITING} waiting: {}", groups.join(", ")),
        );
        row.line()
    }

    /// The run as a whole: as many of its numbers as fit, the most telling first.
    fn totals(&self) -> Line {
        let mut row = self.row();
        let counts = self.state.counts();
        let phase = match self.state.phase() {
            Phase::Building => "building",
            Phase::Releasing => "releasing",
            Phase::ExportingCaches if counts.built == counts.all => "all pushed, exporting caches",
            Phase::ExportingCaches => "exporting caches",
            Phase::Ending => "ending",
        };
        let progress = match self.state.phase() {
            Phase::ExportingCaches => format!("{phase} {}/{}", counts.exported, counts.built),
            _ => format!("{phase} {}/{}", counts.built, counts.all),
        };
        row.push(Style::Bold, &progress);
        let steps = self.state.steps();
        let bytes = self.state.bytes();
        let number = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let volume = |bytes: u64, what: &str| {
            (bytes > 0).then(|| format!("{what} {}", scaled(bytes, bytes)))
        };
        let numbers = [
            (Style::Bad, number(counts.failed, "failed")),
            (Style::Plain, number(counts.running, "running")),
            (Style::Plain, number(counts.waiting, "waiting")),
            (Style::Plain, number(counts.cancelled, "cancelled")),
            (
                Style::Plain,
                (steps.total > 0).then(|| format!("steps {}/{}", steps.done, steps.total)),
            ),
            (
                Style::Plain,
                (steps.cached > 0).then(|| format!("{} cached", steps.cached)),
            ),
            (Style::Plain, volume(bytes.pulled, "pulled")),
            (Style::Plain, volume(bytes.sent, "sent")),
            (Style::Plain, volume(bytes.pushed, "pushed")),
        ];
        for (style, text) in numbers {
            let Some(text) = text else { continue };
            if cells::width(&text) + TIME + 5 > row.rest() {
                break;
            }
            row.push(Style::Dim, " · ");
            row.push(style, &text);
        }
        if let Some(started) = self.state.started.filter(|_| row.rest() > TIME) {
            row.right(Style::Plain, &seconds(self.since(started)));
        }
        row.line()
    }

    fn layout(&self) -> Layout {
        let columns = self.width();
        let cached = columns >= 80;
        let names = self
            .state
            .containers
            .keys()
            .map(|name| cells::width(&cells::clean(name)));
        let longest = names.max().unwrap_or(0);
        let counts = self
            .state
            .containers
            .values()
            .map(|c| step_text(c.steps, cached).len());
        Layout {
            name: longest.min(NAME).min((columns * 3 / 10).max(6)),
            steps: if columns < 40 {
                0
            } else {
                counts.max().unwrap_or(0)
            },
            cached,
            time: columns >= 30,
            bytes: columns >= 50,
        }
    }

    /// The last cell stays empty.
    fn width(&self) -> usize {
        self.size.columns.saturating_sub(1)
    }

    fn row(&self) -> Row {
        Row::new(self.width(), self.color)
    }

    /// A row that begins with a mark and a name.
    fn named(&self, style: Style, mark: &str, name: &str, layout: &Layout) -> Row {
        let mut row = self.row();
        row.push(style, mark);
        row.push(Style::Plain, " ");
        let name_style = if style == Style::Dim {
            Style::Dim
        } else {
            Style::Bold
        };
        row.column(name_style, name, layout.name);
        row.push(Style::Plain, "  ");
        row
    }

    fn since(&self, time: Timestamp) -> f64 {
        self.now.duration_since(time).as_secs_f64().max(0.0)
    }
}

/// When what a container is busy with began.
fn busy_since(container: &ContainerState) -> Option<Timestamp> {
    match (&container.status, container.cache) {
        (Status::Building { since } | Status::Pushed { since }, _) => Some(*since),
        (Status::Built { .. }, CacheExport::Running { since }) => Some(since),
        _ => None,
    }
}

fn now_doing(container: &ContainerState, activity: Option<&Activity<'_>>) -> String {
    match (&container.status, activity) {
        (Status::Built { .. }, _) => "exporting the cache".to_owned(),
        (Status::Pushed { .. }, _) => "pushed and verified".to_owned(),
        (_, None) if container.steps.total == 0 => "starting".to_owned(),
        (_, None) => "waiting for the builder".to_owned(),
        (
            _,
            Some(Activity {
                step,
                item: Some(item),
                ..
            }),
        ) if is_export_step(step) => doing_what(item).to_owned(),
        (
            _,
            Some(Activity {
                step,
                item: Some(item),
                ..
            }),
        ) if !step.starts_with("[internal]") => {
            format!("{}: {}", instruction(step), doing_what(item))
        }
        (_, Some(activity)) => instruction(activity.step),
    }
}

/// `[build 2/5] RUN make` without where it stands, and an image without its digest.
fn instruction(step: &str) -> String {
    let place = step
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    let instruction = place.map_or(step, |(_, instruction)| instruction);
    match instruction.split_once("@sha256:") {
        Some((image, _)) if instruction.starts_with("FROM ") => image.to_owned(),
        _ => instruction.to_owned(),
    }
}

/// `extracting sha256:…`, `pushing manifest for …`: the words without the object.
fn doing_what(item: &str) -> &str {
    let end = [" sha256:", " for "]
        .iter()
        .filter_map(|object| item.find(object))
        .min();
    item[..end.unwrap_or(item.len())].trim_end_matches(':')
}

fn steps(row: &mut Row, counts: Option<StepCounts>, layout: &Layout) {
    if layout.steps > 0 {
        let text = counts.map_or(String::new(), |counts| step_text(counts, layout.cached));
        row.column(Style::Plain, &text, layout.steps);
        row.push(Style::Plain, "  ");
    }
}

fn time(row: &mut Row, took: f64, layout: &Layout) {
    if layout.time {
        row.right(Style::Dim, &seconds(took));
    }
}

fn step_text(
    StepCounts {
        done,
        cached,
        total,
    }: StepCounts,
    long: bool,
) -> String {
    match (total, cached) {
        (0, _) => String::new(),
        (_, 1..) if long => format!("{done}/{total} ({cached} cached)"),
        _ => format!("{done}/{total}"),
    }
}

/// Texts, one after the other, in what is left of the row before bytes and time. The first, where it is long, leaves some
/// of that to the others.
fn doing(row: &mut Row, texts: &[(Style, &str)], bytes: &str, layout: &Layout) {
    /// Of less nothing could be read.
    const LEAST: usize = 10;
    let time = if layout.time { TIME + 2 } else { 0 };
    let bytes = if layout.bytes { bytes } else { "" };
    let bytes_width = match cells::width(bytes) {
        0 => 0,
        width => width + 2,
    };
    let mut left = row.rest().saturating_sub(time + bytes_width);
    let others: usize = texts
        .iter()
        .skip(1)
        .map(|(_, text)| cells::width(text))
        .sum();
    let share = left * 2 / 5;
    let mut limit = if others.min(share) < LEAST.min(others) {
        left
    } else {
        left - others.min(share)
    };
    for (style, text) in texts {
        let text = cells::cut(&cells::clean(text), limit);
        let width = cells::width(&text);
        left -= width;
        limit = if left < LEAST { 0 } else { left };
        row.push(*style, &text);
    }
    if bytes_width > 0 {
        row.column(Style::Plain, "", left + 2);
        row.push(Style::Plain, bytes);
    }
}

/// `12.3/45.0 MB`, or `12.3 MB` where the whole is not known.
fn bytes_of((current, total): (u64, u64)) -> String {
    if total > 0 {
        let unit = total.max(current);
        let current = scaled(current, unit);
        let number = current.split(' ').next().unwrap_or_default();
        format!("{number}/{}", scaled(total, unit))
    } else {
        scaled(current, current)
    }
}

/// Bytes in the unit that suits `like`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn scaled(bytes: u64, like: u64) -> String {
    let (divisor, unit) = match like {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    format!("{:.1} {unit}", bytes as f64 / divisor)
}

#[cfg(test)]
mod tests;
