//! Releases as users meet them: forwards only, back in a second, held until promoted; and what must end well.

use serde_json::{Value, json};

use crate::support::gate::{Answer, Gate, Rule};
use crate::support::registry::{self, manifest, tags};
use crate::support::releases::{NAMES, change, four, set, standing};
use crate::support::stack;
use crate::support::workspace::{Ended, Workspace};

fn ends(ended: &Ended, code: i32, texts: &[&str]) {
    let all = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, code, "{all}");
    for text in texts {
        assert!(all.contains(text), "{text:?} is missing in:\n{all}");
    }
    assert!(!all.contains("panicked"), "{all}");
}

fn state(workspace: &Workspace) -> String {
    format!("{}/skiff", workspace.prefix)
}

#[test]
fn a_release_is_recorded_and_the_channel_stands_on_it() {
    let workspace = four("1");
    let ended = workspace.deploy(&["--release", "r1", "--reason", "the first"]);
    ends(&ended, 0, &["latest moved for the whole set"]);
    let record = manifest(&state(&workspace), "release-r1").unwrap();
    assert_eq!(
        record["artifactType"],
        "application/vnd.skiff.release.v1+json"
    );
    assert_eq!(
        record["config"]["mediaType"],
        "application/vnd.oci.empty.v1+json"
    );
    let digest = record["layers"][0]["digest"].as_str().unwrap();
    let (_, blob) = registry::get(
        stack::registry(),
        &format!("/v2/{}/blobs/{digest}", state(&workspace)),
    );
    let record: Value = serde_json::from_slice(&blob).unwrap();
    assert_eq!(
        (&record["format"], &record["release"]),
        (&json!(1), &json!("r1"))
    );
    assert_eq!(
        (&record["branch"], &record["reason"]),
        (&json!("main"), &json!("the first"))
    );
    assert_eq!(record["containers"].as_object().unwrap().len(), 4);
    let status = standing(&workspace, "latest");
    assert_eq!(
        (&status["release"], &status["hold"]),
        (&json!("r1"), &Value::Null)
    );
    assert_eq!(status["pending"], false);
    assert_eq!(status["containers"]["a"]["drift"], Value::Null);
    let ended = workspace.run(&["releases", "--format", "json"]);
    let list: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(list["releases"][0]["record"], "release-r1");
    assert_eq!(list["releases"][0]["stands"], json!(["latest"]));
    // Again, with the same commit: fine.
    ends(
        &workspace.deploy(&["--release", "r1b"]),
        0,
        &["latest moved"],
    );
}

#[test]
fn an_older_commit_is_superseded_and_a_diverged_one_stays() {
    let workspace = four("1");
    workspace.deploy(&["--release", "r1"]);
    change(&workspace, "2");
    workspace.deploy(&["--release", "r2"]);
    let newest = set(&workspace, "latest");
    workspace.git(&["checkout", "--quiet", "HEAD~1"]);
    let old = workspace.run(&["deploy", "--channel", "latest", "--release", "old"]);
    ends(
        &old,
        0,
        &["warning: old is superseded", "stays on release r2"],
    );
    assert_eq!(set(&workspace, "latest"), newest);
    change(&workspace, "side");
    let side = workspace.run(&["deploy", "--channel", "latest", "--release", "side"]);
    ends(
        &side,
        3,
        &["another line of history", "--force-promote", "safe"],
    );
    assert_eq!(set(&workspace, "latest"), newest);
    ends(
        &workspace.run(&["promote", "side"]),
        3,
        &["another line of history"],
    );
    ends(
        &workspace.run(&["promote", "r1"]),
        0,
        &["older", "rollback --to r1"],
    );
    assert_eq!(set(&workspace, "latest"), newest);
    ends(
        &workspace.run(&[
            "deploy",
            "--all",
            "--release",
            "forced",
            "--channel",
            "latest",
            "--force-promote",
        ]),
        0,
        &["latest moved"],
    );
    assert_ne!(set(&workspace, "latest"), newest);
}

#[test]
fn what_was_made_from_uncommitted_files_is_marked() {
    let workspace = four("1");
    workspace.deploy(&["--release", "r1"]);
    let clean = workspace.run(&["status"]);
    assert!(!clean.stdout.contains("dirty"), "{}", clean.stdout);
    workspace.write("containers/a/x", "not committed");
    workspace.deploy(&["a", "--release", "r2", "--allow-dirty"]);
    ends(&workspace.run(&["status"]), 0, &["-dirty, ", "r2 (dirty)"]);
    let status = standing(&workspace, "latest");
    assert_eq!(status["dirty"], true);
    for (name, dirty) in [("a", true), ("b", false)] {
        assert_eq!(status["containers"][name]["dirty"], dirty, "{status}");
    }
    workspace.commit();
    workspace.deploy(&["--release", "r3"]);
    let clean = workspace.run(&["status"]);
    assert!(!clean.stdout.contains("dirty"), "{}", clean.stdout);
}

#[test]
fn a_rollback_holds_until_a_promotion() {
    let workspace = four("1");
    workspace.deploy(&["--release", "r1"]);
    let first = set(&workspace, "latest");
    ends(
        &workspace.run(&["rollback"]),
        2,
        &["nothing is known", "skiff releases"],
    );
    change(&workspace, "2");
    workspace.deploy(&["--release", "r2"]);
    let dry = workspace.run(&["rollback", "--dry-run"]);
    ends(&dry, 0, &["r2", "r1", "nothing was moved"]);
    assert_ne!(set(&workspace, "latest"), first);
    ends(
        &workspace.run(&["rollback", "--reason", "it burns"]),
        0,
        &["went back to release r1", "held"],
    );
    assert_eq!(set(&workspace, "latest"), first);
    // The same commit, a retry of it, a newer commit.
    for release in ["r2b", "r2b", "r3"] {
        if release == "r3" {
            change(&workspace, "3");
        }
        let ended = workspace.deploy(&["--release", release]);
        ends(
            &ended,
            0,
            &["held at r1 (it burns)", &format!("skiff promote {release}")],
        );
        assert_eq!(set(&workspace, "latest"), first);
    }
    let status = standing(&workspace, "latest");
    assert_eq!(status["hold"]["reason"], "it burns");
    ends(
        &workspace.run(&["promote", "r3"]),
        0,
        &["latest moved to release r3"],
    );
    assert_eq!(set(&workspace, "latest"), set(&workspace, "r3"));
    assert_eq!(standing(&workspace, "latest")["hold"], Value::Null);
    change(&workspace, "4");
    ends(
        &workspace.deploy(&["--release", "r4"]),
        0,
        &["latest moved"],
    );
    // Back over two releases, and one container for itself.
    ends(
        &workspace.run(&["rollback", "--to", "r2"]),
        0,
        &["went back to release r2"],
    );
    assert_eq!(set(&workspace, "latest"), set(&workspace, "r2"));
    ends(
        &workspace.run(&["promote", "r4"]),
        0,
        &["moved to release r4"],
    );
    ends(&workspace.run(&["rollback", "a"]), 0, &["went back"]);
    let latest = set(&workspace, "latest");
    assert_eq!(latest[0], set(&workspace, "r2")[0]);
    assert_eq!(latest[1..], set(&workspace, "r4")[1..]);
    ends(
        &workspace.run(&["rollback", "nobody"]),
        2,
        &["no container `nobody`"],
    );
    ends(
        &workspace.run(&["promote", "r33"]),
        2,
        &["no release `r33`"],
    );
}

#[test]
fn what_was_there_before_skiff_is_release_0() {
    let workspace = four("1");
    workspace.deploy(&["--release", "r1"]);
    let before = set(&workspace, "latest");
    // A state repository that knows nothing.
    let text = std::fs::read_to_string(workspace.root().join("containers.toml")).unwrap();
    let elsewhere = format!("{}/records", workspace.prefix);
    workspace.write(
        "containers.toml",
        format!("{text}[release]\nstate = \"{elsewhere}\"\n"),
    );
    change(&workspace, "2");
    workspace.deploy(&["--release", "r2"]);
    assert!(tags(&elsewhere).contains(&"release-0".to_owned()));
    assert_ne!(set(&workspace, "latest"), before);
    ends(
        &workspace.run(&["rollback"]),
        0,
        &["went back to release 0"],
    );
    assert_eq!(set(&workspace, "latest"), before);
}

#[test]
fn sets_that_change_between_releases_and_channels_of_their_own() {
    let workspace = Workspace::with(&[
        ("base", "FROM BUSYBOX\nRUN echo 1 > /base\n"),
        ("etl", "FROM base\nRUN echo 1 > /etl\n"),
    ]);
    workspace.manifest(
        "[cache]\nbackend = \"none\"\n[channels]\nlatest = [\"main\"]\nstable = [\"stable\"]\n",
    );
    workspace.commit();
    workspace.deploy(&["--release", "r1"]);
    // One more, and one less.
    workspace.dockerfile("late", "FROM scratch\nCOPY Dockerfile /\n");
    std::fs::remove_dir_all(workspace.root().join("containers/etl")).unwrap();
    workspace.dockerfile("base", "FROM BUSYBOX\nRUN echo 2 > /base\n");
    workspace.commit();
    workspace.deploy(&["--release", "r2"]);
    let status = standing(&workspace, "latest");
    let release = |name: &str| status["containers"][name]["release"].clone();
    assert_eq!(
        (release("base"), release("etl"), release("late")),
        (json!("r2"), json!("r1"), json!("r2"))
    );
    // Which channel, where there are several?
    ends(
        &workspace.run(&["rollback"]),
        2,
        &["--channel latest|stable"],
    );
    ends(
        &workspace.run(&["rollback", "--channel", "latest"]),
        0,
        &["late", "nothing older is known"],
    );
    assert_eq!(
        manifest(&workspace.repository("base"), "latest"),
        manifest(&workspace.repository("base"), "r1")
    );
    ends(
        &workspace.run(&["promote", "r2", "base", "--channel", "stable"]),
        0,
        &["stable moved"],
    );
    assert_eq!(
        manifest(&workspace.repository("base"), "stable"),
        manifest(&workspace.repository("base"), "r2")
    );
    assert!(manifest(&workspace.repository("late"), "stable").is_none());
    // What was only built can be promoted.
    workspace.dockerfile("base", "FROM BUSYBOX\nRUN echo 3 > /base\n");
    workspace.commit();
    ends(
        &workspace.run(&["build", "base", "--release", "r3"]),
        0,
        &["not asked to promote"],
    );
    ends(
        &workspace.run(&["promote", "r3", "--channel", "stable"]),
        0,
        &["stable moved"],
    );
    ends(
        &workspace.run(&["rollback", "--channel", "stable"]),
        0,
        &["release r2"],
    );
    assert_eq!(
        manifest(&workspace.repository("base"), "stable"),
        manifest(&workspace.repository("base"), "r2")
    );
}

fn denied(method: &'static str, path: &'static str) -> Rule {
    Rule {
        method,
        path,
        from: 1,
        times: u64::MAX,
        answer: Answer::Status(403),
    }
}

#[test]
fn a_state_repository_that_may_not_be_read_or_written() {
    let workspace = four("1");
    let gate = Gate::start(&[denied("GET", "/skiff/")]);
    workspace.manifest_for(&gate.host(), "[cache]\nbackend = \"none\"\n");
    workspace.commit();
    let ended = workspace.run(&["deploy", "--all", "--release", "r1"]);
    ends(
        &ended,
        2,
        &[
            "releases cannot be read",
            "403",
            "release.state",
            "nothing was built",
        ],
    );
    ends(&workspace.run(&["status"]), 2, &["403", "release.state"]);
    assert!(tags(&workspace.repository("a")).is_empty());
    let gate = Gate::start(&[denied("POST", "/skiff/blobs/")]);
    workspace.manifest_for(&gate.host(), "[cache]\nbackend = \"none\"\n");
    workspace.commit();
    let ended = workspace.run(&["deploy", "--all", "--release", "r2"]);
    ends(
        &ended,
        3,
        &["403", "release.state", "the images are complete", "safe"],
    );
    assert_eq!(tags(&workspace.repository("a")), ["r2"]);
    // Without a channel a record is a favour.
    ends(
        &workspace.run(&["build", "--release", "r3"]),
        0,
        &["warning: the release was not recorded"],
    );
}

#[test]
fn records_that_are_foreign_damaged_or_of_a_later_skiff() {
    let workspace = four("1");
    workspace.deploy(&["--release", "r1"]);
    let state = state(&workspace);
    let put =
        |tag: &str, kind: &str, content: &str| registry::put_artifact(&state, tag, kind, content);
    put("release-foreign", "application/vnd.other", "{}");
    put(
        "release-damaged",
        "application/vnd.skiff.release.v1+json",
        "{\"format\": 1, \"rel",
    );
    change(&workspace, "2");
    ends(
        &workspace.deploy(&["--release", "r2"]),
        0,
        &["latest moved"],
    );
    let listed = workspace.run(&["releases"]);
    ends(
        &listed,
        0,
        &[
            "release-foreign cannot be read",
            "release-damaged cannot be read: it is damaged",
            "r2",
        ],
    );
    ends(
        &workspace.run(&["promote", "damaged"]),
        2,
        &["it is damaged"],
    );
    // The checkpoint follows from the records.
    put(
        "channel-latest",
        "application/vnd.skiff.channel.v1+json",
        "{\"form",
    );
    ends(
        &workspace.run(&["rollback"]),
        0,
        &["went back to release r1"],
    );
    ends(&workspace.run(&["promote", "r2"]), 0, &["moved"]);
    put(
        "release-later",
        "application/vnd.skiff.release.v1+json",
        "{\"format\": 2}",
    );
    change(&workspace, "3");
    let ended = workspace.run(&["deploy", "--all", "--release", "r3"]);
    ends(&ended, 3, &["a later version of skiff", "update skiff"]);
    assert_eq!(set(&workspace, "latest"), set(&workspace, "r2"));
    put(
        "channel-latest",
        "application/vnd.skiff.channel.v1+json",
        "{\"format\": 2}",
    );
    ends(
        &workspace.run(&["deploy", "--all", "--release", "r4"]),
        2,
        &["a later version", "nothing was built"],
    );
    put("channel-latest", "application/vnd.other", "{}");
    ends(
        &workspace.run(&["status"]),
        2,
        &["not of skiff", "delete that tag"],
    );
}

#[test]
fn an_image_that_a_lifecycle_rule_has_expired() {
    let workspace = four("1");
    workspace.deploy(&["--release", "r1"]);
    change(&workspace, "2");
    workspace.deploy(&["--release", "r2"]);
    let newest = set(&workspace, "latest");
    registry::delete(&workspace.repository("c"), "r1");
    let gone = workspace.run(&["rollback"]);
    ends(
        &gone,
        2,
        &[
            "nothing was moved",
            &format!("{}@sha256:", workspace.repository("c")),
            "release r1",
            "lifecycle",
        ],
    );
    assert_eq!(set(&workspace, "latest"), newest);
    // The others can go back for themselves.
    ends(
        &workspace.run(&["rollback", "a", "b", "d"]),
        0,
        &["went back"],
    );
    // A tag that somebody else moves is shown, and left alone.
    registry::delete(&workspace.repository("d"), "r1");
    let status = standing(&workspace, "latest");
    assert_eq!(status["containers"]["d"]["drift"]["expired"], true);
    ends(
        &workspace.run(&["status"]),
        0,
        &["DRIFTED: on nothing", "the recorded image is gone"],
    );
    assert_eq!(NAMES.len(), 4);
}
