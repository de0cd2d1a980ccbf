//! The end of a run: a table of what stands where, and what to do next.

use std::fmt::Write as _;

use super::output::{seconds, table, table_within};
use crate::engine::outcome::{ChannelOutcome, ContainerStatus, Promotion, RunOutcome};
use crate::plan::Plan;
use crate::reference::Tag;
use crate::release::converge::Verdict;
use crate::release::standing::Relation;

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
    for (container, mount) in &outcome.mounts_left {
        let _ = write!(
            text,
            "\nthe cache mount {mount} of {container} is left alone, as it never saved time"
        );
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
        Promotion::NotDue(reason) => {
            format!("done in {took}: {made}, release {release}; {reason}")
        }
        Promotion::Failed(reasons) => format!(
            "built and pushed as {release} in {took}, but not every tag could be set:\n  {}\n\
             the images are complete, no channel moved; {RETRY}",
            reasons.join("\n  ")
        ),
        Promotion::Channels(channels) => {
            let good = channels.iter().all(|(_, ended)| ended.is_good());
            let lines = channels
                .iter()
                .map(|(channel, ended)| channel_line(channel, ended, release));
            let lines: Vec<String> = lines.collect();
            if good {
                format!(
                    "done in {took}: {made}, release {release}; {}",
                    lines.join("; ")
                )
            } else {
                format!(
                    "built and pushed as {release} in {took}, but not promoted as was due:\n  {}\n\
                     the images are complete and recorded; {RETRY}",
                    lines.join("\n  ")
                )
            }
        }
    }
}

/// What became of one channel, with the next command where there is one.
pub(crate) fn channel_line(channel: &Tag, ended: &ChannelOutcome, release: &Tag) -> String {
    match ended {
        ChannelOutcome::Ended(verdict) => verdict_line(channel, verdict, release),
        ChannelOutcome::Failed(reasons) => {
            format!("{channel} did not move: {}", reasons.join("; "))
        }
    }
}

fn verdict_line(channel: &Tag, verdict: &Verdict, release: &Tag) -> String {
    match verdict {
        Verdict::Moved => format!("{channel} moved for the whole set"),
        Verdict::Unchanged => format!("{channel} stands on this commit already"),
        Verdict::Superseded { by, commit } => {
            let of = commit.as_ref().map_or(String::new(), |commit| {
                format!(" of commit {}", short(commit))
            });
            format!("{channel} stays on release {by}{of}, which is newer")
        }
        Verdict::Held {
            release: at,
            reason,
        } => {
            let at = at.as_ref().map_or("where it is", Tag::as_str);
            let why = reason
                .as_ref()
                .map_or(String::new(), |why| format!(" ({why})"));
            format!(
                "{channel} is held at {at}{why} and did not move; `skiff promote {release} --channel {channel}` ends the hold"
            )
        }
        Verdict::Stayed {
            container,
            stands,
            relation,
            unfetched,
        } => {
            let on = format!(
                "{container} stands on release {} of commit {}",
                stands.release,
                stands.commit.as_deref().map_or("unknown", short)
            );
            match relation {
                Relation::Diverged => format!(
                    "{channel} stays: {on}, which is on another line of history; merge or rebase, or --force-promote"
                ),
                Relation::Unknown => {
                    let why = unfetched.as_ref().map_or(String::new(), |why| {
                        format!(" ({})", why.replace('\n', "; "))
                    });
                    format!(
                        "{channel} stays: {on}, and git has not the history to tell which is newer{why}; fetch it \
                         (`git fetch --unshallow`; in CI: the full depth), or --force-promote"
                    )
                }
                _ => format!("{channel} stays: it was moved by hand meanwhile, and {on}"),
            }
        }
    }
}

/// A commit for people.
fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
