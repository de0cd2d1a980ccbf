//! Caches that are damaged, foreign, old or out of reach: they cost time, and never a deploy.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::cache::{OFFLINE, events, imported, on, on_a_fresh_runner, steps};
use crate::support::gate::{Answer, Gate};
use crate::support::registry::{self, layers, manifest, put_manifest};
use crate::support::stack::{self, SecondEngine};
use crate::support::workspace::{Ended, Workspace};

const DOCKERFILE: &str = "FROM BUSYBOX\nRUN head -c 100000 /dev/urandom > /deps\nCOPY main.py /\nRUN cat /main.py > /app\n";

const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// `etl`, deployed once.
fn deployed() -> Workspace {
    let workspace = Workspace::with(&[("etl", DOCKERFILE)]);
    workspace.manifest(OFFLINE);
    workspace.write("containers/etl/main.py", "1");
    workspace.commit();
    on_a_fresh_runner(&workspace, &["--release", "r1"]);
    workspace
}

/// The next deploy is good, builds all, and leaves a cache that serves the one after it.
fn mends_itself(workspace: &Workspace) -> Ended {
    let (ended, told) = on_a_fresh_runner(workspace, &["--release", "r2"]);
    assert_eq!(steps(&told), (0, 3), "{}", ended.stderr);
    let (after, told) = on_a_fresh_runner(workspace, &["--release", "r3"]);
    assert_eq!(imported(&told), ["buildcache"]);
    assert_eq!(steps(&told), (3, 3), "{}", after.stderr);
    ended
}

fn put_cache(repository: &str, manifest: &Value) {
    put_manifest(repository, "buildcache", manifest.to_string().as_bytes());
}

#[test]
fn a_cache_whose_config_is_damaged_is_replaced() {
    let workspace = deployed();
    let repository = workspace.repository("etl");
    // Its config is a layer, not JSON.
    let mut damaged = manifest(&repository, "buildcache").unwrap();
    damaged["config"] = damaged["layers"][0].clone();
    damaged["config"]["mediaType"] = json!(CACHE_CONFIG);
    put_cache(&repository, &damaged);
    mends_itself(&workspace);
}

#[test]
fn a_cache_of_layers_that_its_config_does_not_know_is_replaced() {
    let workspace = deployed();
    let repository = workspace.repository("etl");
    let mut damaged = manifest(&repository, "buildcache").unwrap();
    damaged["layers"] = json!([]);
    put_cache(&repository, &damaged);
    mends_itself(&workspace);
}

#[test]
fn an_artifact_under_the_tag_of_a_cache_is_none() {
    let workspace = deployed();
    let repository = workspace.repository("etl");
    registry::put_artifact(&repository, "buildcache", "text/plain", "a note");
    mends_itself(&workspace);
}

#[test]
fn a_layer_that_is_gone_costs_a_second_build_and_not_the_deploy() {
    let workspace = deployed();
    let repository = workspace.repository("etl");
    // What the first step made; the image of the base has other layers.
    let layer = layers(&repository, "r1")[1].clone();
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let gate = Gate::scripted(stack::registry(), move |asked| {
        let gone = matches!(asked.method, "GET" | "HEAD") && asked.path.ends_with(&layer);
        if gone {
            *count.lock().unwrap() += 1;
        }
        gone.then_some(Answer::Refusal(404, "BLOB_UNKNOWN"))
    });
    workspace.manifest_for(&gate.host(), OFFLINE);
    workspace.write("containers/etl/main.py", "2");
    workspace.commit();
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r2"]);
    assert!(*asked.lock().unwrap() > 0, "{}", ended.stderr);
    assert_eq!(steps(&told), (0, 3), "{}", ended.stderr);
    let warnings = events(&told, "warning");
    let said = warnings[0]["message"].as_str().unwrap();
    assert!(said.contains("without the cache"), "{said}");
}

#[test]
fn what_would_have_to_run_anew_for_it_is_not_exported() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN date > /deps\n")]);
    let engine = SecondEngine::fresh();
    let address = engine.address();
    // The builder forgets what it built before it is asked for it again.
    let gate = Gate::scripted(stack::registry(), move |asked| {
        if asked.method == "PUT" && asked.path.ends_with("/manifests/latest") {
            let prune = ["-H", &address, "builder", "prune", "--all", "--force"];
            stack::docker(&prune);
        }
        None
    });
    workspace.manifest_for(&gate.host(), OFFLINE);
    let (ended, told) = on(&engine, &workspace, &["--release", "r1"]);
    let warnings = events(&told, "warning");
    let said = warnings[0]["message"].as_str().unwrap();
    assert!(said.contains("was not exported"), "{said}");
    assert!(said.contains("run it anew: [2/2] RUN date"), "{said}");
    let tags = registry::tags(&workspace.repository("etl"));
    assert_eq!(tags, ["latest", "r1"], "{}", ended.stderr);
}

#[test]
fn a_cache_of_an_older_form_is_read_and_replaced_by_one_that_every_registry_takes() {
    let workspace = Workspace::with(&[("etl", DOCKERFILE)]);
    workspace.manifest(OFFLINE);
    workspace.write("containers/etl/main.py", "1");
    workspace.commit();
    let repository = workspace.repository("etl");
    let reference = format!("{}/{repository}:buildcache", stack::registry());
    let context = workspace.root().join("containers/etl");
    // An index of layers, as BuildKit made them before it had image manifests.
    let export =
        format!("type=registry,ref={reference},mode=max,image-manifest=false,oci-mediatypes=false");
    let context = context.to_str().unwrap();
    stack::docker(&[
        "buildx",
        "build",
        "--quiet",
        "--network",
        "none",
        "--cache-to",
        &export,
        context,
    ]);
    assert!(manifest(&repository, "buildcache").unwrap()["manifests"].is_array());
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r1"]);
    assert_eq!(imported(&told), ["buildcache"], "{}", ended.stderr);
    let now = manifest(&repository, "buildcache").unwrap();
    assert_eq!(now["config"]["mediaType"], CACHE_CONFIG, "{now}");
}

#[test]
fn a_cache_of_another_platform_never_hits_and_is_replaced() {
    let workspace = Workspace::with(&[("etl", "FROM scratch\nCOPY main.py /\n")]);
    workspace.manifest("[defaults]\nextra_inputs = [\"run\"]\n");
    workspace.write("containers/etl/main.py", "1");
    workspace.commit();
    let arm = ["--release", "r1", "--platform", "linux/arm64"];
    on_a_fresh_runner(&workspace, &arm);
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r2"]);
    assert_eq!(imported(&told), ["buildcache"], "{}", ended.stderr);
    let config = registry::config(&workspace.repository("etl"), "r2");
    assert_eq!(config["architecture"], "amd64");
}

#[test]
fn a_cache_registry_out_of_reach_is_a_word_in_the_log() {
    let workspace = Workspace::with(&[("etl", DOCKERFILE)]);
    workspace.manifest(&format!(
        "[cache]\nref = \"localhost:1/caches:{{name}}\"\n{OFFLINE}"
    ));
    workspace.write("containers/etl/main.py", "1");
    workspace.commit();
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r1"]);
    let warnings: Vec<_> = events(&told, "warning")
        .iter()
        .map(|warning| warning["message"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        warnings[0].contains("built without the cache localhost:1/caches:etl"),
        "{}",
        ended.stderr
    );
    assert!(
        warnings[1].contains("was not exported to localhost:1/caches:etl"),
        "{}",
        ended.stderr
    );
}
