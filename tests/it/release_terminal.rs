//! Channels that are moved by hand: on a terminal skiff asks first.

use crate::support::registry::tags;
use crate::support::releases::{change, four, set};
use crate::support::terminal::on_terminal;
use crate::support::workspace::Workspace;

/// Two releases of two commits, on the second one.
fn two_releases() -> Workspace {
    let workspace = four("1");
    workspace.deploy(&["--release", "r1"]);
    change(&workspace, "2");
    workspace.deploy(&["--release", "r2"]);
    workspace
}

#[test]
fn whoever_does_not_say_yes_moves_nothing() {
    let workspace = two_releases();
    let (stands, state) = (
        set(&workspace, "latest"),
        format!("{}/skiff", workspace.prefix),
    );
    let records = tags(&state);
    let commands = [
        &["rollback"][..],
        &["rollback", "--to", "r1"],
        &["promote", "r1", "--force-promote"],
    ];
    let ctrl_c = "\x03";
    for command in commands {
        for typed in ["n\n", "\n", "yesterday\n", ctrl_c] {
            let ended = on_terminal(&workspace, command, typed);
            assert!(ended.stdout.contains("move it? [y/N] "), "{ended:?}");
            let (code, said) = if typed == ctrl_c {
                (130, "interrupted before anything was moved")
            } else {
                (0, "nothing was moved")
            };
            assert_eq!(ended.code, code, "{typed:?}: {ended:?}");
            assert!(ended.stdout.contains(said), "{typed:?}: {ended:?}");
        }
    }
    assert!(set(&workspace, "latest") == stands);
    assert_eq!(tags(&state), records);
}

#[test]
fn yes_moves_it_and_where_nobody_can_answer_nobody_is_asked() {
    let workspace = two_releases();
    let [r1, r2] = ["r1", "r2"].map(|release| set(&workspace, release));
    let rolled_back = on_terminal(&workspace, &["rollback"], "y\n");
    assert_eq!(rolled_back.code, 0, "{rolled_back:?}");
    // What would move is shown before it is asked for.
    let (table, answer) = rolled_back.stdout.split_once("move it?").unwrap();
    assert!(table.contains("CONTAINER"), "{rolled_back:?}");
    assert!(
        answer.contains("went back to release r1"),
        "{rolled_back:?}"
    );
    assert!(set(&workspace, "latest") == r1);
    let promoted = on_terminal(&workspace, &["promote", "r2"], "yes\n");
    assert_eq!(promoted.code, 0, "{promoted:?}");
    assert!(set(&workspace, "latest") == r2);
    for (command, stands) in [
        (&["rollback", "--yes"][..], &r1),
        (&["promote", "r2", "-y"], &r2),
    ] {
        let ended = on_terminal(&workspace, command, "n\n");
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(!ended.stdout.contains("[y/N]"), "{ended:?}");
        assert!(set(&workspace, "latest") == *stands);
    }
    // A CI has no terminal.
    let ended = workspace.run(&["rollback"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("[y/N]"), "{ended:?}");
    assert!(set(&workspace, "latest") == r1);
}
