//! Which engine: contexts, ports, certificates, ssh.

use std::process::{Command, Stdio};

use super::{fresh, good, refused};
use crate::support::bridge::{Bridge, Certificates};
use crate::support::stack;
use crate::support::workspace::{Workspace, ended};

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

    let certificates = Certificates::make();
    let bridge = Bridge::engine(&certificates);
    let tls = |who: &str| {
        let folder = certificates.of(who).display().to_string();
        let host = ("DOCKER_HOST", bridge.address());
        skiff(&[
            host,
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", &folder),
        ])
    };
    good(&tls("client"), &[&format!("at {}", bridge.address())]);
    refused(
        &tls("stranger"),
        &["the docker engine at tcp://", "does not answer as one"],
    );
    let file = |name: &str| certificates.of("client").join(name).display().to_string();
    let docker_flag = format!(
        "host={},ca={},cert={},key={}",
        bridge.address(),
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem")
    );
    docker(&["context", "create", "far", "--docker", &docker_flag]);
    good(
        &skiff(&[("DOCKER_CONTEXT", "far")]),
        &["(docker context far)"],
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
