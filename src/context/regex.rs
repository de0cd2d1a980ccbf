//! The part of Go's `regexp` syntax that patternmatcher can produce from a pattern.
//!
//! patternmatcher rewrites a pattern, character by character, into a regular expression. It does not know that it is
//! inside brackets or behind a backslash, so `[*]` becomes `[[^/]*]` and `\d` a digit. People's ignore files meet those
//! rules, not the documented ones; reading the expression that Go reads keeps them.

use std::iter::Peekable;
use std::str::Chars;

use super::matcher::{Assertion, Matcher, Set, Step};

/// Compiles an expression that has to match the whole text.
pub(super) fn compile(expression: &str) -> Result<Matcher, &'static str> {
    let mut steps = Vec::new();
    let mut rest = expression.chars().peekable();
    while let Some(c) = rest.next() {
        let set = match c {
            '^' => {
                steps.push(Step::Here(Assertion::Begin));
                continue;
            }
            '(' => {
                // `(.*/)?`: the only group there is.
                rest.by_ref().take(5).for_each(drop);
                steps.extend([Step::Optional, Step::Folders]);
                continue;
            }
            '\\' => match escape(&mut rest)? {
                Escape::Here(assertion) => {
                    steps.push(Step::Here(assertion));
                    continue;
                }
                Escape::Char(c) => Set::Char(c),
                Escape::Class { negated, ranges } => Set::Class {
                    negated,
                    ranges: ranges.to_vec(),
                },
            },
            '.' => Set::NotNewline,
            '[' => class(&mut rest)?,
            c => Set::Char(c),
        };
        steps.push(match rest.next_if_eq(&'*') {
            Some(_) => Step::Many(set),
            None => Step::One(set),
        });
    }
    Ok(Matcher::new(steps))
}

/// The part after `[`, with its `]`.
fn class(rest: &mut Peekable<Chars<'_>>) -> Result<Set, &'static str> {
    const UNCLOSED: &str = "a `[` has no `]`";
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Ok(Set::Class { negated, ranges });
        }
        let low = match rest.next().ok_or(UNCLOSED)? {
            '[' if rest.peek() == Some(&':') => return Err("`[:` inside `[…]` is not supported"),
            '\\' => match escape(rest)? {
                Escape::Char(c) => c,
                Escape::Class {
                    negated: false,
                    ranges: named,
                } => {
                    ranges.extend_from_slice(named);
                    continue;
                }
                _ => return Err(UNKNOWN_ESCAPE),
            },
            c => c,
        };
        let mut ahead = rest.clone();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
        let high = if is_range {
            rest.next();
            match rest.next().ok_or(UNCLOSED)? {
                '\\' => match escape(rest)? {
                    Escape::Char(c) => c,
                    _ => return Err(UNKNOWN_ESCAPE),
                },
                c => c,
            }
        } else {
            low
        };
        if high < low {
            return Err("a range inside `[…]` runs backwards");
        }
        ranges.push((low, high));
    }
}

const UNKNOWN_ESCAPE: &str =
    "a `\\` before this letter or digit has no meaning (the separator of folders is `/`)";

enum Escape {
    Char(char),
    Class {
        negated: bool,
        ranges: &'static [(char, char)],
    },
    Here(Assertion),
}

/// What stands after `\`. Go has more (`\x41`, `\pL`, `\Q`): nobody means those in an ignore file, so they are refused.
fn escape(rest: &mut Peekable<Chars<'_>>) -> Result<Escape, &'static str> {
    const DIGIT: &[(char, char)] = &[('0', '9')];
    const SPACE: &[(char, char)] = &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
    const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
    let class = |negated, ranges| Escape::Class { negated, ranges };
    Ok(
        match rest.next().ok_or("a `\\` must stand before a character")? {
            'd' => class(false, DIGIT),
            'D' => class(true, DIGIT),
            's' => class(false, SPACE),
            'S' => class(true, SPACE),
            'w' => class(false, WORD),
            'W' => class(true, WORD),
            'A' => Escape::Here(Assertion::Begin),
            'z' => Escape::Here(Assertion::End),
            'b' => Escape::Here(Assertion::WordBoundary),
            'B' => Escape::Here(Assertion::NoWordBoundary),
            'a' => Escape::Char('\u{7}'),
            'f' => Escape::Char('\u{c}'),
            'n' => Escape::Char('\n'),
            'r' => Escape::Char('\r'),
            't' => Escape::Char('\t'),
            'v' => Escape::Char('\u{b}'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Escape::Char(c),
            _ => return Err(UNKNOWN_ESCAPE),
        },
    )
}
