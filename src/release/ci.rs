//! What a CI says of the sources where git alone does not know: runners check out commits, not branches.
//!
//! Sources: GitHub Actions "Variables" reference (`GITHUB_EVENT_NAME`, `GITHUB_REF`, `GITHUB_REF_TYPE`); AWS CodeBuild
//! "Environment variables in build environments" (`CODEBUILD_WEBHOOK_EVENT`, `CODEBUILD_WEBHOOK_HEAD_REF`,
//! `CODEBUILD_SOURCE_VERSION` = `pr/N` for a pull request).

use super::channel::Sources;
use super::publish::Circumstances;
use crate::environment::Environment;

/// Fills in branch and pull request.
pub(crate) fn complete(sources: &mut Sources, environment: &Environment) {
    if environment.get("GITHUB_ACTIONS") == Some("true") {
        github(sources, environment);
    } else if environment.get("CODEBUILD_BUILD_ID").is_some() {
        codebuild(sources, environment);
    }
}

fn github(sources: &mut Sources, environment: &Environment) {
    let event = environment.get("GITHUB_EVENT_NAME").unwrap_or_default();
    let reference = environment.get("GITHUB_REF").unwrap_or_default();
    if event.starts_with("pull_request") {
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
}

fn codebuild(sources: &mut Sources, environment: &Environment) {
    let event = environment
        .get("CODEBUILD_WEBHOOK_EVENT")
        .unwrap_or_default();
    let version = environment
        .get("CODEBUILD_SOURCE_VERSION")
        .unwrap_or_default();
    if event.starts_with("PULL_REQUEST") && event != "PULL_REQUEST_MERGED" {
        sources.pull_request = Some(
            version
                .strip_prefix("pr/")
                .map_or_else(|| event.to_owned(), |n| format!("#{n}")),
        );
    }
    // A merged pull request is a commit of the branch that it was merged into.
    let head = if event == "PULL_REQUEST_MERGED" {
        "BASE_REF"
    } else {
        "HEAD_REF"
    };
    let head = environment
        .get(&format!("CODEBUILD_WEBHOOK_{head}"))
        .unwrap_or_default();
    if let Some(branch) = head
        .strip_prefix("refs/heads/")
        .or_else(|| version.strip_prefix("refs/heads/"))
    {
        sources.branch = Some(branch.to_owned());
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
        pull_request: sources.pull_request.is_some(),
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
