use proptest::prelude::*;

use super::*;
use crate::reference::{Digest, Repository};
use crate::release::record::{Published, PublishedStatus};

/// Commits are numbers, newer ones larger; `x…` are on another line, `?…` are not known.
struct Numbers;

impl Lineage for Numbers {
    fn relation(&mut self, standing: &Placed, candidate: &Placed) -> Relation {
        let (old, new) = (
            standing.commit.clone().unwrap(),
            candidate.commit.clone().unwrap(),
        );
        if old == new {
            return Relation::Same;
        }
        if old.starts_with('?') || new.starts_with('?') {
            return Relation::Unknown;
        }
        match (old.parse::<u32>(), new.parse::<u32>()) {
            (Ok(old), Ok(new)) if old < new => Relation::Newer,
            (Ok(_), Ok(_)) => Relation::Older,
            _ => Relation::Diverged,
        }
    }
}

fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

fn latest() -> Tag {
    tag("latest")
}

/// A release `rCOMMIT` of these containers, recorded at this second by somebody's clock.
fn release(commit: &str, second: i64, containers: &[&str], epoch: u64) -> (Tag, Record) {
    let name = format!("r{}", commit.replace('?', "q"));
    let published = containers.iter().map(|container| {
        let repository: Repository = format!("localhost:5000/{container}").parse().unwrap();
        let published = Published {
            shared: false,
            repository,
            digest: Digest::of(format!("{container} {commit}").as_bytes()),
            previous: None,
            key: None,
            status: PublishedStatus::Built,
            seconds: 0.0,
        };
        ((*container).to_owned(), published)
    });
    let due = Due {
        epoch,
        force: false,
        lifts_hold: false,
        previous_release: None,
        before: IndexMap::new(),
    };
    let record = Record {
        format: FORMAT,
        release: tag(&name),
        created: Timestamp::from_second(second).unwrap(),
        commit: Some(commit.to_owned()),
        dirty: false,
        branch: None,
        actor: None,
        ci_url: None,
        reason: None,
        deed: Deed::Release {
            containers: published.collect(),
            channels: IndexMap::from([(latest(), due)]),
        },
    };
    (tag(&format!("release-{name}")), record)
}

fn due(record: &mut Record) -> &mut Due {
    match &mut record.deed {
        Deed::Release { channels, .. } | Deed::Promotion { channels, .. } => &mut channels[0],
        Deed::Rollback { .. } => panic!("a rollback"),
    }
}

/// Puts all of that release back.
fn rollback(to: &(Tag, Record), epoch: u64, second: i64) -> (Tag, Record) {
    let mut record = to.1.clone();
    record.created = Timestamp::from_second(second).unwrap();
    record.deed = Deed::Rollback {
        channel: latest(),
        epoch,
        containers: to.1.placed(&to.0),
    };
    (
        tag(&format!("rollback-{second}-{}", record.release)),
        record,
    )
}

fn promotion(of: &(Tag, Record), epoch: u64, second: i64, lifts_hold: bool) -> (Tag, Record) {
    let mut record = of.1.clone();
    record.created = Timestamp::from_second(second).unwrap();
    let mut due = due(&mut record).clone();
    (due.epoch, due.lifts_hold) = (epoch, lifts_hold);
    record.deed = Deed::Promotion {
        containers: of.1.placed(&of.0),
        channels: IndexMap::from([(latest(), due)]),
    };
    (
        tag(&format!("promotion-{second}-{}", record.release)),
        record,
    )
}

fn folded(records: &[&(Tag, Record)]) -> Standing {
    let mut standing = Standing::new(&latest());
    take(&mut standing, records);
    standing
}

fn take(standing: &mut Standing, records: &[&(Tag, Record)]) {
    standing.fold(
        records.iter().map(|(tag, record)| (tag, record)),
        &mut Numbers,
    );
}

/// `container=commit`, and whether it is held.
fn shown(standing: &Standing) -> String {
    let mut all: Vec<String> = standing
        .containers
        .iter()
        .map(|(name, placed)| format!("{name}={}", placed.commit.as_deref().unwrap_or("-")))
        .collect();
    all.sort();
    if standing.hold.is_some() {
        all.push("held".into());
    }
    all.join(" ")
}

#[test]
fn the_newest_commit_wins_whatever_the_clocks_say() {
    let (one, two, three) = (
        release("1", 300, &["a", "b"], 0),
        release("2", 200, &["a", "b"], 0),
        release("3", 100, &["a", "b"], 0),
    );
    let standing = folded(&[&three, &one, &two]);
    assert_eq!(shown(&standing), "a=3 b=3");
    assert_eq!(standing.release, Some(tag("r3")));
    assert_eq!(standing.commit(), Some("3"));
    // A retry of an older one changes nothing.
    let mut later = standing.clone();
    take(&mut later, &[&release("2", 900, &["a", "b"], 0)]);
    assert_eq!(shown(&later), "a=3 b=3");
}

#[test]
fn each_container_follows_the_newest_run_that_released_it() {
    let all = release("1", 1, &["a", "b", "gone"], 0);
    let (some, other) = (
        release("3", 2, &["a"], 0),
        release("2", 3, &["a", "b", "new"], 0),
    );
    assert_eq!(
        shown(&folded(&[&all, &some, &other])),
        "a=3 b=2 gone=1 new=2"
    );
}

#[test]
fn what_has_diverged_or_is_unknown_moves_nothing_of_its_set() {
    let (one, side) = (release("1", 1, &["a"], 0), release("x", 2, &["a", "b"], 0));
    let mut standing = folded(&[&one, &side]);
    assert_eq!(shown(&standing), "a=1");
    assert!(standing.settled.contains(&side.0));
    let unknown = release("?", 3, &["a", "b"], 0);
    take(&mut standing, &[&unknown]);
    assert_eq!(shown(&standing), "a=1");
    assert!(
        !standing.settled.contains(&unknown.0),
        "left to those who know"
    );
    let mut forced = release("x", 4, &["a"], 1);
    due(&mut forced.1).force = true;
    forced.0 = tag("release-forced");
    take(&mut standing, &[&forced]);
    assert_eq!(shown(&standing), "a=x");
}

#[test]
fn a_hold_holds_until_a_promotion_ends_it() {
    let (one, two, three) = (
        release("1", 1, &["a", "b"], 0),
        release("2", 2, &["a", "b"], 0),
        release("3", 4, &["a", "b"], 1),
    );
    let back = rollback(&one, 1, 3);
    let mut standing = folded(&[&one, &two, &back]);
    assert_eq!(shown(&standing), "a=1 b=1 held");
    assert_eq!(standing.release, Some(tag("r1")));
    take(&mut standing, &[&three]);
    assert_eq!(shown(&standing), "a=1 b=1 held");
    // A run that had begun before the rollback and records only now.
    let mut late = release("4", 5, &["a", "b"], 0);
    late.0 = tag("release-late");
    take(&mut standing, &[&late]);
    assert_eq!(shown(&standing), "a=1 b=1 held");
    let on = promotion(&two, 2, 6, true);
    take(&mut standing, &[&on]);
    assert_eq!(shown(&standing), "a=2 b=2");
    take(&mut standing, &[&release("5", 7, &["a", "b"], 2)]);
    assert_eq!(shown(&standing), "a=5 b=5");
    // All at once, by one who has no checkpoint, comes to the same.
    let five = release("5", 7, &["a", "b"], 2);
    let afresh = folded(&[&five, &on, &late, &three, &back, &two, &one]);
    assert_eq!(afresh.containers, standing.containers);
    assert_eq!((afresh.hold, afresh.epoch), (None, 2));
}

#[test]
fn a_rollback_and_a_promotion_at_once_end_held() {
    let (one, two) = (release("1", 1, &["a"], 0), release("2", 2, &["a"], 0));
    let back = rollback(&one, 1, 3);
    let (again, on) = (rollback(&one, 2, 5), promotion(&two, 2, 4, true));
    for order in [[&again, &on], [&on, &again]] {
        let mut standing = folded(&[&one, &two, &back]);
        take(&mut standing, &[order[0]]);
        take(&mut standing, &[order[1]]);
        assert_eq!(shown(&standing), "a=1 held");
    }
}

proptest! {
    #[test]
    fn the_order_of_reading_does_not_matter(
        commits in proptest::collection::vec((1u32..9, 0i64..20, 0usize..3), 1..8),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 8),
        cut in any::<prop::sample::Index>(),
    ) {
        let sets: [&[&str]; 3] = [&["a", "b"], &["a"], &["b", "c"]];
        let records: Vec<(Tag, Record)> = commits.iter().enumerate().map(|(n, (commit, second, set))| {
            let (_, record) = release(&commit.to_string(), *second, sets[*set], 0);
            (tag(&format!("release-{n}")), record)
        }).collect();
        let all: Vec<&(Tag, Record)> = records.iter().collect();
        let mut shuffled = all.clone();
        for (n, index) in order.iter().enumerate().take(all.len()) {
            shuffled.swap(n, index.index(all.len()));
        }
        let once = folded(&all);
        let (first, second) = shuffled.split_at(cut.index(all.len()));
        let mut twice = folded(first);
        take(&mut twice, second);
        for (name, placed) in &once.containers {
            prop_assert_eq!(Some(placed), twice.containers.get(name));
        }
        prop_assert_eq!(once.settled, twice.settled);
    }
}
