//! Go's `path/filepath.Match` for one name: `*`, `?`, `[a-z]`, `[^a-z]` and `\` before a character.
//!
//! fsutil matches the last name of a followed path with it, and patternmatcher asks it whether a pattern is well-formed.

use std::iter::Peekable;
use std::str::Chars;

use super::matcher::{Matcher, Set, Step};

/// Compiles a pattern, or says why it is malformed.
pub(super) fn compile(pattern: &str) -> Result<Matcher, &'static str> {
    let mut steps = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        steps.push(match c {
            '*' => Step::Many(Set::NotSeparator),
            '?' => Step::One(Set::NotSeparator),
            '[' => Step::One(class(&mut rest)?),
            '\\' => Step::One(Set::Char(
                rest.next().ok_or("a `\\` must stand before a character")?,
            )),
            c => Step::One(Set::Char(c)),
        });
    }
    Ok(Matcher::new(steps))
}

/// The part after `[`, with its `]`.
fn class(rest: &mut Peekable<Chars<'_>>) -> Result<Set, &'static str> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Ok(Set::Class { negated, ranges });
        }
        let low = class_char(rest)?;
        let high = match rest.next_if_eq(&'-') {
            Some(_) => class_char(rest)?,
            None => low,
        };
        ranges.push((low, high));
    }
}

fn class_char(rest: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    const UNCLOSED: &str = "a `[` has no `]`";
    let c = match rest.next().ok_or(UNCLOSED)? {
        '-' | ']' => return Err("a `-` or `]` inside `[…]` needs a `\\` before it"),
        '\\' => rest.next().ok_or(UNCLOSED)?,
        c => c,
    };
    // Go asks for something after each character of a class: at least the bracket that closes it.
    rest.peek().map(|_| c).ok_or(UNCLOSED)
}

/// Whether a name has a wildcard that is not behind a `\` (fsutil: `containsWildcards`).
pub(super) fn has_wildcards(name: &str) -> bool {
    let mut rest = name.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                rest.next();
            }
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_one_name() {
        for (pattern, name, expected) in [
            ("*.py", "a.py", true),
            ("*.py", ".py", true),
            ("*.py", "a.pyc", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*", "a/b", false),
            ("?", "é", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[\\-\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[!a]", "!", true),
            ("[*]", "*", true),
            ("a[b]]", "ab]", true),
        ] {
            let matcher = compile(pattern).unwrap();
            assert_eq!(matcher.matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for pattern in [
            "[", "[a", "[]", "[]a]", "[-a]", "[a-]", "[^", "a\\", "[\\", "[a-b-c]", "*[",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pathological_pattern_is_fast() {
        let matcher = compile(&"*a".repeat(200)).unwrap();
        assert!(!matcher.matches(&"a".repeat(199)));
        assert!(matcher.matches(&"a".repeat(4000)));
    }
}
