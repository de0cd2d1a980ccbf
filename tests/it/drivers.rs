//! Every driver builds, caches, pushes, cancels and survives its builder; which one is meant, and what is said when it is
//! not there.

use std::process::{Child, Command, Stdio};

use crate::interrupts::{finished, running, signalled, until};
use crate::support::bridge::{Bridge, Certificates};
use crate::support::builder_image::BuilderImage;
use crate::support::registry::tags;
use crate::support::stack::{self, SecondEngine};
use crate::support::workspace::{Ended, Workspace, ended};

/// A RUN that no engine has run before.
fn fresh() -> String {
    format!("FROM BUSYBOX\nRUN echo {} > /once\n", fastrand::u64(..))
}

fn run(workspace: &Workspace, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command: Command = workspace.skiff(arguments);
    command.envs(variables.iter().copied());
    ended(command)
}

fn good(ended: &Ended, texts: &[&str]) {
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    says(ended, texts);
}

fn says(ended: &Ended, texts: &[&str]) {
    let all = format!("{}{}", ended.stdout, ended.stderr);
    for text in texts {
        assert!(all.contains(text), "{text:?} is missing in:\n{all}");
    }
    assert!(!all.contains("panicked"), "{all}");
}

fn refused(ended: &Ended, texts: &[&str]) {
    assert_eq!(ended.code, 2, "{}\n{}", ended.stdout, ended.stderr);
    says(ended, texts);
}

#[test]
fn a_remote_builder_by_socket_port_and_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make();
    let client = certificates.of("client").display().to_string();
    let bridges = [
        Bridge::unix(folder.path()),
        Bridge::tcp(),
        Bridge::mtls(&certificates),
    ];
    for bridge in &bridges {
        let workspace =
            Workspace::with(&[("base", &fresh()), ("etl", "FROM base\nRUN cat /once\n")]);
        let variables = [
            ("BUILDKIT_HOST", bridge.address()),
            ("BUILDKIT_TLS_DIR", &client),
        ];
        let variables = if bridge.address().starts_with("unix") {
            &variables[..1]
        } else {
            &variables[..]
        };
        // Certificates make `tcp://` a TLS connection: the plain one is without.
        let plain = std::ptr::eq(bridge, &raw const bridges[1]);
        let variables = if plain { &variables[..1] } else { variables };
        let ended = run(&workspace, &["deploy", "--release", "r1"], variables);
        good(
            &ended,
            &[
                "(driver remote: BUILDKIT_HOST)",
                bridge.address(),
                "latest moved",
            ],
        );
        assert_eq!(
            tags(&workspace.repository("etl")),
            ["buildcache", "latest", "r1"]
        );
    }
}

#[test]
fn wrong_certificates_and_wrong_addresses_are_explained() {
    let certificates = Certificates::make();
    let (client, stranger) = (certificates.of("client"), certificates.of("stranger"));
    let (client, stranger) = (client.to_str().unwrap(), stranger.to_str().unwrap());
    let bridge = Bridge::mtls(&certificates);
    let address = bridge.address();
    let workspace = Workspace::with(&[("etl", &fresh())]);
    let deploy = |variables: &[(&str, &str)]| run(&workspace, &["deploy"], variables);
    let no_builder = format!("no BuildKit answers at {address}");
    let ended = deploy(&[("BUILDKIT_HOST", address), ("BUILDKIT_TLS_DIR", stranger)]);
    refused(&ended, &[&no_builder, "BUILDKIT_TLS_DIR"]);
    let ended = deploy(&[("BUILDKIT_HOST", address)]);
    refused(&ended, &[&no_builder, "speaks TLS"]);
    let tls = address.replace("tcp://", "tls://");
    let ended = deploy(&[("BUILDKIT_HOST", &tls)]);
    refused(&ended, &["no BuildKit answers at tls://", "UnknownIssuer"]);
    let name = ("BUILDKIT_TLS_SERVERNAME", "builder.local");
    let ended = deploy(&[
        ("BUILDKIT_HOST", address),
        ("BUILDKIT_TLS_DIR", client),
        name,
    ]);
    refused(&ended, &[&no_builder, "not valid for name"]);
    let ended = deploy(&[
        ("BUILDKIT_HOST", address),
        ("BUILDKIT_TLS_CACERT", "nowhere.pem"),
    ]);
    refused(&ended, &["nowhere.pem", "No such file"]);
    for (host, text) in [
        ("tcp://127.0.0.1:1", "refused"),
        ("unix:///nowhere/buildkitd.sock", "No such file"),
        ("tcp://127.0.0.1", "is not an address"),
        ("buildkit", "`buildkit` is not a builder"),
        (
            "docker-container://skiff-test-nowhere",
            "there is no container skiff-test-nowhere",
        ),
    ] {
        refused(&deploy(&[("BUILDKIT_HOST", host)]), &[text, "help"]);
        refused(
            &run(&workspace, &["build", "--builder", host], &[]),
            &[text],
        );
    }
    // A server that is no builder.
    let registry = format!(
        "tcp://{}",
        stack::registry().replace("localhost", "127.0.0.1")
    );
    refused(
        &deploy(&[("BUILDKIT_HOST", &registry)]),
        &["no BuildKit answers at"],
    );
}

/// skiff with this driver, and what breaks its builder while it builds.
struct Driven {
    name: &'static str,
    manifest: String,
    variables: Vec<(&'static str, String)>,
    bridge: Option<Bridge>,
    /// Its containers go with it.
    _image: Option<BuilderImage>,
}

impl Driven {
    /// `prefix`: of a workspace, for the builder's image.
    fn all(prefix: &str) -> Vec<Self> {
        let docker = Self {
            name: "docker",
            manifest: "[builder]\ndriver = \"docker\"\n".into(),
            variables: vec![],
            bridge: None,
            _image: None,
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
            _image: None,
        };
        vec![docker, remote, Self::container(prefix)]
    }

    fn container(prefix: &str) -> Self {
        let bridge = Bridge::tcp();
        let image = BuilderImage::push(prefix, &bridge);
        Self {
            name: "docker-container",
            manifest: image.manifest("docker-container"),
            variables: image.variables().into(),
            bridge: Some(bridge),
            _image: Some(image),
        }
    }

    fn skiff(&self, workspace: &Workspace, arguments: &[&str]) -> Command {
        let mut command = workspace.skiff(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, workspace: &Workspace, arguments: &[&str]) -> Ended {
        ended(self.skiff(workspace, arguments))
    }

    fn start(&self, workspace: &Workspace, arguments: &[&str]) -> Child {
        let mut command = self.skiff(workspace, arguments);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn workspace(&self, containers: &[(&str, &str)]) -> Workspace {
        let workspace = Workspace::with(containers);
        workspace.manifest(&self.manifest);
        workspace.commit();
        workspace
    }
}

/// A step that runs until it is stopped, and its process as pgrep finds it.
fn endless(number: u32) -> (String, String) {
    // An argument that no other process on the machine has.
    let mark = format!("sleep 4{number}{:05}", std::process::id());
    let dockerfile = format!("FROM BUSYBOX\nRUN echo {} && {mark}\n", fastrand::u64(..));
    (dockerfile, format!("^{mark}$"))
}

fn count(mark: &str) -> usize {
    let found = Command::new("pgrep").args(["-fc", mark]).output().unwrap();
    String::from_utf8_lossy(&found.stdout)
        .trim()
        .parse()
        .unwrap()
}

/// Nothing of it is left.
fn gone(mark: &str) {
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
            let ended = driven.run(&workspace, &["deploy", "--release", release]);
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
        // The release that follows takes the cache that the first one has exported.
        let events = driven
            .run(&workspace, &["build", "etl", "--progress", "json"])
            .stdout;
        assert!(
            events.contains("importing cache manifest"),
            "{name}: {events}"
        );

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
fn what_only_the_engine_can_do_is_refused_before_building() {
    let bridge = Bridge::tcp();
    let workspace = Workspace::with(&[("base", &fresh()), ("etl", "FROM base\n")]);
    let deploy = |more: &[&str]| {
        let arguments = [&["deploy", "--builder", bridge.address()], more].concat();
        run(&workspace, &arguments, &[])
    };
    refused(
        &deploy(&["--load"]),
        &[
            "`--load` does not go with the driver \"remote\"",
            "--builder docker",
        ],
    );
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
fn a_builder_that_dies_ends_in_a_clear_error_and_one_that_comes_back_goes_on() {
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

    let bridge = Bridge::again(&address);
    let skiff = start();
    until("the step runs", || running(&mark));
    drop(bridge);
    gone(&mark);
    // What it is to build the second time ends by itself.
    workspace.dockerfile("etl", &fresh());
    let _bridge = Bridge::again(&address);
    let ended = finished(skiff);
    good(&ended, &["building again on"]);
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
    let mark = format!("^sleep 430{:05}$", std::process::id());
    let wait = format!(
        "FROM BUSYBOX\nRUN echo {} && {}\n",
        fastrand::u64(..),
        mark.trim_matches(['^', '$'])
    );
    for name in &names {
        workspace.dockerfile(name, &wait.replace("echo", &format!("echo {name}")));
    }
    workspace.commit();
    let skiff = workspace.start(&["deploy", "--release", "r2", "--jobs", "6"]);
    until("all steps run", || count(&mark) == 6);
    for name in &names {
        workspace.dockerfile(name, &text);
    }
    drop(first);
    until("its steps are gone", || count(&mark) < 6);
    second.break_connections();
    let ended = finished(skiff);
    good(&ended, &["building again on", "latest moved"]);
    gone(&mark);
}

#[test]
fn the_container_is_made_once_reused_upgraded_and_started_again() {
    let first = Bridge::tcp();
    let workspace = Workspace::with(&[("etl", &fresh())]);
    let mut image = BuilderImage::push(&workspace.prefix, &first);
    let deploy = |image: &BuilderImage| {
        let mut command = workspace.skiff(&["build"]);
        command.envs(image.variables());
        let ended = ended(command);
        good(&ended, &["(driver docker-container: builder.driver)"]);
        let names = image.containers();
        assert_eq!(names.len(), 1, "{names:?}");
        (
            names[0].clone(),
            image.docker(&[
                "inspect",
                "--format",
                "{{.Id}} {{.State.StartedAt}}",
                &names[0],
            ]),
        )
    };
    workspace.manifest(&image.manifest("docker-container"));
    workspace.commit();
    let (name, made) = deploy(&image);
    assert_eq!(
        deploy(&image),
        (name.clone(), made.clone()),
        "it was not reused"
    );
    image.docker(&["stop", "--time", "1", &name]);
    let (_, started) = deploy(&image);
    assert_eq!(
        made.split(' ').next(),
        started.split(' ').next(),
        "it was not started again"
    );

    let second = Bridge::tcp();
    image.upgrade(&second);
    workspace.manifest(&image.manifest("docker-container"));
    workspace.commit();
    let (upgraded, made_anew) = deploy(&image);
    assert_eq!(upgraded, name);
    assert_ne!(
        made.split(' ').next(),
        made_anew.split(' ').next(),
        "it was not upgraded"
    );
    // The state outlives the container: three starts on one volume.
    let starts = image.docker(&["exec", &name, "wc", "-l", "/var/lib/buildkit/starts"]);
    assert!(starts.starts_with('3'), "{starts}");
}

#[test]
fn an_image_that_cannot_be_pulled_and_a_buildkitd_that_ends_are_explained() {
    let workspace = Workspace::with(&[("etl", &fresh())]);
    let registry = stack::registry();
    let builder =
        |image: &str| format!("[builder]\ndriver = \"docker-container\"\nimage = \"{image}\"\n");
    workspace.manifest(&builder(&format!("{registry}/nowhere:1")));
    workspace.commit();
    refused(
        &workspace.run(&["build"]),
        &[
            "the builder's image",
            "nowhere:1 cannot be pulled",
            "builder.image",
        ],
    );
    let bridge = Bridge::tcp();
    let image = BuilderImage::push(&workspace.prefix, &bridge);
    workspace.manifest(&image.manifest("docker-container"));
    workspace.commit();
    // Without roots of its own the test's buildkitd says that it has no configuration, and ends.
    let ended = workspace.run(&["build"]);
    refused(
        &ended,
        &[
            "the BuildKit in the container skiff-buildkit-",
            "no configuration",
            "docker rm -f",
        ],
    );
}

#[test]
fn auto_takes_a_container_where_the_engine_has_no_containerd_store() {
    let engine = SecondEngine::plain();
    let bridge = Bridge::tcp();
    let workspace = Workspace::with(&[("etl", &fresh())]);
    let image = BuilderImage::push(&workspace.prefix, &bridge).in_engine(engine.address());
    workspace.manifest(&image.manifest("auto"));
    workspace.commit();
    let mut command = workspace.skiff(&["deploy", "--release", "r1"]);
    command.envs(image.variables());
    let ended = ended(command);
    good(
        &ended,
        &[
            "(driver docker-container: the engine has no containerd image store)",
            "latest moved",
        ],
    );
    assert_eq!(image.containers().len(), 1);
    let other = workspace.run(&["deploy", "--release", "r2"]);
    good(
        &other,
        &["(driver docker: the engine has the containerd image store)"],
    );
}

#[test]
fn engines_are_found_by_docker_context_port_tls_and_ssh() {
    let workspace = Workspace::with(&[("etl", &fresh())]);
    let config = tempfile::tempdir().unwrap();
    let socket = &stack::variables()["DOCKER_HOST"];
    let docker = |arguments: &[&str]| {
        let status = Command::new("docker")
            .args(arguments)
            .envs(stack::variables())
            .env_remove("DOCKER_HOST")
            .env("DOCKER_CONFIG", config.path())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "docker {arguments:?}");
    };
    let skiff = |variables: &[(&str, &str)]| {
        let mut command = workspace.skiff(&["build"]);
        command
            .env_remove("DOCKER_HOST")
            .env("DOCKER_CONFIG", config.path());
        command.envs(variables.iter().copied());
        ended(command)
    };
    docker(&[
        "context",
        "create",
        "lab",
        "--docker",
        &format!("host={socket}"),
    ]);
    good(
        &skiff(&[("DOCKER_CONTEXT", "lab")]),
        &[&format!("at {socket} (docker context lab)")],
    );
    docker(&["context", "use", "lab"]);
    good(&skiff(&[]), &["(docker context lab)"]);
    refused(
        &skiff(&[("DOCKER_CONTEXT", "lap")]),
        &[
            "the docker context `lap` (DOCKER_CONTEXT) does not exist",
            "lab",
        ],
    );

    // The engine's API through a program: what docker's own client does on the other side of ssh.
    let bin = config.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let ssh = bin.join("ssh");
    let path = socket.strip_prefix("unix://").unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n\
         *'-l me -p 2222 -- lab docker system dial-stdio') DOCKER_HOST=unix://{path} DOCKER_CONTEXT= exec docker system dial-stdio ;;\n\
         *) echo 'Permission denied (publickey).' >&2; exit 255 ;;\nesac\n"
    );
    std::fs::write(&ssh, script).unwrap();
    std::fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let search = format!("{}:{}", bin.display(), stack::variables()["PATH"]);
    let host = |host| skiff(&[("DOCKER_HOST", host), ("PATH", &search)]);
    good(&host("ssh://me@lab:2222"), &["at ssh://me@lab:2222"]);
    refused(
        &host("ssh://other"),
        &[
            "no docker engine answers at ssh://other",
            "Permission denied (publickey)",
        ],
    );
}
