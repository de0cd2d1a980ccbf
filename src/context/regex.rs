//! The part of Go's `regexp` syntax that patternmatcher can produce from a pattern.
//!
//! patternmatcher rewrites a pattern, character by character, into a regular expression. It does not know that it is
//! inside brackets or behind a backslash, so `[*]` becomes `[[^/]*]` and `\d` a digit. People's ignore files meet those
//! rules, not the documented ones; reading the expression that Go reads keeps them.

use std::iter::Peekable;
use std::str::Chars;

use super::matcher::{Assertion, Matcher, Set, Step};

/// A compiled expression.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    branches: Vec<Matcher>,
}

impl Expression {
    pub(super) fn matches(&self, text: &str) -> bool {
        self.branches.iter().any(|branch| branch.matches(text))
    }
}

/// Compiles an expression that patternmatcher puts between `^` and `$`. It has to match the whole text, unless it has a
/// `|`: the two then hold for the first and the last branch, and the rest is looked for anywhere.
pub(super) fn compile(expression: &str) -> Result<Expression, &'static str> {
    let mut branches = Vec::new();
    let mut branch = Branch::new(true);
    let mut rest = expression.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '|' {
            branches.push(std::mem::replace(&mut branch, Branch::new(false)).matcher(false));
        } else {
            branch.add(c, &mut rest)?;
        }
    }
    branches.push(branch.matcher(true));
    Ok(Expression { branches })
}

/// What stands between two `|`.
struct Branch {
    steps: Vec<Step>,
    /// Nothing may come before it.
    anchored: bool,
    /// What a `{n}` would repeat.
    operand: Operand,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operand {
    Nothing,
    /// The `^` of patternmatcher.
    Begin,
    /// The last step.
    Step,
    /// Something that is repeated already: Go refuses to do it again.
    Repeated,
}

impl Branch {
    fn new(first: bool) -> Self {
        Self {
            steps: Vec::new(),
            anchored: first,
            operand: if first {
                Operand::Begin
            } else {
                Operand::Nothing
            },
        }
    }

    /// Adds what begins with this character.
    fn add(&mut self, c: char, rest: &mut Peekable<Chars<'_>>) -> Result<(), &'static str> {
        let set = match c {
            '^' => return self.push(Step::Here(Assertion::Begin), Operand::Step),
            '(' => {
                // `(.*/)?`: the only group there is.
                rest.by_ref().take(5).for_each(drop);
                self.steps.push(Step::Optional);
                return self.push(Step::Folders, Operand::Repeated);
            }
            '{' => match Times::read(rest)? {
                Some(times) => return self.repeat(times),
                None => Set::Char('{'),
            },
            '\\' => match escape(rest)? {
                Escape::Here(assertion) => return self.push(Step::Here(assertion), Operand::Step),
                Escape::Char(c) => Set::Char(c),
                Escape::Class { negated, ranges } => Set::Class {
                    negated,
                    ranges: ranges.to_vec(),
                },
            },
            '.' => Set::NotNewline,
            '[' => class(rest)?,
            c => Set::Char(c),
        };
        match rest.next_if_eq(&'*') {
            Some(_) => self.push(Step::Many(set), Operand::Repeated),
            None => self.push(Step::One(set), Operand::Step),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "what the callers return")]
    fn push(&mut self, step: Step, operand: Operand) -> Result<(), &'static str> {
        self.steps.push(step);
        self.operand = operand;
        Ok(())
    }

    fn repeat(&mut self, times: Times) -> Result<(), &'static str> {
        match std::mem::replace(&mut self.operand, Operand::Repeated) {
            Operand::Nothing => return Err("nothing stands before `{…}` that it could repeat"),
            Operand::Repeated => return Err("`{…}` cannot repeat what is repeated already"),
            Operand::Begin => self.anchored &= times.least > 0,
            Operand::Step => match self.steps.pop() {
                Some(Step::One(set)) => {
                    let one = || Step::One(set.clone());
                    self.steps.extend((0..times.least).map(|_| one()));
                    match times.most {
                        Some(most) => {
                            let more = (times.least..most).flat_map(|_| [Step::Optional, one()]);
                            self.steps.extend(more);
                        }
                        None => self.steps.push(Step::Many(set)),
                    }
                }
                // Asserting it twice is asserting it.
                step => self.steps.extend(step.filter(|_| times.least > 0)),
            },
        }
        Ok(())
    }

    fn matcher(mut self, last: bool) -> Matcher {
        if !self.anchored {
            self.steps.insert(0, Step::Many(Set::Any));
        }
        if !last {
            self.steps.push(Step::Many(Set::Any));
        }
        Matcher::new(self.steps)
    }
}

/// `{n}`, `{n,}` or `{n,m}`, which patternmatcher lets through though it means to escape it.
#[derive(Clone, Copy)]
struct Times {
    least: u32,
    most: Option<u32>,
}

impl Times {
    /// What Go allows.
    const MOST: u32 = 1000;

    /// Reads the part after `{`. `None`: it means itself, as in `{a}`, `{,2}` and `{01}`.
    fn read(rest: &mut Peekable<Chars<'_>>) -> Result<Option<Self>, &'static str> {
        let mut ahead = rest.clone();
        let Some(least) = number(&mut ahead) else {
            return Ok(None);
        };
        let most = match ahead.next_if_eq(&',') {
            None => Some(least),
            Some(_) if ahead.peek() == Some(&'}') => None,
            Some(_) => match number(&mut ahead) {
                Some(most) => Some(most),
                None => return Ok(None),
            },
        };
        if ahead.next() != Some('}') {
            return Ok(None);
        }
        *rest = ahead;
        if least.max(most.unwrap_or(0)) > Self::MOST || most.is_some_and(|most| most < least) {
            return Err("the numbers of `{…}` are too large, or the second is less than the first");
        }
        Ok(Some(Self { least, most }))
    }
}

/// A number without leading zeros; what is too large stays too large.
fn number(rest: &mut Peekable<Chars<'_>>) -> Option<u32> {
    let first = rest.next()?.to_digit(10)?;
    let mut number = first;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
        if first == 0 {
            return None;
        }
        rest.next();
        number = number.saturating_mul(10).saturating_add(digit);
    }
    Some(number)
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
