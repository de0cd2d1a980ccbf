//! Whole deploys of four containers that are killed, refused or cut at every single request: skiff's own, and those of the
//! builder's pushes. Whatever was hit, and again after the next run: no channel stands on an image that is not whole, none
//! goes backwards, no set stays mixed, and what was pushed and keyed is not built again.
//!
//! Requests are numbered in two parts, until all is built and from then on. Every request of the release is hit by every
//! fault. Of those before it, some sixty, every second one is: builds go on side by side, so that a number means another
//! request each time, and after one request is as good as before the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::gate::{Answer, Gate};
use crate::support::registry::{self, all_tags};
use crate::support::releases::{
    NAMES, change, four, manifest_beside, part_of_set, set, standing, through,
};
use crate::support::stack;
use crate::support::workspace::Workspace;

/// A part of a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Keys, names, builds, pushes, checks: skiff's requests and the builder's.
    Building,
    /// From the first look at the list of records: skiff's.
    Releasing,
}

impl Part {
    /// Every how many of its requests one is hit.
    fn step(self) -> usize {
        match self {
            Self::Building => 2,
            Self::Releasing => 1,
        }
    }
}

/// What is to be hit.
#[derive(Debug, Clone, Copy)]
struct Aim {
    part: Part,
    /// Requests of the part that pass before.
    left: usize,
    answer: Answer,
}

/// What the gate goes by.
#[derive(Debug)]
struct Sight {
    /// Where the run is.
    part: Part,
    /// `None`: nothing is to be hit, or it was.
    aim: Option<Aim>,
}

impl Sight {
    fn see(&mut self, path: &str, own: bool) -> Option<Answer> {
        if own && path.ends_with("/skiff/tags/list") {
            self.part = Part::Releasing;
        }
        let part = self.part;
        let counts = own || part == Part::Building;
        let aim = self.aim.as_mut().filter(|aim| aim.part == part && counts)?;
        if aim.left > 0 {
            aim.left -= 1;
            return None;
        }
        let answer = aim.answer;
        self.aim = None;
        Some(answer)
    }
}

/// Four containers, a channel that stands on them, and the gate before their registry.
struct Target {
    workspace: Workspace,
    gate: Gate,
    sight: Arc<Mutex<Sight>>,
}

/// How a deploy ended.
struct Deployed {
    /// `None`: it was killed.
    code: Option<i32>,
    text: String,
    /// The aim was hit.
    hit: bool,
}

impl Target {
    fn new() -> Self {
        let workspace = four("0");
        let sight = Arc::new(Mutex::new(Sight {
            part: Part::Building,
            aim: None,
        }));
        let seeing = Arc::clone(&sight);
        let gate = Gate::scripted(stack::registry(), move |asked| {
            seeing.lock().unwrap().see(asked.path, asked.own.is_some())
        });
        let state = format!("{}/skiff", workspace.prefix);
        manifest_beside(&workspace, "containers.toml", &gate.host(), &state);
        workspace.commit();
        let target = Self {
            workspace,
            gate,
            sight,
        };
        let first = target.deploy("base", None);
        assert_eq!(first.code, Some(0), "{}", first.text);
        target
    }

    fn deploy(&self, release: &str, aim: Option<Aim>) -> Deployed {
        self.gate.aim(0);
        *self.sight.lock().unwrap() = Sight {
            part: Part::Building,
            aim,
        };
        let arguments = ["deploy", "--all", "--release", release];
        let quiet = ["--progress", "quiet", "--metadata-file", ".git/told.json"];
        let arguments = [&arguments[..], &quiet].concat();
        let (code, text) = through(&self.workspace, &arguments, &self.gate);
        assert!(!text.contains("panicked"), "{text}");
        Deployed {
            code,
            text,
            hit: self.sight.lock().unwrap().aim.take().is_none(),
        }
    }

    /// The tag of the key of each container, and what the last run did, by its metadata.
    fn told(&self) -> BTreeMap<String, (String, String)> {
        let text = std::fs::read(self.workspace.root().join(".git/told.json")).unwrap();
        let told: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap();
        let of = |(name, container): (String, Value)| {
            let text = |member: &str| container[member].as_str().unwrap().to_owned();
            (name, (format!("key-{}", text("key")), text("status")))
        };
        told.into_iter().map(of).collect()
    }
}

/// The images of the four containers.
type Set = Vec<Option<Value>>;

/// What a channel stands on is there to the last blob.
fn is_whole(workspace: &Workspace, set: &[Option<Value>]) -> bool {
    let of = |(name, image): (&&str, &Option<Value>)| {
        let Some(image) = image else { return false };
        let layers = image["layers"].as_array().unwrap().iter();
        let mut blobs = layers.chain([&image["config"]]);
        blobs.all(|blob| {
            let digest = blob["digest"].as_str().unwrap();
            let path = format!("/v2/{}/blobs/{digest}", workspace.repository(name));
            registry::get(stack::registry(), &path).0 == 200
        })
    };
    NAMES.iter().zip(set).all(of)
}

/// Deploys a new commit and hits one request of it, then deploys the commit again; returns what the channel stands on then.
/// `None`: there is no such request. `old`: what it stands on now.
fn hit(target: &Target, old: &Set, number: usize, part: Part, answer: Answer) -> Option<Set> {
    let workspace = &target.workspace;
    let round = format!("{part:?} {number} {answer:?}");
    change(workspace, &round);
    let release = format!("r{number}");
    let aim = Aim {
        part,
        left: number,
        answer,
    };
    let first = target.deploy(&release, Some(aim));
    let round = format!("{round}: {}", first.text);
    let between = set(workspace, "latest");
    let new = part_of_set(workspace, &release);
    for (stands, (old, new)) in between.iter().zip(old.iter().zip(&new)) {
        assert!(stands == old || stands == new, "{round}");
    }
    assert!(between == *old || is_whole(workspace, &between), "{round}");
    // What was not killed leaves no mixed set, and what can be tried again succeeds.
    if first.code.is_some() {
        assert!(between == *old || between == new, "{round}");
    }
    if !matches!(
        answer,
        Answer::Kill | Answer::KillAfter | Answer::Status(403)
    ) {
        assert_eq!(first.code, Some(0), "{round}");
    }
    if first.code == Some(0) {
        assert!(between == new, "{round}");
    }
    if part == Part::Releasing && number.is_multiple_of(3) {
        // What has begun to move is finished by whoever comes next, whatever for.
        let other = workspace.run(&["promote", "base"]);
        assert_eq!(other.code, 0, "{round}\nthen: {other:?}");
        let finished = set(workspace, "latest");
        let stayed = between == *old && finished == *old;
        assert!(stayed || finished == new, "{round}\nthen: {other:?}");
    }
    let keyed: Vec<Vec<String>> = NAMES
        .iter()
        .map(|name| all_tags(&workspace.repository(name)))
        .collect();
    let seen = target.gate.seen().len();
    // The same command, or another release of the same commit.
    let again = if number.is_multiple_of(2) {
        release
    } else {
        format!("again{number}")
    };
    let next = target.deploy(&again, None);
    let round = format!("{round}\nthen: {}", next.text);
    assert_eq!(next.code, Some(0), "{round}");
    let stands = set(workspace, "latest");
    assert!(stands == set(workspace, &again), "{round}");
    assert!(is_whole(workspace, &stands), "{round}");
    for (stands, old) in stands.iter().zip(old) {
        assert!(stands != old, "{round}");
    }
    // What was pushed and keyed is not built again: no layer of it travels.
    let requests = target.gate.seen().split_off(seen);
    let told = target.told();
    for (name, tags) in NAMES.iter().zip(&keyed) {
        let (key, status) = &told[*name];
        assert!(part == Part::Building || tags.contains(key), "{round}");
        if tags.contains(key) {
            assert_eq!(status, "skipped", "{name}: {round}");
            let uploads = format!("/{}/blobs/uploads/", workspace.repository(name));
            let travels = |line: &&String| line.contains(&uploads);
            assert_eq!(requests.iter().find(travels), None, "{round}");
        }
    }
    if number.is_multiple_of(4) {
        let status = standing(workspace, "latest");
        assert_eq!(status["pending"], false, "{status}: {round}");
        for name in NAMES {
            assert_eq!(status["containers"][name]["drift"], Value::Null, "{round}");
        }
    }
    first.hit.then_some(stands)
}

/// Hits the requests of a part, as many as there are.
fn hit_every_request(part: Part, answers: &[Answer], at_least: usize) {
    let target = Target::new();
    let mut stands = set(&target.workspace, "latest");
    let mut hits = 0;
    for (number, answer) in (0..500).step_by(part.step()).zip(answers.iter().cycle()) {
        match hit(&target, &stands, number, part, *answer) {
            Some(now) => stands = now,
            None => break,
        }
        hits += 1;
    }
    assert!(hits >= at_least, "{hits} requests were hit");
}

/// Faults that a run gets over, and one that it does not.
const FAULTS: [Answer; 4] = [
    Answer::Status(500),
    Answer::Cut,
    Answer::CutAfter,
    Answer::Status(403),
];

#[test]
fn a_deploy_that_is_killed_before_any_request_of_its_builds_is_finished_by_the_next_run() {
    hit_every_request(Part::Building, &[Answer::Kill], 25);
}

#[test]
fn a_deploy_that_is_killed_after_any_request_of_its_builds_is_finished_by_the_next_run() {
    hit_every_request(Part::Building, &[Answer::KillAfter], 25);
}

#[test]
fn a_deploy_that_fails_at_any_request_of_its_builds_is_finished_by_the_next_run() {
    hit_every_request(Part::Building, &FAULTS, 25);
}

#[test]
fn a_deploy_that_is_killed_before_any_request_of_its_release_is_finished_by_the_next_run() {
    hit_every_request(Part::Releasing, &[Answer::Kill], 30);
}

#[test]
fn a_deploy_that_is_killed_after_any_request_of_its_release_is_finished_by_the_next_run() {
    hit_every_request(Part::Releasing, &[Answer::KillAfter], 30);
}

#[test]
fn a_deploy_that_fails_at_any_request_of_its_release_is_finished_by_the_next_run() {
    hit_every_request(Part::Releasing, &FAULTS, 30);
}
