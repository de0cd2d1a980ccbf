//! From what the builder says of a failed build to what a reader needs: the step, its last lines, the place in the
//! Dockerfile, and a remedy where one is known ([`remedies`], [`missing_source`], [`credentials`]).

mod credentials;
mod missing_source;
mod remedies;

use std::path::Path;

use self::credentials::Tried;
use self::remedies::Clues;
use super::outcome::{Failure, Location};
use super::steps::{Steps, is_export_step};
use crate::buildkit::error::BuildError;
use crate::buildkit::session::auth::AuthService;
use crate::manifest::model::Container;
use crate::project::shown;

/// The builder is gone.
pub(super) fn lost(builder: &str) -> Failure {
    Failure::new(format!("the connection to the builder was lost: {builder}"))
        .help("see that the builder still runs (its log says why it ended); running the same command again is safe")
}

/// What failed, and where.
pub(super) struct Scene<'a> {
    pub(super) container: &'a Container,
    /// The builder, for people.
    pub(super) builder: &'a str,
    /// The manifest's folder: paths are shown relative to it.
    pub(super) root: &'a Path,
    /// Whose names the builder was given.
    pub(super) auth: &'a AuthService,
}

/// Explains a failed build. It looks at files of the context where one of them is missed.
pub(super) async fn explain(error: &BuildError, steps: &Steps, scene: &Scene<'_>) -> Failure {
    let mut failure = described(error, steps, scene);
    let tried = Tried::ask(scene.auth, &failure.message).await;
    let missing = missing_source::path(&failure.message).map(str::to_owned);
    if let Some((path, location)) = missing.zip(failure.location.clone()) {
        let (container, root) = (scene.container.clone(), scene.root.to_owned());
        let look = move || missing_source::explain(&path, &location, &container, &root);
        if let Ok(found) = tokio::task::spawn_blocking(look).await {
            failure.message = found.message;
            failure.notes.extend(found.notes);
            failure.helps.extend(found.helps);
        }
    } else {
        add_remedies(&mut failure, scene, &tried);
    }
    failure
}

/// What failed, in the builder's words.
fn described(error: &BuildError, steps: &Steps, scene: &Scene<'_>) -> Failure {
    let failed = steps.failed(error.vertex.as_deref());
    let message = match &failed {
        Some(step) if error.answer_lost && !step.error.is_empty() => innermost(step.error),
        _ => innermost(&error.message),
    };
    let mut failure = Failure::new(message);
    if let Some(excerpt) = &error.source {
        failure.location = Some(Location {
            file: shown(&scene.container.dockerfile, scene.root),
            first_line: excerpt.first_line,
            last_line: excerpt.last_line,
            text: excerpt.text.clone(),
        });
        failure.message = without_command(&failure.message);
    }
    if let Some(step) = failed {
        failure.step = Some(step.name.to_owned());
        failure.log = step.log;
        if is_export_step(step.name) {
            failure.message = format!("push failed: {}", innermost(step.error));
            failure.helps.push(
                "see that the registry answers; running the same command again is safe".into(),
            );
        }
    }
    failure
}

fn add_remedies(failure: &mut Failure, scene: &Scene<'_>, tried: &Tried) {
    if let Some((note, help)) = tried.told() {
        failure.notes.push(note);
        failure.helps.push(help);
    }
    let clues = Clues {
        message: &failure.message,
        log: &failure.log,
        container: scene.container,
        builder: scene.builder,
    };
    if let Some(remedy) = remedies::find(&clues) {
        failure.notes.extend(remedy.note);
        failure.helps.push(remedy.help);
    }
}

/// BuildKit wraps causes outside in: `failed to solve: process "…" did not complete successfully: exit code: 1`. The
/// wrappers that say nothing are left out.
///
/// A message holds the whole command of a RUN, which may be a script: it is cut to [`MAX_MESSAGE`] characters.
fn innermost(message: &str) -> String {
    const EMPTY: [&str; 4] = [
        "failed to solve: ",
        "rpc error: code = Unknown desc = ",
        "failed to compute cache key: ",
        "dockerfile parse error: ",
    ];
    let mut rest = message;
    while let Some(stripped) = EMPTY.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = stripped;
    }
    rest = named_once(rest);
    // The end says why: `process \"…\" did not complete successfully: exit code: 1`.
    let length = rest.chars().count();
    if length <= MAX_MESSAGE {
        return rest.to_owned();
    }
    let start: String = rest.chars().take(MAX_MESSAGE / 2).collect();
    let end: String = rest.chars().skip(length - MAX_MESSAGE / 2).collect();
    format!("{start} … {end}")
}

/// An image is named by the words that follow, too: `python:3: failed to resolve source metadata for
/// docker.io/library/python:3: …`.
fn named_once(message: &str) -> &str {
    const WORDS: &str = "failed to resolve source metadata for ";
    let twice = message.split_once(WORDS).filter(|(before, after)| {
        let image = before.strip_suffix(": ").unwrap_or_default();
        let again = after.split_once(": ").map_or(*after, |(again, _)| again);
        !image.is_empty() && again.ends_with(image)
    });
    twice.map_or(message, |(before, _)| &message[before.len()..])
}

/// A command is not repeated where the excerpt shows it: `process "…" did not complete successfully: exit code: 1`.
fn without_command(message: &str) -> String {
    const END: &str = "\" did not complete successfully: ";
    let (start, end) = ("process \"", message.rsplit_once(END));
    match end.filter(|(command, _)| command.starts_with(start)) {
        Some((_, why)) => format!("the step did not complete successfully: {why}"),
        None => message.to_owned(),
    }
}

/// Longest message that is shown, in characters.
const MAX_MESSAGE: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_that_say_nothing_are_left_out() {
        assert_eq!(
            innermost("failed to solve: rpc error: code = Unknown desc = exit code: 1"),
            "exit code: 1"
        );
        assert_eq!(
            without_command("process \"sh -c \"x\"\" did not complete successfully: exit code: 1"),
            "the step did not complete successfully: exit code: 1"
        );
        assert_eq!(without_command("exit code: 1"), "exit code: 1");
        let long = format!("process \"{}\" failed: exit code: 3", "x".repeat(9000));
        assert!(innermost(&long).ends_with("exit code: 3") && innermost(&long).len() < 500);
        assert_eq!(
            innermost(
                "a:1: failed to resolve source metadata for docker.io/library/a:1: not found"
            ),
            "failed to resolve source metadata for docker.io/library/a:1: not found"
        );
        assert_eq!(
            innermost("unknown instruction: FRO"),
            "unknown instruction: FRO"
        );
    }
}
