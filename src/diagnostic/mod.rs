//! What is wrong, where, and what to do about it, as plain data.
//!
//! Everything that a person wrote and got wrong (the manifest, a Dockerfile, a flag) becomes a [`Diagnostic`]. Rooms
//! collect as many as they can and return them together; only [`human`] turns them into text.

pub(crate) mod human;

use std::ops::Range;
use std::sync::Arc;

/// A text that diagnostics point into: a manifest, a Dockerfile, an ignore file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SourceText {
    /// The name to show, relative to where the user stands when that is possible.
    pub name: String,
    /// The whole text, UTF-8.
    pub text: String,
}

impl SourceText {
    pub(crate) fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            text: text.into(),
        })
    }

    /// The bytes of one line, counted from 1, without its line break; the end of the text when there are fewer.
    pub(crate) fn line_range(&self, line: usize) -> Range<usize> {
        let start = match line {
            0 | 1 => 0,
            n => self
                .text
                .match_indices('\n')
                .nth(n - 2)
                .map_or(self.text.len(), |(at, _)| at + 1),
        };
        let end = self.text[start..]
            .find('\n')
            .map_or(self.text.len(), |n| start + n);
        start..end
    }
}

/// A place in a [`SourceText`]: a byte range, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub source: Arc<SourceText>,
    pub range: Range<usize>,
}

impl Span {
    pub(crate) fn new(source: &Arc<SourceText>, range: Range<usize>) -> Self {
        Self {
            source: Arc::clone(source),
            range,
        }
    }
}

/// How bad it is. Errors decide exit codes; warnings never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// A place with what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub span: Span,
    /// May be empty: then only the caret is drawn.
    pub text: String,
    /// The place itself (`true`), or another one that explains it.
    pub primary: bool,
}

/// One finding. The title is a lower-case fragment that names what is wrong; helps say what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    pub severity: Severity,
    pub title: String,
    pub labels: Vec<Label>,
    /// Facts that explain it.
    pub notes: Vec<String>,
    /// Remedies: each one something that the reader can do.
    pub helps: Vec<String>,
}

impl Diagnostic {
    pub(crate) fn error(title: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            title: title.into(),
            labels: vec![],
            notes: vec![],
            helps: vec![],
        }
    }

    pub(crate) fn warning(title: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(title)
        }
    }

    /// Points at the place that is wrong.
    #[must_use]
    pub(crate) fn at(self, span: Span, text: impl Into<String>) -> Self {
        self.label(span, text, true)
    }

    /// Points at a place that explains it (the first definition, the other user).
    #[must_use]
    pub(crate) fn see(self, span: Span, text: impl Into<String>) -> Self {
        self.label(span, text, false)
    }

    #[must_use]
    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    #[must_use]
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.helps.push(text.into());
        self
    }

    fn label(mut self, span: Span, text: impl Into<String>, primary: bool) -> Self {
        self.labels.push(Label {
            span,
            text: text.into(),
            primary,
        });
        self
    }
}

/// The candidate nearest to `wrong`, when it is near enough to be what was meant.
///
/// Near enough: a Damerau-Levenshtein distance of at most a third of the longer word, upper and lower
/// case being the same.
pub(crate) fn nearest<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = wrong.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= wrong.chars().count().max(c.chars().count()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typos_and_refuses_strangers() {
        let names = ["train", "inference", "etl"];
        assert_eq!(nearest("trian", names), Some("train"));
        assert_eq!(nearest("Inferense", names), Some("inference"));
        assert_eq!(nearest("postgres", names), None);
    }

    #[test]
    fn lines_are_found_by_number() {
        let text = SourceText::new("Dockerfile", "FROM a\nRUN b\n");
        assert_eq!(&text.text[text.line_range(1)], "FROM a");
        assert_eq!(&text.text[text.line_range(2)], "RUN b");
        assert_eq!(text.line_range(9), 13..13);
    }
}
