//! One plan for many jobs: `plan --out`, `deploy --plan`, `promote --plan`.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::support::registry::{layers, manifest, tags};
use crate::support::stack;
use crate::support::workspace::{Ended, Workspace};

fn trio() -> Workspace {
    let workspace = Workspace::with(&[
        ("api", "FROM BUSYBOX\nCOPY file /\n"),
        ("train", "FROM BUSYBOX\nCOPY file /\n"),
        ("web", "FROM BUSYBOX\nCOPY file /\n"),
    ]);
    for name in ["api", "train", "web"] {
        workspace.write(&format!("containers/{name}/file"), name);
    }
    workspace.commit();
    workspace
}

fn run(workspace: &Workspace, code: i32, arguments: &[&str]) -> Ended {
    let ended = workspace.run(arguments);
    assert_eq!(ended.code, code, "{}\n{}", ended.stdout, ended.stderr);
    ended
}

fn latest(workspace: &Workspace, name: &str) -> Option<Value> {
    manifest(&workspace.repository(name), "latest")
}

#[test]
fn jobs_build_parts_of_a_plan_and_one_promotes_all_of_it() {
    let workspace = trio();
    workspace.deploy(&["--release", "r1"]);
    let before: Vec<_> = ["api", "train", "web"]
        .map(|n| latest(&workspace, n))
        .into();
    workspace.write("containers/api/file", "2");
    workspace.write("containers/train/file", "2");
    workspace.commit();
    // The file is the CI's, not the sources'.
    let plan = workspace.root().join(".git/plan.json");
    let plan = plan.to_str().unwrap();
    run(&workspace, 0, &["plan", "--release", "r2", "--out", plan]);

    run(
        &workspace,
        0,
        &["deploy", "api", "--plan", plan, "--no-promote"],
    );
    let early = run(&workspace, 3, &["promote", "--plan", plan, "--yes"]);
    assert!(
        early.stderr.contains("`train` of the plan is not built"),
        "{}",
        early.stderr
    );
    assert!(early.stderr.contains("deploy --plan"), "{}", early.stderr);
    assert_eq!(latest(&workspace, "api"), before[0]);

    // Another job, at the same time for all that is known.
    run(
        &workspace,
        0,
        &["deploy", "train", "--plan", plan, "--no-promote"],
    );
    let unknown = run(&workspace, 2, &["deploy", "web", "--plan", plan]);
    assert!(
        unknown.stderr.contains("the plan does not release `web`"),
        "{}",
        unknown.stderr
    );
    let promoted = run(&workspace, 0, &["promote", "--plan", plan, "--yes"]);
    assert!(
        promoted.stdout.contains("latest moved to release r2"),
        "{}",
        promoted.stdout
    );
    for (name, before) in ["api", "train"].iter().zip(&before) {
        let now = latest(&workspace, name);
        assert_ne!(now, *before);
        assert_eq!(now, manifest(&workspace.repository(name), "r2"));
    }
    assert_eq!(latest(&workspace, "web"), before[2]);
    run(&workspace, 0, &["promote", "--plan", plan, "--yes"]);
    run(&workspace, 0, &["rollback", "--yes"]);
    assert_eq!(latest(&workspace, "train"), before[1]);

    workspace.write("containers/train/file", "3");
    workspace.commit();
    let other = run(&workspace, 2, &["deploy", "--plan", plan]);
    assert!(other.stderr.contains("the plan is of "), "{}", other.stderr);
}

#[test]
fn a_plan_is_built_from_what_it_saw() {
    let workspace = trio();
    let bases = Workspace::with(&[("base", "FROM BUSYBOX\nCOPY Dockerfile /1\n")]);
    bases.deploy(&["--release", "1"]);
    let (host, base) = (stack::registry(), bases.repository("base"));
    workspace.write(
        "containers/api/Dockerfile",
        format!("FROM {host}/{base}:latest\nCOPY file /\n"),
    );
    workspace.commit();
    let plan = workspace.root().join(".git/plan.json");
    let plan = plan.to_str().unwrap();
    run(
        &workspace,
        0,
        &["plan", "--all", "--release", "r1", "--out", plan],
    );
    // The tag of the base moves on.
    bases.dockerfile(
        "base",
        "FROM BUSYBOX\nCOPY Dockerfile /1\nCOPY Dockerfile /2\n",
    );
    bases.commit();
    bases.deploy(&["--release", "2"]);
    run(&workspace, 0, &["deploy", "api", "--plan", plan]);
    let built = layers(&workspace.repository("api"), "r1");
    assert_eq!(built.len(), layers(&base, "1").len() + 1);
    assert_ne!(built.len(), layers(&base, "latest").len() + 1);

    // The same commit with other files in the way is not what was planned.
    workspace.write("containers/train/file", "changed");
    let ended = run(&workspace, 2, &["deploy", "train", "--plan", plan]);
    assert!(ended.stderr.contains("-dirty"), "{}", ended.stderr);
    assert_eq!(tags(&workspace.repository("train")), Vec::<String>::new());
}

#[test]
fn what_is_no_plan_is_refused() {
    let workspace = trio();
    let plan = workspace.root().join(".git/plan.json");
    for (text, why) in [
        (None, "cannot be read"),
        (Some("{"), "EOF while parsing"),
        (Some("{}"), "it has no format"),
        (Some("{\"format\": 2}"), "its format is 2, not 1"),
        (Some("{\"format\": 1, \"release\": \"a b\"}"), "a b"),
    ] {
        if let Some(text) = text {
            fs::write(&plan, text).unwrap();
        }
        for command in ["deploy", "promote"] {
            let ended = run(&workspace, 2, &[command, "--plan", plan.to_str().unwrap()]);
            assert!(ended.stderr.contains(why), "{}", ended.stderr);
            assert!(
                ended.stderr.contains("skiff plan --out"),
                "{}",
                ended.stderr
            );
        }
    }
    let both = run(&workspace, 2, &["promote", "r1", "--plan", "x"]);
    assert!(
        both.stderr.contains("cannot be used with"),
        "{}",
        both.stderr
    );
}

#[test]
fn a_release_that_jobs_have_built_is_promoted_whole() {
    let workspace = trio();
    for name in ["api", "train"] {
        run(&workspace, 0, &["build", name, "--release", "r1"]);
        sleep(Duration::from_secs(1));
    }
    run(&workspace, 0, &["promote", "r1", "--yes"]);
    for name in ["api", "train"] {
        let own = manifest(&workspace.repository(name), "r1");
        assert!(own.is_some());
        assert_eq!(latest(&workspace, name), own);
    }
    assert_eq!(latest(&workspace, "web"), None);
}
