//! What differs between the sources of a container and its published image.

use serde_json::json;

use crate::key::inputs::Change;
use crate::key::reason::{FileChange, is_files};
use crate::key::{BuildReason, Key};
use crate::plan::{PlannedContainer, Work};

/// Digits of an id that people compare.
const SHORT: usize = 12;

/// The inputs that are not what they were, as far as they are known; `None`: nothing published says what it was made from.
fn changes(planned: &PlannedContainer) -> Option<Vec<Change>> {
    let old = planned.published.as_ref()?.inputs.as_ref()?;
    let mut changes = planned.keyed.inputs.changes_from(old);
    changes.retain(|change| !planned.keyed.lacks(&change.input));
    Some(changes)
}

fn files(planned: &PlannedContainer) -> &[FileChange] {
    planned
        .published
        .as_ref()
        .map_or(&[], |published| published.files.as_slice())
}

pub(crate) fn human(planned: &PlannedContainer) -> String {
    let name = &planned.container.name;
    let mut lines = vec![match &planned.work {
        Work::Build(BuildReason::Changed { .. }) => {
            format!("{name} will be built: its sources differ from the published image")
        }
        Work::Build(reason) => format!("{name} will be built: {reason}"),
        Work::Keep(manifest) => format!(
            "{name} will not be built: {} has the same key",
            planned.container.repository.digest(&manifest.digest)
        ),
    }];
    if let Some(revision) = planned.published.as_ref().and_then(|p| p.revision.as_ref()) {
        lines.push(format!("published from commit {}", short(revision)));
    }
    match changes(planned) {
        Some(changes) if changes.is_empty() => {
            lines.push("the published image was made from the same inputs".to_owned());
        }
        Some(changes) => {
            let files = files(planned);
            for file in files {
                lines.push(format!("  file      {}{}", file.path, ids(file)));
            }
            for change in &changes {
                // Those that files have said already.
                if files.is_empty() || !is_files(&change.input) {
                    lines.push(format!("  {}", line(change)));
                }
            }
        }
        None => {}
    }
    if let Some(key) = &planned.keyed.key {
        lines.push(format!("key {key}"));
    }
    lines.join("\n")
}

fn ids(file: &FileChange) -> String {
    match (&file.old, &file.new) {
        (Some(old), Some(new)) => format!(" {} → {}", short(old), short(new)),
        (Some(old), None) => format!(" {} → not committed, or gone", short(old)),
        (None, Some(new)) => format!(" new {}", short(new)),
        (None, None) => " new, not committed".to_owned(),
    }
}

fn line(change: &Change) -> String {
    let value = |value: &Option<String>| match value {
        Some(value) => short(value.strip_prefix("sha256:").unwrap_or(value)).to_owned(),
        None => "none".to_owned(),
    };
    let (kind, name) = change.input.split_once(':').unwrap_or((&change.input, ""));
    let hashed = matches!(kind, "arg" | "label");
    let note = if hashed { " (hashes)" } else { "" };
    format!(
        "{kind:<9} {name}{}{} → {}{note}",
        if name.is_empty() { "" } else { " " },
        value(&change.old),
        value(&change.new)
    )
}

/// A hash's first digits; what is no hash stays whole.
fn short(text: &str) -> &str {
    let is_hash = text.len() >= 40 && text.bytes().take(40).all(|byte| byte.is_ascii_hexdigit());
    if is_hash {
        text.get(..SHORT).unwrap_or(text)
    } else {
        text
    }
}

pub(crate) fn json(planned: &PlannedContainer) -> String {
    let mut value = json!({
        "name": planned.container.name,
        "action": match planned.work { Work::Build(_) => "build", Work::Keep(_) => "skip" },
        "key": planned.keyed.key.as_ref().map(Key::as_str),
        "published_revision": planned.published.as_ref().and_then(|p| p.revision.as_ref()),
        "inputs": changes(planned),
        "files": files(planned),
    });
    if let Work::Build(reason) = &planned.work {
        value["reason"] = json!(reason);
    }
    format!("{value:#}\n")
}
