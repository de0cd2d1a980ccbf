//! Diagnostics for people: title, excerpt with caret, notes, remedies, as `rustc` prints them.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::{Diagnostic, Severity};

/// Renders all of them, one empty line between two; no line break at the end.
pub(crate) fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    diagnostics
        .iter()
        .map(|d| render_one(d, color))
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn render_one(diagnostic: &Diagnostic, color: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level
        .primary_title(&diagnostic.title)
        .elements(snippets(diagnostic));
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note));
    }
    for help in &diagnostic.helps {
        group = group.element(Level::HELP.message(help));
    }
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.decor_style(DecorStyle::Ascii).render(&[group])
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
    use super::render;

    #[test]
    fn an_error_shows_place_note_and_remedy() {
        let source = SourceText::new("containers.toml", "version = 1\n[registri]\n");
        let diagnostic = Diagnostic::error("unknown key `registri`")
            .at(Span::new(&source, 13..21), "not a key of the manifest")
            .help("did you mean `registry`?");
        insta::assert_snapshot!(render(&[diagnostic], false), @r"
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
            render(&[Diagnostic::error("no such container")], false),
            "error: no such container"
        );
    }
}
