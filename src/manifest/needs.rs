//! `needs`: every name exists, none is the container itself, and none goes in a circle.
//!
//! Only what the manifest writes: circles through a Dockerfile's FROM are found when the graph is made.

use std::collections::HashSet;

use indexmap::IndexMap;

use super::MAX_SHOWN;
use super::document::Said;
use crate::diagnostic::{Diagnostic, Span, nearest};

/// Containers with the needs that are written for them.
pub(super) type Needs = IndexMap<String, Vec<Said<String>>>;

/// All that is wrong with them. `known` are all names, those of containers with other errors too.
pub(super) fn check(
    needs: &Needs,
    known: &[&str],
    span: &dyn Fn(&Said<String>) -> Span,
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    // One in the defaults is every container's: once is enough.
    let mut seen = HashSet::new();
    let names: HashSet<&str> = known.iter().copied().collect();
    for (name, wanted) in needs {
        for need in wanted {
            let wrong = need.get_ref().as_str();
            if wrong == name {
                diagnostics.push(
                    Diagnostic::error(format!("container `{name}` needs itself"))
                        .at(span(need), "")
                        .help("leave it out"),
                );
            } else if !names.contains(wrong) && seen.insert(need.span().start) {
                let title = format!("container `{name}` needs `{wrong}`, which does not exist");
                let diagnostic = Diagnostic::error(title).at(span(need), "no such container");
                // What was meant is looked for among all names: only where somebody will read it.
                let meant = (diagnostics.len() < MAX_SHOWN)
                    .then(|| nearest(wrong, known.iter().copied()))
                    .flatten();
                diagnostics.push(diagnostic.help(match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the containers: {}", some_of(known)),
                }));
            }
        }
    }
    diagnostics.extend(
        circles(needs)
            .iter()
            .map(|edges| circle(needs, edges, span)),
    );
    diagnostics
}

fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

/// An edge: the container, and which of its needs.
type Edge = (usize, usize);

#[derive(Clone, Copy, PartialEq)]
enum State {
    Unseen,
    /// Above us on the way down.
    Open,
    Done,
}

/// Depth first, without recursion (a manifest may chain any number of containers): an edge to a container that is still
/// open closes a circle.
fn circles(needs: &Needs) -> Vec<Vec<Edge>> {
    let mut found = Vec::new();
    let mut states = vec![State::Unseen; needs.len()];
    for start in 0..needs.len() {
        if states[start] != State::Unseen {
            continue;
        }
        states[start] = State::Open;
        let mut way: Vec<Edge> = vec![(start, 0)];
        while let Some((node, next)) = way.last_mut() {
            let node = *node;
            let Some(need) = needs[node].get(*next) else {
                states[node] = State::Done;
                way.pop();
                continue;
            };
            *next += 1;
            let target = needs.get_index_of(need.get_ref().as_str());
            let Some(target) = target.filter(|t| *t != node) else {
                continue;
            };
            match states[target] {
                State::Unseen => {
                    states[target] = State::Open;
                    way.push((target, 0));
                }
                State::Open => {
                    let from = way.iter().position(|(n, _)| *n == target).unwrap_or(0);
                    // `next` is past the edge that was taken.
                    found.push(way[from..].iter().map(|(n, next)| (*n, next - 1)).collect());
                }
                State::Done => {}
            }
        }
    }
    found
}

fn circle(needs: &Needs, edges: &[Edge], span: &dyn Fn(&Said<String>) -> Span) -> Diagnostic {
    let name = |(node, _): &Edge| Some(needs.get_index(*node)?.0.as_str());
    let mut names: Vec<&str> = edges.iter().filter_map(name).collect();
    names.extend(names.first().copied());
    let title = format!("`needs` goes in a circle: {}", names.join(" -> "));
    let mut diagnostic = Diagnostic::error(title).help("take one of these out");
    for (index, (node, next)) in edges.iter().enumerate() {
        let label = format!("`{}` needs `{}`", names[index], names[index + 1]);
        let place = span(&needs[*node][*next]);
        diagnostic = if index == 0 {
            diagnostic.at(place, label)
        } else {
            diagnostic.see(place, label)
        };
    }
    diagnostic
}
