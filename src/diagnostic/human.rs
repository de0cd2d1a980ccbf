//! Diagnostics for people: title, excerpt with caret, notes, remedies, as `rustc` prints them; on a terminal in lines that
//! fit it.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use unicode_width::UnicodeWidthStr as _;

use super::{Diagnostic, Severity};

/// What diagnostics are rendered for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Screen {
    pub color: bool,
    /// Of a terminal. `None`: lines are as long as their texts.
    pub columns: Option<usize>,
}

/// Columns before a note or a remedy, its name and the place of line numbers.
const BEFORE: usize = "1000 = help: ".len();

/// Renders all of them, one empty line between two; no line break at the end.
pub(crate) fn render(diagnostics: &[Diagnostic], screen: Screen) -> String {
    diagnostics
        .iter()
        .map(|d| render_one(d, screen))
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn render_one(diagnostic: &Diagnostic, screen: Screen) -> String {
    let fitting = |text: &String| match screen.columns {
        Some(columns) => wrapped(text, columns.saturating_sub(BEFORE)),
        None => text.clone(),
    };
    let title = fitting(&diagnostic.title);
    let notes: Vec<_> = diagnostic.notes.iter().map(fitting).collect();
    let helps: Vec<_> = diagnostic.helps.iter().map(fitting).collect();
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level.primary_title(&title).elements(snippets(diagnostic));
    for note in &notes {
        group = group.element(Level::NOTE.message(note));
    }
    for help in &helps {
        group = group.element(Level::HELP.message(help));
    }
    let mut renderer = if screen.color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    if let Some(columns) = screen.columns {
        renderer = renderer.term_width(columns);
    }
    renderer.decor_style(DecorStyle::Ascii).render(&[group])
}

/// Breaks lines at spaces into lines of so many cells, indented as they are; never within a command, which is to be copied
/// whole: those stand in backquotes or brackets.
pub(crate) fn wrapped(text: &str, columns: usize) -> String {
    let lines = text.split('\n').map(|line| {
        let own = line.trim_start_matches(' ');
        let indent = " ".repeat(line.len() - own.len());
        let broken = broken(own, columns.saturating_sub(indent.len()));
        format!("{indent}{}", broken.replace('\n', &format!("\n{indent}")))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn broken(text: &str, columns: usize) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut used = 0;
    for part in parts(text, columns) {
        let width = part.width();
        if used > 0 && used + 1 + width > columns {
            lines.push('\n');
            used = 0;
        } else if used > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(part);
        used += width;
    }
    lines
}

/// What is not broken. What stands in brackets and fits no line is.
fn parts(text: &str, columns: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth, mut quoted) = (0, 0_u32, false);
    for (at, c) in text.char_indices() {
        match c {
            '`' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            ' ' if !quoted && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    let too_long = |part: &str| part.width() > columns && !part.starts_with('`');
    parts
        .into_iter()
        .flat_map(|part| {
            if too_long(part) {
                part.split(' ').collect()
            } else {
                vec![part]
            }
        })
        .collect()
}

/// One snippet per text, in the order in which the texts are first pointed at.
fn snippets(diagnostic: &Diagnostic) -> Vec<Snippet<'_, annotate_snippets::Annotation<'_>>> {
    let mut sources = Vec::new();
    for label in &diagnostic.labels {
        if !sources.contains(&&label.span.source) {
            sources.push(&label.span.source);
        }
    }
    sources
        .into_iter()
        .map(|source| {
            let labels = diagnostic
                .labels
                .iter()
                .filter(|l| &l.span.source == source);
            Snippet::source(&source.text)
                .path(&source.name)
                .annotations(labels.map(|l| {
                    let kind = if l.primary {
                        AnnotationKind::Primary
                    } else {
                        AnnotationKind::Context
                    };
                    let end = l.span.range.end.min(source.text.len());
                    let start = l.span.range.start.min(end);
                    kind.span(start..end)
                        .label((!l.text.is_empty()).then_some(l.text.as_str()))
                }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Diagnostic, SourceText, Span};
    use super::{Screen, render};

    #[test]
    fn an_error_shows_place_note_and_remedy() {
        let source = SourceText::new("containers.toml", "version = 1\n[registri]\n");
        let diagnostic = Diagnostic::error("unknown key `registri`")
            .at(Span::new(&source, 13..21), "not a key of the manifest")
            .help("did you mean `registry`?");
        insta::assert_snapshot!(render(&[diagnostic], Screen::default()), @r"
        error: unknown key `registri`
         --> containers.toml:2:2
          |
        2 | [registri]
          |  ^^^^^^^^ not a key of the manifest
          |
          = help: did you mean `registry`?
        ");
    }

    #[test]
    fn a_plain_error_is_one_line() {
        assert_eq!(
            render(&[Diagnostic::error("no such container")], Screen::default()),
            "error: no such container"
        );
    }

    #[test]
    fn on_a_terminal_lines_are_broken_between_words_and_commands_stay_whole() {
        let source = SourceText::new("Dockerfile", format!("RUN {}\n", "x ".repeat(60)));
        let diagnostic = Diagnostic::error("etl: the step did not complete successfully: exit code: 137, which is more than fits")
            .at(Span::new(&source, 0..3), "")
            .help(
                "build where the processor is that one, or install emulation on the builder's machine \
                 (docker run --privileged --rm tonistiigi/binfmt --install amd64); if the platform is the builder's \
                 own, the program is for another one, or a script without `#! and a path`",
            );
        let screen = Screen {
            columns: Some(80),
            ..Screen::default()
        };
        let text = render(&[diagnostic], screen);
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        insta::assert_snapshot!(text, @r"
        error: etl: the step did not complete successfully: exit code: 137, which
               is more than fits
         --> Dockerfile:1:1
          |
        1 | RUN x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x...
          | ^^^
          |
          = help: build where the processor is that one, or install emulation on the
                  builder's machine
                  (docker run --privileged --rm tonistiigi/binfmt --install amd64);
                  if the platform is the builder's own, the program is for another
                  one, or a script without `#! and a path`
        ");
    }
}
