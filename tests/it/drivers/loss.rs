//! driver × (its builder is killed in the middle of a build: for good, or to come back).

use std::process::Child;

use super::table::{Driven, endless, gone, lasting};
use super::{good, says};
use crate::interrupts::{finished, running, until};
use crate::support::bridge::Bridge;
use crate::support::registry::tags;
use crate::support::stack::SecondEngine;
use crate::support::workspace::{Ended, Workspace};

/// The container failed, as its builder did not come back.
fn lost(ended: &Ended, builder: &str, workspace: &Workspace) {
    assert_eq!(ended.code, 1, "{}\n{}", ended.stdout, ended.stderr);
    let what = format!("the connection to the builder was lost: {builder}");
    says(
        ended,
        &[
            &what,
            "running the same command again is safe",
            "no channel moved",
        ],
    );
    assert!(tags(&workspace.repository("etl")).is_empty());
}

/// A deploy by an engine that has no network, with its step under way.
fn by_engine(engine: &SecondEngine, (dockerfile, mark): &(String, String)) -> (Workspace, Child) {
    let workspace = Workspace::with(&[("etl", dockerfile)]);
    workspace.manifest("[builder]\ndriver = \"docker\"\n[defaults]\nnetwork = \"none\"\n");
    workspace.commit();
    let mut command = workspace.skiff(&["deploy", "--release", "r1"]);
    command.env("DOCKER_HOST", engine.address());
    let skiff = started(command);
    until("the step runs", || running(mark));
    (workspace, skiff)
}

fn started(mut command: std::process::Command) -> Child {
    let piped = std::process::Stdio::piped;
    command.stdout(piped()).stderr(piped()).spawn().unwrap()
}

#[test]
fn a_docker_engine_that_is_killed_is_an_error() {
    let mut engine = SecondEngine::mortal();
    let step = endless(50);
    let (workspace, skiff) = by_engine(&engine, &step);
    engine.kill();
    gone(&step.1);
    lost(&finished(skiff), "docker engine", &workspace);
}

#[test]
fn a_docker_engine_that_is_started_again_goes_on() {
    let mut engine = SecondEngine::mortal();
    let step = lasting(51);
    let (workspace, skiff) = by_engine(&engine, &step);
    engine.kill();
    gone(&step.1);
    engine.start_again();
    let ended = finished(skiff);
    good(&ended, &["building again on docker engine", "latest moved"]);
    assert!(tags(&workspace.repository("etl")).contains(&"r1".to_owned()));
}

#[test]
fn a_builder_s_container_that_is_killed_is_started_again_and_one_that_is_removed_is_an_error() {
    let driven = Driven::container(&Workspace::new().prefix);
    let image = driven.image.as_ref().unwrap();
    let (dockerfile, mark) = lasting(52);
    let workspace = driven.workspace(&[("etl", &dockerfile)]);
    let skiff = driven.start(&workspace, &["deploy", "--release", "r1"]);
    until("the step runs", || running(&mark));
    let name = image.containers().remove(0);
    image.docker(&["kill", &name]);
    gone(&mark);
    good(
        &finished(skiff),
        &["building again on buildkit", "latest moved"],
    );

    let (dockerfile, mark) = endless(53);
    let workspace = driven.workspace(&[("etl", &dockerfile)]);
    let skiff = driven.start(&workspace, &["deploy", "--release", "r1"]);
    until("the step runs", || running(&mark));
    image.docker(&["rm", "--force", &name]);
    gone(&mark);
    lost(&finished(skiff), "buildkit", &workspace);
    image.docker(&["volume", "rm", &format!("{name}-state")]);
}

#[test]
fn the_engine_of_a_builder_s_container_is_killed_and_started_again() {
    let mut engine = SecondEngine::mortal();
    let driven = Driven::container_in(&Workspace::new().prefix, engine.address());
    let (dockerfile, mark) = lasting(54);
    let workspace = driven.workspace(&[("etl", &dockerfile)]);
    let skiff = driven.start(&workspace, &["deploy", "--release", "r1"]);
    until("the step runs", || running(&mark));
    engine.kill();
    gone(&mark);
    engine.start_again();
    good(
        &finished(skiff),
        &["building again on buildkit", "latest moved"],
    );

    let (dockerfile, mark) = endless(55);
    let workspace = driven.workspace(&[("etl", &dockerfile)]);
    let skiff = driven.start(&workspace, &["deploy", "--release", "r1"]);
    until("the step runs", || running(&mark));
    engine.kill();
    gone(&mark);
    lost(&finished(skiff), "buildkit", &workspace);
    // For those who clear away its container.
    engine.start_again();
}

#[test]
fn a_remote_builder_that_dies_is_an_error_and_one_that_comes_back_goes_on() {
    let bridge = Bridge::tcp();
    let address = bridge.address().to_owned();
    let (dockerfile, mark) = endless(20);
    let workspace = Workspace::with(&[("etl", &dockerfile)]);
    let start = || workspace.start(&["deploy", "--builder", &address]);
    let skiff = start();
    until("the step runs", || running(&mark));
    drop(bridge);
    let ended = finished(skiff);
    assert_eq!(ended.code, 1, "{ended:?}");
    says(
        &ended,
        &["the connection to the builder was lost", &address],
    );
    gone(&mark);

    let (dockerfile, mark) = lasting(21);
    workspace.dockerfile("etl", &dockerfile);
    workspace.commit();
    let bridge = Bridge::again(&address);
    let skiff = start();
    until("the step runs", || running(&mark));
    drop(bridge);
    gone(&mark);
    let _bridge = Bridge::again(&address);
    let ended = finished(skiff);
    good(&ended, &["building again on"]);
}
