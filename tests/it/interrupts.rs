//! Ctrl-C, and sources that change under the build.

use std::io::Read as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::registry::tags;
use crate::support::workspace::Workspace;

fn running(mark: &str) -> bool {
    Command::new("pgrep")
        .args(["-f", mark])
        .output()
        .unwrap()
        .status
        .success()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "waited a minute until {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
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
        let workspace = Workspace::with(&[(
            "etl",
            &format!("FROM BUSYBOX\nRUN echo {} && {mark}\n", fastrand::u64(..)),
        )]);
        let mut skiff = workspace.start(&["deploy", "--release", "r1"]);
        until("the step runs", || running(&format!("^{mark}$")));
        Command::new("kill")
            .args([&format!("-{signal}"), &skiff.id().to_string()])
            .status()
            .unwrap();
        let code = skiff.wait().unwrap().code();
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
        assert_eq!(code, Some(130), "{stdout}\n{stderr}");
        assert!(
            !running(&format!("^{mark}$")),
            "the step still runs on the builder"
        );
        assert!(
            stdout.contains("interrupted") && stdout.contains("no channel moved"),
            "{stdout}"
        );
        assert!(tags(&workspace.repository("etl")).is_empty());
    }
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
