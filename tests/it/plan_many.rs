//! A plan over more containers than are asked for one by one.

use serde_json::Value;

use crate::support::gate::{Answer, Gate, Rule};
use crate::support::workspace::Workspace;

const CONTAINERS: usize = 120;
/// Each fifteenth is asked for whatever the registry lists.
const ASKED: &str = "n015";
const OTHER: &str = "n003";

/// A plan over all after these were built, with a registry that answers so: what it would not build, how many keys it asked
/// for, and how often it asked which repositories there are.
fn plan(built: &[&str], rules: &[Rule]) -> (Vec<String>, usize, usize) {
    let workspace = Workspace::new();
    for number in 0..CONTAINERS {
        let name = format!("n{number:03}");
        workspace.dockerfile(&name, &format!("FROM BUSYBOX\nCOPY {name} /\n"));
        workspace.write(&format!("containers/{name}/{name}"), &name);
    }
    let gate = Gate::start(rules);
    workspace.manifest_for(&gate.host(), "[cache]\nbackend = \"none\"\n");
    workspace.commit();
    let ended = workspace.run(&[&["build"], built].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);

    let before = gate.seen().len();
    let ended = workspace.run(&["plan", "--format", "json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let plan: Value = serde_json::from_str(&ended.stdout).unwrap();
    let containers = plan["containers"].as_array().unwrap();
    assert_eq!(containers.len(), CONTAINERS);
    let unbuilt = containers.iter().filter(|one| one["action"] != "build");
    let unbuilt = unbuilt.map(|one| one["name"].as_str().unwrap().to_owned());
    let seen = gate.seen();
    let asked = |what: &str| {
        seen[before..]
            .iter()
            .filter(|line| line.contains(what))
            .count()
    };
    (
        unbuilt.collect(),
        asked("/manifests/key-"),
        asked("/v2/_catalog"),
    )
}

fn catalogue(answer: Answer) -> Rule {
    Rule {
        method: "GET",
        path: "/v2/_catalog",
        from: 1,
        times: u64::MAX,
        answer,
    }
}

#[test]
fn only_repositories_that_there_are_are_asked_for_keys() {
    let (unbuilt, keys, lists) = plan(&[OTHER], &[]);
    assert_eq!(unbuilt, [OTHER]);
    assert!(keys < 15, "{keys}");
    assert!(lists > 0);
}

#[test]
fn a_registry_that_lists_none_or_refuses_to_is_asked_for_all() {
    let empty = catalogue(Answer::Page("{\"repositories\":[]}"));
    let (unbuilt, keys, _) = plan(&[OTHER, ASKED], &[empty]);
    assert_eq!(unbuilt, [OTHER, ASKED]);
    assert_eq!(keys, CONTAINERS);

    let (unbuilt, keys, lists) = plan(&[OTHER], &[catalogue(Answer::Status(403))]);
    assert_eq!(unbuilt, [OTHER]);
    assert_eq!(keys, CONTAINERS);
    assert_eq!(lists, 1);
}
