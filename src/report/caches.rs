//! Caches for people and for scripts. The JSON's shape is part of the contract: members are added, never changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::output::{bytes, seconds, table};
use super::releases::{age, header, seconds_since};
use crate::cache::prune::Pruned;
use crate::cache::stored::{Content, Place, StoredCache, total};
use crate::reference::{ImageRef, Tag};

/// `skiff cache ls`.
pub(crate) fn list(caches: &[StoredCache]) -> String {
    if caches.is_empty() {
        return "no caches".to_owned();
    }
    format!(
        "{}\n\n{}",
        rows(caches),
        sum(caches.len(), total(caches.iter()))
    )
}

fn sum(count: usize, size: u64) -> String {
    let caches = if count == 1 { "cache" } else { "caches" };
    format!(
        "{count} {caches}, {}: what several have is counted once",
        bytes(size)
    )
}

fn rows(caches: &[StoredCache]) -> String {
    let mut rows = vec![header(&[
        "KIND",
        "CONTAINER",
        "OF",
        "SIZE",
        "AGE",
        "LAST USED",
        "STEP WITHOUT",
        "TAG",
    ])];
    for cache in caches {
        let (of, cold) = match &cache.content {
            Content::Build { .. } => {
                let branch = cache.owner.branch.clone();
                (branch.unwrap_or_else(|| "channels".into()), None)
            }
            Content::Mount { id, cold, .. } => (id.clone(), *cold),
        };
        rows.push(vec![
            cache.content.kind().to_owned(),
            container(cache),
            of,
            bytes(cache.size()),
            cache.written().map_or("-".into(), age),
            cache.times.pulled.map_or("-".into(), age),
            cold.map_or("-".into(), seconds),
            cache.place.to_string(),
        ]);
    }
    table(&rows)
}

fn container(cache: &StoredCache) -> String {
    match cache.owner.containers.as_slice() {
        [] => "-".to_owned(),
        names => names.join(", "),
    }
}

/// `skiff cache ls --format json`.
pub(crate) fn list_json(caches: &[StoredCache]) -> String {
    let values: Vec<Value> = caches.iter().map(value).collect();
    format!("{:#}", json!({"caches": values, "bytes": total(caches)}))
}

fn value(cache: &StoredCache) -> Value {
    let (mount, cold) = match &cache.content {
        Content::Build { .. } => (None, None),
        Content::Mount { id, cold, .. } => (Some(id), *cold),
    };
    json!({
        "kind": cache.content.kind(),
        "reference": cache.place.to_string(),
        "digest": cache.digest,
        "containers": cache.owner.containers,
        "branch": cache.owner.branch,
        "mount": mount,
        "in_use": cache.owner.in_use,
        "bytes": cache.size(),
        "written": cache.written(),
        "age_seconds": cache.written().map(seconds_since),
        "last_used": cache.times.pulled,
        "seconds_without": cold,
    })
}

/// By container and kind.
fn groups(caches: &[StoredCache]) -> BTreeMap<(String, &'static str), Vec<&StoredCache>> {
    let mut groups: BTreeMap<_, Vec<&StoredCache>> = BTreeMap::new();
    for cache in caches {
        let key = (container(cache), cache.content.kind());
        groups.entry(key).or_default().push(cache);
    }
    groups
}

/// `skiff cache du`.
pub(crate) fn usage(caches: &[StoredCache]) -> String {
    if caches.is_empty() {
        return "no caches".to_owned();
    }
    let mut rows = vec![header(&["CONTAINER", "KIND", "CACHES", "SIZE"])];
    for ((container, kind), caches) in groups(caches) {
        rows.push(vec![
            container,
            kind.to_owned(),
            caches.len().to_string(),
            bytes(total(caches.into_iter())),
        ]);
    }
    format!("{}\n\n{}", table(&rows), sum(caches.len(), total(caches)))
}

/// `skiff cache du --format json`.
pub(crate) fn usage_json(caches: &[StoredCache]) -> String {
    let rows = groups(caches)
        .into_iter()
        .map(|((_, kind), caches)| {
            json!({
                "containers": caches[0].owner.containers,
                "kind": kind,
                "caches": caches.len(),
                "bytes": total(caches.iter().copied()),
            })
        })
        .collect::<Vec<_>>();
    let all = json!({"usage": rows, "caches": caches.len(), "bytes": total(caches)});
    format!("{all:#}")
}

/// What `skiff cache prune` is about to delete, and what not.
pub(crate) struct Plan<'a> {
    pub(crate) goes: &'a [StoredCache],
    /// What fits, and goes with `--all` only.
    pub(crate) spared: &'a [StoredCache],
    /// What fits, with the other tags on the same content, which would go with it.
    pub(crate) shielded: &'a [(StoredCache, Vec<Tag>)],
    /// Bytes that no cache that stays needs.
    pub(crate) frees: u64,
}

impl Plan<'_> {
    pub(crate) fn human(&self) -> String {
        let mut text = String::new();
        if !self.goes.is_empty() {
            text += &rows(self.goes);
            text += "\n\n";
        }
        for (cache, tags) in self.shielded {
            let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
            let _ = writeln!(
                text,
                "{} stays: {} has the same content, and would go with it",
                cache.place,
                tags.join(", ")
            );
        }
        if !self.spared.is_empty() {
            let names: Vec<_> = self.spared.iter().map(|c| c.place.to_string()).collect();
            let _ = writeln!(
                text,
                "{} would go with --all only: in use, or of no container of this manifest",
                names.join(", ")
            );
        }
        text
    }

    /// The last line of a dry run.
    pub(crate) fn would(&self) -> String {
        match self.goes.len() {
            0 => "nothing would be deleted".to_owned(),
            count => format!(
                "{count} would be deleted, up to {}; nothing was",
                bytes(self.frees)
            ),
        }
    }

    pub(crate) fn json(&self, pruned: Option<&Pruned>) -> String {
        let list = |caches: &[StoredCache]| caches.iter().map(value).collect::<Vec<_>>();
        let shielded = self.shielded.iter().map(|(cache, tags)| {
            json!({"reference": cache.place.to_string(), "digest": cache.digest, "tags": tags})
        });
        let moved = pruned.map(|pruned| {
            let moved = pruned.moved.iter().map(ToString::to_string);
            moved.collect::<Vec<_>>()
        });
        let all = json!({
            "dry_run": pruned.is_none(),
            "deleted": list(pruned.map_or(self.goes, |pruned| pruned.deleted.as_slice())),
            "spared": list(self.spared),
            "shielded": shielded.collect::<Vec<_>>(),
            "moved": moved.unwrap_or_default(),
            "bytes": self.frees,
        });
        format!("{all:#}")
    }
}

/// The last lines of `skiff cache prune`. `at_once`: whether the registry of a cache frees the room by itself.
pub(crate) fn pruned(pruned: &Pruned, frees: u64, at_once: impl Fn(&ImageRef) -> bool) -> String {
    if pruned.deleted.is_empty() && pruned.moved.is_empty() && pruned.failed.is_empty() {
        return "nothing to delete".to_owned();
    }
    let mut text = format!("{} deleted, up to {}", pruned.deleted.len(), bytes(frees));
    let places = || pruned.deleted.iter().map(|cache| &cache.place);
    if places()
        .filter_map(Place::image)
        .any(|image| !at_once(image))
    {
        text += "; the registry frees the room when it collects its garbage";
    }
    if places().any(|place| matches!(place, Place::S3(_))) {
        text += "; of the bucket, its lifecycle rule frees the room";
    }
    for image in &pruned.moved {
        let _ = write!(text, "\n{image} was written meanwhile, and stays");
    }
    text
}
