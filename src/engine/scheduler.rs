//! Which container is built next: a ready queue over the graph, the one with the longest way to go first. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Containers that are not finished.
#[derive(Debug)]
pub(super) struct ReadyQueue {
    waiting: BTreeMap<String, BTreeSet<String>>,
    children: BTreeMap<String, Vec<String>>,
    /// Longest chain of containers from this one down to a leaf: what waits for it decides how urgent it is.
    height: BTreeMap<String, usize>,
}

impl ReadyQueue {
    /// `parents`: every container of the run with those of the run that it needs; an acyclic graph.
    pub(super) fn new(parents: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let waiting: BTreeMap<String, BTreeSet<String>> = parents
            .into_iter()
            .map(|(name, parents)| (name, parents.into_iter().collect()))
            .collect();
        let mut children: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, parents) in &waiting {
            for parent in parents {
                children
                    .entry(parent.clone())
                    .or_default()
                    .push(name.clone());
            }
        }
        let mut queue = Self {
            waiting,
            children,
            height: BTreeMap::new(),
        };
        let names: Vec<String> = queue.waiting.keys().cloned().collect();
        for name in names {
            queue.measure(&name);
        }
        queue
    }

    fn measure(&mut self, name: &str) -> usize {
        if let Some(known) = self.height.get(name) {
            return *known;
        }
        let children = self.children.get(name).cloned().unwrap_or_default();
        let height = children
            .iter()
            .map(|child| self.measure(child) + 1)
            .max()
            .unwrap_or(0);
        self.height.insert(name.to_owned(), height);
        height
    }

    /// The next container to build, if one is ready; it leaves the queue. Ties go by name.
    pub(super) fn pop(&mut self) -> Option<String> {
        let ready = self
            .waiting
            .iter()
            .filter(|(_, missing)| missing.is_empty())
            .map(|(name, _)| name);
        // `max_by_key` keeps the last of equals, and the first name is wanted.
        let next = ready
            .rev()
            .max_by_key(|name| self.height.get(*name))?
            .clone();
        self.waiting.remove(&next);
        Some(next)
    }

    /// Its children wait for one less.
    pub(super) fn finished(&mut self, name: &str) {
        for child in self.children.get(name).into_iter().flatten() {
            if let Some(missing) = self.waiting.get_mut(child) {
                missing.remove(name);
            }
        }
    }

    /// Takes out everything that is still waiting.
    pub(super) fn drain(&mut self) -> Vec<String> {
        std::mem::take(&mut self.waiting).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(edges: &[(&str, &[&str])]) -> ReadyQueue {
        ReadyQueue::new(
            edges
                .iter()
                .map(|(n, p)| ((*n).to_owned(), p.iter().map(|p| (*p).to_owned()).collect())),
        )
    }

    #[test]
    fn the_longest_chain_starts_first() {
        let mut queue = queue(&[
            ("alone", &[]),
            ("base", &[]),
            ("etl", &["base"]),
            ("train", &["etl"]),
        ]);
        assert_eq!(queue.pop().as_deref(), Some("base"));
        assert_eq!(queue.pop().as_deref(), Some("alone"));
        assert_eq!(queue.pop(), None);
        queue.finished("base");
        assert_eq!(queue.pop().as_deref(), Some("etl"));
        assert_eq!(queue.drain(), ["train"]);
    }

    proptest! {
        #[test]
        fn everything_is_built_once_and_after_its_parents(picks in prop::collection::vec(any::<u16>(), 1..40)) {
            let name = |n: usize| format!("c{n}");
            // Every container may need any of those before it.
            let parents = |n: usize| (0..n).filter(move |p| picks_bit(n, *p)).map(name).collect::<Vec<_>>();
            fn picks_bit(n: usize, p: usize) -> bool { (n * 31 + p * 17) % 5 == 0 }
            let count = picks.len();
            let mut queue = ReadyQueue::new((0..count).map(|n| (name(n), parents(n))));
            let (mut running, mut done) = (Vec::new(), Vec::new());
            let mut picks = picks.into_iter().cycle();
            while done.len() < count {
                while let Some(next) = queue.pop() {
                    running.push(next);
                }
                prop_assert!(!running.is_empty());
                let at = usize::from(picks.next().unwrap_or(0)) % running.len();
                let finished = running.swap_remove(at);
                let n: usize = finished[1..].parse().unwrap();
                prop_assert!(parents(n).iter().all(|parent| done.contains(parent)));
                queue.finished(&finished);
                done.push(finished);
            }
        }
    }
}
