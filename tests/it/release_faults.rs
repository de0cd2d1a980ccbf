//! Promotions that are killed, refused or cut at every single request that they make.

use std::time::Duration;

use crate::support::gate::{Answer, Gate};
use crate::support::registry::{self, tags};
use crate::support::releases::{NAMES, change, four, manifest_beside, set, through};
use crate::support::stack;
use crate::support::workspace::{Ended, Workspace};

/// Releases r1 and r2 of two commits, whose records are in `…/records`; on no channel.
fn two_releases() -> Workspace {
    let workspace = four("1");
    let records = format!("{}/records", workspace.prefix);
    manifest_beside(&workspace, "build.toml", stack::registry(), &records);
    for release in ["r1", "r2"] {
        if release == "r2" {
            change(&workspace, "2");
        }
        let ended = workspace.run(&["-f", "build.toml", "build", "--release", release]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
    }
    workspace
}

/// A channel of its own, with a state repository of its own, on r1.
fn on_r1(workspace: &Workspace, name: &str) -> String {
    let state = format!("{}/{name}", workspace.prefix);
    for tag in ["release-r1", "release-r2"] {
        registry::copy(&format!("{}/records", workspace.prefix), &state, tag);
    }
    let file = format!("{name}.toml");
    manifest_beside(workspace, &file, stack::registry(), &state);
    let ended = promote(workspace, &file, "r1", name);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    file
}

fn promote(workspace: &Workspace, file: &str, release: &str, channel: &str) -> Ended {
    workspace.run(&["-f", file, "promote", release, "--channel", channel])
}

fn gate_at(at: u64, answer: Answer) -> Gate {
    Gate::scripted(stack::registry(), move |asked| {
        (asked.own == Some(at)).then_some(answer)
    })
}

/// Does it to every request that a promotion makes, one after the other.
fn hit_every_request(fault: &str, answers: &[Answer]) {
    // Of its own: the registry of the stack does not write its links atomically.
    let workspace = &two_releases();
    let mut hit = 0;
    let (r1, r2) = (&set(workspace, "r1"), &set(workspace, "r2"));
    for at in 1..200 {
        let answer = answers[usize::try_from(at).unwrap() % answers.len()];
        let channel = format!("{fault}{at}");
        let file = on_r1(workspace, &channel);
        let gate = gate_at(at, answer);
        let gated = format!("{channel}-gate.toml");
        let state = format!("{}/{channel}", workspace.prefix);
        manifest_beside(workspace, &gated, &gate.host(), &state);
        let arguments = ["-f", &gated, "promote", "r2", "--channel", &channel];
        let (code, text) = through(workspace, &arguments, &gate);
        let after = set(workspace, &channel);
        assert!(!text.contains("panicked"), "{channel}: {text}");
        for (stands, (old, new)) in after.iter().zip(r1.iter().zip(r2)) {
            assert!(stands == old || stands == new, "{channel}: {text}");
        }
        // What was not killed leaves no mixed set, and what can be tried again succeeds.
        if code.is_some() {
            assert!(after == *r1 || after == *r2, "{channel}: {text}");
        }
        if !matches!(
            answer,
            Answer::Kill | Answer::KillAfter | Answer::Status(403)
        ) {
            assert_eq!(code, Some(0), "{channel}: {text}");
        }
        if code == Some(0) {
            assert!(after == *r2, "{channel}: {text}");
        }
        let next = promote(workspace, &file, "r2", &channel);
        assert_eq!(next.code, 0, "{channel}: {}{}", next.stdout, next.stderr);
        assert!(
            set(workspace, &channel) == *r2,
            "{channel}: {}",
            next.stderr
        );
        let ended = workspace.run(&[
            "-f",
            &file,
            "status",
            "--channel",
            &channel,
            "--format",
            "json",
        ]);
        let pending = ended.stdout.contains("\"pending\": true");
        assert!(
            !pending && !ended.stdout.contains("\"stands\""),
            "{channel}: {}",
            ended.stdout
        );
        if gate.own() < at {
            break;
        }
        hit += 1;
    }
    assert!(hit >= 20, "{hit} requests were hit");
}

#[test]
fn a_promotion_that_is_killed_before_any_of_its_requests_is_finished_by_the_next_run() {
    hit_every_request("kill", &[Answer::Kill]);
}

#[test]
fn a_promotion_that_is_killed_after_any_of_its_requests_is_finished_by_the_next_run() {
    hit_every_request("killafter", &[Answer::KillAfter]);
}

#[test]
fn a_promotion_that_is_denied_any_of_its_requests_leaves_no_mixed_set() {
    hit_every_request("denied", &[Answer::Status(403)]);
}

#[test]
fn a_promotion_that_meets_a_passing_fault_at_any_of_its_requests_gets_through() {
    let passing = [
        Answer::Status(500),
        Answer::RetryAfter(429, 0),
        Answer::Cut,
        Answer::CutAfter,
        Answer::Truncate,
        Answer::Status(503),
    ];
    hit_every_request("passing", &passing);
}

#[test]
fn a_failed_promotion_puts_back_what_it_moved_and_says_what_stands_where() {
    let workspace = two_releases();
    let r1 = set(&workspace, "r1");
    let file = on_r1(&workspace, "stable");
    let state = format!("{}/stable", workspace.prefix);
    let last = format!("/{}/{}/manifests/stable", workspace.prefix, NAMES[3]);
    let gate = Gate::scripted(stack::registry(), move |asked| {
        (asked.method == "PUT" && asked.path.ends_with(&last)).then_some(Answer::Status(403))
    });
    manifest_beside(&workspace, "gate.toml", &gate.host(), &state);
    let (code, text) = through(
        &workspace,
        &["-f", "gate.toml", "promote", "r2", "--channel", "stable"],
        &gate,
    );
    assert_eq!(code, Some(3), "{text}");
    for said in ["403", "stable did not move", "safe"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(set(&workspace, "stable") == r1, "{text}");
    // The next run finishes it, whatever it is for.
    let next = promote(&workspace, &file, "r1", "stable");
    assert_eq!(next.code, 0, "{}", next.stderr);
    assert!(
        set(&workspace, "stable") == set(&workspace, "r2"),
        "{}{}",
        next.stdout,
        next.stderr
    );
    assert!(tags(&state).contains(&"channel-stable".to_owned()));
}

#[test]
fn a_stalled_registry_does_not_hang_a_promotion() {
    let workspace = two_releases();
    let file = on_r1(&workspace, "slow");
    let state = format!("{}/slow", workspace.prefix);
    let gate = gate_at(9, Answer::Delay(Duration::from_secs(2)));
    manifest_beside(&workspace, "gate.toml", &gate.host(), &state);
    let (code, text) = through(
        &workspace,
        &["-f", "gate.toml", "promote", "r2", "--channel", "slow"],
        &gate,
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(set(&workspace, "slow") == set(&workspace, "r2"), "{text}");
    assert_eq!(promote(&workspace, &file, "r2", "slow").code, 0);
}
