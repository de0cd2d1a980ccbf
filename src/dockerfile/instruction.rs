//! One logical line as keyword, flags and arguments, as BuildKit's `splitCommand` and `extractBuilderFlags` do.

use std::ops::Range;

use super::line::Line;

/// An instruction of a Dockerfile, known or not: a newer frontend may know more of them.
#[derive(Debug, Clone)]
pub(crate) struct Instruction {
    /// In upper case.
    pub keyword: String,
    pub flags: Vec<Flag>,
    /// What an `ONBUILD` holds back for the stages and images built from this one.
    pub trigger: Option<Box<Instruction>>,
    line: Line,
    /// The part of the line after keyword and flags.
    arguments: Range<usize>,
}

/// `--name[=value]`, quotes and escapes removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag {
    pub name: String,
    pub value: Option<String>,
    /// The whole flag's bytes in the file.
    pub range: Range<usize>,
}

/// A piece of an instruction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub text: String,
    pub range: Range<usize>,
}

/// What separates words: every blank of one byte but the line break.
const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

impl Instruction {
    pub(super) fn new(line: Line, escape: char) -> Self {
        let mut instruction = Self::at(line, 0, escape);
        if instruction.keyword == "ONBUILD" && !instruction.arguments.is_empty() {
            let line = instruction.line.clone();
            let trigger = Self::at(line, instruction.arguments.start, escape);
            instruction.trigger = Some(Box::new(trigger));
        }
        instruction
    }

    /// The instruction that starts at this byte of the line.
    fn at(line: Line, start: usize, escape: char) -> Self {
        let text = &line.text[start..];
        let start = start + text.len() - text.trim_start().len();
        let end = line.text.trim_end().len().max(start);
        let text = &line.text[start..end];
        let keyword = text.find(BLANKS).map_or(text, |n| &text[..n]);
        let (flags, arguments) = flags(&line, start + keyword.len()..end, escape);
        Self {
            keyword: keyword.to_ascii_uppercase(),
            flags,
            trigger: None,
            line,
            arguments,
        }
    }

    /// The text after keyword and flags, continued lines joined, heredocs not included.
    pub(crate) fn arguments(&self) -> &str {
        &self.line.text[self.arguments.clone()]
    }

    /// The arguments split at blanks; quotes have no meaning here.
    pub(crate) fn words(&self) -> impl Iterator<Item = Word> {
        let mut at = self.arguments.start;
        self.arguments().split(BLANKS).filter_map(move |text| {
            let range = at..at + text.len();
            at = range.end + 1;
            (!text.is_empty()).then(|| Word {
                text: text.to_owned(),
                range: self.line.in_file(&range),
            })
        })
    }

    /// The flags of this name with their values.
    pub(crate) fn flags_named(&self, name: &str) -> impl Iterator<Item = (&Flag, &str)> {
        self.flags
            .iter()
            .filter(move |flag| flag.name == name)
            .filter_map(|flag| Some((flag, flag.value.as_deref()?)))
    }

    /// The bytes of the instruction in the file, its heredocs included.
    pub(crate) fn range(&self) -> Range<usize> {
        self.line.range.clone()
    }

    pub(super) fn ends_at(&mut self, end: usize) {
        self.line.range.end = end;
    }

    /// The line, where heredocs may be announced in it: the exec form has none.
    pub(super) fn heredoc_line(&self) -> Option<&str> {
        let instruction = self.trigger.as_deref().unwrap_or(self);
        let takes_them = matches!(instruction.keyword.as_str(), "ADD" | "COPY" | "RUN");
        let exec_form = || {
            let arguments = instruction.arguments();
            arguments.starts_with('[') && serde_json::from_str::<Vec<String>>(arguments).is_ok()
        };
        (takes_them && self.line.text.contains("<<") && !exec_form()).then_some(&self.line.text)
    }
}

/// The flags at the start of this part of the line, and what remains.
fn flags(line: &Line, part: Range<usize>, escape: char) -> (Vec<Flag>, Range<usize>) {
    let mut flags = Vec::new();
    let mut at = part.start;
    loop {
        let rest = &line.text[at..part.end];
        at += rest.len() - rest.trim_start().len();
        let rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, at..part.end);
        }
        let (word, length) = unquoted_word(rest, escape);
        let range = at..at + length;
        at = range.end;
        if word == "--" {
            let rest = &line.text[at..part.end];
            return (flags, at + rest.len() - rest.trim_start().len()..part.end);
        }
        let word = word.strip_prefix("--").unwrap_or(&word);
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        flags.push(Flag {
            name: name.to_owned(),
            value,
            range: line.in_file(&range),
        });
    }
}

/// The first word, its quotes and escapes removed, and its length in bytes as written.
fn unquoted_word(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, at),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ if c == escape => word.extend(chars.next().map(|(_, c)| c)),
            _ => word.push(c),
        }
    }
    (word, text.len())
}

#[cfg(test)]
mod tests {
    use super::super::line::Lines;
    use super::*;

    fn instruction(text: &str) -> Instruction {
        Instruction::new(Lines::new(text, '\\').logical().unwrap(), '\\')
    }

    #[test]
    fn flags_end_where_the_arguments_start() {
        let text = "copy --from=a \\\n  --link  x --from=b y";
        let copy = instruction(text);
        assert_eq!(copy.keyword, "COPY");
        let flags: Vec<_> = copy.flags.iter().map(|f| &text[f.range.clone()]).collect();
        assert_eq!(flags, ["--from=a", "--link"]);
        assert_eq!(copy.arguments(), "x --from=b y");
        let words: Vec<_> = copy.words().map(|w| &text[w.range.clone()]).collect();
        assert_eq!(words, ["x", "--from=b", "y"]);
    }

    #[test]
    fn quotes_keep_blanks_in_a_flag_and_vanish() {
        let run = instruction(r#"RUN --mount=type=bind,"target=/a b",from=c --x='q\'' ls"#);
        assert_eq!(
            run.flags[0].value.as_deref(),
            Some("type=bind,target=/a b,from=c")
        );
        assert_eq!(run.flags[1].value.as_deref(), Some("q'"));
        assert_eq!(instruction("RUN -- --x").arguments(), "--x");
    }

    #[test]
    fn a_trigger_is_an_instruction_of_its_own() {
        let onbuild = instruction("ONBUILD COPY --from=a x y");
        assert_eq!(onbuild.trigger.unwrap().flags[0].name, "from");
        assert!(instruction("ONBUILD").trigger.is_none());
    }

    #[test]
    fn the_exec_form_announces_no_heredoc() {
        assert!(instruction(r#"RUN ["a","<<EOF"]"#).heredoc_line().is_none());
        assert!(instruction("RUN [ -e x ] <<EOF").heredoc_line().is_some());
        assert!(instruction("ONBUILD RUN a <<EOF").heredoc_line().is_some());
        assert!(instruction("ENV A=<<EOF").heredoc_line().is_none());
    }
}
