//! Which container is built next: a ready queue over the graph, the one with the longest way to go first. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Containers that are not finished.
#[derive(Debug)]
pub(super) struct ReadyQueue {
    waiting: BTreeMap<String, Waiting>,
    children: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Waiting {
    /// Parents that are not finished.
    missing: BTreeSet<String>,
    height: u64,
}

impl ReadyQueue {
    /// Every container of the run with those of the run that it needs (an acyclic graph), and its height.
    pub(super) fn new(containers: impl IntoIterator<Item = (String, Vec<String>, u64)>) -> Self {
        let mut waiting = BTreeMap::new();
        let mut children: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, parents, height) in containers {
            for parent in &parents {
                children
                    .entry(parent.clone())
                    .or_default()
                    .push(name.clone());
            }
            waiting.insert(
                name,
                Waiting {
                    missing: parents.into_iter().collect(),
                    height,
                },
            );
        }
        Self { waiting, children }
    }

    /// The next container to build, if one is ready; it leaves the queue. Ties go by name.
    pub(super) fn pop(&mut self) -> Option<String> {
        let ready = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.missing.is_empty());
        // `max_by_key` keeps the last of equals, and the first name is wanted.
        let (next, _) = ready.rev().max_by_key(|(_, waiting)| waiting.height)?;
        let next = next.clone();
        self.waiting.remove(&next);
        Some(next)
    }

    /// Takes out everything that is built from this one, directly or not.
    pub(super) fn abandon(&mut self, name: &str) -> Vec<String> {
        let mut abandoned: Vec<String> = Vec::new();
        let mut next = vec![name.to_owned()];
        while let Some(parent) = next.pop() {
            for child in self.children.get(&parent).into_iter().flatten() {
                if self.waiting.remove(child).is_some() {
                    abandoned.push(child.clone());
                    next.push(child.clone());
                }
            }
        }
        abandoned
    }

    /// Its children wait for one less.
    pub(super) fn finished(&mut self, name: &str) {
        for child in self.children.get(name).into_iter().flatten() {
            if let Some(waiting) = self.waiting.get_mut(child) {
                waiting.missing.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_chain_starts_first() {
        let container = |name: &str, parents: &[&str], height| {
            (
                name.to_owned(),
                parents.iter().map(|p| (*p).to_owned()).collect(),
                height,
            )
        };
        let mut queue = ReadyQueue::new([
            container("alone", &[], 1),
            container("another", &[], 1),
            container("base", &[], 2),
            container("etl", &["base"], 1),
        ]);
        assert_eq!(queue.pop().as_deref(), Some("base"));
        assert_eq!(queue.pop().as_deref(), Some("alone"));
        assert_eq!(queue.pop().as_deref(), Some("another"));
        assert_eq!(queue.pop(), None);
        queue.finished("base");
        assert_eq!(queue.pop().as_deref(), Some("etl"));
    }

    #[test]
    fn what_is_built_from_an_abandoned_one_leaves_the_queue() {
        let container = |name: &str, parents: &[&str]| {
            (
                name.to_owned(),
                parents.iter().map(|p| (*p).to_owned()).collect(),
                1,
            )
        };
        let containers = [
            container("a", &[]),
            container("b", &["a"]),
            container("c", &["b", "d"]),
            container("d", &[]),
        ];
        let mut queue = ReadyQueue::new(containers);
        assert_eq!(queue.pop().as_deref(), Some("a"));
        assert_eq!(queue.abandon("a"), ["b", "c"]);
        assert_eq!(queue.pop().as_deref(), Some("d"));
        queue.finished("d");
        assert_eq!(queue.pop(), None);
    }

    /// Every container may need any of those before it.
    fn parents(n: usize) -> Vec<String> {
        (0..n)
            .filter(|p| (n * 31 + p * 17).is_multiple_of(5))
            .map(|p| format!("c{p}"))
            .collect()
    }

    proptest! {
        #[test]
        fn everything_is_built_once_and_after_its_parents(
            picks in prop::collection::vec((any::<u16>(), 0_u64..9), 1..40)
        ) {
            let count = picks.len();
            let containers = picks.iter().enumerate();
            let mut queue = ReadyQueue::new(containers.map(|(n, (_, height))| (format!("c{n}"), parents(n), *height)));
            let (mut running, mut done) = (Vec::new(), Vec::new());
            let mut picks = picks.iter().cycle();
            while done.len() < count {
                while let Some(next) = queue.pop() {
                    running.push(next);
                }
                prop_assert!(!running.is_empty());
                let at = usize::from(picks.next().map_or(0, |(pick, _)| *pick)) % running.len();
                let finished = running.swap_remove(at);
                let n: usize = finished[1..].parse().unwrap();
                prop_assert!(parents(n).iter().all(|parent| done.contains(parent)));
                queue.finished(&finished);
                done.push(finished);
            }
        }
    }
}
