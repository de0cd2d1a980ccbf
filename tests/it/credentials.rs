//! Who skiff and its builder are at a registry: docker's configuration, as users have it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::base64;
use crate::support::guarded::{GuardedRegistry, PASSWORD, USER};
use crate::support::stack;
use crate::support::workspace::{Workspace, ended};

/// A workspace whose images go to a registry that asks for a password, and a command with this docker configuration.
fn deploy(registry: &GuardedRegistry, config: &str) -> (Workspace, Command) {
    let workspace = Workspace::with(&[
        ("base", "FROM BUSYBOX\n"),
        ("etl", "FROM base\nRUN echo > /x\n"),
    ]);
    workspace.manifest_for(&registry.host(), "");
    workspace.commit();
    workspace.write(".git/docker/config.json", config);
    let mut command = workspace.skiff(&["deploy", "--all", "--release", "r1"]);
    command.env("DOCKER_CONFIG", workspace.root().join(".git/docker"));
    (workspace, command)
}

#[test]
fn auths_of_the_docker_config_serve_skiff_and_its_builder() {
    let registry = GuardedRegistry::start();
    let auth = base64(&format!("{USER}:{PASSWORD}"));
    let config = format!(
        "{{\"auths\": {{\"{}\": {{\"auth\": \"{auth}\"}}}}}}",
        registry.host()
    );
    let (workspace, command) = deploy(&registry, &config);
    let ended = ended(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for tag in ["r1", "latest", "buildcache"] {
        assert!(
            registry.has(&workspace.repository("etl"), tag),
            "{tag}: {}",
            ended.stderr
        );
    }
}

#[test]
fn a_credential_helper_is_asked_and_its_secret_is_nowhere() {
    let registry = GuardedRegistry::start();
    let config = format!(
        "{{\"credHelpers\": {{\"{}\": \"of-the-test\"}}}}",
        registry.host()
    );
    let (workspace, mut command) = deploy(&registry, &config);
    let helper = workspace
        .root()
        .join(".git/docker/docker-credential-of-the-test");
    let script =
        format!("#!/bin/sh\necho '{{\"Username\": \"{USER}\", \"Secret\": \"{PASSWORD}\"}}'\n");
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        helper.parent().unwrap().display(),
        stack::variables()["PATH"]
    );
    command
        .env("PATH", path)
        .args(["-vv", "--events", "events.ndjson"]);
    let ended = ended(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let events = std::fs::read_to_string(workspace.root().join("events.ndjson")).unwrap();
    for told in [&ended.stdout, &ended.stderr, &events] {
        assert!(!told.contains(PASSWORD) && !told.contains(&base64(&format!("{USER}:{PASSWORD}"))));
    }
}

#[test]
fn a_wrong_password_names_where_it_is_from_and_not_what_it_is() {
    let registry = GuardedRegistry::start();
    let auth = base64(&format!("{USER}:wrong-{PASSWORD}"));
    let config = format!(
        "{{\"auths\": {{\"{}\": {{\"auth\": \"{auth}\"}}}}}}",
        registry.host()
    );
    let (workspace, command) = deploy(&registry, &config);
    let ended = ended(command);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains(&registry.host()), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(".git/docker/config.json"),
        "{}",
        ended.stderr
    );
    assert!(
        !ended.stderr.contains(PASSWORD) && !ended.stderr.contains(&auth),
        "{}",
        ended.stderr
    );
    assert!(!registry.has(&workspace.repository("etl"), "r1"));
}
