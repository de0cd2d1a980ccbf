//! Keys for a command: from what was asked for to a plan that says what is to be built.

use super::request::DeployRequest;
use crate::changes::git::Checkout;
use crate::changes::index::Index;
use crate::clock;
use crate::diagnostic::Diagnostic;
use crate::engine;
use crate::plan::Plan;
use crate::project::Project;
use crate::registry::Client;
use crate::resolve::{self, Settings};

/// Settles what of a plan is to be built. Returns what there is to say.
pub(super) async fn settle(
    plan: &mut Plan,
    project: &Project,
    request: &DeployRequest,
    registry: &Client,
) -> Result<Vec<Diagnostic>, Diagnostic> {
    let checkout = Checkout::find(&project.manifest.root)
        .map_err(|error| Diagnostic::error(error.to_string()).help(error.help()))?;
    let read = tokio::task::spawn_blocking(move || checkout.map(|checkout| Index::read(&checkout)));
    let index = read.await.ok().flatten().unwrap_or_default();
    let now = clock::timestamp();
    // What is only in the registry cannot be loaded by a builder that does not build it.
    let build_anyway = match (request.output.push, request.output.load) {
        (false, _) => Some("--no-push"),
        (true, true) => Some("--load"),
        (true, false) => None,
    };
    let settings = Settings {
        build_anyway,
        no_cache: request
            .no_cache
            .then(|| now.strftime("%Y%m%dT%H%M%S%3fZ").to_string()),
        index,
        attributes: engine::attributes,
        now: u64::try_from(now.as_second()).unwrap_or_default(),
    };
    Ok(resolve::settle(plan, project, registry, settings).await)
}
