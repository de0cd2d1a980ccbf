//! Caches that outlive the runner: every run here is one on an engine that has built nothing.

use serde_json::Value;

use crate::support::registry::{manifest, tags};
use crate::support::stack::SecondEngine;
use crate::support::workspace::{Ended, Workspace, ended};

/// Runs without network, as the second engines have none.
pub(crate) const OFFLINE: &str = "[defaults]\nnetwork = \"none\"\nextra_inputs = [\"run\"]\n";

/// Deploys on an engine that is empty, and gone afterwards; returns the events, too.
pub(crate) fn on_a_fresh_runner(workspace: &Workspace, arguments: &[&str]) -> (Ended, Vec<Value>) {
    let engine = SecondEngine::fresh();
    on(&engine, workspace, arguments)
}

pub(crate) fn on(
    engine: &SecondEngine,
    workspace: &Workspace,
    arguments: &[&str],
) -> (Ended, Vec<Value>) {
    on_by(workspace, arguments, &engine.address())
}

/// The same with the engine at this address.
pub(crate) fn on_by(
    workspace: &Workspace,
    arguments: &[&str],
    engine: &str,
) -> (Ended, Vec<Value>) {
    // A key of its own, so that nothing is skipped; no step sees it.
    workspace.write("run", format!("{arguments:?}"));
    workspace.commit();
    let events = tempfile::NamedTempFile::new().unwrap();
    let path = events.path().to_string_lossy().into_owned();
    let mut command = workspace.skiff(&[&["deploy", "--events", &path], arguments].concat());
    command.env("DOCKER_HOST", engine);
    let ended = ended(command);
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    let text = std::fs::read_to_string(events.path()).unwrap();
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (ended, events.collect())
}

pub(crate) fn events<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["event"] == kind)
        .collect()
}

/// Cached and all steps of the only container.
pub(crate) fn steps(told: &[Value]) -> (u64, u64) {
    let end = events(told, "container_finished")[0];
    let count = |key: &str| end[key].as_u64().unwrap();
    (count("cached_steps"), count("total_steps"))
}

/// The tags of the caches that were imported.
pub(crate) fn imported(told: &[Value]) -> Vec<String> {
    let tag = |event: &&Value| {
        let reference = event["reference"].as_str().unwrap();
        reference.rsplit(':').next().unwrap().to_owned()
    };
    events(told, "cache_chosen").iter().map(tag).collect()
}

/// Deploys another lock file on a fresh runner, and returns what the events said.
pub(crate) fn with_lock(workspace: &Workspace, lock: &str, release: &str) -> (Ended, Vec<Value>) {
    workspace.write("containers/etl/lock", lock);
    workspace.commit();
    on_a_fresh_runner(workspace, &["--release", release])
}

/// What a file of a release of `etl` says.
pub(crate) fn seen(workspace: &Workspace, release: &str, file: &str) -> String {
    let host = crate::support::stack::registry();
    let image = format!("{host}/{}:{release}", workspace.repository("etl"));
    crate::support::stack::docker(&["run", "--rm", "--pull", "always", &image, "cat", file])
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
fn of_several_caches_the_one_with_most_of_the_steps_is_taken() {
    let workspace = Workspace::with(&[(
        "etl",
        "FROM BUSYBOX\nCOPY lock /\nRUN date > /deps\nCOPY main.py /\nRUN date > /app\n",
    )]);
    workspace.manifest(&format!("[cache]\nexport = \"always\"\n{OFFLINE}"));
    workspace.write("containers/etl/main.py", "1");
    with_lock(&workspace, "one", "r1");
    workspace.git(&["checkout", "--quiet", "-b", "feature"]);
    with_lock(&workspace, "two", "r2");
    // The branch has a cache of its own, and takes main's as it has the lock file of main again.
    workspace.write("containers/etl/main.py", "3");
    let (_, told) = with_lock(&workspace, "one", "r3");
    assert_eq!(imported(&told), ["buildcache"]);
    assert_eq!(steps(&told), (2, 4));
    // Its own is as good now, and comes first.
    workspace.write("containers/etl/main.py", "4");
    let (_, told) = with_lock(&workspace, "one", "r4");
    assert_eq!(imported(&told), ["buildcache-feature"]);
    assert_eq!(steps(&told), (2, 4));
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

#[test]
fn a_run_without_cache_imports_none_and_exports_what_it_released() {
    let workspace = Workspace::with(&[(
        "etl",
        "FROM BUSYBOX\nRUN cat /proc/sys/kernel/random/uuid > /made\n",
    )]);
    workspace.manifest(OFFLINE);
    workspace.commit();
    on_a_fresh_runner(&workspace, &["--release", "r1"]);
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r2", "--no-cache"]);
    assert_eq!(imported(&told), Vec::<String>::new(), "{}", ended.stderr);
    assert_eq!(steps(&told), (0, 1));
    assert!(
        !ended.stderr.contains("importing cache"),
        "{}",
        ended.stderr
    );
    assert_ne!(
        seen(&workspace, "r1", "/made"),
        seen(&workspace, "r2", "/made")
    );

    // The next run takes from the cache what that one released.
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r3"]);
    assert_eq!(imported(&told), ["buildcache"]);
    assert_eq!(steps(&told), (1, 1), "{}", ended.stderr);
    assert_eq!(
        seen(&workspace, "r2", "/made"),
        seen(&workspace, "r3", "/made")
    );
}

#[test]
fn a_cache_in_a_folder_serves_every_engine() {
    let caches = tempfile::tempdir().unwrap();
    let folder = caches.path().canonicalize().unwrap();
    let workspace = Workspace::with(&[(
        "etl",
        "FROM BUSYBOX\nRUN date > /deps\nCOPY main.py /\nRUN date > /app\n",
    )]);
    workspace.manifest(&format!(
        "[cache]\nbackend = \"local\"\ndir = {folder:?}\nexport = \"always\"\n{OFFLINE}"
    ));
    workspace.write("containers/etl/main.py", "1");
    workspace.commit();
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r1"]);
    assert_eq!(events(&told, "cache_exported").len(), 1, "{}", ended.stderr);
    // Nothing of it is in the registry.
    assert_eq!(tags(&workspace.repository("etl")), ["latest", "r1"]);

    workspace.git(&["checkout", "--quiet", "-b", "feature"]);
    workspace.write("containers/etl/main.py", "2");
    workspace.commit();
    let chosen = |told: &[Value]| {
        let chosen = events(told, "cache_chosen");
        chosen.first().map(|event| event["reference"].clone())
    };
    let at = |name: &str| Some(Value::from(folder.join(name).to_str().unwrap()));
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r2"]);
    assert_eq!(chosen(&told), at("etl/buildcache"), "{}", ended.stderr);
    assert_eq!(steps(&told), (1, 3), "{}", ended.stderr);
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r3"]);
    assert_eq!(chosen(&told), at("etl/buildcache-feature"));
    assert_eq!(steps(&told), (3, 3), "{}", ended.stderr);

    // A blob is gone: it is said, the other cache is taken, and the deploy is as good.
    let blobs = folder.join("etl/buildcache-feature/blobs/sha256");
    let largest = std::fs::read_dir(blobs).unwrap().map(|file| file.unwrap());
    let largest = largest.max_by_key(|file| file.metadata().unwrap().len());
    std::fs::remove_file(largest.unwrap().path()).unwrap();
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r4"]);
    assert_eq!(chosen(&told), at("etl/buildcache"));
    assert!(
        ended.stderr.contains("is missing or not whole"),
        "{}",
        ended.stderr
    );
    let (_, told) = on_a_fresh_runner(&workspace, &["--release", "r5"]);
    assert_eq!(chosen(&told), at("etl/buildcache-feature"), "mended");
    assert_eq!(steps(&told), (3, 3));
}

#[test]
fn base_images_come_from_a_mirror_wherever_a_dockerfile_names_them() {
    let host = crate::support::stack::registry();
    let workspace = Workspace::with(&[(
        "etl",
        "FROM registry.example/busybox:1 AS busybox\nRUN echo 1 > /one\n\
         FROM registry.example/hub/busybox:1\nCOPY --from=busybox /one /\nCOPY --from=registry.example/busybox:1 /bin/busybox /copied\n\
         RUN --mount=type=bind,from=registry.example/busybox:1,target=/m ls /m/bin > /mounted\n",
    )]);
    // The longer prefix wins.
    workspace.manifest(&format!(
        "[mirrors]\n\"registry.example\" = \"{host}\"\n\"registry.example/hub\" = \"{host}\"\n{OFFLINE}"
    ));
    workspace.commit();
    let (_, told) = on_a_fresh_runner(&workspace, &["--release", "r1"]);
    assert_eq!(steps(&told), (0, 4));
    assert!(seen(&workspace, "r1", "/mounted").contains("busybox"));
    // Its digests come from there too: nobody else could say them, and without them there is no key.
    let again = workspace.run(&["deploy", "--all", "--release", "r2"]);
    assert!(again.stdout.contains("skipped"), "{}", again.stdout);
}

#[test]
fn a_mirror_that_is_down_is_named_with_what_it_stands_in_for() {
    let workspace = Workspace::with(&[("etl", "FROM registry.example/x:1\n")]);
    workspace.manifest("[mirrors]\n\"registry.example\" = \"localhost:1/hub\"\n");
    workspace.commit();
    let ended = workspace.run(&["deploy", "--release", "r1"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let help = "`localhost:1/hub` stands in for `registry.example`";
    assert!(ended.stderr.contains(help), "{}", ended.stderr);
    let keyless = "(the mirror of registry.example/x by `[mirrors]`)";
    assert!(ended.stderr.contains(keyless), "{}", ended.stderr);
    let locked = workspace.run(&["lock"]);
    assert_eq!(locked.code, 2, "{}", locked.stderr);
    for text in [help, "read from `registry.example` itself"] {
        assert!(locked.stderr.contains(text), "{}", locked.stderr);
    }
}

#[test]
fn the_frontend_of_a_syntax_line_comes_from_the_mirror_too() {
    let workspace = Workspace::with(&[(
        "etl",
        "# syntax=registry.example/docker/dockerfile:1\nFROM BUSYBOX\n",
    )]);
    workspace.manifest("[mirrors]\n\"registry.example\" = \"localhost:1/hub\"\n");
    workspace.commit();
    let ended = workspace.run(&["deploy", "--release", "r1"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let asked = "localhost:1/v2/hub/docker/dockerfile/";
    assert!(ended.stderr.contains(asked), "{}", ended.stderr);
}
