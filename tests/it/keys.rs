//! Nothing is built twice: what has a key in the registry is skipped, what differs is built, and it is said why.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::gate::{Answer, Gate, Rule};
use crate::support::registry::{all_tags, config, manifest, tags};
use crate::support::stack;
use crate::support::workspace::{Ended, Workspace};

/// What became of each container, by the metadata file of a deploy with these arguments.
fn statuses(workspace: &Workspace, arguments: &[&str]) -> (Vec<String>, Ended) {
    let file = workspace.root().join(".git/metadata.json");
    // Releases are named by the clock, in seconds, and a name is given once.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let ended =
        workspace.deploy(&[arguments, &["--metadata-file", file.to_str().unwrap()]].concat());
    let metadata: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let status =
        |(name, value): (&String, &Value)| format!("{name} {}", value["status"].as_str().unwrap());
    let mut statuses: Vec<_> = metadata.as_object().unwrap().iter().map(status).collect();
    statuses.sort();
    (statuses, ended)
}

fn key_tags(workspace: &Workspace, name: &str) -> Vec<String> {
    let mut tags = all_tags(&workspace.repository(name));
    tags.retain(|tag| tag.starts_with("key-"));
    tags
}

fn pair() -> Workspace {
    let workspace = Workspace::with(&[
        ("base", "FROM BUSYBOX\nCOPY base.txt /\n"),
        ("train", "FROM base\nARG WHO=x\nCOPY src /src\n"),
    ]);
    workspace.write("containers/base/base.txt", "1");
    workspace.write("containers/train/src/main.py", "1");
    workspace.write("containers/train/notes.txt", "1");
    workspace.write("containers/train/.dockerignore", "src/*.tmp\n");
    workspace.commit();
    workspace
}

#[test]
fn what_has_not_changed_is_not_built_again() {
    let workspace = pair();
    let (first, _) = statuses(&workspace, &[]);
    assert_eq!(first, ["base built", "train built"]);
    let latest = manifest(&workspace.repository("train"), "latest");
    let before = tags(&workspace.repository("train"));
    // Times, a file that is not read and one that is ignored do not count.
    let touched = workspace.root().join("containers/train/src/main.py");
    let file = fs::File::options().write(true).open(touched).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(1000))
        .unwrap();
    workspace.write("containers/train/notes.txt", "2");
    workspace.write("containers/train/src/a.tmp", "2");
    workspace.commit();
    let started = Instant::now();
    let (second, ended) = statuses(&workspace, &[]);
    assert_eq!(
        second,
        ["base skipped", "train skipped"],
        "{}",
        ended.stderr
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(ended.stdout.contains("2 unchanged"), "{}", ended.stdout);
    assert_eq!(manifest(&workspace.repository("train"), "latest"), latest);
    // No tag for each run that changes nothing: there is a limit to them.
    assert_eq!(tags(&workspace.repository("train")), before);
}

#[test]
fn a_change_of_the_source_is_built_and_a_revert_is_not() {
    let workspace = pair();
    workspace.deploy(&[]);
    let first = manifest(&workspace.repository("train"), "latest");
    workspace.write("containers/train/src/main.py", "2");
    workspace.commit();
    let (changed, _) = statuses(&workspace, &[]);
    assert_eq!(changed, ["base skipped", "train built"]);
    assert_ne!(manifest(&workspace.repository("train"), "latest"), first);
    assert_eq!(key_tags(&workspace, "train").len(), 2);
    workspace.write("containers/train/src/main.py", "1");
    workspace.commit();
    let (reverted, _) = statuses(&workspace, &[]);
    assert_eq!(reverted, ["base skipped", "train skipped"]);
    assert_eq!(manifest(&workspace.repository("train"), "latest"), first);
}

#[test]
fn a_change_of_a_parent_builds_its_children_and_a_parent_that_is_not_needed_is_not() {
    let workspace = pair();
    workspace.deploy(&[]);
    workspace.write("containers/base/base.txt", "2");
    workspace.commit();
    let (changed, _) = statuses(&workspace, &["train"]);
    assert_eq!(changed, ["base built", "train built"]);
    let (again, _) = statuses(&workspace, &["train"]);
    assert_eq!(again, ["train skipped"], "nothing is built from base");
    // It was built and not released: its key is there, its channel has not moved.
    let (base, _) = statuses(&workspace, &["base"]);
    assert_eq!(base, ["base skipped"]);
}

#[test]
fn the_tree_without_git_and_elsewhere_has_the_same_keys() {
    let workspace = pair();
    workspace.deploy(&[]);
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(workspace.root().join("containers"))
        .arg(workspace.root().join("containers.toml"))
        .arg(copy.path())
        .status();
    assert!(copied.unwrap().success());
    let mut skiff = workspace.skiff(&["deploy", "--progress", "json"]);
    skiff.current_dir(copy.path());
    let ended = crate::support::workspace::ended(skiff);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(
        ended.stdout.matches("\"status\":\"skipped\"").count(),
        2,
        "{}",
        ended.stdout
    );
}

#[test]
fn names_go_to_unchanged_containers_where_they_are_asked_for() {
    let workspace = pair();
    workspace.deploy(&[]);
    workspace.deploy(&["--release", "r2", "--tag", "v2"]);
    let all = tags(&workspace.repository("train"));
    assert!(
        all.contains(&"r2".to_owned()) && all.contains(&"v2".to_owned()),
        "{all:?}"
    );
    workspace.manifest("[defaults]\ntag_unchanged = false\n");
    workspace.commit();
    workspace.deploy(&["--release", "r3"]);
    let all = tags(&workspace.repository("train"));
    assert!(!all.contains(&"r3".to_owned()), "{all:?}");
}

#[test]
fn arguments_and_extra_inputs_are_part_of_the_key() {
    let workspace = pair();
    workspace.write("libs/common/a.py", "1");
    workspace.write("libs/other.py", "1");
    let written = |who: &str| {
        workspace.manifest(&format!(
            "[containers.train]\nargs = {{ WHO = \"{who}\" }}\nextra_inputs = [\"libs/common/**\"]\n"
        ));
        workspace.commit();
    };
    written("a");
    workspace.deploy(&[]);
    let train = || statuses(&workspace, &["train"]).0.pop().unwrap();
    workspace.write("libs/other.py", "2");
    workspace.commit();
    assert_eq!(train(), "train skipped");
    workspace.write("libs/common/a.py", "2");
    workspace.commit();
    assert_eq!(train(), "train built");
    written("b");
    assert_eq!(train(), "train built");
    let labels = config(&workspace.repository("train"), "latest")["config"]["Labels"].clone();
    let inputs = labels["skiff.inputs"].as_str().unwrap();
    assert!(
        inputs.contains("arg:WHO") && !inputs.contains("\"b\""),
        "{inputs}"
    );
    assert_eq!(
        format!("key-{}", labels["skiff.key"].as_str().unwrap()).len(),
        68
    );
}

#[test]
fn a_base_image_that_moves_is_built_upon_again() {
    let workspace = Workspace::new();
    let host = stack::registry();
    let base = format!("{host}/{}/mine", workspace.prefix);
    let publish = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("Dockerfile"),
            format!("FROM {host}/busybox:1\nRUN echo {text} > /who\n"),
        )
        .unwrap();
        stack::docker(&[
            "build",
            "--quiet",
            "--push",
            "--tag",
            &format!("{base}:1"),
            folder.path().to_str().unwrap(),
        ]);
    };
    publish("one");
    workspace.dockerfile(
        "etl",
        &format!("FROM {base}:1 AS mine\nRUN cp /who /copy\n"),
    );
    workspace.commit();
    workspace.deploy(&[]);
    assert_eq!(statuses(&workspace, &[]).0, ["etl skipped"]);
    publish("two");
    assert_eq!(statuses(&workspace, &[]).0, ["etl built"]);
    assert_eq!(statuses(&workspace, &[]).0, ["etl skipped"]);
}

#[test]
fn a_trigger_of_a_base_image_makes_all_of_the_context_count() {
    let workspace = Workspace::new();
    let host = stack::registry();
    let base = format!("{host}/{}/onbuild:1", workspace.prefix);
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("Dockerfile"),
        format!("FROM {host}/busybox:1\nONBUILD COPY later /\n"),
    )
    .unwrap();
    stack::docker(&[
        "build",
        "--quiet",
        "--push",
        "--tag",
        &base,
        folder.path().to_str().unwrap(),
    ]);
    workspace.dockerfile("etl", &format!("FROM {base}\nCOPY src /src\n"));
    workspace.write("containers/etl/src/a", "1");
    workspace.write("containers/etl/later", "1");
    workspace.commit();
    workspace.deploy(&[]);
    assert_eq!(statuses(&workspace, &[]).0, ["etl skipped"]);
    workspace.write("containers/etl/later", "2");
    workspace.commit();
    assert_eq!(statuses(&workspace, &[]).0, ["etl built"]);
}

#[test]
fn a_key_image_that_is_foreign_or_damaged_is_not_trusted() {
    let workspace = Workspace::with(&[
        ("etl", "FROM BUSYBOX\nRUN echo 1 > /x\n"),
        ("other", "FROM BUSYBOX\nRUN echo 2 > /x\n"),
    ]);
    workspace.deploy(&[]);
    let key = key_tags(&workspace, "etl").remove(0);
    let (etl, other) = (workspace.repository("etl"), workspace.repository("other"));
    let host = stack::registry();
    // Another image under its key.
    stack::docker(&["pull", "--quiet", &format!("{host}/{other}:latest")]);
    stack::docker(&[
        "tag",
        &format!("{host}/{other}:latest"),
        &format!("{host}/{etl}:{key}"),
    ]);
    stack::docker(&["push", "--quiet", &format!("{host}/{etl}:{key}")]);
    let (built, ended) = statuses(&workspace, &[]);
    assert_eq!(built, ["etl built", "other skipped"]);
    assert!(ended.stderr.contains("is not trusted"), "{}", ended.stderr);
    // The good one stands there again.
    assert_eq!(
        statuses(&workspace, &[]).0,
        ["etl skipped", "other skipped"]
    );
}

#[test]
fn a_lookup_that_fails_builds_and_says_so() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN echo 1 > /x\n")]);
    for (status, release) in [
        (Answer::Status(500), "a"),
        (Answer::Status(403), "b"),
        (Answer::Stall, "c"),
    ] {
        let gate = Gate::start(&[Rule {
            method: "GET",
            path: "/manifests/key-",
            from: 1,
            times: 100,
            answer: status,
        }]);
        workspace.manifest_for(&gate.host(), "");
        workspace.commit();
        let (built, ended) = statuses(&workspace, &["--release", release]);
        assert_eq!(built, ["etl built"], "{status:?}");
        assert!(
            ended.stderr.contains("its key cannot be looked up"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_no_op_asks_little_and_does_not_build() {
    let workspace = pair();
    let gate = Gate::start(&[]);
    workspace.manifest_for(&gate.host(), "");
    workspace.commit();
    workspace.deploy(&[]);
    let before = gate.seen().len();
    assert_eq!(
        statuses(&workspace, &[]).0,
        ["base skipped", "train skipped"]
    );
    let mut seen = gate.seen()[before..].to_vec();
    // The release is recorded: that is its own business.
    seen.retain(|line| !line.contains("/skiff/"));
    // For each: its key, its config, its channel.
    assert!(
        seen.iter()
            .filter(|line| line.contains("/manifests/key-"))
            .count()
            == 2,
        "{seen:#?}"
    );
    assert!(seen.len() <= 8, "{seen:#?}");
    assert!(
        !seen
            .iter()
            .any(|line| line.contains("buildcache") || line.contains("/uploads/")),
        "{seen:#?}"
    );
}

#[test]
fn without_cache_all_is_built_anew_and_children_follow() {
    let workspace = Workspace::with(&[
        (
            "base",
            "FROM BUSYBOX\nRUN head -c 20 /dev/urandom > /noise\n",
        ),
        ("train", "FROM base\nRUN cp /noise /copy\n"),
    ]);
    workspace.deploy(&[]);
    let digest = |name: &str| manifest(&workspace.repository(name), "latest").unwrap();
    let (base, train) = (digest("base"), digest("train"));
    assert_eq!(
        statuses(&workspace, &["base", "--no-cache"]).0,
        ["base built"]
    );
    let fresh = digest("base");
    assert_ne!(fresh, base);
    // The child's own inputs are what they were; its parent is not.
    assert_eq!(statuses(&workspace, &[]).0, ["base skipped", "train built"]);
    assert_eq!(digest("base"), fresh);
    assert_ne!(digest("train"), train);
    assert_eq!(
        statuses(&workspace, &[]).0,
        ["base skipped", "train skipped"]
    );
}

#[test]
fn an_image_that_is_too_old_is_built_without_cache() {
    let workspace = Workspace::with(&[(
        "etl",
        "FROM BUSYBOX\nRUN head -c 20 /dev/urandom > /noise\n",
    )]);
    workspace.manifest("[defaults]\nmax_age = \"30s\"\n[cache]\nbackend = \"none\"\n");
    workspace.commit();
    workspace.deploy(&[]);
    let before = manifest(&workspace.repository("etl"), "latest");
    std::thread::sleep(Duration::from_secs(31));
    assert_eq!(statuses(&workspace, &[]).0, ["etl built"]);
    assert_ne!(manifest(&workspace.repository("etl"), "latest"), before);
}

#[test]
fn a_plan_without_network_says_what_it_could_not_ask() {
    let base = "nowhere.invalid/base";
    let pinned = format!("FROM {base}@sha256:{}\nCOPY file /\n", "0".repeat(64));
    let workspace = Workspace::with(&[("pinned", &pinned), ("train", &format!("FROM {base}:1\n"))]);
    workspace.write("containers/pinned/file", "1");
    workspace.manifest_for("localhost:1", "");
    workspace.commit();
    let ended = workspace.run(&["plan"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let unknown =
        format!("`train` is always built: its base image `{base}:1` is not known: cannot look for");
    for part in [
        &*unknown,
        "the host's name is not known",
        "connection refused",
    ] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}

#[test]
fn what_cannot_be_pinned_is_always_built() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN echo 1 > /x\n")]);
    let gate = Gate::start(&[]);
    workspace.dockerfile(
        "web",
        &format!("FROM BUSYBOX\nADD http://{}/v2/ /answer\n", gate.host()),
    );
    workspace.commit();
    let ended = workspace.run(&["deploy", "--dry-run"]);
    assert!(
        ended.stdout.contains("may fetch something else each time"),
        "{}",
        ended.stdout
    );
}

#[test]
fn why_names_what_differs_and_plan_says_what_will_be_done() {
    let workspace = pair();
    let plan = |arguments: &[&str]| -> Value {
        let ended = workspace.run(&[&["plan", "--all", "--format", "json"], arguments].concat());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let first = plan(&[]);
    assert_eq!(first["containers"][0]["reason"]["because"], "first_build");
    assert!(
        tags(&workspace.repository("train")).is_empty(),
        "nothing is done"
    );
    workspace.deploy(&["--all"]);
    assert_eq!(plan(&[])["containers"][1]["action"], "skip");
    workspace.write("containers/train/src/main.py", "2");
    workspace.manifest("[containers.train]\nargs = { WHO = \"y\" }\n");
    workspace.commit();
    workspace.write("containers/train/src/new.py", "1");
    let why = workspace.run(&["why", "train"]);
    assert_eq!(why.code, 0, "{}", why.stderr);
    for said in [
        "containers/train/src/main.py",
        "containers/train/src/new.py",
        "WHO",
    ] {
        assert!(why.stdout.contains(said), "{said}: {}", why.stdout);
    }
    assert!(
        !why.stdout.contains("notes.txt") && !why.stdout.contains("base.txt"),
        "{}",
        why.stdout
    );
    let json: Value =
        serde_json::from_str(&workspace.run(&["why", "train", "--format", "json"]).stdout).unwrap();
    assert_eq!(json["files"][0]["path"], "containers/train/src/main.py");
    assert_eq!(json["files"][0]["old"].as_str().unwrap().len(), 40);
    let file = workspace.root().join(".git/plan.json");
    let written = plan(&["--out", file.to_str().unwrap()]);
    let read: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(read["containers"], written["containers"]);
    assert_eq!(written["containers"][1]["reason"]["because"], "changed");
    let matrix = workspace
        .run(&["plan", "--all", "--format", "github-matrix"])
        .stdout;
    assert_eq!(matrix.trim(), "{\"include\":[{\"container\":\"train\"}]}");
    let batch: Value = serde_json::from_str(
        &workspace
            .run(&["plan", "--all", "--format", "codebuild-batch"])
            .stdout,
    )
    .unwrap();
    assert_eq!(
        batch["batch"]["build-graph"][0]["env"]["variables"]["SKIFF_CONTAINER"],
        "train"
    );
    // A dry run says the same.
    let ended = workspace.deploy(&["--all", "--dry-run"]);
    assert!(
        ended.stdout.contains("unchanged") && ended.stdout.contains("src/main.py"),
        "{}",
        ended.stdout
    );
}
