//! A container's failure in full: what, where in the Dockerfile, the step's last lines, what to do.

use super::cells;
use crate::diagnostic::human::{self, Screen};
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::engine::outcome::Failure;

/// Columns beside a line of a Dockerfile: its number, and the mark that it is cut.
const MARGIN: usize = 12;

/// Log lines shown; all that were kept are in the events.
const SHOWN_LINES: usize = 20;

pub(crate) fn render(container: &str, failure: &Failure, screen: Screen) -> String {
    let mut diagnostic = Diagnostic::error(format!("{container}: {}", failure.message));
    if let Some(location) = &failure.location {
        let source = SourceText::new(&location.file, &location.text);
        let mut range =
            source.line_range(location.first_line).start..source.line_range(location.last_line).end;
        if let (Some(columns), true) = (screen.columns, location.first_line == location.last_line) {
            // A line that is marked to an end beyond the terminal's would not be cut there.
            let fits = location.text[range.clone()].char_indices();
            let mut fits = fits.skip(columns.saturating_sub(MARGIN));
            range.end = fits.next().map_or(range.end, |(at, _)| range.start + at);
        }
        diagnostic = diagnostic.at(Span::new(&source, range), "");
    }
    diagnostic.notes.clone_from(&failure.notes);
    diagnostic.helps.clone_from(&failure.helps);
    let mut text = human::render(&[diagnostic], screen);
    if !failure.log.is_empty() {
        let step = failure
            .step
            .as_deref()
            .and_then(|name| name.lines().next())
            .unwrap_or("the step");
        let skipped = failure.log.len().saturating_sub(SHOWN_LINES);
        let title = format!("last lines of {}:", cells::clean(step));
        text.push('\n');
        text.push_str(&match screen.columns {
            Some(columns) => cells::cut(&title, columns),
            None => title,
        });
        for line in &failure.log[skipped..] {
            text.push_str("\n  | ");
            text.push_str(line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::outcome::Location;

    #[test]
    fn on_a_terminal_no_line_of_a_dockerfile_is_wider() {
        let command = "x".repeat(300);
        let failure = Failure {
            message: "exit code: 2".into(),
            step: Some(format!("[2/3] RUN {command}")),
            location: Some(Location {
                file: "Dockerfile".into(),
                first_line: 1,
                last_line: 1,
                text: format!("RUN {command}\nCMD x\n"),
            }),
            log: vec!["it failed".into()],
            ..Failure::default()
        };
        let screen = Screen {
            columns: Some(60),
            ..Screen::default()
        };
        insta::assert_snapshot!(render("train", &failure, screen), @r"
        error: train: exit code: 2
         --> Dockerfile:1:1
          |
        1 | RUN xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...
          | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        last lines of [2/3] RUN xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
          | it failed
        ");
    }

    #[test]
    fn a_failed_run_shows_lines_log_and_remedy() {
        let failure = Failure {
            message: "exit code: 2".into(),
            step: Some("[2/3] RUN make".into()),
            location: Some(Location {
                file: "train/Dockerfile".into(),
                first_line: 2,
                last_line: 3,
                text: "FROM a\nRUN make \\\n  all\nCMD x\n".into(),
            }),
            log: vec!["no rule to make target".into()],
            notes: vec!["make found none".into()],
            helps: vec!["write one".into()],
        };
        insta::assert_snapshot!(render("train", &failure, Screen::default()), @r"
        error: train: exit code: 2
         --> train/Dockerfile:2:1
          |
        2 | / RUN make \
        3 | |   all
          | |_____^
          |
          = note: make found none
          = help: write one
        last lines of [2/3] RUN make:
          | no rule to make target
        ");
    }
}
