//! All of stdout and stderr. Results go to stdout, progress and errors to stderr. A reader that has gone away ends the
//! output, never the run.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// The process's two streams. Clones share them; a line is never torn.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    lock: Arc<Mutex<()>>,
    /// Diagnostics and summaries may be coloured.
    pub(crate) color: bool,
}

impl Output {
    pub(crate) fn new(color: bool) -> Self {
        Self {
            lock: Arc::default(),
            color,
        }
    }

    /// A line, or several, to stdout.
    #[expect(clippy::disallowed_methods, reason = "the one owner of stdout")]
    pub(crate) fn out(&self, text: &str) {
        let _line = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// A line, or several, to stderr.
    #[expect(clippy::disallowed_methods, reason = "the one owner of stderr")]
    pub(crate) fn err(&self, text: &str) {
        let _line = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

/// Makes a writer of stderr for each of `tracing`'s records.
#[expect(clippy::disallowed_methods, reason = "the one owner of stderr")]
pub(crate) fn tracing_writer() -> std::io::Stderr {
    std::io::stderr()
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

/// Rows as a table: columns padded to their widest cell, two spaces between, nothing after the last.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| {
        rows.iter()
            .filter_map(|r| r.get(column))
            .map(|cell: &String| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let line = |row: &Vec<String>| {
        let padded: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
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
    fn tables_are_aligned() {
        let rows =
            [["A", "BB"], ["long", ""], ["x", "y"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "A     BB\nlong\nx     y");
    }
}
