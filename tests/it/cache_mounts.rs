//! Cache mounts that outlive the runner, as images: every run here is one on an engine that has built nothing.

use crate::cache::{OFFLINE, events, on, on_a_fresh_runner, seen, steps, with_lock};
use crate::support::registry::{manifest, tags};
use crate::support::stack::SecondEngine;
use crate::support::workspace::Workspace;

/// A Dockerfile with a mount that remembers: the step says what it found, and adds a line.
const MOUNT: &str = "FROM BUSYBOX\nCOPY lock /\n\
    RUN --mount=type=cache,id=ID,target=/c,uid=1000,gid=1000,mode=0750,sharing=locked \
    ls -lan / | grep ' c$' | cut -c 1-10,16-32 > /root-of-it; cat /c/log > /seen || true; cat /lock >> /c/log; ln -f /c/log /c/link\n";

fn with_mount() -> (Workspace, String) {
    let workspace = Workspace::new();
    let id = format!("m-{}", workspace.prefix);
    workspace.dockerfile("etl", &MOUNT.replace("ID", &id));
    workspace.manifest(&format!("[cache]\nmounts = \"registry\"\n{OFFLINE}"));
    workspace.write("containers/etl/lock", "one\n");
    workspace.commit();
    (workspace, id)
}

fn mount_tag(workspace: &Workspace) -> Option<String> {
    let tags = tags(&workspace.repository("etl"));
    tags.into_iter().find(|tag| tag.starts_with("mount-"))
}

#[test]
fn a_cache_mount_is_there_again_on_the_next_runner_and_only_channel_branches_keep_it() {
    let (workspace, id) = with_mount();
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r1"]);
    assert_eq!(events(&told, "mount_filled").len(), 0);
    assert_eq!(events(&told, "mount_kept").len(), 1, "{}", ended.stderr);
    assert_eq!(events(&told, "mount_kept")[0]["mount"], id.as_str());
    assert_eq!(seen(&workspace, "r1", "/seen"), "");
    let tag = mount_tag(&workspace).unwrap();
    let kept = manifest(&workspace.repository("etl"), &tag);

    // Nothing has changed: the step is in the cache, and its mount is not fetched.
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r2"]);
    assert_eq!(steps(&told), (2, 2), "{}", ended.stderr);
    assert!(events(&told, "mount_filled").is_empty(), "{}", ended.stderr);
    assert_eq!(manifest(&workspace.repository("etl"), &tag), kept);

    // Another lock file on another branch: the step runs with what the first run left.
    workspace.git(&["checkout", "--quiet", "-b", "feature"]);
    workspace.write("containers/etl/lock", "two\n");
    workspace.commit();
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r3"]);
    assert_eq!(events(&told, "mount_filled").len(), 1, "{}", ended.stderr);
    let used = events(&told, "mount_used");
    assert!(used[0]["saved_seconds"].is_number(), "{used:?}");
    assert_eq!(seen(&workspace, "r3", "/seen"), "one\n");
    assert_eq!(
        seen(&workspace, "r1", "/root-of-it"),
        seen(&workspace, "r3", "/root-of-it")
    );
    assert!(seen(&workspace, "r3", "/root-of-it").contains("drwxr-x---"));
    assert!(
        events(&told, "mount_kept").is_empty(),
        "a branch without a channel keeps nothing"
    );
    assert_eq!(manifest(&workspace.repository("etl"), &tag), kept);

    // A lock file on main: filled, and kept with what is new.
    workspace.git(&["checkout", "--quiet", "main"]);
    workspace.write("containers/etl/lock", "three\n");
    workspace.commit();
    let (_, told) = on_a_fresh_runner(&workspace, &["--release", "r4"]);
    assert_eq!(events(&told, "mount_kept").len(), 1);
    workspace.write("containers/etl/lock", "four\n");
    workspace.commit();
    let (_, _) = on_a_fresh_runner(&workspace, &["--release", "r5"]);
    assert_eq!(seen(&workspace, "r5", "/seen"), "one\nthree\n");
}

#[test]
fn a_mount_is_carried_by_what_is_written_wherever_that_leads() {
    let (workspace, id) = with_mount();
    // Where the target leads is the builder's to say, and never out of the step.
    let dockerfile = format!(
        "FROM BUSYBOX\nWORKDIR /a\nCOPY lock /\nRUN --mount=type=cache,target=../../{id} \
         cat /{id}/log > /seen || true; cat /lock >> /{id}/log\n"
    );
    workspace.dockerfile("etl", &dockerfile);
    workspace.commit();
    let (ended, told) = on_a_fresh_runner(&workspace, &["--release", "r1"]);
    assert_eq!(events(&told, "mount_kept").len(), 1, "{}", ended.stderr);
    let (ended, told) = with_lock(&workspace, "two\n", "r2");
    assert_eq!(events(&told, "mount_filled").len(), 1, "{}", ended.stderr);
    assert_eq!(seen(&workspace, "r2", "/seen"), "one\n");

    // A mount that cannot be carried is named, with its line, before the build.
    workspace.dockerfile("etl", &dockerfile.replace("target=../..", "target=$PWD"));
    let (ended, told) = with_lock(&workspace, "three\n", "r3");
    assert!(events(&told, "mount_filled").is_empty());
    for text in [
        "containers/etl/Dockerfile:4:5",
        "write out what it stands for",
    ] {
        assert!(ended.stderr.contains(text), "{}", ended.stderr);
    }
    // One that no step can run with is named before the builder says so in its own way.
    workspace.dockerfile("etl", &dockerfile.replace("target=../../", "target=/proc/"));
    workspace.commit();
    let ended = workspace.run(&["deploy", "--release", "r4"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let why = "it would hide what the system says of processes";
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
}

#[test]
fn each_lock_file_has_its_version_of_a_mount_and_the_oldest_goes() {
    let (workspace, _) = with_mount();
    on_a_fresh_runner(&workspace, &["--release", "r1"]);
    with_lock(&workspace, "two\n", "r2");
    with_lock(&workspace, "three\n", "r3");
    assert_eq!(seen(&workspace, "r3", "/seen"), "one\ntwo\n");
    let versions = || {
        let tags = tags(&workspace.repository("etl")).into_iter();
        tags.filter(|tag| tag.starts_with("mount-")).count()
    };
    assert_eq!(versions(), 3);
    // Back to the first lock file, in another image: what its own run left, not the newest.
    let dockerfile = workspace.root().join("containers/etl/Dockerfile");
    let text = std::fs::read_to_string(&dockerfile).unwrap();
    workspace.write("containers/etl/Dockerfile", format!("{text}LABEL a=b\n"));
    let (_, told) = with_lock(&workspace, "one\n", "r4");
    assert_eq!(events(&told, "mount_filled").len(), 1);
    assert_eq!(seen(&workspace, "r4", "/seen"), "one\n");
    let (_, told) = with_lock(&workspace, "four\n", "r5");
    assert_eq!(events(&told, "mount_kept").len(), 1);
    assert_eq!(versions(), 3);
}

#[test]
fn a_mount_that_saves_nothing_is_left_alone() {
    let (workspace, id) = with_mount();
    let dockerfile = format!(
        "FROM BUSYBOX\nCOPY lock /\nRUN --mount=type=cache,id={id},target=/c \
         if [ -e /c/x ]; then sleep 1; fi; echo > /c/x\n"
    );
    workspace.dockerfile("etl", &dockerfile);
    workspace.commit();
    on_a_fresh_runner(&workspace, &["--release", "r1"]);
    for (release, lock) in [("r2", "two"), ("r3", "three"), ("r4", "four")] {
        let (ended, told) = with_lock(&workspace, lock, release);
        assert_eq!(events(&told, "mount_filled").len(), 1, "{}", ended.stderr);
        assert!(!ended.stdout.contains("is left alone"), "{}", ended.stdout);
    }
    let (ended, told) = with_lock(&workspace, "five", "r5");
    assert!(events(&told, "mount_filled").is_empty(), "{}", ended.stderr);
    assert!(events(&told, "mount_kept").is_empty(), "{}", ended.stderr);
    assert_eq!(events(&told, "mount_left").len(), 1, "{}", ended.stderr);
    let line = format!("the cache mount {id} of etl is left alone");
    assert!(ended.stdout.contains(&line), "{}", ended.stdout);
}

#[test]
fn a_mount_in_use_is_not_overwritten_and_an_empty_one_replaces_nothing() {
    let (workspace, _) = with_mount();
    let engine = SecondEngine::fresh();
    on(&engine, &workspace, &["--release", "r1"]);
    let tag = mount_tag(&workspace).unwrap();
    workspace.write("containers/etl/lock", "two\n");
    workspace.commit();
    let (_, told) = on(&engine, &workspace, &["--release", "r2"]);
    assert!(
        events(&told, "mount_filled").is_empty(),
        "the builder has it"
    );
    assert_eq!(seen(&workspace, "r2", "/seen"), "one\n");
    let kept = manifest(&workspace.repository("etl"), &tag);

    let emptied = workspace.root().join("containers/etl/Dockerfile");
    let text = std::fs::read_to_string(&emptied).unwrap();
    std::fs::write(&emptied, format!("{} ; rm -rf /c/*\n", text.trim_end())).unwrap();
    workspace.commit();
    let (ended, told) = on(&engine, &workspace, &["--release", "r3"]);
    assert_eq!(steps(&told).1, 2);
    assert!(events(&told, "mount_kept").is_empty());
    assert!(events(&told, "warning").is_empty(), "{}", ended.stderr);
    assert_eq!(manifest(&workspace.repository("etl"), &tag), kept);
}

#[test]
fn a_mount_that_cannot_be_carried_is_a_word_in_the_log() {
    let (workspace, id) = with_mount();
    // No shell where the stage begins: it comes by COPY.
    let host = crate::support::stack::registry();
    let dockerfile = format!(
        "FROM {host}/busybox:1 AS tools\nFROM {host}/{}/none:1\nCOPY --from=tools / /\n\
         RUN --mount=type=cache,id={id},target=/c date > /c/x\n",
        workspace.prefix
    );
    let none = Workspace::with(&[(
        "none",
        "FROM BUSYBOX AS t\nRUN echo > /x\nFROM scratch\nCOPY --from=t /x /x\n",
    )]);
    none.deploy(&["--release", "1"]);
    let from = format!("{host}/{}", none.repository("none"));
    let dockerfile = dockerfile.replace(&format!("{host}/{}/none", workspace.prefix), &from);
    workspace.write("containers/etl/Dockerfile", dockerfile);
    workspace.commit();
    let (_, told) = on_a_fresh_runner(&workspace, &["--release", "r1"]);
    let warnings = events(&told, "warning");
    let said = warnings[0]["message"].as_str().unwrap();
    assert!(said.contains("was not kept"), "{said}");
    assert_eq!(mount_tag(&workspace), None);
}
