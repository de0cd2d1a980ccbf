//! One small automaton that decides whether a text matches as a whole. Go's two pattern languages are compiled to it
//! ([`super::glob`], [`super::regex`]).
//!
//! It runs in time linear in the text for each step: no pattern in a `.dockerignore` can make a walk hang.

/// A set of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Set {
    Char(char),
    /// Everything but `/`.
    NotSeparator,
    /// Go's `.`: everything but a newline.
    NotNewline,
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Set {
    fn contains(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::NotSeparator => c != '/',
            Self::NotNewline => c != '\n',
            Self::Any => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated
            }
        }
    }
}

/// What must hold between two characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assertion {
    Begin,
    End,
    WordBoundary,
    NoWordBoundary,
}

impl Assertion {
    fn holds(self, before: Option<char>, after: Option<char>) -> bool {
        let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        match self {
            Self::Begin => before.is_none(),
            Self::End => after.is_none(),
            Self::WordBoundary => word(before) != word(after),
            Self::NoWordBoundary => word(before) == word(after),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    One(Set),
    /// Any number of them, none too.
    Many(Set),
    /// The next step may be left out. Before [`Step::Folders`] they are `(.*/)?`.
    Optional,
    /// `.*/`.
    Folders,
    Here(Assertion),
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct Matcher {
    steps: Vec<Step>,
    /// Literal text that every match starts and ends with: most texts are refused by these alone.
    prefix: String,
    suffix: String,
}

impl Matcher {
    pub(super) fn new(steps: Vec<Step>) -> Self {
        let literal = |step: &Step| match step {
            Step::One(Set::Char(c)) => Some(*c),
            _ => None,
        };
        let prefix = steps.iter().map_while(literal).collect();
        let mut tail: Vec<char> = steps.iter().rev().map_while(literal).collect();
        tail.reverse();
        Self {
            prefix,
            suffix: tail.into_iter().collect(),
            steps,
        }
    }

    /// Whether the whole of `text` matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        if !text.starts_with(&self.prefix) || !text.ends_with(&self.suffix) {
            return false;
        }
        let mut now = States::new(self.steps.len());
        let mut next = States::new(self.steps.len());
        let mut rest = text.chars().peekable();
        self.enter(&mut now, 0, None, rest.peek().copied());
        while let Some(c) = rest.next() {
            let after = rest.peek().copied();
            for index in 0..now.list.len() {
                let state = now.list[index];
                match self.steps.get(state) {
                    Some(Step::One(set)) if set.contains(c) => {
                        self.enter(&mut next, state + 1, Some(c), after);
                    }
                    Some(Step::Many(set)) if set.contains(c) => {
                        self.enter(&mut next, state, Some(c), after);
                    }
                    Some(Step::Folders) if c != '\n' => {
                        self.enter(&mut next, state, Some(c), after);
                        if c == '/' {
                            self.enter(&mut next, state + 1, Some(c), after);
                        }
                    }
                    _ => {}
                }
            }
            std::mem::swap(&mut now, &mut next);
            next.clear();
            if now.list.is_empty() {
                return false;
            }
        }
        now.seen[self.steps.len()]
    }

    /// Adds `state` and all that is reached from it without a character.
    fn enter(&self, into: &mut States, state: usize, before: Option<char>, after: Option<char>) {
        into.open.push(state);
        while let Some(state) = into.open.pop() {
            if std::mem::replace(&mut into.seen[state], true) {
                continue;
            }
            into.list.push(state);
            match self.steps.get(state) {
                Some(Step::Many(_)) => into.open.push(state + 1),
                Some(Step::Optional) => into.open.extend([state + 1, state + 2]),
                Some(Step::Here(assertion)) if assertion.holds(before, after) => {
                    into.open.push(state + 1);
                }
                _ => {}
            }
        }
    }
}

/// States of the automaton, each at most once; the one past the last step is success.
struct States {
    list: Vec<usize>,
    seen: Vec<bool>,
    /// Scratch of [`Matcher::enter`], empty between calls.
    open: Vec<usize>,
}

impl States {
    fn new(steps: usize) -> Self {
        Self {
            list: Vec::new(),
            seen: vec![false; steps + 1],
            open: Vec::new(),
        }
    }

    fn clear(&mut self) {
        for state in self.list.drain(..) {
            self.seen[state] = false;
        }
    }
}
