//! The end of a run: a table of what stands where, and what to do next.

use super::output::{seconds, table};
use crate::engine::outcome::{ContainerStatus, Promotion, RunOutcome};
use crate::plan::Plan;

/// The table, one row a container.
pub(crate) fn rows(outcome: &RunOutcome) -> String {
    let header = ["CONTAINER", "STATUS", "DIGEST", "TAGS", "CACHED", "TIME"]
        .map(str::to_owned)
        .to_vec();
    let row = |(name, container): (&String, &crate::engine::outcome::ContainerOutcome)| {
        let status = match container.status {
            ContainerStatus::Built => "built",
            ContainerStatus::Failed => "failed",
            ContainerStatus::Cancelled => "cancelled",
        };
        vec![
            name.clone(),
            status.to_owned(),
            container
                .digest
                .as_ref()
                .map_or("-".into(), |digest| digest.short().to_owned()),
            match container.tags.as_slice() {
                [] => "-".into(),
                tags => tags
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            },
            format!("{}/{}", container.cached_steps, container.total_steps),
            seconds(container.seconds),
        ]
    };
    let rows: Vec<_> = std::iter::once(header)
        .chain(outcome.containers.iter().map(row))
        .collect();
    table(&rows)
}

/// The last lines: what stands where, whether a retry is safe, the next command.
pub(crate) fn footer(outcome: &RunOutcome, plan: &Plan) -> String {
    let took = seconds(outcome.seconds);
    let built = outcome
        .containers
        .values()
        .filter(|c| c.status == ContainerStatus::Built)
        .count();
    let all = outcome.containers.len();
    let retry = "running the same command again is safe";
    if outcome.interrupted {
        return format!(
            "interrupted after {took}: {built} of {all} built, no channel moved, nothing runs on the builder; {retry}"
        );
    }
    if built < all {
        return format!(
            "failed in {took}: {built} of {all} built and pushed as {}, no channel moved; {retry}",
            plan.release
        );
    }
    match &outcome.promotion {
        Promotion::Done => {
            let channels = plan
                .channels
                .moves
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            format!(
                "done in {took}: {all} built, release {}, {channels} moved for the whole set",
                plan.release
            )
        }
        Promotion::NotDue(reason) => format!(
            "done in {took}: {all} built, release {}; {reason}",
            plan.release
        ),
        Promotion::Failed(tags) => {
            let mut text = format!(
                "built and pushed as {} in {took}, but not every tag could be set:",
                plan.release
            );
            for tag in tags {
                text.push_str("\n  ");
                text.push_str(tag);
            }
            text.push_str("\nthe images are complete; ");
            text.push_str(retry);
            text
        }
    }
}
