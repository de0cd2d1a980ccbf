//! One row of the live view: pieces of text, cut at the terminal's width.

use std::fmt::Write as _;

use super::cells;
use super::region::Line;

/// How a piece looks where colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
    Busy,
}

impl Style {
    /// Parameters of `SGR` (ECMA-48, 8.3.117).
    fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Busy => "36",
        }
    }
}

#[derive(Debug)]
pub(super) struct Row {
    text: String,
    width: usize,
    limit: usize,
    color: bool,
}

impl Row {
    /// An empty one of at most `limit` cells.
    pub(super) fn new(limit: usize, color: bool) -> Self {
        Self {
            text: String::new(),
            width: 0,
            limit,
            color,
        }
    }

    /// Cells that are left.
    pub(super) fn rest(&self) -> usize {
        self.limit - self.width
    }

    /// Adds a piece, cut to what is left.
    pub(super) fn push(&mut self, style: Style, text: &str) {
        let text = cells::cut(&cells::clean(text), self.rest());
        self.width += cells::width(&text);
        if self.color && style != Style::Plain && !text.is_empty() {
            let _ = write!(self.text, "\x1b[{}m{text}\x1b[0m", style.sgr());
        } else {
            self.text.push_str(&text);
        }
    }

    /// The same in exactly `width` cells, as far as they are left.
    pub(super) fn column(&mut self, style: Style, text: &str, width: usize) {
        let end = self.width + width.min(self.rest());
        self.push(style, &cells::cut(&cells::clean(text), width));
        self.fill_to(end);
    }

    /// A piece at the row's end. What stands there already is not overwritten: leave room.
    pub(super) fn right(&mut self, style: Style, text: &str) {
        let start = self.limit.saturating_sub(cells::width(text));
        self.fill_to(start);
        self.push(style, text);
    }

    fn fill_to(&mut self, column: usize) {
        let spaces = column.min(self.limit).saturating_sub(self.width);
        self.text.extend(std::iter::repeat_n(' ', spaces));
        self.width += spaces;
    }

    pub(super) fn line(self) -> Line {
        Line {
            text: self.text,
            width: self.width,
        }
    }
}
