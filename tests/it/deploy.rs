//! The main job: what stands in the registry after a deploy.

use crate::support::gate::Gate;
use crate::support::registry::{config, layers, manifest, tags};
use crate::support::stack;
use crate::support::workspace::Workspace;

const DOCKER_V2: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn chain() -> Workspace {
    Workspace::with(&[
        (
            "base",
            "FROM BUSYBOX\nRUN head -c 1000 /dev/urandom > /noise\n",
        ),
        (
            "train",
            "FROM base\nCOPY main.py /main.py\nRUN head -c 1000 /dev/urandom > /more\n",
        ),
        (
            "etl",
            "FROM BUSYBOX AS tools\nRUN echo tool > /tool\nFROM scratch\nCOPY --from=tools /tool /\nCOPY --from=base /noise /\n",
        ),
    ])
}

#[test]
fn every_container_gets_release_channel_and_cache_tags() {
    let workspace = chain();
    workspace.write("containers/train/main.py", "print()");
    workspace.commit();
    let ended = workspace.deploy_changed(&["--release", "r1"]);
    for name in ["base", "train", "etl"] {
        let repository = workspace.repository(name);
        assert_eq!(tags(&repository), ["buildcache", "latest", "r1"], "{name}");
        assert_eq!(manifest(&repository, "latest"), manifest(&repository, "r1"));
        assert_eq!(
            manifest(&repository, "latest").unwrap()["mediaType"],
            DOCKER_V2
        );
        let config = config(&repository, "latest");
        assert_eq!(
            (config["os"].as_str(), config["architecture"].as_str()),
            (Some("linux"), Some("amd64"))
        );
        assert!(ended.stdout.contains(name), "{}", ended.stdout);
    }
    // The child stands on the very image that this run made of its parent.
    let base = layers(&workspace.repository("base"), "r1");
    assert_eq!(
        layers(&workspace.repository("train"), "r1")[..base.len()],
        base[..]
    );
    assert!(
        ended.stderr.contains("every container is a candidate"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_named_container_brings_its_parent_which_is_not_released() {
    let workspace = chain();
    workspace.write("containers/train/main.py", "print()");
    workspace.commit();
    let ended = workspace.deploy(&["train", "--release", "r1"]);
    assert_eq!(
        tags(&workspace.repository("train")),
        ["buildcache", "latest", "r1"]
    );
    let base = tags(&workspace.repository("base"));
    assert!(
        !base.contains(&"latest".to_owned()) && !base.contains(&"r1".to_owned()),
        "{base:?}"
    );
    assert!(tags(&workspace.repository("etl")).is_empty());
    assert!(ended.stdout.contains("latest moved"), "{}", ended.stdout);

    let ended = workspace.run(&["deploy", "base", "--dry-run"]);
    assert_eq!(ended.code, 0);
    assert!(
        ended.stdout.contains("etl, train"),
        "dependents are named: {}",
        ended.stdout
    );
}

#[test]
fn build_pushes_and_moves_no_channel() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN echo 1 > /x\n")]);
    assert_eq!(workspace.run(&["build", "all", "--release", "r1"]).code, 0);
    assert_eq!(tags(&workspace.repository("etl")), ["buildcache", "r1"]);
}

#[test]
fn other_branches_and_uncommitted_changes_move_no_channel() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nCOPY . /src\n")]);
    workspace.write("containers/etl/new.py", "1");
    let ended = workspace.deploy(&["--release", "dirty"]);
    assert!(
        ended
            .stdout
            .contains("uncommitted changes (containers/etl/new.py)"),
        "{}",
        ended.stdout
    );
    workspace.git(&["checkout", "--quiet", "-b", "feature"]);
    workspace.commit();
    let ended = workspace.deploy(&["--release", "feature"]);
    assert!(
        ended.stdout.contains("branch feature has no channel"),
        "{}",
        ended.stdout
    );
    // Neither is a branch of a channel's cache.
    assert_eq!(
        tags(&workspace.repository("etl")),
        ["buildcache", "dirty", "feature"]
    );
    workspace.deploy(&["--release", "asked", "--channel", "preview"]);
    assert_eq!(
        tags(&workspace.repository("etl")),
        ["asked", "buildcache", "dirty", "feature", "preview"]
    );
}

#[test]
fn args_target_labels_named_contexts_and_tags_reach_the_image() {
    let workspace = Workspace::with(&[(
        "etl",
        "ARG BASE\nFROM ${BASE} AS runtime\nARG WHO=nobody\nRUN echo $WHO > /who\nCOPY --from=common lib.py /lib.py\n\
         FROM scratch AS other\n",
    )]);
    workspace.write("libs/common/lib.py", "shared");
    workspace.manifest(&format!(
        "[containers.etl]\ntarget = \"runtime\"\nargs = {{ WHO = \"you\", BASE = \"{}/busybox:1\" }}\n\
         labels = {{ team = \"ml\" }}\ncontexts = {{ common = \"libs/common\" }}\ntags = [\"{{timestamp}}\", \"v-{{name}}\"]\n",
        stack::registry()
    ));
    workspace.commit();
    workspace.deploy(&["--release", "r1"]);
    let repository = workspace.repository("etl");
    assert_eq!(tags(&repository), ["buildcache", "latest", "r1", "v-etl"]);
    let labels = &config(&repository, "r1")["config"]["Labels"];
    assert_eq!(labels["team"], "ml");
    assert_eq!(
        labels["skiff.repository"],
        format!("{}/{repository}", stack::registry())
    );
    assert_eq!(
        labels["org.opencontainers.image.revision"]
            .as_str()
            .map(str::len),
        Some(40)
    );
    let image = format!("{}/{repository}:r1", stack::registry());
    let read = stack::docker(&[
        "run", "--rm", "--pull", "always", &image, "cat", "/who", "/lib.py",
    ]);
    assert_eq!(read, "you\nshared");
    stack::docker(&["rmi", "-f", &image]);
}

#[test]
fn alone_an_emptied_engine_takes_every_step_from_the_registry_cache() {
    let gate = Gate::start(&[]);
    let workspace = chain();
    workspace.manifest_for(&gate.host(), "");
    workspace.write("containers/train/main.py", "print()");
    workspace.commit();
    workspace.deploy(&["--release", "r1"]);
    stack::docker(&["builder", "prune", "--all", "--force"]);
    let before = gate.seen().len();
    let ended = workspace.deploy(&["--release", "r2"]);
    let mut pulled = Vec::new();
    for name in ["base", "train", "etl"] {
        let repository = workspace.repository(name);
        let first = layers(&repository, "r1");
        assert_eq!(
            first,
            layers(&repository, "r2"),
            "{name}:\n{}",
            ended.stderr
        );
        let gets = gate.seen()[before..].to_vec();
        pulled.extend(gets.into_iter().filter(|line| {
            line.starts_with("GET") && first.iter().any(|layer| line.ends_with(layer))
        }));
    }
    assert!(pulled.is_empty(), "layers were pulled: {pulled:#?}");
}

#[test]
fn a_file_rewritten_with_the_same_size_and_time_is_sent_again() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nCOPY data /data\n")]);
    let path = workspace.root().join("containers/etl/data");
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let write = |text: &str| {
        std::fs::write(&path, text).unwrap();
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
        workspace.commit();
    };
    write("one");
    workspace.deploy(&["--release", "r1"]);
    write("two");
    workspace.deploy(&["--release", "r2"]);
    let repository = workspace.repository("etl");
    assert_ne!(layers(&repository, "r1"), layers(&repository, "r2"));
}

#[test]
fn events_are_one_json_object_a_line_from_start_to_end() {
    // Never the same: an engine that has run it does not run it again.
    let hello = format!("hello-{}", fastrand::u64(..));
    let workspace = Workspace::with(&[("etl", &format!("FROM BUSYBOX\nRUN echo {hello}\n"))]);
    let ended = workspace.deploy(&[
        "--progress",
        "json",
        "--events",
        "events.ndjson",
        "--release",
        "r1",
    ]);
    let file = std::fs::read_to_string(workspace.root().join("events.ndjson")).unwrap();
    assert_eq!(file, ended.stdout);
    let events: Vec<serde_json::Value> = file
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[0]["event"], "run_started");
    assert_eq!(events[0]["release"], "r1");
    let log = events.iter().filter(|event| event["event"] == "step_log");
    assert!(
        log.map(|event| event["line"].as_str().unwrap())
            .any(|line| line == hello),
        "{file}"
    );
    let last = events.last().unwrap();
    assert_eq!(
        (last["event"].as_str(), last["exit_code"].as_u64()),
        (Some("run_finished"), Some(0))
    );
}

#[test]
fn the_metadata_file_tells_of_every_container() {
    let workspace = chain();
    workspace.write("containers/train/main.py", "print()");
    workspace.commit();
    workspace.deploy(&[
        "train",
        "--release",
        "r1",
        "--metadata-file",
        "out.json",
        "--tag",
        "v7",
    ]);
    let text = std::fs::read_to_string(workspace.root().join("out.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    let train = &metadata["train"];
    let digest = train["containerimage.digest"].as_str().unwrap();
    let repository = format!("{}/{}", stack::registry(), workspace.repository("train"));
    assert_eq!(train["image"], format!("{repository}@{digest}"));
    assert_eq!(train["tags"], serde_json::json!(["r1", "v7"]));
    assert_eq!(train["channels"], serde_json::json!(["latest"]));
    assert_eq!(
        (train["status"].as_str(), train["release"].as_str()),
        (Some("built"), Some("r1"))
    );
    assert_eq!(metadata["base"]["release"], serde_json::Value::Null);
    assert!(manifest(&workspace.repository("train"), digest).is_some());
}

#[test]
fn a_run_that_is_named_by_the_time_takes_the_next_second_that_is_free() {
    let workspace = Workspace::with(&[("etl", "FROM scratch\nCOPY . /src\n")]);
    workspace.deploy(&["--release", "r1"]);
    // Another commit has the names of these seconds.
    let now = jiff::Timestamp::now();
    let seconds = (0..4).map(|n| now + std::time::Duration::from_secs(n));
    let taken: Vec<String> = seconds
        .map(|time| time.strftime("%Y%m%d-%H%M%S").to_string())
        .collect();
    let names = taken.iter().flat_map(|name| ["--tag", name]);
    workspace.deploy(
        &["--release", "r2"]
            .into_iter()
            .chain(names)
            .collect::<Vec<_>>(),
    );
    workspace.write("containers/etl/more", "1");
    workspace.commit();
    workspace.deploy(&[]);
    let mut names = tags(&workspace.repository("etl"));
    names.retain(|name| !taken.contains(name) && name.starts_with(&taken[0][..4]));
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0] > taken[3], "{names:?}");
}

#[test]
fn a_release_name_is_used_for_one_content_only() {
    let workspace = Workspace::with(&[
        ("etl", "FROM BUSYBOX\nCOPY . /src\n"),
        ("other", "FROM BUSYBOX\n"),
    ]);
    workspace.deploy(&["etl", "--release", "r1"]);
    let first = layers(&workspace.repository("etl"), "r1");
    workspace.deploy(&["--release", "r1"]);
    workspace.write("containers/etl/more.py", "1");
    workspace.commit();
    let ended = workspace.run(&["deploy", "--release", "r1"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("`etl` has `r1` already, built from commit"),
        "{}",
        ended.stderr
    );
    assert_eq!(layers(&workspace.repository("etl"), "r1"), first);
    assert_eq!(layers(&workspace.repository("etl"), "latest"), first);
}

#[test]
fn without_push_nothing_reaches_the_registry_and_parents_still_reach_their_children() {
    let workspace = chain();
    workspace.write("containers/train/main.py", "print()");
    workspace.commit();
    let ended = workspace.deploy(&["train", "--no-push", "--load", "--release", "r1"]);
    assert!(
        ended.stdout.contains("nothing was pushed"),
        "{}",
        ended.stdout
    );
    for name in ["base", "train"] {
        assert!(tags(&workspace.repository(name)).is_empty());
    }
    let image = |name: &str, tag: &str| {
        format!("{}/{}:{tag}", stack::registry(), workspace.repository(name))
    };
    let size = stack::docker(&[
        "run",
        "--rm",
        "--pull",
        "never",
        &image("train", "r1"),
        "wc",
        "-c",
        "/noise",
    ]);
    assert_eq!(size.trim(), "1000 /noise");
    stack::docker(&[
        "rmi",
        "-f",
        &image("train", "r1"),
        &image("base", "unreleased-r1"),
    ]);
    let ended = workspace.deploy(&["train", "--no-push", "--release", "r2"]);
    assert!(ended.stdout.contains("built"), "{}", ended.stdout);
    stack::docker(&["rmi", "-f", &image("base", "unreleased-r2")]);
}

#[test]
fn load_keeps_the_image_that_is_pushed() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN echo loaded > /x\n")]);
    workspace.deploy(&["--load", "--release", "r1"]);
    let image = format!("{}/{}:r1", stack::registry(), workspace.repository("etl"));
    assert_eq!(
        stack::docker(&["run", "--rm", "--pull", "never", &image, "cat", "/x"]),
        "loaded\n"
    );
    stack::docker(&["rmi", "-f", &image]);
    assert_eq!(
        tags(&workspace.repository("etl")),
        ["buildcache", "latest", "r1"]
    );
}

#[test]
fn a_version_is_what_git_describes() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\n")]);
    workspace.manifest("[defaults]\ntags = [\"{version}\"]\n");
    workspace.commit();
    let ended = workspace.run(&["build", "etl"]);
    assert_eq!(ended.code, 2, "{}", ended.stdout);
    assert!(
        ended.stderr.contains("`{version}` needs a git tag"),
        "{}",
        ended.stderr
    );
    workspace.git(&["tag", "v1.2+x"]);
    workspace.deploy(&["--release", "r1"]);
    let found = tags(&workspace.repository("etl"));
    assert!(found.contains(&"1.2-x".to_owned()), "{found:?}");
}
