//! Two promotions of different commits at once: whatever the order of their requests, the newer commit stands at the end.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::support::gate::{Gate, Waiting};
use crate::support::registry;
use crate::support::releases::{NAMES, change, four, manifest_beside, set};
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

/// The digests that `latest` stands on.
fn latest(workspace: &Workspace) -> Vec<String> {
    let digest = |name: &&str| {
        let path = format!("/v2/{}/manifests/latest", workspace.repository(name));
        registry::digest(&registry::get(stack::registry(), &path).1)
    };
    NAMES.iter().map(digest).collect()
}

/// What the last run in this checkout has made, by its metadata.
fn made(checkout: &Path) -> Vec<String> {
    let text = std::fs::read(checkout.join(".git/told.json")).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let digest = |name: &&str| told[*name]["containerimage.digest"].as_str();
    let digests = NAMES.iter().filter_map(digest);
    digests.map(str::to_owned).collect()
}

#[test]
fn two_deploys_at_once_under_one_name_mix_nothing_and_may_be_run_again() {
    let workspace = four("1");
    let older = workspace.root();
    let folder = tempfile::tempdir().unwrap();
    let newer = folder.path().join("newer");
    let (here, there) = (older.to_str().unwrap(), newer.to_str().unwrap());
    workspace.git(&["clone", "--quiet", here, there]);
    workspace.git(&["remote", "add", "origin", &format!("file://{there}")]);
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    let run = |checkout: &Path, name: Option<&str>| {
        let told = ["--metadata-file", ".git/told.json"];
        let mut command = workspace.skiff(&[&["deploy", "--all"], &told[..]].concat());
        command
            .current_dir(checkout)
            .envs(name.map(|name| ("TIMESTAMP", name)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let end = |child: Child| {
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!text.contains("panicked"), "{text}");
        (output.status.code().unwrap(), text)
    };
    for round in 0..4 {
        // One line of history: a commit of the one, and a commit of the other after it.
        workspace.git(&["pull", "--quiet", "--ff-only", there, "main"]);
        change(&workspace, &format!("older {round}"));
        workspace.git(&["-C", there, "pull", "--quiet", "--ff-only", here, "main"]);
        for name in NAMES {
            let file = newer.join(format!("containers/{name}/x"));
            std::fs::write(file, format!("newer {round} {name}")).unwrap();
        }
        let commit = ["commit", "--quiet", "-a", "-m", "x"];
        workspace.git(&[&["-C", there], &identity[..], &commit].concat());
        let name = format!("at-once-{round}");
        let (one, other) = (run(&older, Some(&name)), run(&newer, Some(&name)));
        for (code, text) in [end(one), end(other)] {
            let said = match code {
                0 => "release at-once",
                // Both were pushed under the name: whose it is not fails its check, or never began.
                1 => "is not released",
                2 => "give another name",
                _ => "",
            };
            assert!(!said.is_empty() && text.contains(said), "{code}: {text}");
        }
        let (code, text) = end(run(&newer, None));
        assert_eq!(code, 0, "{text}");
        assert_eq!(latest(&workspace), made(&newer), "{text}");
        // The older one comes late.
        let (code, text) = end(run(&older, None));
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("superseded"), "{text}");
        assert_eq!(latest(&workspace), made(&newer), "{text}");
    }
}

#[test]
fn a_record_that_another_run_has_written_over_is_written_again() {
    let workspace = four("1");
    workspace.deploy(&["--release", "r1"]);
    let state = format!("{}/skiff", workspace.prefix);
    let path = format!("/v2/{state}/manifests/release-r2");
    let (_, other) = registry::get(
        stack::registry(),
        &format!("/v2/{state}/manifests/release-r1"),
    );
    // Both have looked for the name, and found it free; the other one writes last.
    let mut written = false;
    let to = state.clone();
    let gate = Gate::scripted(stack::registry(), move |asked| {
        if asked.path == path && asked.method == "PUT" {
            written = true;
        } else if asked.path == path && std::mem::take(&mut written) {
            registry::put_manifest(&to, "release-r2", &other);
        }
        None
    });
    manifest_beside(&workspace, "gate.toml", &gate.host(), &state);
    change(&workspace, "2");
    let ended = workspace.run(&["-f", "gate.toml", "deploy", "--all", "--release", "r2"]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(
        set(&workspace, "latest") == set(&workspace, "r2"),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    assert!(registry::tags(&state).contains(&"release-r2.2".to_owned()));
    let ended = workspace.run(&["status", "--format", "json"]);
    for said in ["\"release\": \"r2\"", "\"pending\": false"] {
        assert!(ended.stdout.contains(said), "{}", ended.stdout);
    }
}
