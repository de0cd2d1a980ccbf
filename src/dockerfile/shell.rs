//! The shell-like words of Dockerfiles: quotes, escapes and `$variables`, as BuildKit's `shell.Lex` reads them.

use std::iter::Peekable;
use std::str::Chars;

use super::pattern::{self, End};

/// What is known of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    Set(String),
    Unset,
    /// It has a value that cannot be known here.
    Unknown,
}

/// How to read a word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub escape: char,
    /// Leave quotes and escape characters standing.
    pub keep_quotes: bool,
    /// Leave variables that are not set standing; else they become nothing.
    pub keep_unset: bool,
}

/// A word that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    pub text: String,
    /// The text split at blanks that were neither quoted nor escaped.
    pub words: Vec<String>,
    /// The variables that were not set and became nothing.
    pub unset: Vec<String>,
}

/// Why a word cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("{0}")]
    Syntax(&'static str),
    #[error("{0}: {1}")]
    Required(String, String),
    #[error("the value of `{0}` is not known before the build")]
    Unknown(String),
    #[error("{0}")]
    Unsupported(&'static str),
}

/// Expressions nested deeper than this are refused rather than followed.
const DEEPEST: usize = 64;

/// Reads a word, asking `lookup` for its variables.
pub(super) fn expand(
    word: &str,
    rules: Rules,
    lookup: &dyn Fn(&str) -> Variable,
) -> Result<Expanded, Problem> {
    let mut lexer = Lexer {
        rest: word.chars().peekable(),
        rules,
        keep_escapes: rules.keep_quotes,
        lookup,
        unset: Vec::new(),
        depth: 0,
    };
    let mut text = lexer.until(None)?;
    text.end_word();
    Ok(Expanded {
        text: text.all,
        words: text.words,
        unset: lexer.unset,
    })
}

/// Text that grows, whole and word by word.
#[derive(Default)]
struct Text {
    all: String,
    words: Vec<String>,
    word: String,
}

impl Text {
    /// Adds text whose blanks separate words.
    fn push(&mut self, text: &str) {
        self.all.push_str(text);
        for c in text.chars() {
            if c.is_whitespace() {
                self.end_word();
            } else {
                self.word.push(c);
            }
        }
    }

    /// Adds text whose blanks are part of the word.
    fn push_quoted(&mut self, text: &str) {
        self.all.push_str(text);
        self.word.push_str(text);
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    rules: Rules,
    keep_escapes: bool,
    lookup: &'a dyn Fn(&str) -> Variable,
    unset: Vec<String>,
    depth: usize,
}

impl Lexer<'_> {
    /// Reads up to the end character, which is consumed, or to the end of the text when there is none.
    fn until(&mut self, end: Option<char>) -> Result<Text, Problem> {
        let mut text = Text::default();
        while let Some(c) = self.rest.next() {
            if Some(c) == end {
                return Ok(text);
            }
            match c {
                '\'' => text.push_quoted(&self.single_quoted()?),
                '"' => text.push_quoted(&self.double_quoted()?),
                '$' => text.push(&self.dollar()?),
                '<' => text.push_quoted(&self.less_than()),
                c if c == self.rules.escape => {
                    if self.keep_escapes {
                        text.push_quoted(c.encode_utf8(&mut [0; 4]));
                    }
                    if let Some(c) = self.rest.next() {
                        text.push_quoted(c.encode_utf8(&mut [0; 4]));
                    }
                }
                c => text.push(c.encode_utf8(&mut [0; 4])),
            }
        }
        match end {
            Some(_) => Err(Problem::Syntax("a `${` has no closing `}`")),
            None => Ok(text),
        }
    }

    fn single_quoted(&mut self) -> Result<String, Problem> {
        let mut text = self.quote('\'');
        loop {
            match self.rest.next() {
                Some('\'') => return Ok(text + &self.quote('\'')),
                Some(c) => text.push(c),
                None => return Err(Problem::Syntax("a single quote is not closed")),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, Problem> {
        let mut text = self.quote('"');
        loop {
            match self.rest.next() {
                Some('"') => return Ok(text + &self.quote('"')),
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == self.rules.escape => {
                    if self.keep_escapes {
                        text.push(c);
                    }
                    // Within quotes only these are escaped; before any other character the escape stands for itself.
                    match self.rest.peek() {
                        Some(&next) if matches!(next, '"' | '$') || next == c => {
                            text.push(next);
                            self.rest.next();
                        }
                        Some(_) => text.push(c),
                        None => {}
                    }
                }
                Some(c) => text.push(c),
                None => return Err(Problem::Syntax("a double quote is not closed")),
            }
        }
    }

    fn quote(&self, quote: char) -> String {
        if self.rules.keep_quotes {
            quote.to_string()
        } else {
            String::new()
        }
    }

    /// `<`, or `<<` with the blanks behind it, which do not end the word: a heredoc's name may stand apart.
    fn less_than(&mut self) -> String {
        let mut text = String::from("<");
        if self.rest.next_if_eq(&'<').is_some() {
            text.push('<');
            while let Some(c) = self.rest.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                text.push(c);
            }
        }
        text
    }

    /// What follows a `$`.
    fn dollar(&mut self) -> Result<String, Problem> {
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            return if name.is_empty() {
                Ok("$".into())
            } else {
                Ok(self.value(&name)?.unwrap_or_else(|| format!("${name}")))
            };
        }
        if let None | Some('{' | '}' | ':') = self.rest.peek() {
            return Err(Problem::Syntax("bad substitution: `${` needs a name"));
        }
        let name = self.name();
        match self.rest.next() {
            Some('}') => Ok(self.value(&name)?.unwrap_or_else(|| format!("${{{name}}}"))),
            Some(':') => match self.rest.next() {
                Some(operator @ ('-' | '+' | '?')) => self.operator(&name, operator, true),
                _ => Err(Problem::Unsupported("this form of `${}` does not exist")),
            },
            Some(operator @ ('-' | '+' | '?' | '#' | '%')) => self.operator(&name, operator, false),
            Some('/') => self.replace(&name),
            _ => Err(Problem::Unsupported("this form of `${}` does not exist")),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        let special = |c: &char| matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!');
        if let Some(c) = self.rest.next_if(special) {
            return c.to_string();
        }
        let digits_only = self.rest.peek().is_some_and(char::is_ascii_digit);
        while let Some(c) = self
            .rest
            .next_if(|c| c.is_ascii_digit() || (!digits_only && (c.is_alphabetic() || *c == '_')))
        {
            name.push(c);
        }
        name
    }

    /// The value of a variable; `None` when it is to be left standing.
    fn value(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match (self.lookup)(name) {
            Variable::Set(value) => Ok(Some(value)),
            Variable::Unset if self.rules.keep_unset => Ok(None),
            Variable::Unset => {
                self.unset.push(name.to_owned());
                Ok(Some(String::new()))
            }
            Variable::Unknown => Err(Problem::Unknown(name.to_owned())),
        }
    }

    /// The part of a `${name…}` up to this character.
    fn operand(&mut self, end: char, keep_escapes: bool) -> Result<String, Problem> {
        if self.depth == DEEPEST {
            return Err(Problem::Unsupported("`${}` nested too deeply"));
        }
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        self.depth += 1;
        let text = self.until(Some(end));
        self.depth -= 1;
        self.keep_escapes = outer;
        Ok(text?.all)
    }

    /// `${name-word}` and its kin; with a colon, an empty value counts as unset.
    fn operator(&mut self, name: &str, operator: char, colon: bool) -> Result<String, Problem> {
        let pattern = matches!(operator, '#' | '%');
        let word = self.operand('}', pattern)?;
        let value = match (self.lookup)(name) {
            Variable::Unknown => return Err(Problem::Unknown(name.to_owned())),
            Variable::Unset if self.rules.keep_unset => {
                let colon = if colon { ":" } else { "" };
                return Ok(format!("${{{name}{colon}{operator}{word}}}"));
            }
            Variable::Unset => None,
            Variable::Set(value) => Some(value),
        };
        let filled = value.clone().filter(|v| !(colon && v.is_empty()));
        match operator {
            '-' => Ok(filled.unwrap_or(word)),
            '+' => Ok(filled.map(|_| word).unwrap_or_default()),
            '?' => filled.ok_or_else(|| {
                let message = if word.is_empty() {
                    "is required and has no value".to_owned()
                } else {
                    word
                };
                Problem::Required(name.to_owned(), message)
            }),
            _ => {
                if value.is_none() {
                    self.unset.push(name.to_owned());
                }
                let end = if operator == '#' {
                    End::Front
                } else {
                    End::Back
                };
                let (longest, word) = match word.strip_prefix(operator) {
                    Some(word) => (true, word),
                    None => (false, word.as_str()),
                };
                pattern::trim(&value.unwrap_or_default(), word, end, longest)
                    .ok_or(Problem::Syntax("invalid escape in the pattern of a `${}`"))
            }
        }
    }

    /// `${name/pattern/text}`: read over, never evaluated, since nobody names images so.
    fn replace(&mut self, name: &str) -> Result<String, Problem> {
        let slash = if self.rest.next_if_eq(&'/').is_some() {
            "//"
        } else {
            "/"
        };
        let pattern = self.operand('/', true)?;
        let text = self.operand('}', true)?;
        match (self.lookup)(name) {
            Variable::Unset if self.rules.keep_unset => {
                Ok(format!("${{{name}{slash}{pattern}/{text}}}"))
            }
            _ => Err(Problem::Unsupported("`${name/…/…}` is not evaluated here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Variable {
        match name {
            "A" => Variable::Set("a".into()),
            "EMPTY" => Variable::Set(String::new()),
            "IMAGE" => Variable::Set("host/team/base:1.2.3".into()),
            "LATER" => Variable::Unknown,
            _ => Variable::Unset,
        }
    }

    fn read(word: &str) -> Result<Expanded, Problem> {
        let rules = Rules {
            escape: '\\',
            keep_quotes: false,
            keep_unset: false,
        };
        expand(word, rules, &lookup)
    }

    #[test]
    fn variables_are_replaced_in_every_form() {
        for (word, text) in [
            ("x$A-${A}", "xa-a"),
            ("${A:-d}${NO:-d}${EMPTY:-d}", "add"),
            ("${A-d}${NO-d}${EMPTY-d}", "ad"),
            ("${A:+y}${NO:+y}${EMPTY:+y}", "y"),
            ("${A+y}${NO+y}${EMPTY+y}", "yy"),
            ("${A:?e}${A?e}${EMPTY?e}", "aa"),
            ("${NO:-${NO:-$A}x}", "ax"),
            ("${IMAGE#*/}", "team/base:1.2.3"),
            ("${IMAGE##*/}", "base:1.2.3"),
            ("${IMAGE%.*}", "host/team/base:1.2"),
            ("${IMAGE%%.*}", "host/team/base:1"),
            ("${IMAGE#team}", "host/team/base:1.2.3"),
            ("$$A$", "A$"),
            ("$A_$A", "a"),
        ] {
            assert_eq!(read(word).map(|e| e.text).as_deref(), Ok(text), "{word}");
        }
    }

    #[test]
    fn quotes_and_escapes_work_as_in_a_shell() {
        for (word, text) in [
            ("'$A'\"$A\"", "$Aa"),
            (r"\$A\\", r"$A\"),
            (r#""\$A\"\x""#, r#"$A"\x"#),
            (r"a\", "a"),
        ] {
            assert_eq!(read(word).map(|e| e.text).as_deref(), Ok(text), "{word}");
        }
    }

    #[test]
    fn what_was_not_set_is_remembered_unless_a_default_stood_in() {
        assert_eq!(read("$NO${NO2:-x}${NO3#x}").unwrap().unset, ["NO", "NO3"]);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for word in [
            "'a", "\"a", "${", "${}", "${:x}", "${A", "${A:-x", "${A:#x}", "${A^}", r"${A#\x}",
        ] {
            assert!(read(word).is_err(), "{word}");
        }
        assert_eq!(read("${NO:?say it}").unwrap_err().to_string(), "NO: say it");
        assert!(read("${EMPTY:?}").is_err());
        assert!(matches!(read("$LATER"), Err(Problem::Unknown(_))));
        assert!(matches!(read("${LATER:-x}"), Err(Problem::Unknown(_))));
        assert!(matches!(read("${A/a/b}"), Err(Problem::Unsupported(_))));
        let deep = "${NO:-".repeat(100_000);
        assert!(matches!(read(&deep), Err(Problem::Unsupported(_))));
    }

    proptest! {
        #[test]
        fn text_without_special_characters_stays(text in r#"[^$\\'"]*"#) {
            prop_assert_eq!(read(&text).unwrap().text, text);
        }

        #[test]
        fn nothing_makes_it_panic(text in r#"([$\\'"{}:#%/?+<A -]|\PC)*"#, keep_quotes: bool, keep_unset: bool) {
            let _ = expand(&text, Rules { escape: '\\', keep_quotes, keep_unset }, &lookup);
        }
    }
}
