//! Every driver builds, caches, pushes, cancels and survives its builder; which one is meant, and what is said when it is
//! not there.

mod container;
mod engines;
mod loss;
mod options;
mod table;

use std::process::Command;

use crate::support::bridge::{Bridge, Certificates};
use crate::support::registry::tags;
use crate::support::stack;
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
