//! What a CI says of the sources where git alone does not know: runners check out commits, not branches, and know what was
//! there before. The one reader of its variables.
//!
//! Sources: GitHub Actions "Variables" reference (`GITHUB_EVENT_NAME`, `GITHUB_REF`, `GITHUB_BASE_REF`,
//! `GITHUB_EVENT_PATH`) and "Webhook events and payloads" (`push`: `before`; `merge_group`: `base_sha`); AWS CodeBuild
//! "Environment variables in build environments" (`CODEBUILD_WEBHOOK_EVENT`, `CODEBUILD_WEBHOOK_HEAD_REF`,
//! `CODEBUILD_WEBHOOK_BASE_REF`, `CODEBUILD_WEBHOOK_PREV_COMMIT`, `CODEBUILD_SOURCE_VERSION` = `pr/N` for a pull request).

use std::io::Read as _;

use serde_json::Value;

use super::channel::Sources;
use super::publish::Circumstances;
use crate::changes::base::{Before, Told};
use crate::changes::commit::Commit;
use crate::environment::Environment;

/// The largest event file that is read, in bytes: GitHub cuts payloads at 25 MB.
const MAX_EVENT: u64 = 32 << 20;

/// Whether this is a run of a CI: nobody is there to commit what it writes into the checkout.
pub(crate) fn is_ci(environment: &Environment) -> bool {
    let said = |name: &str| {
        let value = environment.get(name).unwrap_or_default();
        !matches!(value, "" | "0" | "false")
    };
    ["CI", "GITHUB_ACTIONS", "CODEBUILD_BUILD_ID"]
        .into_iter()
        .any(said)
}

/// Fills in branch, pull request and default branch; returns what is said of the state before.
pub(crate) fn complete(sources: &mut Sources, environment: &Environment) -> Told {
    let set = |names: &[&str]| names.iter().any(|name| environment.get(name).is_some());
    if environment.get("GITHUB_ACTIONS") == Some("true")
        || set(&["GITHUB_EVENT_NAME", "GITHUB_EVENT_PATH"])
    {
        github(sources, environment)
    } else if set(&["CODEBUILD_BUILD_ID", "CODEBUILD_WEBHOOK_EVENT"]) {
        codebuild(sources, environment)
    } else {
        Told::default()
    }
}

fn github(sources: &mut Sources, environment: &Environment) -> Told {
    let event = environment.get("GITHUB_EVENT_NAME").unwrap_or_default();
    let reference = environment.get("GITHUB_REF").unwrap_or_default();
    let is_pull_request = event.starts_with("pull_request");
    if is_pull_request {
        // `refs/pull/12/merge`; `pull_request_target` runs on the base branch, and is a pull request all the same.
        let number = reference
            .strip_prefix("refs/pull/")
            .and_then(|rest| rest.split('/').next());
        sources.pull_request =
            Some(number.map_or_else(|| event.to_owned(), |number| format!("#{number}")));
    }
    if let Some(branch) = reference.strip_prefix("refs/heads/") {
        sources.branch = Some(branch.to_owned());
    }
    let payload = environment.get("GITHUB_EVENT_PATH").map(|path| {
        payload(&environment.directory.join(path))
            .map_err(|why| format!("the event file {path} {why}"))
    });
    let (payload, unread) = match payload {
        Some(Ok(payload)) => (payload, None),
        Some(Err(why)) => (Value::Null, Some(why)),
        None => (Value::Null, None),
    };
    let text = |path| payload.pointer(path).and_then(Value::as_str);
    if let Some(branch) = text("/repository/default_branch") {
        sources.default_branch = Some(branch.to_owned());
    }
    if is_pull_request || payload.get("pull_request").is_some() {
        let base = environment.get("GITHUB_BASE_REF");
        let base = base.or_else(|| text("/pull_request/base/ref"));
        return told(base.map(|name| Before::Branch(name.to_owned())), unread);
    }
    let merge_group = text("/merge_group/base_sha");
    if let Some(before) = merge_group.and_then(Commit::new) {
        return told(
            Some(Before::Commit(before, "base of the merge group")),
            None,
        );
    }
    match text("/before") {
        Some(before) => match Commit::new(before) {
            Some(before) => told(Some(Before::Commit(before, "before the push")), None),
            None => told(
                None,
                Some("the push made the branch: no commit was before it".to_owned()),
            ),
        },
        None => told(None, unread),
    }
}

fn told(before: Option<Before>, silent: Option<String>) -> Told {
    Told { before, silent }
}

/// An event file's JSON; the error is what is wrong with it.
fn payload(path: &std::path::Path) -> Result<Value, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut text = Vec::new();
    file.take(MAX_EVENT)
        .read_to_end(&mut text)
        .map_err(cannot)?;
    serde_json::from_slice(&text).map_err(|error| format!("is not JSON: {error}"))
}

fn codebuild(sources: &mut Sources, environment: &Environment) -> Told {
    let variable = |name| environment.get(name).unwrap_or_default();
    let event = variable("CODEBUILD_WEBHOOK_EVENT");
    let version = variable("CODEBUILD_SOURCE_VERSION");
    let is_pull_request = event.starts_with("PULL_REQUEST") && event != "PULL_REQUEST_MERGED";
    if is_pull_request {
        sources.pull_request = Some(
            version
                .strip_prefix("pr/")
                .map_or_else(|| event.to_owned(), |n| format!("#{n}")),
        );
    }
    let branch = |reference: &str| reference.strip_prefix("refs/heads/").map(str::to_owned);
    let base = branch(variable("CODEBUILD_WEBHOOK_BASE_REF"));
    // A merged pull request is a commit of the branch that it was merged into.
    let head = if event == "PULL_REQUEST_MERGED" {
        base.clone()
    } else {
        branch(variable("CODEBUILD_WEBHOOK_HEAD_REF"))
    };
    if let Some(branch) = head.or_else(|| branch(version)) {
        sources.branch = Some(branch);
    }
    if is_pull_request {
        return told(base.map(Before::Branch), None);
    }
    let before = environment.get("CODEBUILD_WEBHOOK_PREV_COMMIT");
    match (before, before.and_then(Commit::new)) {
        (_, Some(before)) => told(Some(Before::Commit(before, "before the push")), None),
        (Some(_), None) => told(
            None,
            Some("the push made the branch: no commit was before it".to_owned()),
        ),
        (None, None) => Told::default(),
    }
}

/// Who does it, and where to read more (GitHub: `GITHUB_ACTOR`, `GITHUB_RUN_ID`; CodeBuild: `CODEBUILD_INITIATOR`,
/// `CODEBUILD_BUILD_URL`); without a CI, the user.
pub(crate) fn circumstances(sources: &Sources, environment: &Environment) -> Circumstances {
    let get = |name| environment.get(name).map(str::to_owned);
    let (actor, ci_url) = if environment.get("GITHUB_ACTIONS") == Some("true") {
        let url = || {
            let (server, repository) = (get("GITHUB_SERVER_URL")?, get("GITHUB_REPOSITORY")?);
            Some(format!(
                "{server}/{repository}/actions/runs/{}",
                get("GITHUB_RUN_ID")?
            ))
        };
        (get("GITHUB_ACTOR"), url())
    } else if environment.get("CODEBUILD_BUILD_ID").is_some() {
        (get("CODEBUILD_INITIATOR"), get("CODEBUILD_BUILD_URL"))
    } else {
        (get("USER").or_else(|| get("LOGNAME")), None)
    };
    Circumstances {
        commit: sources.commit.clone(),
        dirty: !sources.uncommitted.is_empty(),
        branch: sources.branch.clone(),
        actor,
        ci_url,
        reason: None,
        leaves_no_record: sources.pull_request.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(variables: &[(&str, &str)]) -> (Option<String>, Option<String>) {
        let environment = Environment {
            variables: variables
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            directory: "/".into(),
            stdout_is_terminal: false,
            stderr_is_terminal: false,
        };
        let mut sources = Sources::default();
        complete(&mut sources, &environment);
        (sources.branch, sources.pull_request)
    }

    #[test]
    fn github_names_branch_and_pull_request() {
        let event = |name, reference| {
            sources(&[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", name),
                ("GITHUB_REF", reference),
            ])
        };
        assert_eq!(
            event("push", "refs/heads/main"),
            (Some("main".into()), None)
        );
        assert_eq!(
            event("pull_request", "refs/pull/12/merge"),
            (None, Some("#12".into()))
        );
        assert_eq!(
            event("pull_request_target", "refs/heads/main"),
            (Some("main".into()), Some("pull_request_target".into()))
        );
        assert_eq!(event("push", "refs/tags/v1"), (None, None));
    }

    #[test]
    fn codebuild_names_branch_and_pull_request() {
        let build =
            |more: &[(&str, &str)]| sources(&[&[("CODEBUILD_BUILD_ID", "x:1")], more].concat());
        let push = [
            ("CODEBUILD_WEBHOOK_EVENT", "PUSH"),
            ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/main"),
        ];
        assert_eq!(build(&push), (Some("main".into()), None));
        let pull = [
            ("CODEBUILD_WEBHOOK_EVENT", "PULL_REQUEST_CREATED"),
            ("CODEBUILD_SOURCE_VERSION", "pr/7"),
        ];
        assert_eq!(build(&pull), (None, Some("#7".into())));
        let merged = [
            ("CODEBUILD_WEBHOOK_EVENT", "PULL_REQUEST_MERGED"),
            ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/feature"),
            ("CODEBUILD_WEBHOOK_BASE_REF", "refs/heads/main"),
        ];
        assert_eq!(build(&merged), (Some("main".into()), None));
    }
}
