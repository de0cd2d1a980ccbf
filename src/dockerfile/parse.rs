//! A Dockerfile's text to its stages.

use std::ops::Range;
use std::sync::Arc;

use super::heredoc;
use super::instruction::{Instruction, Word};
use super::line::{self, Lines};
use super::{Dockerfile, Stage};
use crate::diagnostic::{Diagnostic, SourceText, Span};

/// Reads a Dockerfile. The error says where it cannot be read; it must not stop a build, for the builder's frontend
/// (`# syntax=`) may know more than skiff does.
pub(crate) fn parse(source: &Arc<SourceText>) -> Result<Dockerfile, Diagnostic> {
    let unreadable = |(range, reason): Unreadable| {
        Diagnostic::error(format!("cannot read {}", source.name))
            .at(Span::new(source, range), reason)
    };
    let escape = line::escape_directive(&source.text)
        .map_err(|(range, reason)| unreadable((range, reason.into())))?;
    let mut dockerfile = Dockerfile {
        source: Arc::clone(source),
        escape,
        global_args: Vec::new(),
        stages: Vec::new(),
    };
    let mut lines = Lines::new(&source.text, escape);
    while let Some(instruction) = next(&mut lines, escape).map_err(unreadable)? {
        add(&mut dockerfile, instruction).map_err(unreadable)?;
    }
    if dockerfile.stages.is_empty() {
        return Err(Diagnostic::error(format!(
            "{} has no FROM instruction",
            source.name
        )));
    }
    Ok(dockerfile)
}

/// Where and why.
type Unreadable = (Range<usize>, String);

/// The next instruction; the heredocs that it announces are consumed with it.
fn next(lines: &mut Lines<'_>, escape: char) -> Result<Option<Instruction>, Unreadable> {
    let Some(line) = lines.logical() else {
        return Ok(None);
    };
    let mut instruction = Instruction::new(line, escape);
    let heredocs = match instruction.heredoc_line() {
        Some(line) => heredoc::announced(line)
            .map_err(|problem| (instruction.range(), problem.to_string()))?,
        None => Vec::new(),
    };
    for heredoc in heredocs {
        loop {
            let (at, line) = lines.physical().ok_or_else(|| {
                let reason = "the heredoc that starts here does not end".to_owned();
                (instruction.range(), reason)
            })?;
            if heredoc.ends_with(line) {
                instruction.ends_at(at + line.len());
                break;
            }
        }
    }
    Ok(Some(instruction))
}

fn add(dockerfile: &mut Dockerfile, instruction: Instruction) -> Result<(), Unreadable> {
    match (instruction.keyword.as_str(), dockerfile.stages.last_mut()) {
        ("FROM", _) => dockerfile.stages.push(stage(&instruction)?),
        (_, Some(stage)) => stage.instructions.push(instruction),
        ("ARG", None) => dockerfile.global_args.push(instruction),
        (_, None) => {
            let reason = "only ARG may stand before the first FROM".to_owned();
            return Err((instruction.range(), reason));
        }
    }
    Ok(())
}

/// `FROM [--platform=…] base [AS name]`.
fn stage(from: &Instruction) -> Result<Stage, Unreadable> {
    let mut words = from.words();
    let (base, name) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(base), None, None, None) => (base, None),
        (Some(base), Some(keyword), Some(name), None)
            if keyword.text.eq_ignore_ascii_case("as") =>
        {
            (base, Some(stage_name(name)?))
        }
        _ => {
            let reason = "expected `FROM image` or `FROM image AS name`".to_owned();
            return Err((from.range(), reason));
        }
    };
    Ok(Stage {
        name,
        base,
        instructions: Vec::new(),
    })
}

/// In lower case: a letter, then letters, digits, `-`, `_`, `.` (`validStageName` in BuildKit).
fn stage_name(name: Word) -> Result<Word, Unreadable> {
    let text = name.text.to_lowercase();
    let later = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(later) {
        Ok(Word { text, ..name })
    } else {
        let reason = "not a stage name: a letter, then letters, digits, `-`, `_` or `.`";
        Err((name.range, reason.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::human;
    use proptest::prelude::*;

    fn source(text: &str) -> Arc<SourceText> {
        SourceText::new("Dockerfile", text)
    }

    /// Stages with the keywords in them, one a line.
    fn outline(text: &str) -> String {
        let dockerfile = parse(&source(text)).unwrap();
        let stage = |s: &Stage| {
            let keywords: Vec<_> = s.instructions.iter().map(|i| i.keyword.as_str()).collect();
            let name = s.name.as_ref().map_or("-", |n| n.text.as_str());
            format!("{} {name}: {}", s.base.text, keywords.join(" "))
        };
        let lines: Vec<_> = dockerfile.stages.iter().map(stage).collect();
        lines.join("\n")
    }

    fn error(text: &str) -> String {
        human::render(
            &[parse(&source(text)).unwrap_err()],
            human::Screen::default(),
        )
    }

    #[test]
    fn stages_hold_their_instructions() {
        let text = "\u{feff}# syntax=docker/dockerfile:1\r\nARG V=1\r\nFROM --platform=$BUILDPLATFORM a AS Build\r\n\
                    RUN x\r\nfrom build\r\nCOPY --from=build \\\r\n  # why\r\n  /a /b\r\nENTRYPOINT []\r\n";
        assert_eq!(outline(text), "a build: RUN\nbuild -: COPY ENTRYPOINT");
        let dockerfile = parse(&source(text)).unwrap();
        assert_eq!(dockerfile.global_args[0].arguments(), "V=1");
        let build = &dockerfile.stages[0];
        assert_eq!(&text[build.base.range.clone()], "a");
    }

    #[test]
    fn what_stands_in_heredocs_is_no_instruction() {
        let text = "FROM a\nRUN cat <<run > /x\nFROM b\nRUN y\nrun\n\
                    COPY <<A <<-\"B\" /x/\nFROM c\nA\nFROM d\n\t\tB\nONBUILD RUN <<E\nFROM e\nE\nFROM z";
        assert_eq!(outline(text), "a -: RUN COPY ONBUILD\nz -: ");
        let stages = parse(&source(text)).unwrap().stages;
        let run = stages[0].instructions[0].range();
        assert_eq!(&text[run], "RUN cat <<run > /x\nFROM b\nRUN y\nrun");
    }

    #[test]
    fn two_stages_may_have_one_name() {
        let dockerfile = parse(&source("FROM a AS x\nFROM b AS X")).unwrap();
        assert_eq!(dockerfile.stage("X"), Some(1));
    }

    #[test]
    fn an_error_shows_the_place() {
        insta::assert_snapshot!(error("FROM a\nRUN cat <<EOF\nx\n"), @r"
        error: cannot read Dockerfile
         --> Dockerfile:2:1
          |
        2 | RUN cat <<EOF
          | ^^^^^^^^^^^^^ the heredoc that starts here does not end
        ");
        insta::assert_snapshot!(error("# nothing\n"), @"error: Dockerfile has no FROM instruction");
        insta::assert_snapshot!(error(""), @"error: Dockerfile has no FROM instruction");
        for (text, reason) in [
            ("FROM\n", "expected `FROM"),
            ("FROM a b\n", "expected `FROM"),
            ("FROM a AS 1x\n", "not a stage name"),
            ("RUN x\nFROM a\n", "only ARG may"),
            ("# escape=x\nFROM a\n", "the escape character is"),
        ] {
            assert!(error(text).contains(reason), "{text:?}: {}", error(text));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_places_stay_in_it(
            text in "(FROM |AS |RUN |COPY |ONBUILD |ARG |--from=|--mount=|<<|EOF|[\\\\`\"'$\\[{ \t\r\n\u{feff}#=,-]|\\PC)*"
        ) {
            let source = source(&text);
            if let Ok(dockerfile) = parse(&source) {
                for stage in &dockerfile.stages {
                    prop_assert!(text.get(stage.base.range.clone()).is_some());
                    for instruction in &stage.instructions {
                        prop_assert!(text.get(instruction.range()).is_some());
                        for flag in &instruction.flags {
                            prop_assert!(text.get(flag.range.clone()).is_some());
                        }
                    }
                }
            }
        }
    }
}
