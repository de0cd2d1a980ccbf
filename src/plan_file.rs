//! A plan as a file (`skiff plan --out FILE`): what one job found out, for the jobs that build it (`deploy --plan`) and the
//! one that promotes it (`promote --plan`).
//!
//! What must stay true: jobs that take the same plan make one release. Names, base images and keys are the plan's; where
//! the sources are not those that it was made from, nothing is done.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::key::Key;
use crate::plan::{Plan, PlannedContainer, Work};
use crate::reference::{Digest, ImageRef, Tag};

/// Version of the JSON form: fields may be added within a version.
const FORMAT: u32 = 1;

/// Largest file that is read, in bytes: a thousand containers take one.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlanFile {
    format: u32,
    pub(crate) release: Tag,
    /// The commit of the sources, marked where they differ from it.
    #[serde(default)]
    pub(crate) revision: Option<String>,
    pub(crate) channels: Vec<Tag>,
    pub(crate) channels_reason: String,
    /// Immutable tags that were asked for beside the manifest's.
    #[serde(default)]
    pub(crate) tags: Vec<Tag>,
    /// Tags were asked for containers that are not built again too.
    #[serde(default)]
    pub(crate) tag_unchanged: bool,
    /// Every container of the run, parents before children.
    pub(crate) containers: Vec<PlannedImage>,
    #[serde(default)]
    outdated: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedImage {
    pub(crate) name: String,
    /// `host/path`.
    pub(crate) repository: String,
    pub(crate) action: Action,
    /// Why it is in the run.
    pub(crate) selected: String,
    /// `false` for a parent that was not asked for.
    pub(crate) released: bool,
    after: Vec<String>,
    pub(crate) key: Option<String>,
    /// Digests of the images from outside the project, by their names in Dockerfiles.
    #[serde(default)]
    pub(crate) bases: BTreeMap<String, Digest>,
    /// Immutable tags that it is to have, the release's first; none where it is skipped and gets none.
    #[serde(default)]
    pub(crate) tags: Vec<Tag>,
    /// Why it is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Value>,
    /// The image that is kept, by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Build,
    Skip,
}

impl From<&Plan> for PlanFile {
    fn from(plan: &Plan) -> Self {
        Self {
            format: FORMAT,
            release: plan.release.clone(),
            revision: plan.revision.clone(),
            channels: plan.channels.moves.clone(),
            channels_reason: plan.channels.reason.clone(),
            tags: plan.tags.clone(),
            tag_unchanged: plan.tag_unchanged,
            containers: plan.containers.values().map(PlannedImage::from).collect(),
            outdated: plan.outdated.clone(),
        }
    }
}

impl From<&PlannedContainer> for PlannedImage {
    fn from(planned: &PlannedContainer) -> Self {
        let repository = &planned.container.repository;
        let (action, reason, image) = match &planned.work {
            Work::Build(reason) => (Action::Build, serde_json::to_value(reason).ok(), None),
            Work::Keep(manifest) => {
                let image = repository.digest(&manifest.digest).to_string();
                (Action::Skip, None, Some(image))
            }
        };
        let tags = planned.immutable_tags().into_iter().cloned();
        Self {
            name: planned.container.name.clone(),
            repository: repository.to_string(),
            action,
            selected: planned.reason.clone(),
            released: planned.released,
            after: planned.parents.clone(),
            key: planned.keyed.key.as_ref().map(Key::to_string),
            bases: planned.keyed.inputs.images(),
            tags: if planned.released {
                tags.collect()
            } else {
                vec![]
            },
            reason,
            image,
        }
    }
}

impl PlanFile {
    /// Reads what `plan --out` wrote.
    pub(crate) fn read(path: &Path) -> Result<Self, Diagnostic> {
        let shown = path.display();
        let help = "make it anew: `skiff plan --out FILE`";
        let size = std::fs::metadata(path).map(|file| file.len());
        let text = size.and_then(|size| match size {
            0..=MAX_BYTES => std::fs::read_to_string(path),
            _ => Err(std::io::Error::other("it is too large to be a plan")),
        });
        let text = text.map_err(|error| {
            Diagnostic::error(format!("the plan {shown} cannot be read: {error}")).help(help)
        })?;
        let wrong = |why: String| {
            Diagnostic::error(format!("{shown} is no plan that this skiff can use: {why}"))
                .help(help)
        };
        let value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(wrong(format!("its format is {format}, not {FORMAT}"))),
            None => return Err(wrong("it has no format".to_owned())),
        }
        serde_json::from_value(value).map_err(|error| wrong(error.to_string()))
    }

    /// The containers that it releases.
    pub(crate) fn released(&self) -> impl Iterator<Item = &PlannedImage> {
        self.containers.iter().filter(|planned| planned.released)
    }

    /// The digests that base images had, by their names in full.
    pub(crate) fn bases(&self) -> BTreeMap<String, Digest> {
        let bases = self.containers.iter().flat_map(|planned| &planned.bases);
        let full = |(name, digest): (&String, &Digest)| {
            let image: ImageRef = name.parse().ok()?;
            Some((image.to_string(), digest.clone()))
        };
        bases.filter_map(full).collect()
    }

    /// What of a plan that was made here is not what this file says; nothing: the sources are the same.
    pub(crate) fn differences(&self, plan: &Plan) -> Vec<Diagnostic> {
        let help =
            "check out what the plan was made from, or make it anew: `skiff plan --out FILE`";
        if self.revision != plan.revision {
            let shown = |revision: &Option<String>| match revision {
                Some(revision) => revision.clone(),
                None => "no commit".to_owned(),
            };
            let (theirs, here) = (shown(&self.revision), shown(&plan.revision));
            let title = format!("the plan is of {theirs}, and this is {here}");
            return vec![Diagnostic::error(title).help(help)];
        }
        let differs = |(name, planned): (&String, &PlannedContainer)| {
            let theirs = self.containers.iter().find(|other| other.name == *name)?;
            let here = planned.keyed.key.as_ref().map(Key::as_str);
            if theirs.key.as_deref() == here {
                return None;
            }
            let title = format!("`{name}` is not what it was when the plan was made");
            let shown = |key: Option<&str>| key.unwrap_or("none").to_owned();
            let note = format!(
                "its key was {}, and is {}",
                shown(theirs.key.as_deref()),
                shown(here)
            );
            Some(Diagnostic::error(title).note(note).help(help))
        };
        plan.containers.iter().filter_map(differs).collect()
    }
}
