//! Ctrl-C, and sources that change under the build.

use std::io::Read as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::gate::{Answer, Gate, Rule};
use crate::support::registry::tags;
use crate::support::workspace::{Ended, Workspace};

pub(crate) fn running(mark: &str) -> bool {
    Command::new("pgrep")
        .args(["-f", mark])
        .output()
        .unwrap()
        .status
        .success()
}

pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "waited a minute until {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a signal and waits for the end.
pub(crate) fn signalled(skiff: Child, name: &str) -> Ended {
    signal(&skiff, name);
    finished(skiff)
}

pub(crate) fn signal(skiff: &Child, name: &str) {
    Command::new("kill")
        .args([&format!("-{name}"), &skiff.id().to_string()])
        .status()
        .unwrap();
}

/// Waits for the end.
pub(crate) fn finished(mut skiff: Child) -> Ended {
    let code = skiff.wait().unwrap().code().unwrap_or(-1);
    let (mut stdout, mut stderr) = (String::new(), String::new());
    skiff
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    skiff
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    Ended {
        code,
        stdout,
        stderr,
    }
}

#[test]
fn ctrl_c_stops_the_builder_moves_nothing_and_says_so() {
    for signal in ["INT", "TERM"] {
        // An argument that no other process on the machine has.
        let mark = format!(
            "sleep 3{:05}",
            std::process::id() + u32::from(signal == "TERM")
        );
        let dockerfile = format!("FROM BUSYBOX\nRUN echo {} && {mark}\n", fastrand::u64(..));
        let workspace = Workspace::with(&[("etl", &dockerfile)]);
        let skiff = workspace.start(&["deploy", "--release", "r1"]);
        until("the step runs", || running(&format!("^{mark}$")));
        let ended = signalled(skiff, signal);
        assert_eq!(ended.code, 130, "{ended:?}");
        assert!(
            !running(&format!("^{mark}$")),
            "the step still runs on the builder"
        );
        assert!(
            ended.stdout.contains("interrupted") && ended.stdout.contains("no channel moved"),
            "{ended:?}"
        );
        assert!(tags(&workspace.repository("etl")).is_empty());
    }
}

#[test]
fn ctrl_c_after_the_release_only_ends_the_cache_export() {
    let stall = Rule {
        method: "PUT",
        path: "/manifests/buildcache",
        from: 1,
        times: u64::MAX,
        answer: Answer::Stall,
    };
    let gate = Gate::start(&[stall]);
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN echo > /x\n")]);
    workspace.manifest_for(&gate.host(), "");
    workspace.commit();
    let skiff = workspace.start(&["deploy", "--release", "r1"]);
    until("the cache is exported", || {
        gate.seen()
            .iter()
            .any(|line| line.contains("PUT") && line.contains("buildcache"))
    });
    let ended = signalled(skiff, "INT");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.contains("latest moved for the whole set"),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("the cache was not exported"),
        "{ended:?}"
    );
    assert_eq!(tags(&workspace.repository("etl")), ["latest", "r1"]);
}

#[test]
fn ctrl_c_is_heard_while_the_registry_does_not_answer() {
    let stall = Rule {
        method: "HEAD",
        path: "/manifests/",
        from: 1,
        times: u64::MAX,
        answer: Answer::Stall,
    };
    let gate = Gate::start(&[stall]);
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\n")]);
    workspace.manifest_for(&gate.host(), "");
    workspace.commit();
    let skiff = workspace.start(&["deploy"]);
    until("the registry is asked", || !gate.seen().is_empty());
    let ended = signalled(skiff, "INT");
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("interrupted before anything was built"),
        "{ended:?}"
    );
}

#[test]
fn a_tree_that_changes_while_it_is_sent_fails_and_names_the_file() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nCOPY . /src\n")]);
    for n in 0..200 {
        workspace.write(&format!("containers/etl/f{n:03}"), vec![b'x'; 300_000]);
    }
    workspace.commit();
    let folder = workspace.root().join("containers/etl");
    let mut skiff = workspace.start(&["deploy", "--release", "r1"]);
    // Every file grows for as long as skiff runs: whichever is read is not what was announced.
    let mut round = 0_usize;
    let code = loop {
        if let Some(status) = skiff.try_wait().unwrap() {
            break status.code();
        }
        round += 1;
        for n in 0..200 {
            std::fs::write(folder.join(format!("f{n:03}")), vec![b'y'; 300_000 + round]).unwrap();
        }
    };
    let mut stderr = String::new();
    skiff
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("changed while"), "{stderr}");
    assert!(tags(&workspace.repository("etl")).is_empty());
}
