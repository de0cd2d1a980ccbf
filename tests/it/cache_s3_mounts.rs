//! Cache mounts that are carried through a bucket. The builder is one that keeps its S3 caches elsewhere
//! ([`crate::support::s3_builder`]); notes are in the stack's S3.

use serde_json::Value;

use crate::cache::{OFFLINE, events, steps};
use crate::support::aws::s3;
use crate::support::s3_builder::{S3Builder, Told};
use crate::support::stack::{self, SecondEngine};
use crate::support::workspace::{Ended, Workspace, ended};

/// The step says what it found, and adds a line.
const MOUNT: &str = "FROM BUSYBOX\nCOPY lock /\n\
    RUN --mount=type=cache,id=ID,target=/c,uid=1000,mode=0750 \
    echo ID; cat /c/log > /seen || true; cat /lock >> /c/log\n";

/// `etl` with a mount, and a bucket of the workspace's own.
fn workspace() -> (Workspace, String) {
    let workspace = Workspace::new();
    let bucket = workspace.prefix.clone();
    workspace.dockerfile("etl", &MOUNT.replace("ID", &format!("m-{bucket}")));
    workspace.manifest(&format!("{}{OFFLINE}", cache(&bucket)));
    assert_eq!(s3("PUT", &format!("/{bucket}"), "").0, 200);
    (workspace, bucket)
}

fn cache(bucket: &str) -> String {
    format!(
        "[cache]\nmounts = \"s3\"\nbucket = \"{bucket}\"\nprefix = \"team\"\nendpoint = \"http://{}\"\npath_style = true\n",
        stack::aws()
    )
}

/// Deploys another lock file, by this engine.
fn on(
    engine: &SecondEngine,
    workspace: &Workspace,
    lock: &str,
    release: &str,
) -> (Ended, Vec<Value>, Vec<Told>) {
    let builder = S3Builder::before(&engine.address());
    workspace.write("containers/etl/lock", lock);
    // A key of its own, so that nothing is skipped; no step sees it.
    workspace.write("run", release);
    workspace.commit();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_string_lossy().into_owned();
    let arguments = [
        "deploy",
        "--release",
        release,
        "--events",
        &path,
        "--builder",
        builder.address(),
    ];
    let mut command = workspace.skiff(&arguments);
    command.env("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-test");
    let ended = ended(command);
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    let text = std::fs::read_to_string(file.path()).unwrap();
    let all = format!("{ended:?}{text}");
    assert!(!all.contains("a-secret-of-the-test"), "{all}");
    let told = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (ended, told.collect(), builder.told())
}

fn on_a_fresh_runner(
    workspace: &Workspace,
    lock: &str,
    release: &str,
) -> (Ended, Vec<Value>, Vec<Told>) {
    on(&SecondEngine::fresh(), workspace, lock, release)
}

/// What the step of a release found in its mount.
fn seen(workspace: &Workspace, release: &str) -> String {
    let image = format!(
        "{}/{}:{release}",
        stack::registry(),
        workspace.repository("etl")
    );
    stack::docker(&["run", "--rm", "--pull", "always", &image, "cat", "/seen"])
}

/// The keys in a bucket that begin so.
fn keys(bucket: &str, beginning: &str) -> Vec<String> {
    let (_, xml) = s3(
        "GET",
        &format!("/{bucket}?list-type=2&prefix={beginning}"),
        "",
    );
    let keys = xml.split("<Key>").skip(1);
    keys.map(|rest| rest.split("</Key>").next().unwrap().to_owned())
        .collect()
}

fn notes(bucket: &str) -> Vec<Value> {
    let keys = keys(bucket, "team/mounts/").into_iter();
    let read = keys.map(|key| s3("GET", &format!("/{bucket}/{key}"), "").1);
    read.map(|text| serde_json::from_str(&text).unwrap())
        .collect()
}

fn said(told: &[Value]) -> String {
    let warnings = events(told, "warning").into_iter();
    warnings
        .map(|w| w["message"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_cache_mount_is_there_again_on_the_next_runner_and_only_channel_branches_keep_it() {
    let (workspace, bucket) = workspace();
    let (ended, told, asked) = on_a_fresh_runner(&workspace, "one\n", "r1");
    assert!(events(&told, "mount_filled").is_empty());
    let kept = events(&told, "mount_kept");
    assert_eq!(kept.len(), 1, "{}", ended.stderr);
    let place = kept[0]["reference"].as_str().unwrap();
    assert!(
        place.starts_with(&format!("s3://{bucket}/team/mounts/etl/mount-")),
        "{place}"
    );
    // The builder was told all that BuildKit reads, and to keep the contents alone.
    let [exported] = &asked[..] else {
        panic!("{asked:?}")
    };
    let attribute = |name: &str| exported.attributes[name].as_str();
    assert!(exported.exported);
    assert_eq!(attribute("mode"), "min");
    assert_eq!(
        (attribute("bucket"), attribute("prefix")),
        (&bucket[..], "team/")
    );
    assert_eq!(attribute("secret_access_key"), "a-secret-of-the-test");
    let first = notes(&bucket);
    assert_eq!(
        first[0]["layers"].as_object().unwrap().len(),
        1,
        "{first:?}"
    );
    assert!(first[0]["base"].as_str().unwrap().contains("@sha256:"));
    assert_eq!(keys(&bucket, "team/manifests/").len(), 1);

    // Nothing has changed: the step is in the cache, and its mount is not fetched.
    let (_, told, asked) = on_a_fresh_runner(&workspace, "one\n", "r2");
    assert_eq!(steps(&told), (2, 2));
    assert!(asked.is_empty(), "{asked:?}");

    // Another lock file on another branch: the step runs with what the first run left, and keeps nothing.
    workspace.git(&["checkout", "--quiet", "-b", "feature"]);
    let (ended, told, asked) = on_a_fresh_runner(&workspace, "two\n", "r3");
    assert_eq!(events(&told, "mount_filled").len(), 1, "{}", ended.stderr);
    let used = events(&told, "mount_used");
    assert!(used[0]["saved_seconds"].is_number(), "{used:?}");
    assert_eq!(seen(&workspace, "r3"), "one\n");
    assert!(asked.iter().all(|told| !told.exported), "{asked:?}");
    assert_eq!(notes(&bucket), first);

    // On main: filled, and kept as a version of its own; then over that, and what it had goes.
    workspace.git(&["checkout", "--quiet", "main"]);
    let (_, told, _) = on_a_fresh_runner(&workspace, "three\n", "r4");
    assert_eq!(events(&told, "mount_kept").len(), 1);
    assert_eq!(seen(&workspace, "r4"), "one\n");
    assert_eq!(notes(&bucket).len(), 2);
    workspace.write("containers/etl/Dockerfile", {
        let path = workspace.root().join("containers/etl/Dockerfile");
        std::fs::read_to_string(path)
            .unwrap()
            .replace("echo m", "echo x; echo m")
    });
    let (_, told, _) = on_a_fresh_runner(&workspace, "three\n", "r5");
    assert_eq!(seen(&workspace, "r5"), "one\nthree\n");
    assert_eq!(events(&told, "mount_kept").len(), 1);
    let manifests = keys(&bucket, "team/manifests/");
    assert_eq!(manifests.len(), notes(&bucket).len(), "{manifests:?}");
}

#[test]
fn what_the_builder_does_not_find_fills_nothing_and_is_kept_anew() {
    let (workspace, bucket) = workspace();
    on_a_fresh_runner(&workspace, "one\n", "r1");
    // The builder's part is gone.
    let key = keys(&bucket, "team/mounts/").remove(0);
    let (_, note) = s3("GET", &format!("/{bucket}/{key}"), "");
    let nonce = serde_json::from_str::<Value>(&note).unwrap()["nonce"].clone();
    let steps = keys(&bucket, "team/manifests/").remove(0);
    assert!(steps.ends_with(nonce.as_str().unwrap()), "{steps}");
    crate::support::registry::delete(
        &format!("s3/{bucket}"),
        &steps.replace("manifests/", "").replace('/', "-"),
    );
    let (_, told, _) = on_a_fresh_runner(&workspace, "two\n", "r2");
    let why = "was not filled from s3://";
    assert!(said(&told).contains(why), "{}", said(&told));
    assert!(
        said(&told).contains("does not find what was kept"),
        "{}",
        said(&told)
    );
    assert_eq!(seen(&workspace, "r2"), "");
    assert_eq!(events(&told, "mount_kept").len(), 1);
    let (_, told, _) = on_a_fresh_runner(&workspace, "three\n", "r3");
    assert_eq!(said(&told), "");
    assert_eq!(seen(&workspace, "r3"), "two\n", "it is mended");

    // What is no note, or another skiff's, is not used.
    let keys = keys(&bucket, "team/mounts/");
    s3("PUT", &format!("/{bucket}/{}", keys[0]), "{}");
    for key in &keys[1..] {
        s3("PUT", &format!("/{bucket}/{key}"), "{\"format\": 2}");
    }
    let (_, told, _) = on_a_fresh_runner(&workspace, "four\n", "r4");
    assert!(said(&told).contains("is something else"), "{}", said(&told));
    assert_eq!(seen(&workspace, "r4"), "");
}

#[test]
fn a_mount_in_use_is_not_overwritten_and_an_empty_one_replaces_nothing() {
    let (workspace, bucket) = workspace();
    let engine = SecondEngine::fresh();
    on(&engine, &workspace, "one\n", "r1");
    let (_, told, _) = on(&engine, &workspace, "two\n", "r2");
    assert!(
        events(&told, "mount_filled").is_empty(),
        "the builder has it"
    );
    assert_eq!(seen(&workspace, "r2"), "one\n");
    let kept = notes(&bucket);
    let dockerfile = workspace.root().join("containers/etl/Dockerfile");
    let text = std::fs::read_to_string(&dockerfile).unwrap();
    std::fs::write(&dockerfile, format!("{} ; rm -rf /c/*\n", text.trim_end())).unwrap();
    let (_, told, _) = on(&engine, &workspace, "two\n", "r3");
    assert!(events(&told, "mount_kept").is_empty());
    assert_eq!(said(&told), "");
    assert_eq!(notes(&bucket), kept);
}

#[test]
fn notes_are_listed_and_pruned_with_what_they_lead_to() {
    let (workspace, bucket) = workspace();
    on_a_fresh_runner(&workspace, "one\n", "r1");
    on_a_fresh_runner(&workspace, "two\n", "r2");
    // No note: it is left out, and alone.
    s3(
        "PUT",
        &format!("/{bucket}/team/mounts/etl/mount-x.json"),
        "no",
    );
    let run = |arguments: &[&str]| {
        let ended = workspace.run(arguments);
        assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
        ended
    };
    let listed = run(&["cache", "ls", "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let caches = listed["caches"].as_array().unwrap();
    let mounts: Vec<&Value> = caches
        .iter()
        .filter(|cache| cache["kind"] == "mount")
        .collect();
    assert_eq!(mounts.len(), 2, "{listed}");
    for mount in &mounts {
        assert_eq!(mount["containers"], serde_json::json!(["etl"]), "{mount}");
        assert_eq!(mount["in_use"], true, "{mount}");
        assert!(mount["bytes"].as_u64().unwrap() > 0, "{mount}");
        assert!(mount["seconds_without"].is_number(), "{mount}");
        let place = mount["reference"].as_str().unwrap();
        assert!(place.starts_with("s3://"), "{place}");
    }
    let used = run(&["cache", "du"]).stdout;
    assert!(used.contains("mount"), "{used}");

    let dry = run(&["cache", "prune", "--all", "--dry-run"]).stdout;
    assert!(dry.contains("s3://"), "{dry}");
    assert_eq!(notes_and_steps(&bucket), (3, 2));
    run(&["cache", "prune", "--older-than", "14d", "--yes"]);
    assert_eq!(notes_and_steps(&bucket), (3, 2), "they are young");
    let pruned = run(&["cache", "prune", "--all", "--yes"]).stdout;
    assert!(
        pruned.contains("its lifecycle rule frees the room"),
        "{pruned}"
    );
    assert_eq!(notes_and_steps(&bucket), (1, 0));
    let (_, told, _) = on_a_fresh_runner(&workspace, "three\n", "r3");
    assert_eq!(said(&told), "");
    assert_eq!(seen(&workspace, "r3"), "");
}

fn notes_and_steps(bucket: &str) -> (usize, usize) {
    (
        keys(bucket, "team/mounts/").len(),
        keys(bucket, "team/manifests/").len(),
    )
}

#[test]
fn without_a_bucket_or_a_builder_that_can_it_is_said_before_the_build() {
    let (workspace, bucket) = workspace();
    workspace.write("containers/etl/lock", "one\n");
    workspace.commit();
    let refused = workspace.run(&["deploy", "--release", "r1", "--builder", "docker"]);
    assert_eq!(refused.code, 2, "{}", refused.stdout);
    for text in ["has no S3 caches", "`mounts = \"registry\"` below [cache]"] {
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    let manifest = format!("{}{OFFLINE}", cache(&format!("{bucket}-none")));
    workspace.manifest(&manifest);
    let (ended, told, asked) = on_a_fresh_runner(&workspace, "one\n", "r1");
    let why = "built without the cache mounts of earlier runs: the bucket";
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
    assert!(asked.is_empty() && events(&told, "mount_kept").is_empty());
}
