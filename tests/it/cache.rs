//! Caches that outlive the runner: every run here is one on an engine that has built nothing.

use serde_json::Value;

use crate::support::registry::{manifest, tags};
use crate::support::stack::SecondEngine;
use crate::support::workspace::{Ended, Workspace, ended};

/// Runs without network, as the second engines have none.
const OFFLINE: &str = "[defaults]\nnetwork = \"none\"\n";

/// Deploys on an engine that is empty, and gone afterwards; returns the events, too.
fn on_a_fresh_runner(workspace: &Workspace, arguments: &[&str]) -> (Ended, Vec<Value>) {
    let engine = SecondEngine::fresh();
    on(&engine, workspace, arguments)
}

fn on(engine: &SecondEngine, workspace: &Workspace, arguments: &[&str]) -> (Ended, Vec<Value>) {
    let events = tempfile::NamedTempFile::new().unwrap();
    let path = events.path().to_string_lossy().into_owned();
    let mut command = workspace.skiff(&[&["deploy", "--events", &path], arguments].concat());
    command.env("DOCKER_HOST", engine.address());
    let ended = ended(command);
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    let text = std::fs::read_to_string(events.path()).unwrap();
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (ended, events.collect())
}

fn events<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["event"] == kind)
        .collect()
}

/// Cached and all steps of the only container.
fn steps(told: &[Value]) -> (u64, u64) {
    let end = events(told, "container_finished")[0];
    let count = |key: &str| end[key].as_u64().unwrap();
    (count("cached_steps"), count("total_steps"))
}

/// The tags of the caches that were imported.
fn imported(told: &[Value]) -> Vec<String> {
    let tag = |event: &&Value| {
        let reference = event["reference"].as_str().unwrap();
        reference.rsplit(':').next().unwrap().to_owned()
    };
    events(told, "cache_chosen").iter().map(tag).collect()
}

#[test]
fn a_branch_keeps_a_cache_of_its_own_and_leaves_the_shared_one_alone() {
    let workspace = Workspace::with(&[(
        "etl",
        "FROM BUSYBOX\nRUN sleep 1; date > /deps\nCOPY main.py /\nRUN date > /app\n",
    )]);
    workspace.manifest(&format!("[cache]\nexport = \"always\"\n{OFFLINE}"));
    workspace.write("containers/etl/main.py", "1");
    workspace.commit();
    let repository = workspace.repository("etl");
    let (_, told) = on_a_fresh_runner(&workspace, &["--release", "r1"]);
    assert_eq!((imported(&told), steps(&told)), (vec![], (0, 3)));
    let shared = manifest(&repository, "buildcache").unwrap();

    workspace.git(&["checkout", "--quiet", "-b", "feature/x"]);
    workspace.write("containers/etl/main.py", "2");
    workspace.commit();
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r2"]);
    assert_eq!(imported(&told), ["buildcache"]);
    assert_eq!(steps(&told), (1, 3), "{}", ended.stderr);
    assert!(!ended.stderr.contains("ERROR"), "{}", ended.stderr);
    assert_eq!(
        tags(&repository),
        ["buildcache", "buildcache-feature-x", "latest", "r1", "r2"]
    );
    assert_eq!(manifest(&repository, "buildcache").unwrap(), shared);

    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r3"]);
    assert_eq!(imported(&told), ["buildcache-feature-x"]);
    assert_eq!(steps(&told), (3, 3), "{}", ended.stderr);
    // No release can have the name of such a cache.
    let refused = workspace.run(&["deploy", "--release", "buildcache-other"]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("is the tag of a cache"),
        "{}",
        refused.stderr
    );
}

#[test]
fn caches_have_a_repository_of_their_own_where_the_manifest_says_so() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN date > /deps\n")]);
    let caches = format!("{}/caches", workspace.prefix);
    let host = crate::support::stack::registry();
    workspace.manifest(&format!(
        "[cache]\nref = \"{host}/{caches}:{{name}}\"\n{OFFLINE}"
    ));
    workspace.commit();
    on_a_fresh_runner(&workspace, &["--release", "r1"]);
    assert_eq!(tags(&caches), ["etl"]);
    assert_eq!(tags(&workspace.repository("etl")), ["latest", "r1"]);
    let (_, told) = on_a_fresh_runner(&workspace, &["--release", "r2"]);
    assert_eq!(steps(&told), (1, 1));
}

#[test]
fn a_cache_that_is_none_costs_nothing_but_time() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN date > /deps\n")]);
    workspace.manifest(OFFLINE);
    workspace.commit();
    let repository = workspace.repository("etl");
    // An image, not a cache, under the cache's tag.
    let host = crate::support::stack::registry();
    let image = format!("{host}/busybox:1");
    let foreign = format!("{host}/{repository}:buildcache");
    crate::support::stack::docker(&["pull", "--quiet", &image]);
    crate::support::stack::docker(&["tag", &image, &foreign]);
    crate::support::stack::docker(&["push", "--quiet", &foreign]);
    crate::support::stack::docker(&["rmi", &foreign]);
    let (_, told) = on_a_fresh_runner(&workspace, &["--release", "r1"]);
    assert_eq!(steps(&told), (0, 1));
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r2"]);
    assert_eq!(steps(&told), (1, 1), "{}", ended.stderr);
}
