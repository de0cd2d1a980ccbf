//! The builders of a run and which container goes to which. One builder is the usual case; several are a pool: each
//! container goes to the same one in every run, where its cache is, and a builder that is lost hands its work to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::job::Shared;
use crate::buildkit::solve::answers;
use crate::reference::Digest;

/// A builder with what every job on it uses.
struct Member {
    shared: Arc<Shared>,
    lost: AtomicBool,
}

pub(super) struct Builders {
    members: Vec<Member>,
}

/// How often a builder that was lost is asked again, and the pause between.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(1500);

impl Builders {
    /// One [`Shared`] for each builder, one at least.
    pub(super) fn new(members: impl IntoIterator<Item = Shared>) -> Self {
        let members = members.into_iter().map(|shared| Member {
            shared: Arc::new(shared),
            lost: AtomicBool::new(false),
        });
        Self {
            members: members.collect(),
        }
    }

    /// All, lost ones too.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Shared>> {
        self.members.iter().map(|member| &member.shared)
    }

    /// The place in [`Self::all`] of a container's builder, among those that are not lost; `None` when all are.
    pub(super) fn of(&self, container: &str) -> Option<usize> {
        let alive = |&at: &usize| !self.members[at].lost.load(Ordering::Relaxed);
        let name = |at: usize| &self.members[at].shared.builder.description;
        (0..self.members.len())
            .filter(alive)
            .max_by_key(|&at| score(name(at), container))
    }

    pub(super) fn get(&self, at: usize) -> &Arc<Shared> {
        &self.members[at].shared
    }

    /// Where a container goes whose builder was lost: back to it when it answers again, else to another of the pool.
    /// `None`: nobody is left.
    pub(super) async fn after_loss(&self, at: usize, container: &str) -> Option<usize> {
        // With others at hand nobody waits long for one that does not come back.
        let attempts = if self.members.len() > 1 { 2 } else { ATTEMPTS };
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            if answers(&self.get(at).builder).await {
                return Some(at);
            }
        }
        self.members[at].lost.store(true, Ordering::Relaxed);
        self.of(container)
    }

    /// What they are, for people.
    pub(super) fn description(&self) -> String {
        let all = self.all().map(|shared| shared.builder.description.as_str());
        all.collect::<Vec<_>>().join(", ")
    }
}

/// Rendezvous hashing (Thaler and Ravishankar, 1998): each builder bids for each container, and the highest bid wins. When
/// one goes, only its containers move.
fn score(builder: &str, container: &str) -> String {
    Digest::of(format!("{builder}\0{container}").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::score;

    fn of(container: &str, builders: &[&'static str]) -> &'static str {
        let best = builders
            .iter()
            .max_by_key(|builder| score(builder, container));
        best.unwrap()
    }

    #[test]
    fn containers_spread_and_only_those_of_a_lost_builder_move() {
        let all = ["tcp://a:1", "tcp://b:1", "tcp://c:1"];
        let mut counts = BTreeMap::<_, u32>::new();
        for container in (0..300).map(|n| format!("c{n}")) {
            let before = of(&container, &all);
            *counts.entry(before).or_default() += 1;
            let after = of(&container, &all[..2]);
            assert!(
                before == after || before == all[2],
                "{container} moved from {before}"
            );
        }
        assert!(
            counts.len() == 3 && counts.values().all(|&n| n > 60),
            "{counts:?}"
        );
    }
}
