//! The live region: the lines at the end of the terminal that are written again and again. Pure: it says what to write.
//!
//! The cursor rests, visible, on the empty line below the region, and nothing of the terminal's state outlives one
//! write: whatever ends the process, there is nothing to restore. What the terminal echoes (`^C`) lands on that line and
//! goes with the next frame. One frame is one write that overwrites in place, so nothing flickers.

use std::fmt::Write as _;

/// A line that is at most as wide as the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// May hold colours, nothing else that the terminal acts on.
    pub(super) text: String,
    /// In cells.
    pub(super) width: usize,
}

/// What of the region stands on the screen.
#[derive(Debug, Default)]
pub(super) struct Region {
    lines: Vec<Line>,
    /// Of the terminal when they were written.
    columns: usize,
}

/// Lines that do not fit after all (terminals disagree on the width of some characters) lose their end.
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";
const ERASE_LINE_END: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";
/// From the region's first row on. In two parts, since tmux takes the erasure of a whole screen for `clear`, and keeps
/// what was there in its history. The cursor was below the region, so there is a second row.
const ERASE_REGION: &str = "\r\x1b[K\x1b[1B\x1b[J\x1b[1A";

impl Region {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What to write so that `above` is added to what stays, and the region is `lines`. `columns`: of the terminal, now.
    pub(super) fn replace(&mut self, above: &str, lines: Vec<Line>, columns: usize) -> String {
        let mut text = String::new();
        if above.is_empty() && lines == self.lines && (columns == self.columns || lines.is_empty())
        {
            return text;
        }
        let up = self.rows(columns);
        if up > 0 {
            let _ = write!(text, "\x1b[{up}A");
            // Rows that the terminal has wrapped would stay joined if they were written over.
            if !above.is_empty() || lines.is_empty() || columns != self.columns {
                text.push_str(ERASE_REGION);
            }
        }
        if !above.is_empty() {
            // These are free to wrap: they are not written again.
            text.push_str(above);
            text.push('\n');
        }
        if !lines.is_empty() {
            text.push_str(WRAP_OFF);
            for line in &lines {
                text.push('\r');
                text.push_str(&line.text);
                text.push_str(ERASE_LINE_END);
                text.push('\n');
            }
            text.push('\r');
            text.push_str(ERASE_BELOW);
            text.push_str(WRAP_ON);
        }
        *self = Self { lines, columns };
        text
    }

    /// The same region, below something more that stays.
    pub(super) fn push_up(&mut self, above: &str, columns: usize) -> String {
        self.replace(above, self.lines.clone(), columns)
    }

    /// Rows that the region takes. A terminal that was made narrower has wrapped its lines.
    fn rows(&self, columns: usize) -> usize {
        let rows = |line: &Line| line.width.div_ceil(columns.max(1)).max(1);
        self.lines.iter().map(rows).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(texts: &[String]) -> Vec<Line> {
        let line = |text: &String| Line {
            text: text.clone(),
            width: text.len(),
        };
        texts.iter().map(line).collect()
    }

    /// A terminal that is high enough: what it shows after all of these writes, and the cursor's row.
    fn shown(written: &str) -> (Vec<String>, usize) {
        let mut rows = vec![String::new()];
        let (mut row, mut column) = (0, 0);
        let mut rest = written;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => column = 0,
                '\n' => {
                    row += 1;
                    column = 0;
                    rows.resize(rows.len().max(row + 1), String::new());
                }
                '\x1b' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let (sequence, after) = rest.split_at(end + 1);
                    rest = after;
                    match sequence {
                        "[K" => rows[row].truncate(column),
                        "[J" => {
                            rows[row].truncate(column);
                            rows.truncate(row + 1);
                        }
                        "[?7l" | "[?7h" => {}
                        _ => {
                            let by = sequence[1..end].parse::<usize>().unwrap();
                            row = if sequence.ends_with('A') {
                                row - by
                            } else {
                                row + by
                            };
                            assert!(row < rows.len(), "the cursor stays on the screen");
                        }
                    }
                }
                c => {
                    let end = (column + 1).min(rows[row].len());
                    rows[row].replace_range(column..end, &c.to_string());
                    column += 1;
                }
            }
        }
        assert_eq!(column, 0);
        while rows.len() > row + 1 && rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        (rows, row)
    }

    #[test]
    fn an_unchanged_region_is_not_written() {
        let mut region = Region::default();
        assert_ne!(region.replace("", lines(&["a".into()]), 80), "");
        assert_eq!(region.replace("", lines(&["a".into()]), 80), "");
    }

    #[test]
    fn a_region_that_the_terminal_has_wrapped_is_found_again() {
        let mut region = Region::default();
        region.replace("", lines(&["x".repeat(70), String::new()]), 80);
        let text = region.replace("", lines(&["y".into()]), 30);
        assert!(
            text.starts_with(&format!("\x1b[4A{ERASE_REGION}{WRAP_OFF}\ry")),
            "{text:?}"
        );
    }

    proptest! {
        #[test]
        fn the_screen_is_what_stays_and_then_the_region(
            frames in prop::collection::vec(
                (prop::collection::vec("[a-z]{1,9}", 0..3), prop::collection::vec("[a-z]{0,9}", 0..5)), 1..9
            )
        ) {
            let mut region = Region::default();
            let (mut written, mut stays) = (String::new(), Vec::new());
            for (above, texts) in frames {
                written.push_str(&region.replace(&above.join("\n"), lines(&texts), 80));
                stays.extend(above);
                let expected = [stays.clone(), texts, vec![String::new()]].concat();
                prop_assert_eq!(shown(&written), (expected.clone(), expected.len() - 1));
            }
            written.push_str(&region.push_up("more", 80));
            prop_assert!(shown(&written).0.contains(&"more".to_owned()));
        }
    }
}
