//! `containers.toml` as a TOML tree with places: syntax errors as diagnostics, and silent getters for what
//! [`super::check`] has found good.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::MAX_SHOWN;
use crate::diagnostic::{Diagnostic, SourceText, Span};

/// A text or list with the place where it stands.
pub(super) type Said<T> = Spanned<T>;

/// The tree, as far as it could be read, and what is wrong with the syntax.
pub(super) struct Document<'a> {
    pub root: Spanned<DeValue<'a>>,
    pub syntax: Vec<Diagnostic>,
    /// Where the parser lost its way: what it read there says nothing about what the writer meant.
    pub lost: Vec<Range<usize>>,
}

/// Parses everything that can be parsed.
pub(super) fn parse(source: &Arc<SourceText>) -> Document<'_> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let span = table.span();
    let root = Spanned::new(span, DeValue::Table(table.into_inner()));
    let mut values = Vec::new();
    compound_values(&root, &mut values);
    let mut errors: Vec<(Range<usize>, String)> = errors
        .into_iter()
        .map(|e| (e.span().unwrap_or(0..0), e.message().to_owned()))
        .collect();
    errors.sort_by_key(|(place, _)| (place.start, place.end));
    let mut syntax = Vec::new();
    let mut lost: Vec<Range<usize>> = Vec::new();
    let mut lost_until = 0;
    let more = errors.len().saturating_sub(MAX_SHOWN);
    for (place, message) in errors {
        // One slip makes the parser stumble on: only the first error of a line, list or inline table says something.
        if !lost.is_empty() && place.end <= lost_until {
            continue;
        }
        if syntax.len() == MAX_SHOWN {
            lost.push(place.start..source.text.len());
            syntax.push(Diagnostic::error(format!("and up to {more} more errors")));
            break;
        }
        let line = line_around(&source.text, place.start);
        let value = values.iter().find(|v| within(&place, v));
        let mut diagnostic = Diagnostic::error(message).at(Span::new(source, place.clone()), "");
        if let Some(value) = value.filter(|v| v.start < line.start) {
            let start = Span::new(source, value.start..value.start + 1);
            diagnostic = diagnostic.see(start, "what began here is not closed before");
        }
        syntax.push(diagnostic);
        let value = value.cloned().unwrap_or(place);
        let end = end_of_loss(&source.text, &line).max(value.end);
        lost.push(line.start.min(value.start)..end);
        lost_until = lost_until.max(end);
    }
    Document { root, syntax, lost }
}

fn within(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Lists and inline tables, outer ones first. The place of a table with a header is its header.
fn compound_values(value: &Spanned<DeValue<'_>>, found: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => {
            found.push(value.span());
            table.iter().for_each(|(_, v)| compound_values(v, found));
        }
        DeValue::Array(list) => {
            found.push(value.span());
            list.iter().for_each(|v| compound_values(v, found));
        }
        _ => {}
    }
}

/// The end of the line; for a header, of its whole table, since its keys stand elsewhere now.
fn end_of_loss(text: &str, line: &Range<usize>) -> usize {
    if !text[line.clone()].trim_start().starts_with('[') {
        return line.end;
    }
    text[line.end..]
        .find("\n[")
        .map_or(text.len(), |next| line.end + next)
}

fn line_around(text: &str, at: usize) -> Range<usize> {
    let at = at.min(text.len());
    let bytes = text.as_bytes();
    let start = bytes[..at]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |n| n + 1);
    let end = bytes[at..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(bytes.len(), |n| at + n);
    start..end
}

/// What was reported already, so that nothing is reported twice.
#[derive(Default)]
pub(super) struct Reported {
    /// The places of refused values: nobody looks at them again.
    pub refused: HashSet<(usize, usize)>,
    /// Keys, by their dotted path, that a misspelled one was taken for: they are not missing.
    pub meant: HashSet<String>,
}

/// A key that may be missing, or was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given<T> {
    Absent,
    Refused,
    Value(T),
}

impl<T> Given<T> {
    pub(super) fn or(self, other: &Self) -> Self
    where
        T: Clone,
    {
        match self {
            Self::Absent => other.clone(),
            _ => self,
        }
    }

    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Refused => None,
        }
    }
}

/// A table whose good values can be asked for. A table that is missing or reported is an empty one.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    table: Option<&'a DeTable<'a>>,
    reported: &'a Reported,
}

/// An entry of a table: key and value with their places.
pub(super) type Entry<'a> = (
    &'a Spanned<std::borrow::Cow<'a, str>>,
    &'a Spanned<DeValue<'a>>,
);

impl<'a> View<'a> {
    pub(super) fn new(value: &'a Spanned<DeValue<'a>>, reported: &'a Reported) -> Self {
        let table = value.get_ref().as_table();
        Self { table, reported }
    }

    /// An empty table.
    pub(super) fn nothing(like: Self) -> Self {
        Self {
            table: None,
            ..like
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.table.is_none_or(DeTable::is_empty)
    }

    /// All keys, those of reported values too.
    pub(super) fn keys(self) -> Vec<&'a str> {
        let entries = self.table.into_iter().flat_map(DeTable::iter);
        entries.map(|(key, _)| key.get_ref().as_ref()).collect()
    }

    fn get(self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    fn is_good(self, value: &Spanned<DeValue<'_>>) -> bool {
        let place = value.span();
        !self.reported.refused.contains(&(place.start, place.end))
    }

    /// Whether a misspelled key was taken for the one at this dotted path of the whole file.
    pub(super) fn is_meant(self, path: &str) -> bool {
        self.reported.meant.contains(path)
    }

    /// Whether the key at this dotted path of the whole file is neither written nor meant by a misspelled one.
    pub(super) fn lacks(self, path: &str) -> bool {
        !self.is_meant(path) && path.split('.').try_fold(self, Self::step).is_none()
    }

    fn step(self, key: &str) -> Option<Self> {
        self.get(key).map(|value| Self::new(value, self.reported))
    }

    /// The key's own place, when it is there.
    pub(super) fn key(self, key: &str) -> Option<Range<usize>> {
        self.table?.get_key_value(key).map(|(key, _)| key.span())
    }

    pub(super) fn table(self, key: &str) -> Self {
        let table = self.get(key).and_then(|v| v.get_ref().as_table());
        Self { table, ..self }
    }

    /// All entries that were not reported, in the order of the file.
    pub(super) fn entries(self) -> Vec<Entry<'a>> {
        let mut entries: Vec<Entry<'a>> = self
            .table
            .into_iter()
            .flat_map(DeTable::iter)
            .filter(|(_, value)| self.is_good(value))
            .collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    pub(super) fn given_text(self, key: &str) -> Given<Said<String>> {
        match self.get(key) {
            None => Given::Absent,
            Some(value) => self.said(value).map_or(Given::Refused, Given::Value),
        }
    }

    pub(super) fn text(self, key: &str) -> Option<Said<String>> {
        self.given_text(key).value()
    }

    pub(super) fn flag(self, key: &str) -> Option<bool> {
        self.get(key)?.get_ref().as_bool()
    }

    /// Whether nothing of this list was reported.
    pub(super) fn is_whole(self, key: &str) -> bool {
        self.get(key).is_none_or(|value| {
            let items = value.get_ref().as_array().into_iter().flatten();
            self.is_good(value) && items.into_iter().all(|item| self.is_good(item))
        })
    }

    /// A list of strings: its place and its good items.
    pub(super) fn texts(self, key: &str) -> Option<Said<Vec<Said<String>>>> {
        let value = self.get(key).filter(|v| self.is_good(v))?;
        self.items(value)
    }

    pub(super) fn items(self, value: &Spanned<DeValue<'_>>) -> Option<Said<Vec<Said<String>>>> {
        let list = value.get_ref().as_array()?;
        let items = list.iter().filter_map(|item| self.said(item)).collect();
        Some(Spanned::new(value.span(), items))
    }

    /// A list of tables, each with its place; those that were reported are left out.
    pub(super) fn tables(self, key: &str) -> Option<Vec<(Range<usize>, Self)>> {
        let list = self.get(key).filter(|v| self.is_good(v))?;
        let items = list.get_ref().as_array()?.iter();
        let tables = items.filter(|item| item.get_ref().is_table() && self.is_good(item));
        Some(
            tables
                .map(|item| (item.span(), Self::new(item, self.reported)))
                .collect(),
        )
    }

    fn said(self, value: &Spanned<DeValue<'_>>) -> Option<Said<String>> {
        let text = value.get_ref().as_str().filter(|_| self.is_good(value))?;
        Some(Spanned::new(value.span(), text.to_owned()))
    }
}
