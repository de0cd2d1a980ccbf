//! Releases and channels for people and for scripts.

use indexmap::IndexMap;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::output::table;
use crate::clock;
use crate::reference::{Digest, Tag};
use crate::release::record::{Deed, Placed, Record};
use crate::release::standing::Standing;

/// A channel as it stands, by the records and by its tags.
pub(crate) struct ChannelStatus {
    pub standing: Standing,
    /// When what stands there was recorded.
    pub since: Option<Timestamp>,
    /// Records that nobody has acted on yet: the next run does.
    pub pending: bool,
    /// Where a tag stands on something else than the records say.
    pub drift: IndexMap<String, Drift>,
}

/// A tag that is not where it should be.
pub(crate) struct Drift {
    /// What it stands on.
    pub stands: Option<Digest>,
    /// The image that it should stand on is gone.
    pub expired: bool,
}

/// What `promote` and `rollback` are about to do.
pub(crate) fn moves(
    standing: &Standing,
    to: &IndexMap<String, Placed>,
    stays: &[String],
) -> String {
    let mut rows = vec![header(&["CONTAINER", "FROM", "TO", "DIGEST"])];
    for (name, placed) in to {
        let from = standing.containers.get(name);
        let same = from.is_some_and(|from| from.digest == placed.digest);
        rows.push(vec![
            name.clone(),
            from.map_or("-".into(), |from| from.release.to_string()),
            placed.release.to_string(),
            format!(
                "{}{}",
                placed.digest.short(),
                if same { " (the same)" } else { "" }
            ),
        ]);
    }
    let mut text = table(&rows);
    if !stays.is_empty() {
        text += "\nthese stay where they are, as nothing older is known of them: ";
        text += &stays.join(", ");
    }
    text
}

/// `skiff status`.
pub(crate) fn status(channels: &[ChannelStatus]) -> String {
    let texts: Vec<String> = channels.iter().map(channel).collect();
    texts.join("\n\n")
}

fn channel(status: &ChannelStatus) -> String {
    let standing = &status.standing;
    let name = &standing.channel;
    if standing.containers.is_empty() {
        return format!("{name}: skiff has not moved it yet");
    }
    let mut title = format!(
        "{name}: release {}",
        standing.release.as_ref().map_or("-", Tag::as_str)
    );
    if let Some(commit) = standing.commit() {
        title += ", commit ";
        title += short(commit);
        if standing.is_dirty() {
            title += "-dirty";
        }
    }
    if let Some(since) = status.since {
        title = format!("{title}, {} old", age(since));
    }
    if let Some(hold) = &standing.hold {
        let by = hold
            .actor
            .as_ref()
            .map_or(String::new(), |actor| format!(" by {actor}"));
        let why = hold
            .reason
            .as_ref()
            .map_or(String::new(), |why| format!(": {why}"));
        let time = age(hold.since);
        title = format!("{title}\nheld for {time}{by}{why}; `skiff promote RELEASE` ends it");
    }
    if status.pending {
        title.push_str("\na run has not finished moving it: the next run does");
    }
    let mut rows = vec![header(&["CONTAINER", "DIGEST", "RELEASE", "AGE", "TAG"])];
    for (container, placed) in &standing.containers {
        let tag = match status.drift.get(container) {
            None => "as recorded".to_owned(),
            Some(drift) => {
                let stands = drift.stands.as_ref().map_or("nothing", Digest::short);
                let gone = if drift.expired {
                    "; the recorded image is gone"
                } else {
                    ""
                };
                format!("DRIFTED: on {stands}{gone}")
            }
        };
        rows.push(vec![
            container.clone(),
            placed.digest.short().to_owned(),
            if placed.dirty {
                format!("{} (dirty)", placed.release)
            } else {
                placed.release.to_string()
            },
            age(placed.created),
            tag,
        ]);
    }
    format!("{title}\n{}", table(&rows))
}

/// `skiff status --format json`.
pub(crate) fn status_json(channels: &[ChannelStatus]) -> String {
    let members = channels.iter().map(|status| {
        let standing = &status.standing;
        let containers = standing.containers.iter().map(|(name, placed)| {
            let drift = status.drift.get(name);
            let value = json!({
                "image": placed.repository.digest(&placed.digest).to_string(),
                "digest": placed.digest,
                "release": placed.release,
                "commit": placed.commit,
                "dirty": placed.dirty,
                "key": placed.key,
                "since": placed.created,
                "age_seconds": seconds_since(placed.created),
                "drift": drift.map(|drift| json!({"stands": drift.stands, "expired": drift.expired})),
            });
            (name.clone(), value)
        });
        let value = json!({
            "release": standing.release,
            "commit": standing.commit(),
            "dirty": standing.is_dirty(),
            "since": status.since,
            "age_seconds": status.since.map(seconds_since),
            "hold": standing.hold,
            "pending": status.pending,
            "containers": containers.collect::<Map<_, _>>(),
        });
        (standing.channel.to_string(), value)
    });
    let channels = members.collect::<Map<_, _>>();
    format!("{:#}", json!({"channels": channels}))
}

/// `skiff releases`: newest first. `stands`: the channels that stand on a release now.
pub(crate) fn list(records: &[(Tag, Record)], stands: &IndexMap<Tag, Vec<Tag>>) -> String {
    if records.is_empty() {
        return "no releases yet".to_owned();
    }
    let mut rows = vec![header(&[
        "RELEASE",
        "WHAT",
        "AGE",
        "COMMIT",
        "BRANCH",
        "BY",
        "CONTAINERS",
        "CHANNELS",
        "REASON",
    ])];
    for (tag, record) in records {
        let (what, containers) = match &record.deed {
            Deed::Release { containers, .. } => ("release", containers.len()),
            Deed::Promotion { containers, .. } => ("promotion", containers.len()),
            Deed::Rollback { containers, .. } => ("rollback", containers.len()),
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let channels = stands.get(tag).map_or("-".into(), |channels| {
            channels
                .iter()
                .map(Tag::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        });
        let dirty = if record.dirty { "-dirty" } else { "" };
        rows.push(vec![
            record.release.to_string(),
            what.to_owned(),
            age(record.created),
            record
                .commit
                .as_deref()
                .map_or("-".into(), |commit| format!("{}{dirty}", short(commit))),
            text(&record.branch),
            text(&record.actor),
            containers.to_string(),
            channels,
            text(&record.reason),
        ]);
    }
    table(&rows)
}

/// `skiff releases --format json`: the records as they were written, each with its tag.
pub(crate) fn list_json(records: &[(Tag, Record)], stands: &IndexMap<Tag, Vec<Tag>>) -> String {
    let values = records.iter().map(|(tag, record)| {
        // A record is plain data: serialising it cannot fail.
        let mut value = serde_json::to_value(record).unwrap_or_default();
        if let Value::Object(members) = &mut value {
            members.insert("record".into(), json!(tag));
            members.insert(
                "stands".into(),
                json!(stands.get(tag).cloned().unwrap_or_default()),
            );
        }
        value
    });
    format!("{:#}", json!({"releases": values.collect::<Vec<_>>()}))
}

pub(super) fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

pub(super) fn seconds_since(time: Timestamp) -> i64 {
    clock::timestamp().duration_since(time).as_secs().max(0)
}

/// How long ago, for people; clocks differ, so the future is now.
pub(super) fn age(time: Timestamp) -> String {
    match seconds_since(time) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    }
}
