//! Two promotions of different commits at once: whatever the order of their requests, the newer commit stands at the end.

use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::support::gate::{Gate, Waiting};
use crate::support::registry;
use crate::support::releases::{change, four, manifest_beside, set};
use crate::support::stack;
use crate::support::workspace::Workspace;

/// Interleavings that are tried.
const ROUNDS: usize = 216;

/// Tests that share the rounds.
const LANES: usize = 4;

/// r2 and r3 of two commits, recorded, on no channel.
fn two_releases() -> Workspace {
    let workspace = four("1");
    let records = format!("{}/records", workspace.prefix);
    manifest_beside(&workspace, "build.toml", stack::registry(), &records);
    for release in ["r2", "r3"] {
        change(&workspace, release);
        let ended = workspace.run(&["-f", "build.toml", "build", "--release", release]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
    }
    workspace
}

/// One of the two, whose requests wait for their turns.
struct Racer<'a> {
    child: Child,
    waiting: &'a Receiver<Waiting>,
    ended: bool,
    requests: usize,
}

impl<'a> Racer<'a> {
    fn start(
        workspace: &Workspace,
        file: &str,
        release: &str,
        channel: &str,
        waiting: &'a Receiver<Waiting>,
    ) -> Self {
        let mut command = workspace.skiff(&["-f", file, "promote", release, "--channel", channel]);
        Self {
            child: command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
            waiting,
            ended: false,
            requests: 0,
        }
    }

    /// Lets its next request pass; `false`: it has ended.
    fn step(&mut self) -> bool {
        while !self.ended {
            match self.waiting.recv_timeout(Duration::from_millis(2)) {
                Ok(waiting) => {
                    waiting.pass();
                    self.requests += 1;
                    return true;
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = self.child.try_wait().unwrap() {
                        assert_eq!(status.code(), Some(0));
                        self.ended = true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => panic!("the gate is gone"),
            }
        }
        false
    }
}

/// Whose turn it is, the older one's or the newer one's: first one gets ahead by some requests, then the other by some, then they
/// take turns in runs of random length.
fn older_is_next(round: usize, requests: (usize, usize), random: &mut fastrand::Rng) -> bool {
    let lead = round / 2 % 40;
    let (first, second) = if round.is_multiple_of(2) {
        (requests.0, requests.1)
    } else {
        (requests.1, requests.0)
    };
    let firsts = if first < lead {
        true
    } else if round < 80 {
        // All of the other in one go.
        false
    } else if second < lead / 2 {
        false
    } else {
        random.bool()
    };
    firsts == round.is_multiple_of(2)
}

fn race(lane: usize) {
    let seed = 20_261_124;
    // Of its own: the registry of the stack does not write its links atomically.
    let workspace = &two_releases();
    let newest = &set(workspace, "r3");
    let (older, olders) = Gate::in_turns();
    let (newer, newers) = Gate::in_turns();
    for round in (lane..ROUNDS).step_by(LANES) {
        let mut random = fastrand::Rng::with_seed(seed + round as u64);
        let channel = format!("c{round}");
        let state = format!("{}/{channel}", workspace.prefix);
        for release in ["r2", "r3"] {
            let from = format!("{}/records", workspace.prefix);
            registry::copy(&from, &state, &format!("release-{release}"));
        }
        let files = [
            ("direct", stack::registry()),
            ("old", &older.host()),
            ("new", &newer.host()),
        ];
        for (name, host) in files {
            manifest_beside(workspace, &format!("{name}{round}.toml"), host, &state);
        }
        let mut old = Racer::start(
            workspace,
            &format!("old{round}.toml"),
            "r2",
            &channel,
            &olders,
        );
        let mut new = Racer::start(
            workspace,
            &format!("new{round}.toml"),
            "r3",
            &channel,
            &newers,
        );
        while !(old.ended && new.ended) {
            let older_first = older_is_next(round, (old.requests, new.requests), &mut random);
            let (one, other) = if older_first {
                (&mut old, &mut new)
            } else {
                (&mut new, &mut old)
            };
            if !one.step() {
                other.step();
            }
        }
        let requests = (old.requests, new.requests);
        assert!(
            set(workspace, &channel) == *newest,
            "round {round}, {requests:?} requests"
        );
        if round % 9 > 1 {
            continue;
        }
        let file = format!("direct{round}.toml");
        let ended = workspace.run(&[
            "-f",
            &file,
            "status",
            "--channel",
            &channel,
            "--format",
            "json",
        ]);
        assert!(
            ended.stdout.contains("\"release\": \"r3\""),
            "round {round}: {}",
            ended.stdout
        );
        assert!(
            ended.stdout.contains("\"pending\": false"),
            "round {round}: {}",
            ended.stdout
        );
    }
}

#[test]
fn two_promotions_in_any_order_end_on_the_newer_commit_1() {
    race(0);
}

#[test]
fn two_promotions_in_any_order_end_on_the_newer_commit_2() {
    race(1);
}

#[test]
fn two_promotions_in_any_order_end_on_the_newer_commit_3() {
    race(2);
}

#[test]
fn two_promotions_in_any_order_end_on_the_newer_commit_4() {
    race(3);
}
