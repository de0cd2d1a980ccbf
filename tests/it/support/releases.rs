//! Four containers that build in no time, and eyes on what their channels stand on.

use std::process::Stdio;

use serde_json::Value;

use super::gate::Gate;
use super::registry::manifest;
use super::workspace::Workspace;

pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Four containers of one file each, with this content; committed.
pub(crate) fn four(content: &str) -> Workspace {
    let workspace = Workspace::new();
    for name in NAMES {
        workspace.dockerfile(name, "FROM scratch\nCOPY x /x\n");
    }
    workspace.manifest("[cache]\nbackend = \"none\"\n");
    change(&workspace, content);
    workspace
}

/// Another content, committed.
pub(crate) fn change(workspace: &Workspace, content: &str) {
    for name in NAMES {
        workspace.write(&format!("containers/{name}/x"), format!("{name} {content}"));
    }
    workspace.commit();
}

/// The four images under a tag. The stack's registry does not write its links atomically: one that seems to be missing
/// while somebody writes is looked for again.
pub(crate) fn set(workspace: &Workspace, tag: &str) -> Vec<Option<Value>> {
    for _ in 0..20 {
        let set = part_of_set(workspace, tag);
        if set.iter().all(Option::is_some) {
            return set;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    part_of_set(workspace, tag)
}

/// The same, as far as they are there.
pub(crate) fn part_of_set(workspace: &Workspace, tag: &str) -> Vec<Option<Value>> {
    NAMES
        .iter()
        .map(|name| manifest(&workspace.repository(name), tag))
        .collect()
}

/// What `skiff status` says of a channel.
pub(crate) fn standing(workspace: &Workspace, channel: &str) -> Value {
    let ended = workspace.run(&["status", "--channel", channel, "--format", "json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let all: Value = serde_json::from_str(&ended.stdout).unwrap();
    all["channels"][channel].clone()
}

/// A manifest beside `containers.toml`, for this registry and state repository.
pub(crate) fn manifest_beside(workspace: &Workspace, file: &str, host: &str, state: &str) {
    let prefix = &workspace.prefix;
    workspace.write(
        file,
        format!(
            "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"{host}\"\nrepository = \"{prefix}/{{name}}\"\n\
             [release]\nstate = \"{state}\"\n[cache]\nbackend = \"none\"\n[discover]\nroots = [\"containers/*\"]\n"
        ),
    );
}

/// Runs it to its end, with a gate that aims at it: its exit code, `None` when it was killed, and all that it said.
pub(crate) fn through(
    workspace: &Workspace,
    arguments: &[&str],
    gate: &Gate,
) -> (Option<i32>, String) {
    let mut command = workspace.skiff(arguments);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    gate.aim(child.id());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}
