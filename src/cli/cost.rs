//! How long builds may take, so that the longest path is begun first: the seconds that a container took last, where the
//! channel's records say it, else a guess by the size of its contexts.

use std::collections::BTreeMap;

use super::released::Released;
use crate::cancel::CancellationToken;
use crate::context::file_id::{BlobHasher, BlobId};
use crate::context::{inputs, walk};
use crate::graph::Graph;
use crate::manifest::model::Container;
use crate::plan::Plan;

/// What a build costs whatever it sends, in milliseconds.
const START: u64 = 1_000;

/// Bytes of context that are guessed to cost a millisecond.
const BYTES: u64 = 20_000;

/// Orders the run. What is not built costs nothing.
pub(super) fn rank(plan: &mut Plan, graph: &Graph, released: Option<&Released>) {
    let mut costs: BTreeMap<String, u64> = BTreeMap::new();
    let builds = plan.containers.iter().filter(|(name, _)| plan.builds(name));
    let builds: Vec<_> = builds.collect();
    // One needs no order, and its context no walk.
    if builds.len() < 2 {
        return;
    }
    for (name, planned) in builds {
        let known = released.and_then(|released| released.milliseconds(name));
        let cost = known.unwrap_or_else(|| START + size(&planned.container) / BYTES);
        costs.insert(name.clone(), cost);
    }
    plan.rank(graph, |name| costs.get(name).copied().unwrap_or_default());
}

/// Bytes of the files that may be sent. What cannot be read counts nothing: the build will say it.
fn size(container: &Container) -> u64 {
    let mut bytes = 0_u64;
    // No file is read: what is in them does not matter here.
    let unread: BlobId = BlobHasher::new(0).finish();
    for context in inputs::contexts(container).unwrap_or_default() {
        let walked = walk::walk_here(
            &context.root,
            &context.filter(),
            &move |_, _| Some(unread),
            &CancellationToken::new(),
            |entry| {
                bytes = bytes.saturating_add(entry.size);
                Ok(())
            },
        );
        if let Err(error) = walked {
            tracing::debug!(%error, "a context whose size is not known");
        }
    }
    bytes
}
