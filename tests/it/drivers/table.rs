//! driver × (build, cache, push, load, cancel, a connection that breaks).

use std::process::{Child, Command, Stdio};

use super::{fresh, good, refused, run, says};
use crate::interrupts::{finished, running, signal, signalled, until};
use crate::support::bridge::Bridge;
use crate::support::builder_image::BuilderImage;
use crate::support::registry::tags;
use crate::support::stack;
use crate::support::workspace::{Ended, Workspace, ended};

/// skiff with this driver, and what breaks its builder while it builds.
pub(super) struct Driven {
    pub(super) name: &'static str,
    pub(super) manifest: String,
    variables: Vec<(&'static str, String)>,
    bridge: Option<Bridge>,
    /// Its containers go with it.
    pub(super) image: Option<BuilderImage>,
}

impl Driven {
    /// `prefix`: of a workspace, for the builder's image.
    pub(super) fn all(prefix: &str) -> Vec<Self> {
        let docker = Self {
            name: "docker",
            manifest: "[builder]\ndriver = \"docker\"\n".into(),
            variables: vec![],
            bridge: None,
            image: None,
        };
        let bridge = Bridge::tcp();
        let remote = Self {
            name: "remote",
            manifest: format!(
                "[builder]\ndriver = \"remote\"\nendpoints = [\"{}\"]\n",
                bridge.address()
            ),
            variables: vec![],
            bridge: Some(bridge),
            image: None,
        };
        vec![docker, remote, Self::container(prefix)]
    }

    pub(super) fn container(prefix: &str) -> Self {
        Self::container_in(prefix, stack::variables()["DOCKER_HOST"].clone())
    }

    /// With the container in this engine.
    pub(super) fn container_in(prefix: &str, engine: String) -> Self {
        let bridge = Bridge::tcp();
        let image = BuilderImage::push(prefix, &bridge).in_engine(engine);
        Self {
            name: "docker-container",
            manifest: image.manifest("docker-container"),
            variables: image.variables().into(),
            bridge: Some(bridge),
            image: Some(image),
        }
    }

    pub(super) fn skiff(&self, workspace: &Workspace, arguments: &[&str]) -> Command {
        let mut command = workspace.skiff(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(super) fn run(&self, workspace: &Workspace, arguments: &[&str]) -> Ended {
        ended(self.skiff(workspace, arguments))
    }

    pub(super) fn start(&self, workspace: &Workspace, arguments: &[&str]) -> Child {
        let mut command = self.skiff(workspace, arguments);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(super) fn workspace(&self, containers: &[(&str, &str)]) -> Workspace {
        let workspace = Workspace::with(containers);
        workspace.manifest(&self.manifest);
        workspace.commit();
        workspace
    }
}

/// A step that runs until it is stopped, and its process as pgrep finds it.
pub(super) fn endless(number: u32) -> (String, String) {
    // An argument that no other process on the machine has.
    let mark = format!("sleep 4{number}{:05}", std::process::id());
    let dockerfile = format!("FROM BUSYBOX\nRUN echo {} && {mark}\n", fastrand::u64(..));
    (dockerfile, format!("^{mark}$"))
}

/// The same, but it ends well by itself after a while: long enough to be stopped, and to be run once more.
pub(super) fn lasting(number: u32) -> (String, String) {
    let (dockerfile, mark) = endless(number);
    let dockerfile = dockerfile.replace("sleep", "timeout 8 sleep");
    let dockerfile = dockerfile.trim_end();
    (format!("{dockerfile} || echo > /once\n"), mark)
}

fn count(mark: &str) -> usize {
    let found = Command::new("pgrep").args(["-fc", mark]).output().unwrap();
    String::from_utf8_lossy(&found.stdout)
        .trim()
        .parse()
        .unwrap()
}

/// Nothing of it is left.
pub(super) fn gone(mark: &str) {
    until("the step is gone", || !running(mark));
}

#[test]
fn every_driver_builds_pushes_caches_and_cancels() {
    let prefix = Workspace::new().prefix.clone();
    for (number, driven) in (0..).zip(Driven::all(&prefix)) {
        let workspace =
            driven.workspace(&[("base", &fresh()), ("etl", "FROM base\nRUN cat /once\n")]);
        let name = driven.name;
        for release in ["r1", "r2"] {
            let ended = driven.run(&workspace, &["deploy", "--all", "--release", release]);
            good(
                &ended,
                &[&format!("(driver {name}: builder."), "latest moved"],
            );
            assert!(
                !ended.stderr.contains("warning"),
                "{name}: {}",
                ended.stderr
            );
        }
        assert_eq!(
            tags(&workspace.repository("etl")),
            ["buildcache", "latest", "r1", "r2"],
            "{name}"
        );
        // What is built next takes the cache that the first release has exported.
        workspace.dockerfile("etl", "FROM base\nRUN cat /once\nRUN echo more\n");
        let events = driven
            .run(&workspace, &["build", "etl", "--progress", "json"])
            .stdout;
        assert!(
            events.contains("importing cache manifest"),
            "{name}: {events}"
        );

        let ended = driven.run(
            &workspace,
            &["build", "etl", "--load", "--release", "loaded"],
        );
        good(&ended, &[]);
        let loaded = format!(
            "{}/{}:loaded",
            stack::registry(),
            workspace.repository("etl")
        );
        stack::docker(&["image", "inspect", &loaded]);
        stack::docker(&["image", "rm", &loaded]);

        let (dockerfile, mark) = endless(number);
        workspace.dockerfile("etl", &dockerfile);
        workspace.commit();
        let skiff = driven.start(&workspace, &["deploy", "--release", "r3"]);
        until("the step runs", || running(&mark));
        let ended = signalled(skiff, "INT");
        assert_eq!(ended.code, 130, "{name}: {ended:?}");
        says(&ended, &["no channel moved"]);
        gone(&mark);
        if let Some(bridge) = &driven.bridge {
            until("nobody is connected", || !bridge.is_used());
        }
    }
}

#[test]
fn a_second_signal_ends_skiff_and_nothing_stays_on_the_builder() {
    let workspace = Workspace::new();
    for (number, driven) in (30..).zip(Driven::all(&workspace.prefix)) {
        let (dockerfile, mark) = endless(number);
        let workspace = driven.workspace(&[("etl", &dockerfile)]);
        let skiff = driven.start(&workspace, &["deploy"]);
        until("the step runs", || running(&mark));
        signal(&skiff, "INT");
        signal(&skiff, "TERM");
        let ended = finished(skiff);
        assert_eq!(ended.code, 130, "{}: {ended:?}", driven.name);
        gone(&mark);
        if let Some(bridge) = &driven.bridge {
            until("nobody is connected", || !bridge.is_used());
        }
    }
}

#[test]
fn what_only_the_engine_can_do_is_refused_before_building() {
    let bridge = Bridge::tcp();
    let workspace = Workspace::with(&[("base", &fresh()), ("etl", "FROM base\n")]);
    let deploy = |more: &[&str]| {
        let arguments = [&["deploy", "--builder", bridge.address()], more].concat();
        run(&workspace, &arguments, &[])
    };
    let mut command = workspace.skiff(&["build", "--builder", bridge.address(), "--load"]);
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    refused(&ended(command), &["no docker engine answers"]);
    refused(
        &deploy(&["--no-push"]),
        &["cannot build from `base`", "--builder docker"],
    );
    good(
        &deploy(&["--no-push", "base"]),
        &["(driver remote: --builder)"],
    );
    assert!(tags(&workspace.repository("base")).is_empty());
}

#[test]
fn a_connection_that_breaks_is_made_again_once() {
    let workspace = Workspace::new();
    for (number, driven) in (10..).zip(Driven::all(&workspace.prefix).into_iter().skip(1)) {
        let (dockerfile, mark) = endless(number);
        let workspace = driven.workspace(&[("etl", &dockerfile)]);
        let bridge = driven.bridge.as_ref().unwrap();
        let skiff = driven.start(&workspace, &["deploy", "--release", "r1"]);
        until("the step runs", || running(&mark));
        bridge.break_connections();
        gone(&mark);
        until("the step runs again", || running(&mark));
        bridge.break_connections();
        let ended = finished(skiff);
        assert_eq!(ended.code, 1, "{}: {ended:?}", driven.name);
        says(
            &ended,
            &[
                "building again on",
                "the connection to the builder was lost",
                "is safe",
            ],
        );
        gone(&mark);
        assert!(tags(&workspace.repository("etl")).is_empty());
    }
}

#[test]
fn a_dead_endpoint_of_a_pool_is_passed_over_and_one_that_dies_hands_its_work_on() {
    let (first, second) = (Bridge::tcp(), Bridge::tcp());
    let dead = "tcp://127.0.0.1:1";
    let endpoints =
        [dead, first.address(), second.address()].map(|address| format!("\"{address}\""));
    let manifest = format!("[builder]\nendpoints = [{}]\n", endpoints.join(", "));
    let names: Vec<String> = (0..6).map(|n| format!("c{n}")).collect();
    let (text, child) = (fresh(), "FROM c0\nRUN cat /once\n");
    let containers: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (name.as_str(), text.as_str()))
        .collect();
    let workspace = Workspace::with(&[&containers[..], &[("child", child)]].concat());
    workspace.manifest(&manifest);
    workspace.commit();
    let ended = workspace.run(&["deploy", "--release", "r1"]);
    good(
        &ended,
        &[
            "warning: no BuildKit answers at tcp://127.0.0.1:1",
            "(driver remote: builder.endpoints)",
        ],
    );
    assert_eq!(
        tags(&workspace.repository("child")),
        ["buildcache", "latest", "r1"]
    );

    // All of them wait; then the first builder goes.
    let (wait, mark) = lasting(30);
    for name in &names {
        workspace.dockerfile(name, &wait.replace("echo", &format!("echo {name}")));
    }
    workspace.commit();
    let skiff = workspace.start(&["deploy", "--release", "r2", "--jobs", "6"]);
    until("all steps run", || count(&mark) == 6);
    drop(first);
    until("its steps are gone", || count(&mark) < 6);
    second.break_connections();
    let ended = finished(skiff);
    good(&ended, &["building again on", "latest moved"]);
    gone(&mark);
}
