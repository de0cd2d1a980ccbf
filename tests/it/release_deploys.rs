//! Deploys of four containers, one built from another, that are killed, refused or cut at every single request that they
//! make, skiff's and the builder's: before it reaches the registry, and after.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::gate::{Answer, Gate};
use crate::support::registry::{all_tags, config, get, layers, manifest};
use crate::support::releases::{NAMES, change, manifest_beside, part_of_set, set};
use crate::support::stack;
use crate::support::workspace::Workspace;

/// Which requests of a run are hit: those that write only, where the answer is lost or access is denied. What is read
/// leaves nothing behind, and its end is the beginning of the next request.
#[derive(Debug, Clone, Copy)]
struct Aim {
    answer: Answer,
    /// Requests that pass before the first one that is hit.
    after: usize,
    /// Each so manieth from then on is hit too.
    every: Option<usize>,
}

impl Aim {
    fn counts(&self, method: &str) -> bool {
        let writes = matches!(
            self.answer,
            Answer::KillAfter | Answer::CutAfter | Answer::Status(403)
        );
        !writes || matches!(method, "PUT" | "POST" | "PATCH")
    }

    fn hits(&self, number: usize) -> bool {
        match self.every {
            None => number == self.after,
            Some(every) => number >= self.after && (number - self.after).is_multiple_of(every),
        }
    }
}

/// A monorepo whose runs go through a gate, which does something to requests of a run.
struct Lane {
    fault: String,
    workspace: Workspace,
    gate: Gate,
    /// What is done, and how many requests that count have passed.
    aim: Arc<Mutex<Option<(Aim, usize)>>>,
}

/// How a run ended; `code`: `None` when it was killed.
struct Run {
    code: Option<i32>,
    text: String,
    /// Requests that the aim counted.
    counted: usize,
    /// Requests, as the gate saw them.
    seen: Vec<String>,
    metadata: Value,
}

impl Run {
    /// What the run says that it did with a container: `built`, `skipped`, …
    fn status(&self, name: &str) -> &str {
        self.metadata[name]["status"].as_str().unwrap_or("")
    }
}

impl Lane {
    /// `d` is built from `a`; all stand on `latest`, in a release called `base`.
    fn new(fault: impl Into<String>) -> Self {
        let aim: Arc<Mutex<Option<(Aim, usize)>>> = Arc::default();
        let aimed = Arc::clone(&aim);
        let gate = Gate::scripted(stack::registry(), move |asked| {
            let mut aim = aimed.lock().unwrap();
            let (aim, passed) = aim.as_mut().filter(|(aim, _)| aim.counts(asked.method))?;
            *passed += 1;
            aim.hits(*passed - 1).then_some(aim.answer)
        });
        let workspace = Workspace::new();
        for name in NAMES {
            let from = if name == "d" { "a" } else { "scratch" };
            workspace.dockerfile(name, &format!("FROM {from}\nCOPY x /{name}\n"));
        }
        let state = format!("{}/skiff", workspace.prefix);
        manifest_beside(&workspace, "gate.toml", &gate.host(), &state);
        change(&workspace, "0");
        let lane = Self {
            fault: fault.into(),
            workspace,
            gate,
            aim,
        };
        let base = lane.deploy("base", None);
        assert_eq!(base.code, Some(0), "{}", base.text);
        lane
    }

    fn deploy(&self, release: &str, aim: Option<Aim>) -> Run {
        let metadata = self.workspace.root().join("metadata.json");
        let _ = std::fs::remove_file(&metadata);
        let arguments = "-f gate.toml deploy --all --allow-dirty --progress quiet --metadata-file metadata.json --release";
        let arguments: Vec<&str> = arguments.split(' ').chain([release]).collect();
        let before = self.gate.seen().len();
        self.gate.aim(0);
        *self.aim.lock().unwrap() = aim.map(|aim| (aim, 0));
        let child = self
            .workspace
            .skiff(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.gate.aim(child.id());
        let output = child.wait_with_output().unwrap();
        let aimed = self.aim.lock().unwrap().take();
        let text = [output.stdout, output.stderr].concat();
        let metadata = std::fs::read(metadata).unwrap_or_default();
        Run {
            code: output.status.code(),
            text: String::from_utf8_lossy(&text).into_owned(),
            counted: aimed.map_or(0, |(_, passed)| passed),
            seen: self.gate.seen()[before..].to_vec(),
            metadata: serde_json::from_slice(&metadata).unwrap_or_default(),
        }
    }

    /// The containers whose image of this release is there, whole, and under its key.
    fn kept(&self, release: &str) -> BTreeSet<&'static str> {
        let kept = NAMES.into_iter().filter(|name| {
            let repository = self.workspace.repository(name);
            let Some(image) = manifest(&repository, release) else {
                return false;
            };
            let mut keys = all_tags(&repository);
            keys.retain(|tag| tag.starts_with("key-"));
            keys.iter()
                .any(|key| manifest(&repository, key).as_ref() == Some(&image))
        });
        kept.collect()
    }

    /// Every image of the set can be pulled, to its last layer.
    fn is_whole(&self, tag: &str) -> bool {
        NAMES.into_iter().all(|name| {
            let repository = self.workspace.repository(name);
            let config = config(&repository, tag);
            let layers = layers(&repository, tag);
            let there = |digest: &String| {
                get(
                    stack::registry(),
                    &format!("/v2/{repository}/blobs/{digest}"),
                )
                .0 == 200
            };
            config["config"].is_object() && layers.iter().all(there)
        })
    }

    /// Deploys a new commit while these requests are hit, and then once more; returns how many could have been hit.
    fn hit(&self, aim: Aim) -> usize {
        let n = aim.after;
        let old = set(&self.workspace, "latest");
        change(&self.workspace, &format!("{n} {}", self.fault));
        let release = format!("r{n}");
        let hit = self.deploy(&release, Some(aim));
        let text = format!("{} {n}: {}\n{}", self.fault, hit.text, hit.seen.join("\n"));
        assert!(!hit.text.contains("panicked"), "{text}");
        let kept = self.kept(&release);
        let latest = set(&self.workspace, "latest");
        assert!(self.is_whole("latest"), "{text}");
        let new = part_of_set(&self.workspace, &release);
        for (now, (old, new)) in latest.iter().zip(old.iter().zip(&new)) {
            assert!(now == old || (now == new && new.is_some()), "{text}");
        }
        match hit.code {
            Some(0) => assert!(latest == new && latest != old, "{text}"),
            // Whoever has not been killed leaves no mixed set.
            Some(1 | 2) => assert!(latest == old, "{text}"),
            Some(3) => assert!(latest == old || latest == new, "{text}"),
            Some(code) => panic!("exit code {code}: {text}"),
            None => {}
        }
        let is_passing = !matches!(
            aim.answer,
            Answer::Kill | Answer::KillAfter | Answer::Status(403)
        );
        if is_passing {
            assert!(hit.code == Some(0), "{text}");
            return hit.counted;
        }
        // The same command again, or the next one of the same sources.
        let again = format!("n{n}");
        let name = if n % 2 == 0 { &release } else { &again };
        let next = self.deploy(name, None);
        let text = format!("{text}\nthe next run: {}", next.text);
        assert_eq!(next.code, Some(0), "{text}");
        for name in &kept {
            assert_eq!(next.status(name), "skipped", "{name}, {text}");
        }
        let stands = set(&self.workspace, "latest");
        assert!(stands == set(&self.workspace, name), "{text}");
        assert!(self.is_whole("latest"), "{text}");
        for (name, (stands, old)) in NAMES.iter().zip(stands.iter().zip(&old)) {
            assert!(stands != old, "{name} did not move: {text}");
        }
        hit.counted
    }
}

/// Hits one request of a deploy after the other, from `first` on each `step`-th, until a run makes fewer.
fn one_by_one(answer: Answer, first: usize, step: usize, least: usize) {
    let lane = Lane::new(format!("{answer:?} from {first}"));
    let mut after = first;
    loop {
        let aim = Aim {
            answer,
            after,
            every: None,
        };
        if lane.hit(aim) <= after {
            break;
        }
        after += step;
    }
    assert!(after >= least, "{answer:?}: {after} requests were hit");
}

/// Faults that pass need no run each: every request is hit, many of them in one run.
fn all_at_once(answers: &[Answer]) {
    const EVERY: usize = 10;
    for answer in answers {
        let lane = Lane::new(format!("{answer:?}"));
        for after in 0..EVERY {
            let aim = Aim {
                answer: *answer,
                after,
                every: Some(EVERY),
            };
            lane.hit(aim);
        }
    }
}

#[test]
fn alone_a_deploy_that_is_killed_or_fails_at_any_of_its_requests_is_finished_by_the_next_run() {
    std::thread::scope(|scope| {
        scope.spawn(|| one_by_one(Answer::Kill, 0, 2, 80));
        scope.spawn(|| one_by_one(Answer::Kill, 1, 2, 80));
        scope.spawn(|| one_by_one(Answer::KillAfter, 0, 1, 24));
        scope.spawn(|| one_by_one(Answer::Status(403), 0, 1, 24));
        scope.spawn(|| all_at_once(&[Answer::Status(500), Answer::Cut, Answer::CutAfter]));
    });
}
