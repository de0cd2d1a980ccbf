//! One list of patterns, as `moby/patternmatcher` 0.6 reads it: the rules of `.dockerignore`.
//!
//! The last pattern that matches a path or one of its folders decides; `!` in front turns it round. `*` and `?` stop at
//! `/`, `**` does not. Case matters. Paths are relative, with `/`, and clean.

use super::ContextError;
use super::regex::{self, Expression};
use super::{glob, lexical};

/// One pattern of a list.
#[derive(Debug, Clone)]
struct Pattern {
    /// The pattern without `!`, as `filepath.Clean` leaves it.
    text: String,
    /// Whether it began with `!`.
    negated: bool,
    test: Test,
}

/// How a pattern is compared: patternmatcher's own shortcuts, which are part of its rules (`**x` also matches `ax`).
#[derive(Debug, Clone)]
enum Test {
    Exact,
    /// `a/**`: the text before the `**`.
    Prefix,
    /// `**/a`: the text after the `**`.
    Suffix,
    Expression(Expression),
    /// Accepted by the syntax check, refused as an expression: an error on the first path it is asked about.
    Malformed(&'static str),
}

impl Pattern {
    fn matches(&self, path: &str) -> Result<bool, ContextError> {
        Ok(match &self.test {
            Test::Exact => path == self.text,
            Test::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            Test::Suffix => {
                let suffix = &self.text[2..];
                path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path)
            }
            Test::Expression(expression) => expression.matches(path),
            Test::Malformed(reason) => {
                return Err(ContextError::Pattern {
                    pattern: self.text.clone(),
                    reason,
                });
            }
        })
    }

    /// The pattern up to a final `/*` or `/**`: what is left may be a plain path.
    fn without_trailing_glob(&self) -> &str {
        let text = self.text.strip_suffix("/**").unwrap_or(&self.text);
        text.strip_suffix("/*").unwrap_or(text)
    }
}

/// A list of patterns; later ones win.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    list: Vec<Pattern>,
    /// Whether each plain pattern, and each negated one, is a path as it stands, so that a prefix tells what it reaches.
    plain_are_paths: bool,
    negated_are_paths: bool,
}

/// Which patterns of a list matched a folder: what its contents inherit. Empty above the top.
pub(crate) type Inherited = Vec<bool>;

impl Patterns {
    /// Empty ones are left out. A malformed one is an error.
    pub(crate) fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, ContextError> {
        let mut list = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let trimmed = pattern.as_ref().trim();
            if !trimmed.is_empty() {
                list.push(parse(trimmed)?);
            }
        }
        let are_paths = |negated: bool| {
            list.iter().filter(|p| p.negated == negated).all(|p| {
                !p.without_trailing_glob()
                    .contains(['*', '[', ']', '?', '^', '\\'])
            })
        };
        Ok(Self {
            plain_are_paths: are_paths(false),
            negated_are_paths: are_paths(true),
            list,
        })
    }

    /// Whether `path` matches, when `parent` says what matched the folder it is in. `own` receives what its own contents
    /// inherit (patternmatcher: `MatchesUsingParentResults`).
    pub(crate) fn matches(
        &self,
        path: &str,
        parent: &Inherited,
        own: &mut Inherited,
    ) -> Result<bool, ContextError> {
        let mut matched = false;
        own.clear();
        for (index, pattern) in self.list.iter().enumerate() {
            // A pattern that could not change the answer is not asked, so it is not inherited either.
            let inherited = parent.get(index).copied().unwrap_or(false);
            let hit = inherited || (pattern.negated == matched && pattern.matches(path)?);
            own.push(hit);
            if hit {
                matched = !pattern.negated;
            }
        }
        Ok(matched)
    }

    /// Whether something below `folder` could match one of the plain patterns, or of the negated ones. Errs towards yes.
    pub(crate) fn reaches_below(&self, folder: &str, negated: bool) -> bool {
        let are_paths = if negated {
            self.negated_are_paths
        } else {
            self.plain_are_paths
        };
        !are_paths
            || self
                .list
                .iter()
                .filter(|p| p.negated == negated)
                .any(|p| is_below(p.without_trailing_glob(), folder))
    }
}

/// Whether `path` is `folder` or lies in it.
fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn parse(trimmed: &str) -> Result<Pattern, ContextError> {
    // Cleaned with its `!`: `!a/../b` is `b`, no longer an exception. So does Docker.
    let cleaned = lexical::clean(trimmed);
    let (negated, text) = match cleaned.strip_prefix('!') {
        Some(text) => (true, text),
        None => (false, cleaned.as_str()),
    };
    let malformed = |reason| ContextError::Pattern {
        pattern: trimmed.to_owned(),
        reason,
    };
    if text.is_empty() {
        return Err(malformed("a `!` must stand before a path"));
    }
    glob::compile(text).map_err(malformed)?;
    Ok(Pattern {
        test: compile(text),
        negated,
        text: text.to_owned(),
    })
}

/// Rewrites a pattern as patternmatcher's `compile` does.
fn compile(pattern: &str) -> Test {
    let mut expression = String::new();
    let mut test = Test::Exact;
    // What an expression is compiled from only once it is complete.
    let mut is_expression = false;
    let mut rest = pattern.chars().peekable();
    let mut first = true;
    while let Some(c) = rest.next() {
        let is_first = std::mem::replace(&mut first, false);
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_some() {
                    expression.push_str("(.*/)?");
                    is_expression = true;
                } else if matches!(test, Test::Exact) && !is_expression {
                    test = Test::Prefix;
                } else {
                    expression.push_str(".*");
                    is_expression = true;
                }
                if is_first {
                    test = Test::Suffix;
                    is_expression = false;
                }
            }
            '*' => {
                expression.push_str("[^/]*");
                is_expression = true;
            }
            '?' => {
                expression.push_str("[^/]");
                is_expression = true;
            }
            // Meant to be escaped as well are `|`, `{` and `}`; the bit map that says so has no room for them, so they
            // keep what they mean in an expression. Docker's client does what it does.
            '.' | '+' | '(' | ')' | '$' => expression.extend(['\\', c]),
            '\\' => {
                expression.push('\\');
                if let Some(escaped) = rest.next() {
                    expression.push(escaped);
                    is_expression = true;
                }
            }
            '[' | ']' => {
                expression.push(c);
                is_expression = true;
            }
            c => expression.push(c),
        }
    }
    if !is_expression {
        return test;
    }
    match regex::compile(&expression) {
        Ok(expression) => Test::Expression(expression),
        Err(reason) => Test::Malformed(reason),
    }
}

#[cfg(test)]
impl Patterns {
    /// Whether a path is matched when a walk comes to it from the top.
    pub(super) fn matches_from_top(&self, path: &str) -> bool {
        let (mut parent, mut own, mut hit) = (Vec::new(), Vec::new(), false);
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            hit = self.matches(&path[..end], &parent, &mut own).unwrap();
            std::mem::swap(&mut parent, &mut own);
        }
        hit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matched(patterns: &[&str], path: &str) -> bool {
        Patterns::parse(patterns).unwrap().matches_from_top(path)
    }

    #[test]
    fn single_patterns() {
        for (pattern, hits, misses) in [
            ("a", &["a", "a/b", "a/b/c"][..], &["b/a", "ab", "A"][..]),
            ("./a/", &["a", "a/b"], &["b/a"]),
            ("/a", &[], &["a"]),
            ("a/b/../c", &["a/c", "a/c/d"], &["a/b"]),
            ("*", &["a", ".git", "a/b"], &[]),
            ("*.py", &["a.py", ".py", "a.py/b"], &["a/b.py", "a.pyc"]),
            ("*/*.py", &["a/b.py"], &["b.py", "a/b/c.py"]),
            ("?", &["a", "é"], &["ab", ""]),
            ("**", &["a", "a/b"], &[]),
            ("**/", &["a"], &[]),
            ("**/*", &["a", "a/b/c"], &[]),
            ("**/a", &["a", "x/a", "x/y/a", "x/a/y"], &["xa", "ab"]),
            ("**a", &["a", "xa", "x/ya"], &["ab"]),
            ("**/*.py", &["a.py", "x/a.py", "x/y/.py"], &["a.pyc"]),
            ("**/a/**", &["a/b", "x/a/b"], &["a", "x/a", "b"]),
            ("a/**", &["a/b", "a/b/c"], &["a", "ab"]),
            ("a**", &["a", "ab", "a/b", "abc/d"], &["b", "ba"]),
            ("a**b", &["ab", "ax/b", "a/x/b"], &["axb"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "ab"]),
            ("a/**/**/b", &["a/b", "a/x/b"], &["a"]),
            ("a/*/b", &["a/x/b"], &["a/b", "a/x/y/b"]),
            ("***", &["a", "a/b"], &[]),
            ("****", &["a", "a/b"], &[]),
            ("[a-c]x", &["ax", "cx"], &["dx", "-x"]),
            ("[^a-c]x", &["dx", "/x"], &["ax"]),
            ("[!a]x", &["!x", "ax"], &["bx"]),
            ("a.b", &["a.b"], &["axb"]),
            ("a+(b)|{c}$", &["a+(b)|{c}$"], &["aa(b)"]),
            ("a^b", &["a^b"], &["ab"]),
            // Seen with Docker's client: alternatives and repetitions, where there is a wildcard too.
            ("a|b", &["a|b"], &["a", "b"]),
            ("?|b", &["x", "xyz", "ab", "b", "x/y"], &[""]),
            ("x*|*y|z", &["x", "xa/b", "b/ay/c", "az"], &["a", "zb"]),
            ("?|", &["a", "", "a/b"], &[]),
            ("?\\|b", &["a|b"], &["a", "b"]),
            ("?{2}", &["ab", "xy"], &["a", "abc", "x{2}"]),
            ("[ab]{1,2}c", &["ac", "bac"], &["c", "aaac"]),
            ("a{2,}?", &["aab", "aaaab"], &["ab", "a"]),
            ("a{0}?", &["b"], &["ab"]),
            ("{0}x?", &["xa", "bxa"], &["xab"]),
            ("{2}x?", &["xa"], &["bxa"]),
            ("?{,2}", &["a{,2}"], &["ab"]),
            ("?{02}{x}", &["a{02}{x}"], &["aa"]),
            ("\\b{2}a?", &["ab"], &["bab"]),
            ("*a^b", &[], &["a^b", "ab"]),
            ("\\*", &["*"], &["a"]),
            ("a\\ b", &["a b"], &["a\\ b"]),
            ("\\!a", &["!a"], &["a"]),
            ("a\\d", &["a1"], &["ad"]),
            ("a\\b", &["a"], &["ab", "a\\b"]),
            ("build\\bin", &[], &["build/bin", "buildbin", "build\\bin"]),
            ("é*", &["é", "éa"], &["e"]),
            (" a b ", &["a b"], &["a"]),
            ("[a\\]]", &["a", "]"], &["\\"]),
            // Read as the expression `[[^/]*]`.
            ("[*]", &["]", "[]", "^/]"], &["*", "a]"]),
            ("a[b]]", &["ab]"], &["ab"]),
        ] {
            for path in hits {
                assert!(matched(&[pattern], path), "{pattern} should match {path}");
            }
            for path in misses {
                assert!(
                    !matched(&[pattern], path),
                    "{pattern} should not match {path}"
                );
            }
        }
    }

    #[test]
    fn later_patterns_win() {
        for (patterns, hits, misses) in [
            (&["*", "!a"][..], &["b", "b/a"][..], &["a", "a/b"][..]),
            (&["!a", "*"], &["a", "b"], &[]),
            (&["a", "!a/b"], &["a", "a/c", "a/bc"], &["a/b", "a/b/c"]),
            (
                &["a", "!a/b", "a/b/c"],
                &["a", "a/b/c", "a/b/c/d"],
                &["a/b", "a/b/d"],
            ),
            (
                &["**/*.md", "!README.md"],
                &["a.md", "x/README.md"],
                &["README.md"],
            ),
            (
                &["*.md", "!README*.md", "README-s.md"],
                &["README-s.md"],
                &["README.md"],
            ),
            (&["*", "!**/*.py"], &["a", "a/b"], &["a.py", "a/b.py"]),
            (&["a/**", "!a/b/**"], &["a/c", "a/b"], &["a", "a/b/c"]),
            // Cleaned before the `!` is seen.
            (&["*", "!x/../a"], &["b", "x"], &[]),
            (&["*", "!x/../../a"], &["b"], &[]),
            (&["*", "!/a"], &["a"], &[]),
            (&["", "  ", "a"], &["a"], &["b"]),
        ] {
            for path in hits {
                assert!(matched(patterns, path), "{patterns:?} should match {path}");
            }
            for path in misses {
                assert!(
                    !matched(patterns, path),
                    "{patterns:?} should not match {path}"
                );
            }
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in ["!", "[", "a/[b", "[]", "[a-]", "a\\"] {
            assert!(Patterns::parse(&[pattern]).is_err(), "{pattern}");
        }
        let error = Patterns::parse(&["x/[b"]).unwrap_err().to_string();
        insta::assert_snapshot!(error, @"pattern `x/[b` is malformed: a `[` has no `]`; correct it in .dockerignore, or in the COPY or ADD that names it");
    }

    #[test]
    fn a_pattern_malformed_as_an_expression_fails_when_it_is_asked() {
        for pattern in [
            "*{2}",
            "?{2}{2}",
            "**/{2}x?",
            "?|{2}",
            "?{1001}",
            "?{2,1}",
            "a\\q",
            "[z-a]",
            "[[:alpha:]]",
            "a\\1",
            "src\\python",
        ] {
            let patterns = Patterns::parse(&["*", "!x", pattern]).unwrap();
            let mut own = Vec::new();
            assert!(
                patterns.matches("y", &Vec::new(), &mut own).is_ok(),
                "{pattern}"
            );
            assert!(
                patterns.matches("x", &Vec::new(), &mut own).is_err(),
                "{pattern}"
            );
        }
    }

    #[test]
    fn folders_that_no_path_pattern_reaches() {
        let patterns = Patterns::parse(&["a/b/**", "c/*", "!d/e"]).unwrap();
        assert!(patterns.reaches_below("a", false));
        assert!(patterns.reaches_below("a/b", false));
        assert!(!patterns.reaches_below("a/bc", false));
        assert!(patterns.reaches_below("c", false));
        assert!(!patterns.reaches_below("d", false));
        assert!(patterns.reaches_below("d", true));
        let wild = Patterns::parse(&["**/x", "!d/e"]).unwrap();
        assert!(wild.reaches_below("anything", false));
        assert!(!wild.reaches_below("anything", true));
    }

    proptest! {
        /// What matches a folder matches all that is in it, unless an exception says otherwise.
        #[test]
        fn contents_share_their_folder_s_fate(
            patterns in prop::collection::vec("[a-c*?/.\\[\\]-]{1,6}", 1..5),
            folder in "[a-c]{1,2}(/[a-c]{1,2}){0,2}",
            name in "[a-c]{1,2}",
        ) {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            prop_assume!(Patterns::parse(&patterns).is_ok());
            let any_malformed = Patterns::parse(&patterns).unwrap().list.iter().any(|p| matches!(p.test, Test::Malformed(_)));
            prop_assume!(!any_malformed);
            if matched(&patterns, &folder) {
                let path = format!("{folder}/{name}");
                prop_assert!(matched(&patterns, &path));
            }
        }

        #[test]
        fn no_pattern_panics(pattern in "\\PC{0,12}", wild in "[a-c!*?/.\\[\\]\\\\^-]{0,10}", path in "[a-c/\\n]{1,9}") {
            if let Ok(patterns) = Patterns::parse(&[pattern, wild]) {
                let _ = patterns.matches(&path, &Vec::new(), &mut Vec::new());
            }
        }
    }
}
