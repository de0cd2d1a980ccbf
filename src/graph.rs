//! Which container is built from which, and in what order: a directed graph without cycles, and nothing else.
//!
//! What must stay true: the same containers give the same graph, order and messages in every run, and a container
//! named as parent here is one that BuildKit takes from a named context `context:NAME` (see [`parents`]).

mod parents;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use indexmap::IndexMap;

use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::UseKind;

pub(crate) use parents::parents;

/// Why one container needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdgeKind {
    /// Its Dockerfile uses the other's image.
    Inferred(UseKind),
    /// The manifest says so.
    Needs,
}

/// One container needs another to be built first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    pub parent: String,
    /// What makes the edge: an image in the Dockerfile, a name in the manifest.
    pub span: Option<Span>,
    pub kind: EdgeKind,
}

/// A container with what it is built from. A parent may be named twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub parents: Vec<Edge>,
}

/// The containers of a project. Names that it does not know are ignored in questions.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    nodes: IndexMap<String, Node>,
    /// By index, without doubles, in the order in which the edges were given.
    parents: Vec<Vec<usize>>,
    /// By index, without doubles, ascending.
    children: Vec<Vec<usize>>,
    /// Parents before children; otherwise as the containers were given.
    order: Vec<usize>,
}

impl Graph {
    /// Every unknown parent and every cycle is an error, one for each group of containers that need each other.
    pub(crate) fn new(nodes: IndexMap<String, Node>) -> Result<Self, Vec<Diagnostic>> {
        let mut parents = vec![Vec::new(); nodes.len()];
        let mut children = vec![Vec::new(); nodes.len()];
        let mut errors = Vec::new();
        for (child, (name, node)) in nodes.iter().enumerate() {
            for edge in &node.parents {
                match nodes.get_index_of(&edge.parent) {
                    Some(parent) if parents[child].contains(&parent) => {}
                    Some(parent) => {
                        parents[child].push(parent);
                        children[parent].push(child);
                    }
                    None => errors.push(unknown_parent(name, edge)),
                }
            }
        }
        let mut graph = Self {
            nodes,
            parents,
            children,
            order: Vec::new(),
        };
        graph.order = graph.sort();
        errors.extend(graph.cycles());
        if errors.is_empty() {
            Ok(graph)
        } else {
            Err(errors)
        }
    }

    /// All containers, parents first; what does not depend on each other stays in the given order.
    pub(crate) fn order(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(|index| self.name(*index))
    }

    /// What a container is directly built from, each once.
    pub(crate) fn parents_of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.neighbours(&self.parents, name)
    }

    /// What is directly built from a container, each once.
    pub(crate) fn children_of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.neighbours(&self.children, name)
    }

    /// These containers and all that they are built from, parents first.
    pub(crate) fn closure<'a>(&self, selected: impl IntoIterator<Item = &'a str>) -> Vec<&str> {
        let reached = reach(&self.parents, self.indices(selected));
        self.in_order(|index| reached.contains(&index))
    }

    /// All that is built from these containers and is not one of them, parents first.
    pub(crate) fn dependents_of<'a>(
        &self,
        selected: impl IntoIterator<Item = &'a str>,
    ) -> Vec<&str> {
        let selected: BTreeSet<_> = self.indices(selected).collect();
        let reached = reach(&self.children, selected.iter().copied());
        self.in_order(|index| reached.contains(&index) && !selected.contains(&index))
    }

    /// For each container the weight of the heaviest way from it to one that nothing is built from, both ends
    /// included: who is on the critical path has the greatest, and is built first.
    pub(crate) fn heights(&self, weight: impl Fn(&str) -> u64) -> IndexMap<&str, u64> {
        let mut heights = vec![0_u64; self.nodes.len()];
        for index in self.order.iter().rev() {
            let below = self.children[*index].iter().map(|child| heights[*child]);
            heights[*index] = weight(self.name(*index)).saturating_add(below.max().unwrap_or(0));
        }
        let names = self.nodes.keys().map(String::as_str);
        names.zip(heights).collect()
    }

    fn name(&self, index: usize) -> &str {
        self.nodes
            .get_index(index)
            .map_or("", |(name, _)| name.as_str())
    }

    fn indices<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = usize> {
        names
            .into_iter()
            .filter_map(|name| self.nodes.get_index_of(name))
    }

    fn neighbours(&self, edges: &[Vec<usize>], name: &str) -> impl Iterator<Item = &str> {
        let index = self.nodes.get_index_of(name);
        let found = index.map(|index| edges[index].clone()).unwrap_or_default();
        found.into_iter().map(|index| self.name(index))
    }

    fn in_order(&self, wanted: impl Fn(usize) -> bool) -> Vec<&str> {
        let indices = self.order.iter().filter(|index| wanted(**index));
        indices.map(|index| self.name(*index)).collect()
    }

    /// Kahn's algorithm; among those that are ready, the first given is the first taken. Cycles, and what hangs on
    /// them, are left out.
    fn sort(&self) -> Vec<usize> {
        let mut missing: Vec<usize> = self.parents.iter().map(Vec::len).collect();
        let ready = (0..missing.len()).filter(|index| missing[*index] == 0);
        let mut ready: BinaryHeap<_> = ready.map(Reverse).collect();
        let mut order = Vec::with_capacity(missing.len());
        while let Some(Reverse(index)) = ready.pop() {
            order.push(index);
            for child in &self.children[index] {
                missing[*child] -= 1;
                if missing[*child] == 0 {
                    ready.push(Reverse(*child));
                }
            }
        }
        order
    }

    /// One error for each strongly connected part, with a shortest cycle through the container given first in it.
    fn cycles(&self) -> Vec<Diagnostic> {
        let mut errors = Vec::new();
        let mut done: BTreeSet<usize> = self.order.iter().copied().collect();
        for index in 0..self.nodes.len() {
            if done.contains(&index) {
                continue;
            }
            let Some(cycle) = self.shortest_cycle(index) else {
                continue;
            };
            errors.push(self.cycle_error(&cycle));
            let above = reach(&self.parents, std::iter::once(index));
            let below = reach(&self.children, std::iter::once(index));
            done.extend(above.intersection(&below));
        }
        errors
    }

    /// From a container along its parents back to itself: both ends are that container.
    fn shortest_cycle(&self, start: usize) -> Option<Vec<usize>> {
        let mut came_from = vec![None; self.nodes.len()];
        let mut waiting = VecDeque::from([start]);
        while let Some(index) = waiting.pop_front() {
            for parent in &self.parents[index] {
                if came_from[*parent].is_none() {
                    came_from[*parent] = Some(index);
                    waiting.push_back(*parent);
                }
            }
        }
        let mut cycle = vec![start];
        loop {
            let index = came_from[*cycle.last()?]?;
            cycle.push(index);
            if index == start {
                cycle.reverse();
                return Some(cycle);
            }
        }
    }

    fn cycle_error(&self, cycle: &[usize]) -> Diagnostic {
        let names: Vec<_> = cycle.iter().map(|index| self.name(*index)).collect();
        let mut error =
            Diagnostic::error(format!("containers form a cycle: {}", names.join(" → ")));
        for (step, pair) in names.windows(2).enumerate() {
            let &[child, parent] = pair else { continue };
            let edges = self.nodes.get(child).map_or(&[][..], |node| &node.parents);
            let edge = edges.iter().find(|edge| edge.parent == parent);
            let Some((edge, span)) = edge.and_then(|edge| Some((edge, edge.span.clone()?))) else {
                error = error.note(format!("`{child}` needs `{parent}`"));
                continue;
            };
            let text = match edge.kind {
                EdgeKind::Inferred(UseKind::From) => format!("`{child}` is built from `{parent}`"),
                EdgeKind::Inferred(UseKind::CopyFrom) => {
                    format!("`{child}` copies from `{parent}`")
                }
                EdgeKind::Inferred(UseKind::Mount) => format!("`{child}` mounts `{parent}`"),
                EdgeKind::Needs => format!("`{child}` needs `{parent}`"),
            };
            error = match step {
                0 => error.at(span, text),
                _ => error.see(span, text),
            };
        }
        error.help("take one of these out, or move what they share to a container of its own")
    }
}

/// All that is reached along these edges, the start included.
fn reach(edges: &[Vec<usize>], start: impl Iterator<Item = usize>) -> BTreeSet<usize> {
    let mut waiting: Vec<_> = start.collect();
    let mut reached = BTreeSet::new();
    while let Some(index) = waiting.pop() {
        if reached.insert(index) {
            waiting.extend(&edges[index]);
        }
    }
    reached
}

fn unknown_parent(child: &str, edge: &Edge) -> Diagnostic {
    let error = Diagnostic::error(format!(
        "`{child}` needs `{}`, which is no container",
        edge.parent
    ));
    match &edge.span {
        Some(span) => error.at(span.clone(), "not a container of this project"),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::parents::tests::uses;
    use super::*;
    use crate::diagnostic::human;
    use proptest::prelude::*;

    /// A graph of containers with their Dockerfiles.
    fn from_dockerfiles(containers: &[(&str, &str)]) -> Result<Graph, Vec<Diagnostic>> {
        let is_container = |name: &str| containers.iter().any(|(n, _)| *n == name);
        let node = |(name, text): &(&str, &str)| {
            let uses = uses(&format!("{name}/Dockerfile"), text);
            let found = parents(name, &uses, is_container);
            assert_eq!(found.hidden, []);
            let parents = found.edges;
            ((*name).to_owned(), Node { parents })
        };
        Graph::new(containers.iter().map(node).collect())
    }

    /// A graph by `needs` alone: each container with its parents.
    fn needs(containers: &[(&str, &[&str])]) -> Result<Graph, Vec<Diagnostic>> {
        let edge = |parent: &&str| Edge {
            parent: (*parent).to_owned(),
            span: None,
            kind: EdgeKind::Needs,
        };
        let nodes = containers.iter().map(|(name, parents)| {
            let parents = parents.iter().map(edge).collect();
            ((*name).to_owned(), Node { parents })
        });
        Graph::new(nodes.collect())
    }

    fn diamond() -> Graph {
        needs(&[
            ("app", &["left", "right", "left"]),
            ("left", &["base"]),
            ("right", &["base"]),
            ("alone", &[]),
            ("base", &[]),
        ])
        .unwrap()
    }

    #[test]
    fn containers_are_found_among_the_images() {
        let graph = from_dockerfiles(&[
            ("nginx", "FROM nginx\nCOPY --from=docker.io/library/tools:latest / /"),
            ("app", "FROM base:1\nRUN --mount=from=nginx x\nCOPY --from=nginx / /"),
            ("tools", "FROM team/base\nCOPY --from=base@sha256:0000000000000000000000000000000000000000000000000000000000000000 / /"),
            ("base", "FROM scratch"),
        ])
        .unwrap();
        assert_eq!(graph.parents_of("nginx").collect::<Vec<_>>(), ["tools"]);
        assert_eq!(graph.parents_of("app").collect::<Vec<_>>(), ["nginx"]);
        assert_eq!(graph.parents_of("tools").count(), 0);
        assert_eq!(graph.children_of("nginx").collect::<Vec<_>>(), ["app"]);
        assert_eq!(
            graph.order().collect::<Vec<_>>(),
            ["tools", "nginx", "app", "base"]
        );
    }

    #[test]
    fn every_cycle_is_shown_with_the_lines_that_make_it() {
        let errors = from_dockerfiles(&[
            ("a", "FROM b\n"),
            ("b", "FROM x\nCOPY --from=c / /\n"),
            ("c", "FROM x\nRUN --mount=from=a y\n"),
            ("below", "FROM a\n"),
            ("d", "FROM e\n"),
            ("e", "FROM d\n"),
        ])
        .unwrap_err();
        insta::assert_snapshot!(human::render(&errors, human::Screen::default()), @r"
        error: containers form a cycle: a → b → c → a
         --> a/Dockerfile:1:6
          |
        1 | FROM b
          |      ^ `a` is built from `b`
          |
         ::: b/Dockerfile:2:6
          |
        2 | COPY --from=c / /
          |      -------- `b` copies from `c`
          |
         ::: c/Dockerfile:2:5
          |
        2 | RUN --mount=from=a y
          |     -------------- `c` mounts `a`
          |
          = help: take one of these out, or move what they share to a container of its own

        error: containers form a cycle: d → e → d
         --> d/Dockerfile:1:6
          |
        1 | FROM e
          |      ^ `d` is built from `e`
          |
         ::: e/Dockerfile:1:6
          |
        1 | FROM d
          |      - `e` is built from `d`
          |
          = help: take one of these out, or move what they share to a container of its own
        ");
    }

    #[test]
    fn a_cycle_of_one_and_an_unknown_parent_are_errors() {
        let errors = needs(&[("a", &["a"]), ("b", &["nobody"])]).unwrap_err();
        insta::assert_snapshot!(human::render(&errors, human::Screen::default()), @r"
        error: `b` needs `nobody`, which is no container

        error: containers form a cycle: a → a
         |
         = note: `a` needs `a`
         = help: take one of these out, or move what they share to a container of its own
        ");
    }

    #[test]
    fn selections_grow_upwards_and_are_outdated_downwards() {
        let graph = diamond();
        assert_eq!(
            graph.order().collect::<Vec<_>>(),
            ["alone", "base", "left", "right", "app"]
        );
        assert_eq!(graph.closure(["left", "nobody"]), ["base", "left"]);
        assert_eq!(graph.closure(["app"]), ["base", "left", "right", "app"]);
        assert_eq!(graph.dependents_of(["base", "right"]), ["left", "app"]);
        assert_eq!(
            graph.parents_of("app").collect::<Vec<_>>(),
            ["left", "right"]
        );
    }

    #[test]
    fn the_height_is_the_heaviest_way_down() {
        let graph = diamond();
        let heights = graph.heights(|name| if name == "right" { 10 } else { 1 });
        let expected = [
            ("app", 1),
            ("left", 2),
            ("right", 11),
            ("alone", 1),
            ("base", 12),
        ];
        assert_eq!(heights, IndexMap::from(expected));
        assert_eq!(graph.heights(|_| u64::MAX)["base"], u64::MAX);
    }

    /// Edges between up to 12 containers, each from a greater number to a smaller one: no cycles.
    fn acyclic() -> impl Strategy<Value = Vec<(usize, usize)>> {
        let pair = (0..12_usize, 0..12_usize).prop_map(|(a, b)| (a.max(b), a.min(b)));
        prop::collection::vec(pair.prop_filter("no loops", |(a, b)| a != b), 0..40)
    }

    /// The graph of these edges (child, parent), its containers given in this order.
    fn numbered(edges: &[(usize, usize)], order: &[usize]) -> Result<Graph, Vec<Diagnostic>> {
        let node = |n: &usize| {
            let edges = edges.iter().filter(|(child, _)| child == n);
            let parents = edges.map(|(_, parent)| Edge {
                parent: parent.to_string(),
                span: None,
                kind: EdgeKind::Needs,
            });
            let parents = parents.collect();
            (n.to_string(), Node { parents })
        };
        Graph::new(order.iter().map(node).collect())
    }

    proptest! {
        #[test]
        fn parents_come_first_whatever_the_order(
            edges in acyclic(),
            order in Just((0..12).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let graph = numbered(&edges, &order).unwrap();
            let sorted: Vec<_> = graph.order().collect();
            prop_assert_eq!(sorted.len(), 12);
            let place = |n: usize| sorted.iter().position(|s| *s == n.to_string());
            let heights = graph.heights(|_| 1);
            for (child, parent) in &edges {
                prop_assert!(place(*parent) < place(*child));
                prop_assert!(heights[parent.to_string().as_str()] > heights[child.to_string().as_str()]);
            }
        }

        #[test]
        fn a_closure_holds_all_parents_and_dependents_all_children(
            edges in acyclic(),
            selected in prop::collection::vec(0..12_usize, 0..5),
        ) {
            let order: Vec<_> = (0..12).collect();
            let graph = numbered(&edges, &order).unwrap();
            let selected: Vec<_> = selected.iter().map(ToString::to_string).collect();
            let selected: Vec<_> = selected.iter().map(String::as_str).collect();
            let closure = graph.closure(selected.iter().copied());
            prop_assert!(selected.iter().all(|name| closure.contains(name)));
            for name in &closure {
                prop_assert!(graph.parents_of(name).all(|parent| closure.contains(&parent)));
            }
            let dependents = graph.dependents_of(selected.iter().copied());
            prop_assert!(selected.iter().all(|name| !dependents.contains(name)));
            for name in selected.iter().chain(&dependents) {
                prop_assert!(graph.children_of(name).all(|c| selected.contains(&c) || dependents.contains(&c)));
            }
        }

        #[test]
        fn an_edge_back_is_always_a_cycle(
            mut edges in acyclic(),
            mut ends in prop::collection::btree_set(0..12_usize, 2..6),
        ) {
            // A chain, and an edge from its end to its start.
            let first = ends.pop_first().unwrap();
            let mut last = first;
            for next in ends {
                edges.push((next, last));
                last = next;
            }
            prop_assert!(numbered(&edges, &(0..12).collect::<Vec<_>>()).is_ok());
            edges.push((first, last));
            let errors = numbered(&edges, &(0..12).collect::<Vec<_>>()).unwrap_err();
            prop_assert_eq!(errors.len(), 1);
        }
    }
}
