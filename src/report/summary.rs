//! The end of a run: a table of what stands where, and what to do next.

use super::output::{seconds, table, table_within};
use crate::engine::outcome::{ContainerStatus, Promotion, RunOutcome};
use crate::plan::Plan;

/// The table, one row a container. On a terminal of so many columns it loses tags rather than its shape.
pub(crate) fn rows(outcome: &RunOutcome, columns: Option<usize>) -> String {
    const TAGS: usize = 3;
    let header = ["CONTAINER", "STATUS", "DIGEST", "TAGS", "CACHED", "TIME"]
        .map(str::to_owned)
        .to_vec();
    let row = |(name, container): (&String, &crate::engine::outcome::ContainerOutcome)| {
        let status = match container.status {
            ContainerStatus::Built => "built",
            ContainerStatus::Skipped => "skipped",
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
    match columns {
        Some(columns) => table_within(rows, columns, TAGS),
        None => table(&rows),
    }
}

/// The last lines: what stands where, whether a retry is safe, the next command.
pub(crate) fn footer(outcome: &RunOutcome, plan: &Plan) -> String {
    let mut text = ending(outcome, plan);
    if !plan.outdated.is_empty() {
        text.push_str(
            "\noutdated, as a container they are built from is in this run and they are not: ",
        );
        text.push_str(&plan.outdated.join(", "));
    }
    text
}

/// What became of the containers of a run that went well.
fn made(outcome: &RunOutcome) -> String {
    let count = |status| {
        let containers = outcome.containers.values();
        containers.filter(|c| c.status == status).count()
    };
    let (built, skipped) = (
        count(ContainerStatus::Built),
        count(ContainerStatus::Skipped),
    );
    match (built, skipped) {
        (built, 0) => format!("{built} built"),
        (0, skipped) => format!("{skipped} unchanged"),
        (built, skipped) => format!("{built} built, {skipped} unchanged"),
    }
}

fn ending(outcome: &RunOutcome, plan: &Plan) -> String {
    const RETRY: &str = "running the same command again is safe";
    let took = seconds(outcome.seconds);
    let containers = outcome.containers.values();
    let built = containers.filter(|c| c.status.is_good()).count();
    let all = outcome.containers.len();
    let made = made(outcome);
    let release = &plan.release;
    match &outcome.promotion {
        Promotion::Interrupted => format!(
            "interrupted after {took}: {built} of {all} built, the others cancelled on the builder, no channel moved; {RETRY}"
        ),
        _ if built < all => {
            format!(
                "failed in {took}: {built} of {all} built and pushed as {release}, no channel moved; {RETRY}"
            )
        }
        Promotion::Done => {
            let channels = plan
                .channels
                .moves
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            let channels = channels.join(", ");
            format!("done in {took}: {made}, release {release}, {channels} moved for the whole set")
        }
        Promotion::NotDue(reason) => {
            format!("done in {took}: {made}, release {release}; {reason}")
        }
        Promotion::Failed(tags) => format!(
            "built and pushed as {release} in {took}, but not every tag could be set:\n  {}\n\
             the images are complete; {RETRY}",
            tags.join("\n  ")
        ),
    }
}
