//! From what the builder says of a failed build to what a reader needs: the step, its last lines, the place in the
//! Dockerfile, and a remedy where one is known.

use super::outcome::{Failure, Location};
use super::steps::{Steps, is_export_step};
use crate::buildkit::error::BuildError;

/// `dockerfile`: the Dockerfile's path as users write it.
pub(super) fn explain(
    error: &BuildError,
    steps: &Steps,
    dockerfile: &str,
    builder: &str,
) -> Failure {
    if error.connection_lost {
        return Failure::new(format!("the connection to the builder was lost: {builder}"))
            .help("see that the engine still runs (its log says why it ended); running the same command again is safe");
    }
    let failed = steps.failed(error.vertex.as_deref());
    let message = match &failed {
        Some(step) if error.answer_lost && !step.error.is_empty() => innermost(step.error),
        _ => innermost(&error.message),
    };
    let mut failure = Failure::new(message);
    if let Some(excerpt) = &error.source {
        failure.location = Some(Location {
            file: dockerfile.to_owned(),
            first_line: excerpt.first_line,
            last_line: excerpt.last_line,
            text: excerpt.text.clone(),
        });
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
        .helps
        .extend(remedy(&failure.message).map(str::to_owned));
    failure
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
    // The end says why: `process \"…\" did not complete successfully: exit code: 1`.
    let length = rest.chars().count();
    if length <= MAX_MESSAGE {
        return rest.to_owned();
    }
    let start: String = rest.chars().take(MAX_MESSAGE / 2).collect();
    let end: String = rest.chars().skip(length - MAX_MESSAGE / 2).collect();
    format!("{start} … {end}")
}

/// Longest message that is shown, in characters.
const MAX_MESSAGE: usize = 400;

/// Remedies for messages of the builder that many users meet. Only texts are chosen here, never behaviour.
fn remedy(message: &str) -> Option<&'static str> {
    let known: [(&[&str], &str); 11] = [
        (
            &["secret ", ": not found"],
            "give the container this secret: secrets = [{ id = \"…\", env = \"VARIABLE\" }]",
        ),
        (
            &["network.host is not allowed"],
            "a step of its own asks for the host's network: allow it with entitlements = [\"network.host\"]",
        ),
        (
            &["failed to calculate checksum", "not found"],
            "the path is relative to the build context; see that it exists there and that no line of .dockerignore excludes it",
        ),
        (
            &["pull access denied"],
            "see the image's name; if it is private, log in to its registry (docker login)",
        ),
        (
            &["failed to resolve source metadata", "not found"],
            "see the image's name and tag: its registry does not have it",
        ),
        (
            &["connection refused"],
            "see that the registry runs and that its host and port are right",
        ),
        (
            &["is immutable"],
            "let the repository's tag immutability exclude the tags that move (the channels and `buildcache*`), and give other content another name",
        ),
        (
            &["403 Forbidden", ".dkr.ecr."],
            "the principal needs ecr:BatchCheckLayerAvailability, InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload and PutImage on the repository, and the repository room for another image (a quota)",
        ),
        (
            &["no space left on device"],
            "free space on the builder: docker builder prune",
        ),
        (
            &["exit code: 137"],
            "the step was killed, most likely for want of memory; build fewer containers at a time (--jobs)",
        ),
        (
            &["exec format error"],
            "the image's platform is not the builder's: install emulation (binfmt) or build on a machine of that platform",
        ),
    ];
    known
        .iter()
        .find(|(parts, _)| parts.iter().all(|part| message.contains(part)))
        .map(|(_, help)| *help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_that_say_nothing_are_left_out() {
        assert_eq!(
            innermost("failed to solve: rpc error: code = Unknown desc = exit code: 1"),
            "exit code: 1"
        );
        let long = format!("process \"{}\" failed: exit code: 3", "x".repeat(9000));
        assert!(innermost(&long).ends_with("exit code: 3") && innermost(&long).len() < 500);
        assert_eq!(
            innermost("unknown instruction: FRO"),
            "unknown instruction: FRO"
        );
    }
}
