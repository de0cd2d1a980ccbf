//! Walks a TOML tree along the schema: unknown keys, wrong types, wrong values.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Reported;
use super::grammar::{self, Refusal, Verdict};
use super::schema::{Key, Kind, MANIFEST};
use crate::diagnostic::{Diagnostic, SourceText, Span, nearest};

/// What the walk found.
#[derive(Default)]
pub(super) struct Findings {
    pub diagnostics: Vec<Diagnostic>,
    pub reported: Reported,
}

/// Checks the whole file against the schema.
pub(super) fn check(source: &Arc<SourceText>, root: &Spanned<DeValue<'_>>) -> Findings {
    let mut walk = Walk {
        source,
        findings: Findings::default(),
    };
    walk.value(&MANIFEST, &Place::default(), root);
    walk.findings
}

/// Where the walk stands.
#[derive(Clone, Default)]
struct Place {
    /// As people write it: `containers.train.args`.
    shown: String,
    /// The key that leads here.
    key: Range<usize>,
}

impl Place {
    fn child(&self, name: &str, key: Range<usize>) -> Self {
        let name = bare_or_quoted(name);
        let shown = match self.shown.as_str() {
            "" => name,
            table => format!("{table}.{name}"),
        };
        Self { shown, key }
    }
}

/// A key as it can stand in a TOML file.
fn bare_or_quoted(key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.is_empty() && key.bytes().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

struct Walk<'a> {
    source: &'a Arc<SourceText>,
    findings: Findings,
}

impl Walk<'_> {
    fn value(&mut self, kind: &Kind, place: &Place, value: &Spanned<DeValue<'_>>) {
        match (kind, value.get_ref()) {
            (Kind::Text(grammar), DeValue::String(text)) => {
                self.verdict(place, value, grammar(text));
            }
            (Kind::OneOf(choices), DeValue::String(text)) => {
                self.verdict(place, value, choice(choices, text));
            }
            (Kind::Scalar, DeValue::String(text)) => {
                self.verdict(place, value, grammar::no_nul(text));
            }
            // `1_000` or `0x10` could mean the text or the number.
            (Kind::Scalar, DeValue::Integer(number)) if self.raw(value) == number.as_str() => {}
            (Kind::Bool | Kind::Scalar, DeValue::Boolean(_))
            | (Kind::Integer, DeValue::Integer(_)) => {}
            (Kind::Filled(_), DeValue::Array(items)) if items.is_empty() => {
                self.verdict(place, value, grammar::not_empty(""));
            }
            (Kind::List(of) | Kind::Filled(of), DeValue::Array(items)) => {
                items.iter().for_each(|item| self.value(of, place, item));
            }
            (Kind::Table(keys), DeValue::Table(table)) => self.table(keys, place, table),
            (Kind::Map(grammar, of), DeValue::Table(table)) => {
                for (key, value) in table {
                    let child = place.child(key.get_ref(), key.span());
                    if let Err(refusal) = grammar(key.get_ref()) {
                        self.wrong_key(&child, refusal);
                        self.refuse(value);
                    }
                    self.value(of, &child, value);
                }
            }
            _ => self.wrong_type(kind, place, value),
        }
    }

    fn table(&mut self, keys: &[Key], place: &Place, table: &DeTable<'_>) {
        for (key, value) in table {
            match keys.iter().find(|k| k.name == key.get_ref()) {
                Some(known) => {
                    let child = place.child(known.name, key.span());
                    self.value(&known.kind, &child, value);
                }
                None => self.unknown_key(place, keys, key.get_ref(), key.span()),
            }
        }
    }

    fn unknown_key(&mut self, place: &Place, keys: &[Key], wrong: &str, at: Range<usize>) {
        let shown = place.child(wrong, 0..0).shown;
        let home = match place.shown.as_str() {
            "" => "the manifest".to_owned(),
            table => format!("`[{table}]`"),
        };
        let known: Vec<&str> = keys.iter().map(|k| k.name).collect();
        let help = match nearest(wrong, known.iter().copied()) {
            Some(meant) => {
                let path = place.child(meant, 0..0).shown;
                self.findings.reported.meant.insert(path);
                format!("did you mean `{meant}`?")
            }
            None => format!("keys of {home}: {}", known.join(", ")),
        };
        let diagnostic = Diagnostic::error(format!("unknown key `{shown}`"))
            .at(Span::new(self.source, at), format!("not a key of {home}"))
            .help(help);
        self.findings.diagnostics.push(diagnostic);
    }

    fn wrong_key(&mut self, place: &Place, refusal: Refusal) {
        let diagnostic = Diagnostic::error(format!("wrong name in `{}`", place.shown))
            .at(Span::new(self.source, place.key.clone()), refusal.why);
        self.findings
            .diagnostics
            .push(with_help(diagnostic, refusal.help));
    }

    fn verdict(&mut self, place: &Place, value: &Spanned<DeValue<'_>>, verdict: Verdict) {
        if let Err(refusal) = verdict {
            let diagnostic = Diagnostic::error(format!("wrong value for `{}`", place.shown))
                .at(Span::new(self.source, value.span()), refusal.why);
            self.report(with_help(diagnostic, refusal.help), value);
        }
    }

    fn wrong_type(&mut self, kind: &Kind, place: &Place, value: &Spanned<DeValue<'_>>) {
        let expected = expected(kind);
        let found = found(value.get_ref());
        let diagnostic = Diagnostic::error(format!("wrong type for `{}`", place.shown)).at(
            Span::new(self.source, value.span()),
            format!("expected {expected}, found {found}"),
        );
        let help = self.other_type(kind, value);
        self.report(with_help(diagnostic, help), value);
    }

    /// How to write what was meant, when that can be seen.
    fn other_type(&self, kind: &Kind, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let raw = self.raw(value);
        match (kind, value.get_ref()) {
            (Kind::List(_) | Kind::Filled(_), DeValue::String(_)) => {
                Some(format!("write `[{raw}]`"))
            }
            (_, DeValue::Table(_) | DeValue::Array(_)) => None,
            (Kind::Scalar, _) => Some(format!("quote it, so that it stays as written: \"{raw}\"")),
            (Kind::Text(_) | Kind::OneOf(_), _) => Some(format!("quote it: \"{raw}\"")),
            (Kind::Bool, DeValue::String(text)) if matches!(text.as_ref(), "true" | "false") => {
                Some(format!("write `{text}` without the quotes"))
            }
            (Kind::Integer, DeValue::String(text)) if text.parse::<u32>().is_ok() => {
                Some(format!("write `{text}` without the quotes"))
            }
            _ => None,
        }
    }

    fn raw(&self, value: &Spanned<DeValue<'_>>) -> &str {
        self.source.text.get(value.span()).unwrap_or_default()
    }

    fn report(&mut self, diagnostic: Diagnostic, value: &Spanned<DeValue<'_>>) {
        self.findings.diagnostics.push(diagnostic);
        self.refuse(value);
    }

    fn refuse(&mut self, value: &Spanned<DeValue<'_>>) {
        let place = value.span();
        self.findings
            .reported
            .refused
            .insert((place.start, place.end));
    }
}

fn with_help(diagnostic: Diagnostic, help: Option<String>) -> Diagnostic {
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

fn choice(choices: &[&'static str], text: &str) -> Verdict {
    if choices.contains(&text) {
        return Ok(());
    }
    let quoted: Vec<String> = choices.iter().map(|c| format!("\"{c}\"")).collect();
    Err(Refusal {
        why: format!("expected one of {}", quoted.join(", ")),
        help: nearest(text, choices.iter().copied()).map(|c| format!("did you mean \"{c}\"?")),
    })
}

fn expected(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text(_) | Kind::OneOf(_) => "a string",
        Kind::Bool => "true or false",
        Kind::Integer => "an integer",
        Kind::Scalar => "a string, an integer or a boolean",
        Kind::List(Kind::Table(..)) => "a list of tables",
        Kind::List(_) | Kind::Filled(_) => "a list of strings",
        Kind::Table(..) | Kind::Map(..) => "a table",
    }
}

fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
