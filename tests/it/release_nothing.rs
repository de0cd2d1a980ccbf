//! A run that has nothing to build still finishes what a killed one has left.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use crate::support::gate::{Answer, Gate};
use crate::support::releases::{change, four, manifest_beside, set, standing};
use crate::support::stack;

#[test]
fn what_a_killed_rollback_left_is_finished_by_a_deploy_that_has_nothing_to_do() {
    let workspace = four("1");
    workspace.deploy(&["--release", "r1"]);
    change(&workspace, "2");
    workspace.deploy(&["--release", "r2"]);
    let gate = Gate::scripted(stack::registry(), |asked| {
        let moves = asked.method == "PUT" && asked.path.ends_with("/manifests/latest");
        moves.then_some(Answer::Kill)
    });
    let state = format!("{}/skiff", workspace.prefix);
    manifest_beside(&workspace, "gate.toml", &gate.host(), &state);
    let mut command = workspace.skiff(&["-f", "gate.toml", "rollback", "--yes"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().unwrap();
    gate.aim(child.id());
    assert_eq!(child.wait().unwrap().code(), None, "it was not killed");
    assert!(set(&workspace, "latest") == set(&workspace, "r2"));

    let ended = workspace.deploy_changed(&[]);
    assert!(
        ended.stdout.contains("nothing changed since"),
        "{}",
        ended.stdout
    );
    assert!(set(&workspace, "latest") == set(&workspace, "r1"));
    assert_eq!(standing(&workspace, "latest")["pending"], false);
}

#[test]
fn a_run_with_nothing_to_do_asks_three_times() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let gate = Gate::scripted(stack::registry(), move |asked| {
        let mut seen = seen.lock().unwrap();
        seen.push(format!("{} {}", asked.method, asked.path));
        None
    });
    let workspace = four("1");
    workspace.manifest_for(&gate.host(), "[cache]\nbackend = \"none\"\n");
    workspace.commit();
    // A name from the clock may be the next run's too, which then looks twice.
    workspace.deploy(&["--release", "r1"]);
    asked.lock().unwrap().clear();
    let ended = workspace.deploy_changed(&[]);
    assert!(ended.stdout.contains("nothing changed"), "{}", ended.stdout);
    // What the channel stands on (a manifest and its blob), and whether there are records that it does not know.
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[2].contains("/tags/list"), "{asked:?}");
}

#[test]
fn runs_of_one_second_that_build_nothing_are_releases_of_their_own() {
    let workspace = four("1");
    workspace.deploy(&[]);
    let names: BTreeSet<String> = (0..4)
        .map(|_| {
            // Nothing of it is tagged: the record alone has the name.
            let ended = workspace.deploy(&[]);
            let (_, rest) = ended.stdout.split_once(", release ").unwrap();
            rest.split(';').next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
}
