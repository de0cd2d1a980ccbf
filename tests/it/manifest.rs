//! Wrong manifests, as a user meets them.

use crate::support::workspace::Workspace;

#[test]
fn all_errors_of_a_manifest_are_shown_at_once_with_place_and_remedy() {
    let workspace = Workspace::with(&[("etl", "FROM scratch\n")]);
    workspace.manifest("[chanels]\nlatest = [\"main\"]\n[containers.etl]\nplatforms = \"linux/amd64\"\nsecrets = [{}]\n");
    let ended = workspace.run(&["deploy"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    for text in [
        "containers.toml:8",
        "`channels`",
        "platforms",
        "a secret has no id",
    ] {
        assert!(
            ended.stderr.contains(text),
            "{text:?} is missing in:\n{}",
            ended.stderr
        );
    }
}

#[test]
fn a_cycle_is_named_with_the_lines_that_make_it() {
    let workspace = Workspace::with(&[
        ("a", "FROM b\n"),
        ("b", "FROM scratch\nCOPY --from=a /x /x\n"),
    ]);
    let ended = workspace.run(&["deploy"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    for text in [
        "cycle",
        "containers/a/Dockerfile:1",
        "containers/b/Dockerfile:2",
    ] {
        assert!(
            ended.stderr.contains(text),
            "{text:?} is missing in:\n{}",
            ended.stderr
        );
    }
}

#[test]
fn the_manifest_is_found_from_a_folder_below() {
    let workspace = Workspace::with(&[("etl", "FROM scratch\n")]);
    let mut command = workspace.skiff(&["deploy", "--dry-run"]);
    command.current_dir(workspace.root().join("containers/etl"));
    let ended = crate::support::workspace::ended(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("etl"));
}
