//! All of stdout and stderr. Results go to stdout, progress and errors to stderr. A reader that has gone away ends the
//! output, never the run.

use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cells;
use super::region::{Line, Region};
use crate::diagnostic::human::Screen;

/// The process's two streams. Clones share them; a line is never torn, and none is lost in the live region.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    region: Arc<Mutex<Region>>,
    /// Diagnostics and summaries may be coloured.
    pub(crate) color: bool,
}

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Output {
    pub(crate) fn new(color: bool) -> Self {
        Self {
            region: Arc::default(),
            color,
        }
    }

    /// For diagnostics, which go to stderr.
    #[expect(clippy::disallowed_methods, reason = "the one owner of stderr")]
    pub(crate) fn screen(&self) -> Screen {
        Screen {
            color: self.color,
            columns: terminal_size(std::io::stderr()).map(|size| size.columns),
        }
    }

    /// A line, or several, to stdout.
    #[expect(clippy::disallowed_methods, reason = "the one owner of stdout")]
    pub(crate) fn out(&self, text: &str) {
        let mut region = self.lock();
        write_err(&region.replace("", vec![], columns()));
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// A line, or several, to stderr, above the live region.
    pub(crate) fn err(&self, text: &str) {
        write_above(&mut self.lock(), text);
    }

    /// Asks on stderr, and reads the answer from stdin; `None` where either is no terminal: nobody is there to answer.
    #[expect(clippy::disallowed_methods, reason = "the one owner of stderr")]
    pub(crate) async fn confirm(&self, question: &str) -> Option<bool> {
        use std::io::IsTerminal as _;

        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return None;
        }
        write_err(&format!("{question} [y/N] "));
        // On a thread of its own, and without the lock: whoever waits must hear signals, and be able to say so.
        let read = tokio::task::spawn_blocking(|| {
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer).map(|_| answer)
        });
        let yes = |answer: &String| matches!(answer.trim(), "y" | "Y" | "yes");
        Some(matches!(read.await, Ok(Ok(answer)) if yes(&answer)))
    }

    /// The live region is `lines` from now on, and `above`, if not empty, is added to what stands above it.
    pub(crate) fn live(&self, above: &str, lines: Vec<Line>) {
        write_err(&self.lock().replace(above, lines, columns()));
    }

    /// Takes the live region away until its next frame, for a panic's message. The very thread that panics may hold the
    /// lock: then it stays.
    pub(crate) fn make_way(&self) {
        if let Ok(mut region) = self.region.try_lock() {
            write_err(&region.replace("", vec![], columns()));
        }
    }

    /// Makes a writer for each of `tracing`'s records.
    pub(crate) fn tracing_writer(&self) -> TracingWriter {
        TracingWriter(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Region> {
        self.region.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes records, each in one call, to stderr.
#[derive(Debug)]
pub(crate) struct TracingWriter(Output);

impl std::io::Write for TracingWriter {
    fn write(&mut self, record: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        self.0.err(text.strip_suffix('\n').unwrap_or(&text));
        Ok(record.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write_above(region: &mut Region, text: &str) {
    if region.is_empty() {
        write_err(&format!("{text}\n"));
    } else {
        write_err(&region.push_up(text, columns()));
    }
}

#[expect(clippy::disallowed_methods, reason = "the one owner of stderr")]
fn write_err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// The size of the terminal that stderr is. A terminal that does not say is taken for a small one.
#[expect(clippy::disallowed_methods, reason = "the one owner of stderr")]
pub(crate) fn stderr_size() -> Size {
    terminal_size(std::io::stderr()).unwrap_or(Size {
        columns: 80,
        rows: 24,
    })
}

/// Columns of the terminal that stdout is, if it is one.
#[expect(clippy::disallowed_methods, reason = "the one owner of stdout")]
pub(crate) fn stdout_columns() -> Option<usize> {
    terminal_size(std::io::stdout()).map(|size| size.columns)
}

fn terminal_size(stream: impl std::os::fd::AsFd) -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(Size {
        columns: size.ws_col.into(),
        rows: size.ws_row.into(),
    })
}

fn columns() -> usize {
    stderr_size().columns
}

/// Seconds for people: `0.4s`, `12.3s`, `3m05s`, `1h02m`.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 59.95 {
        return format!("{seconds:.1}s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive and far below 2^64"
    )]
    let whole = seconds.round() as u64;
    if whole < 3600 {
        format!("{}m{:02}s", whole / 60, whole % 60)
    } else {
        format!("{}h{:02}m", whole / 3600, whole / 60 % 60)
    }
}

/// Sizes for people: `512 B`, `1.4 MiB`, `52 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1023.5 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && amount < 9.95);
    format!("{amount:.digits$} {}", UNITS[unit])
}

/// Rows as a table: columns padded to their widest cell, two spaces between, nothing after the last.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let widths = widths(rows);
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cells::width(cell) + 2));
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The same in at most `limit` cells, as far as cutting one column can do that.
pub(crate) fn table_within(mut rows: Vec<Vec<String>>, limit: usize, column: usize) -> String {
    /// Of less nothing could be read.
    const LEAST: usize = 8;
    let widths = widths(&rows);
    let all: usize = widths.iter().map(|width| width + 2).sum();
    let excess = all.saturating_sub(2).saturating_sub(limit);
    if let (Some(width), true) = (widths.get(column), excess > 0) {
        let width = width.saturating_sub(excess).max(LEAST);
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(column)) {
            *cell = cells::cut(cell, width);
        }
    }
    table(&rows)
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cells::width(cell)).max().unwrap_or(0)
    };
    (0..columns).map(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown: Vec<_> = [0.04, 12.34, 59.97, 185.2, 3720.0]
            .into_iter()
            .map(seconds)
            .collect();
        assert_eq!(shown, ["0.0s", "12.3s", "1m00s", "3m05s", "1h02m"]);
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1024, 1_500_000, 10 << 20, (1 << 30) - 1, 52 << 40];
        let shown = sizes.map(bytes);
        assert_eq!(
            shown,
            [
                "0 B", "1023 B", "1.0 KiB", "1.4 MiB", "10 MiB", "1.0 GiB", "52 TiB"
            ]
        );
    }

    #[test]
    fn tables_are_aligned() {
        let rows =
            [["A", "BB"], ["long", ""], ["x", "y"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "A     BB\nlong\nx     y");
    }

    #[test]
    fn a_table_loses_the_end_of_one_column_where_it_must() {
        let rows = [
            ["NAME", "TAGS", "TIME"],
            ["a", "20260131-120000, v1, latest", "1.0s"],
        ];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec()).to_vec();
        let within = |limit| table_within(rows.clone(), limit, 1);
        assert_eq!(
            within(30),
            "NAME  TAGS                TIME\na     20260131-120000, …  1.0s"
        );
        assert_eq!(within(3), "NAME  TAGS      TIME\na     2026013…  1.0s");
    }
}
