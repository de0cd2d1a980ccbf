//! The metadata file: what became of each container, for scripts.

use serde_json::{Map, Value, json};

use crate::engine::outcome::{ContainerOutcome, RunOutcome};
use crate::plan::Plan;
use crate::reference::Tag;

/// One object, a member a container, in the order of the run.
pub(crate) fn render(outcome: &RunOutcome, plan: &Plan) -> String {
    let members = outcome.containers.iter().filter_map(|(name, container)| {
        let planned = plan.containers.get(name)?;
        let image = |digest| planned.container.repository.digest(digest).to_string();
        let digest = container.digest.as_ref();
        let (channels, tags) = split(container, plan);
        let value = json!({
            "image": digest.map(image),
            "containerimage.digest": digest,
            "tags": tags,
            "key": planned.keyed.key.as_ref().map(crate::key::Key::as_str),
            "release": planned.released.then_some(&plan.release),
            "status": container.status,
            "channels": channels,
        });
        Some((name.clone(), value))
    });
    let object = Value::Object(members.collect::<Map<_, _>>());
    format!("{object:#}\n")
}

/// The channels among a container's tags, and the others.
fn split<'a>(container: &'a ContainerOutcome, plan: &Plan) -> (Vec<&'a Tag>, Vec<&'a Tag>) {
    container
        .tags
        .iter()
        .partition(|tag| plan.channels.moves.contains(tag))
}
