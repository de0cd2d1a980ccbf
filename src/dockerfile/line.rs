//! Physical lines to logical ones, as BuildKit's `parser.Parse` does: comments dropped, continued lines joined, and
//! every character of the result still knows its place in the file.

use std::ops::Range;

/// One instruction's text, with the way back to the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub text: String,
    /// The bytes from its first to its last physical line; the bodies of heredocs included once they are read.
    pub range: Range<usize>,
    /// Where each joined piece starts: in `text`, in the file.
    pieces: Vec<(usize, usize)>,
}

impl Line {
    fn push(&mut self, piece: &str, at: usize) {
        if self.pieces.is_empty() {
            self.range.start = at;
        }
        self.range.end = at + piece.len();
        self.pieces.push((self.text.len(), at));
        self.text.push_str(piece);
    }

    /// The file's bytes for a range of `text`.
    pub(super) fn in_file(&self, range: &Range<usize>) -> Range<usize> {
        let place = |at: usize| {
            let next = self.pieces.partition_point(|(start, _)| *start <= at);
            self.pieces
                .get(next.saturating_sub(1))
                .map_or(0, |(start, file)| file + (at - start))
        };
        // The end is measured from the last character: the one after it may stand on another line.
        match range.end.checked_sub(1) {
            Some(last) if last >= range.start => place(range.start)..place(last) + 1,
            _ => place(range.start)..place(range.start),
        }
    }
}

/// Hands out lines of a text, physical or logical.
pub(super) struct Lines<'a> {
    text: &'a str,
    at: usize,
    escape: char,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str, escape: char) -> Self {
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self { text, at, escape }
    }

    /// The next physical line without its line break, and where it starts.
    pub(super) fn physical(&mut self) -> Option<(usize, &'a str)> {
        let start = self.at;
        let rest = self.text.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |n| n + 1);
        self.at += length;
        Some((start, rest[..length].trim_end_matches(['\r', '\n'])))
    }

    /// The next line that holds an instruction, continuations joined.
    pub(super) fn logical(&mut self) -> Option<Line> {
        let mut line = Line::default();
        while let Some((at, physical)) = self.physical() {
            let first = line.pieces.is_empty();
            if is_comment(physical) || physical.trim_start().is_empty() {
                continue;
            }
            // Leading blanks of the first line are not part of the instruction; those of later ones are.
            let piece = if first {
                physical.trim_start()
            } else {
                physical
            };
            let at = at + physical.len() - piece.len();
            let continued = self.continued(piece);
            line.push(continued.unwrap_or(piece), at);
            if continued.is_none() {
                return Some(line);
            }
        }
        (!line.pieces.is_empty()).then_some(line)
    }

    /// The line without its continuation mark, if it has one. A doubled escape character is none.
    fn continued<'l>(&self, line: &'l str) -> Option<&'l str> {
        line.trim_end_matches([' ', '\t'])
            .strip_suffix(self.escape)
            .filter(|rest| !rest.ends_with(self.escape))
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The escape character that the parser directives at the top set, or the place and reason why they are wrong.
///
/// Directives are `# name=value` comments before anything else; the first line that is none ends them.
pub(super) fn escape_directive(text: &str) -> Result<char, (Range<usize>, &'static str)> {
    let mut escape = '\\';
    let mut seen: Vec<String> = Vec::new();
    let mut lines = Lines::new(text, escape);
    while let Some((at, line)) = lines.physical() {
        let Some((name, value)) = directive(line) else {
            break;
        };
        let range = at..at + line.len();
        if seen.contains(&name) {
            return Err((range, "this parser directive stands here twice"));
        }
        if name == "escape" {
            escape = match value {
                "\\" => '\\',
                "`" => '`',
                _ => return Err((range, "the escape character is \\ or `")),
            };
        }
        seen.push(name);
    }
    Ok(escape)
}

/// The image of the frontend that `# syntax=` names.
///
/// BuildKit's `DetectSyntax` (v0.32.2, `parser/directives.go`) finds it in a comment of `#` or `//` at the top, a shebang before
/// it or not, and in a JSON object; any line that looks like one counts here.
pub(crate) fn syntax_directive(text: &str) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Ok(serde_json::Value::Object(file)) = serde_json::from_str(text) {
        return Some(file.get("syntax")?.as_str()?.to_owned());
    }
    let mut lines = text.lines().peekable();
    lines.next_if(|line| line.starts_with("#!"));
    lines
        .map(str::trim)
        .take_while(|line| line.starts_with('#') || line.starts_with("//"))
        .find_map(|line| {
            let line = line.strip_prefix("//").or(line.strip_prefix('#'))?;
            let (name, value) = line.split_once('=')?;
            // What follows the image's name are arguments for the frontend.
            let image = value.split_whitespace().next()?;
            (name.trim().eq_ignore_ascii_case("syntax")).then(|| image.to_owned())
        })
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let known = matches!(name.as_str(), "syntax" | "escape" | "check");
    let value = value.trim();
    (known && !value.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &str) -> Vec<String> {
        let escape = escape_directive(text).unwrap();
        let mut lines = Lines::new(text, escape);
        std::iter::from_fn(|| lines.logical().map(|l| l.text)).collect()
    }

    #[test]
    fn continued_lines_are_joined_over_comments_and_empty_lines() {
        assert_eq!(
            logical("  RUN a \\  \n # no\n\n  b\\\r\nc\r\nRUN d"),
            ["RUN a   bc", "RUN d"]
        );
    }

    #[test]
    fn a_doubled_escape_character_does_not_continue() {
        assert_eq!(logical("RUN a\\\\\nFROM b"), ["RUN a\\\\", "FROM b"]);
    }

    #[test]
    fn the_escape_character_follows_the_directive_at_the_top_only() {
        assert_eq!(
            logical("# syntax=x\n# escape=`\nRUN a `\nb\\\nRUN c"),
            ["RUN a b\\", "RUN c"]
        );
        assert_eq!(logical("# hello\n# escape=`\nRUN a `\nb"), ["RUN a `", "b"]);
        assert!(escape_directive("# escape=x\n").is_err());
        assert!(escape_directive("# escape=`\n# escape=`\n").is_err());
    }

    #[test]
    fn the_frontend_s_image_is_found() {
        for (text, image) in [
            (
                "# syntax=docker/dockerfile:1\nFROM a",
                Some("docker/dockerfile:1"),
            ),
            ("#!/usr/bin/x\n// Syntax = a:1 --x\nFROM a", Some("a:1")),
            ("{\"syntax\": \"b\"}", Some("b")),
            ("# escape=`\n# syntax=c", Some("c")),
            ("FROM a\n# syntax=c", None),
            ("# syntax=\nFROM a", None),
        ] {
            assert_eq!(syntax_directive(text).as_deref(), image, "{text}");
        }
    }

    #[test]
    fn places_lead_back_to_the_file_across_joined_lines() {
        let text = "\u{feff}FROM \\\n  # note\n  base AS x\n";
        let line = Lines::new(text, '\\').logical().unwrap();
        let at = line.text.find("base").unwrap();
        assert_eq!(&text[line.in_file(&(at..at + 4))], "base");
        assert_eq!(&text[line.in_file(&(0..4))], "FROM");
    }
}
