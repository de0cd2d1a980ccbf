//! Runs without names: which containers are in them, what they were compared with, and what is said of it.

use crate::support::registry::tags;
use crate::support::workspace::{Ended, Workspace, ended as run_to_end};

/// Containers `etl` and `train`, committed on `main`, and a branch `feature` checked out.
fn feature() -> Workspace {
    let workspace = two();
    workspace.git(&["checkout", "--quiet", "-b", "feature"]);
    workspace
}

fn two() -> Workspace {
    Workspace::with(&[
        ("etl", "FROM BUSYBOX\nCOPY . /src\n"),
        ("train", "FROM BUSYBOX\nCOPY . /src\n"),
    ])
}

/// A dry run with these variables.
fn dry_run(workspace: &Workspace, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = workspace.skiff(&[&["deploy", "--dry-run"], arguments].concat());
    command.envs(variables.iter().copied());
    run_to_end(command)
}

fn commit_of(workspace: &Workspace, revision: &str) -> String {
    let output = std::process::Command::new("git")
        .current_dir(workspace.root())
        .args(["rev-parse", revision])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is missing in:\n{text}");
}

fn has_not(text: &str, part: &str) {
    assert!(!text.contains(part), "{part:?} is in:\n{text}");
}

#[test]
fn on_the_default_branch_without_a_record_everything_is_a_candidate() {
    let workspace = two();
    let ended = dry_run(&workspace, &[], &[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    has(&ended.stdout, "etl");
    has(&ended.stdout, "train");
    has(
        &ended.stdout,
        "every container is a candidate: main is the default branch, and what was built of it last is not known",
    );
    std::fs::remove_dir_all(workspace.root().join(".git")).unwrap();
    let ended = dry_run(&workspace, &[], &[]);
    has(
        &ended.stdout,
        "every container is a candidate: this is no git checkout",
    );
}

#[test]
fn a_branch_deploys_what_it_changed_and_says_why() {
    let workspace = feature();
    workspace.write("containers/train/main.py", "print()");
    workspace.commit();
    workspace.write("README.md", "not in any context");
    let base = &commit_of(&workspace, "main")[..12];
    let ended = dry_run(&workspace, &[], &[]);
    has(
        &ended.stdout,
        &format!("containers/train/main.py is new since {base} (merge-base with main)"),
    );
    has(
        &ended.stdout,
        &format!("compared with {base} (merge-base with main)"),
    );
    has_not(&ended.stdout, "etl");

    let ended = workspace.deploy_changed(&["--release", "r1"]);
    has(
        &ended.stderr,
        &format!(
            "\ncompared with {base} (merge-base with main)\n  train: first build: nothing published says what it was \
             made from (containers/train/main.py is new"
        ),
    );
    assert_eq!(tags(&workspace.repository("train")), ["r1"]);
    assert!(tags(&workspace.repository("etl")).is_empty());
}

#[test]
fn nothing_changed_is_one_line_and_success() {
    let workspace = feature();
    workspace.write("README.md", "1");
    workspace.commit();
    let base = commit_of(&workspace, "main");
    let line = format!(
        "nothing changed since {} (merge-base with main)\n",
        &base[..12]
    );
    let ended = dry_run(&workspace, &[], &[]);
    assert_eq!((ended.code, &ended.stdout), (0, &line), "{}", ended.stderr);
    // Neither engine nor registry is needed to know it.
    let mut command = workspace.skiff(&[
        "deploy",
        "--metadata-file",
        "out.json",
        "--events",
        "events.ndjson",
    ]);
    command.env("DOCKER_HOST", "unix:///nowhere");
    let ended = run_to_end(command);
    assert_eq!((ended.code, &ended.stdout), (0, &line), "{}", ended.stderr);
    let read = |name: &str| std::fs::read_to_string(workspace.root().join(name)).unwrap();
    assert_eq!(read("out.json"), "{}\n");
    let events = read("events.ndjson");
    let events: Vec<serde_json::Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["compared_with"]["commit"], base);
    assert_eq!(events[0]["compared_with"]["reason"], "merge-base with main");
    assert_eq!(events[1]["exit_code"], 0);
    let json = workspace.run(&["build", "--progress", "json"]);
    assert_eq!(json.stdout.lines().count(), 2, "{}", json.stdout);
}

#[test]
fn since_names_the_commit_and_a_wrong_one_is_a_usage_error() {
    let workspace = two();
    workspace.write("containers/etl/a.py", "1");
    workspace.commit();
    workspace.write("containers/train/a.py", "1");
    workspace.commit();
    let ended = dry_run(&workspace, &["--since", "HEAD~1"], &[]);
    has(&ended.stdout, "train");
    has(&ended.stdout, "(--since)");
    has_not(&ended.stdout, "etl");
    let ended = dry_run(&workspace, &["--since", "HEAD~2"], &[]);
    has(&ended.stdout, "etl");
    for arguments in [
        &["--since", "nonsense"][..],
        &["--since", "--all"],
        &["--since", "HEAD", "etl"],
        &["--since", "HEAD", "--all"],
        &["--since", ""],
        &["--since", "HEAD:containers.toml"],
    ] {
        let ended = dry_run(&workspace, arguments, &[]);
        assert_eq!(
            ended.code, 2,
            "{arguments:?}: {}{}",
            ended.stdout, ended.stderr
        );
    }
    let ended = dry_run(&workspace, &["--since", "nonsense"], &[]);
    has(&ended.stderr, "there is no commit `nonsense` here");
}

#[test]
fn names_and_all_are_not_compared() {
    let workspace = feature();
    for (arguments, reason) in [
        (&["etl"][..], "named"),
        (&["--all"], "--all"),
        (&["all"], "all"),
    ] {
        let ended = dry_run(&workspace, arguments, &[]);
        has(&ended.stdout, "etl");
        has(&ended.stdout, reason);
        has_not(&ended.stdout, "compared");
        has_not(&ended.stdout, "candidate");
    }
}

#[test]
fn github_s_event_file_says_what_was_there_before() {
    let workspace = two();
    let before = commit_of(&workspace, "HEAD");
    workspace.write("containers/etl/a.py", "1");
    workspace.commit();
    workspace.write("containers/etl/b.py", "1");
    workspace.commit();
    let push = |payload: &str| {
        workspace.write("event.json", payload);
        let path = workspace.root().join("event.json");
        let variables = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_EVENT_NAME", "push"),
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_EVENT_PATH", path.to_str().unwrap()),
        ];
        let ended = dry_run(&workspace, &[], &variables);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.stdout
    };
    let told = push(&format!("{{\"before\": \"{before}\"}}"));
    has(
        &told,
        &format!(
            "containers/etl/a.py is new since {} (before the push)",
            &before[..12]
        ),
    );
    has_not(&told, "train");
    let zeros = push(&format!("{{\"before\": \"{}\"}}", "0".repeat(40)));
    has(&zeros, "the push made the branch: no commit was before it");
    has(&zeros, "train");
    let rewritten = push(&format!("{{\"before\": \"{}\"}}", "12".repeat(20)));
    has(
        &rewritten,
        "121212121212 (before the push) is not in the history",
    );
    has(&rewritten, "train");
    for wrong in ["{", "", "[]", "{\"before\": 7}"] {
        has(&push(wrong), "every container is a candidate");
    }
    has(&push("{"), "is not JSON");
    let missing = dry_run(
        &workspace,
        &[],
        &[("GITHUB_ACTIONS", "true"), ("GITHUB_EVENT_PATH", "nowhere")],
    );
    has(&missing.stdout, "the event file nowhere cannot be read");
}

#[test]
fn pull_requests_are_compared_with_their_base() {
    let workspace = feature();
    workspace.git(&["branch", "develop"]);
    workspace.write("containers/etl/a.py", "1");
    workspace.commit();
    workspace.git(&["checkout", "--quiet", "--detach"]);
    let base = &commit_of(&workspace, "develop")[..12];
    let expected = format!("compared with {base} (merge-base with develop)");
    let github = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_EVENT_NAME", "pull_request"),
        ("GITHUB_REF", "refs/pull/7/merge"),
        ("GITHUB_BASE_REF", "develop"),
    ];
    let ended = dry_run(&workspace, &[], &github);
    has(&ended.stdout, &expected);
    has_not(&ended.stdout, "train");
    let codebuild = [
        ("CODEBUILD_BUILD_ID", "x:1"),
        ("CODEBUILD_WEBHOOK_EVENT", "PULL_REQUEST_UPDATED"),
        ("CODEBUILD_SOURCE_VERSION", "pr/7"),
        ("CODEBUILD_WEBHOOK_BASE_REF", "refs/heads/develop"),
    ];
    has(&dry_run(&workspace, &[], &codebuild).stdout, &expected);
}

#[test]
fn codebuild_says_what_was_there_before() {
    let workspace = two();
    let before = commit_of(&workspace, "HEAD");
    workspace.write("containers/etl/a.py", "1");
    workspace.commit();
    workspace.git(&["checkout", "--quiet", "--detach"]);
    let push = [
        ("CODEBUILD_BUILD_ID", "x:1"),
        ("CODEBUILD_WEBHOOK_EVENT", "PUSH"),
        ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/main"),
        ("CODEBUILD_WEBHOOK_PREV_COMMIT", before.as_str()),
    ];
    let ended = dry_run(&workspace, &[], &push);
    has(
        &ended.stdout,
        &format!("compared with {} (before the push)", &before[..12]),
    );
    has(&ended.stdout, "latest moves: branch main");
}

#[test]
fn each_container_is_compared_with_its_own_release() {
    let workspace = two();
    let first = commit_of(&workspace, "HEAD");
    workspace.deploy_changed(&["--all", "--release", "r1"]);
    let nothing = workspace.deploy_changed(&[]);
    let line = format!(
        "nothing changed since {} (the last release)\n",
        &first[..12]
    );
    assert_eq!(nothing.stdout, line);
    for name in ["etl", "train"] {
        workspace.write(&format!("containers/{name}/a.py"), "1");
        workspace.commit();
    }
    workspace.deploy_changed(&["etl", "--release", "r2"]);
    workspace.dockerfile("new", "FROM BUSYBOX\n");
    workspace.commit();
    // What happened to `train` before the last release still counts: it was not part of it.
    let ended = dry_run(&workspace, &[], &[]);
    has(
        &ended.stdout,
        &format!(
            "containers/train/a.py is new since {} (the last release)",
            &first[..12]
        ),
    );
    has(&ended.stdout, "never released on latest");
    has_not(&ended.stdout, "containers/etl");
    // Without the registry a dry run goes by what else there is.
    workspace.manifest_for("localhost:1", "");
    let ended = dry_run(&workspace, &[], &[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    has(&ended.stdout, "every container is a candidate");
}

#[test]
fn only_what_is_built_now_makes_others_outdated() {
    let workspace = Workspace::with(&[
        ("base", "FROM BUSYBOX\nCOPY . /base\n"),
        ("etl", "FROM base\nCOPY . /src\n"),
        ("train", "FROM base\nCOPY . /src\n"),
    ]);
    workspace.deploy(&[]);
    let outdated = |arguments: &[&str]| {
        let ended = dry_run(&workspace, arguments, &[]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let line = ended
            .stdout
            .lines()
            .find(|line| line.starts_with("outdated"));
        line.map(|line| line.rsplit(": ").next().unwrap().to_owned())
    };
    workspace.write("containers/train/main.py", "print()");
    workspace.commit();
    // The parent is in the run, and what it stands for is there.
    assert_eq!(outdated(&[]), None);
    assert_eq!(outdated(&["train"]), None);
    assert_eq!(outdated(&["base"]).as_deref(), Some("etl, train"));
    workspace.write("containers/base/more", "");
    workspace.commit();
    assert_eq!(outdated(&["train"]).as_deref(), Some("etl"));
}
