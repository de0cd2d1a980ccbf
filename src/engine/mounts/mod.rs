//! Cache mounts carried across runners: filled before the build that mounts them, kept after the release. Nothing that goes
//! wrong here is more than a warning.
//!
//! What must stay true: a mount with something in it is never overwritten, a version with something in it is never
//! replaced by an empty or partial one (the step that copies out fails, and nothing is written), and only runs of branches
//! that move a channel write. [`images`] and [`bucket`] are the places where versions are.

mod bucket;
mod images;
mod solve;
mod versions;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::solve::{OwnBuild, run};
use self::versions::{Content, Kept, Versions, note_losses};
use super::event::EventKind;
use super::job::Shared;
use super::steps::Steps;
use crate::buildkit::new_id;
use crate::buildkit::usage::measure_mounts;
use crate::cache::mounts::{self, CacheMount, LARGEST, Said, kib};
use crate::cache::s3::note::MountNote;
use crate::cache::stored::Place;
use crate::clock;
use crate::manifest::model::CacheMounts;
use crate::plan::{Carrying, PlannedContainer};
use crate::reference::ImageRef;

/// Longest wait for a mount's contents, before a build.
const FILL_LIMIT: Duration = Duration::from_mins(2);

/// Longest wait for a mount to be kept; nobody waits for it but the runner.
const KEEP_LIMIT: Duration = Duration::from_mins(5);

/// A mount that was filled this often in a row, and saved nothing, is left alone.
const LOSSES: u32 = 3;

/// A cache mount of a build.
pub(super) struct Carried {
    mount: CacheMount,
    /// What is kept of it.
    versions: Versions,
    /// The image on which its steps run.
    base: String,
    /// Seconds of its step with an empty mount, where that was measured.
    cold: Option<f64>,
    filled: Option<Filled>,
    /// Seconds of its step in this build; `None`: the builder had the step.
    ran: Option<f64>,
    /// It is neither filled nor kept: it never saved time.
    left: bool,
}

/// How a mount was filled.
struct Filled {
    from: Kept,
    /// What it held then.
    size: String,
    /// Seconds until it did, fetching included.
    seconds: f64,
    /// Of these, seconds of the copy alone.
    copying: f64,
}

impl Carried {
    /// Its id, if it is left alone.
    pub(super) fn left(&self) -> Option<&str> {
        self.left.then_some(self.mount.id.as_str())
    }

    /// Whether its step took less time with what it was filled with. The copy counts, fetching does not: much of that is the
    /// base image, which the step needs anyway.
    fn paid(&self) -> Option<bool> {
        let (filled, ran, cold) = (self.filled.as_ref()?, self.ran?, self.cold?);
        Some(cold - ran > filled.copying)
    }

    /// How often in a row it saved nothing, this time included.
    fn losses(&self) -> u32 {
        let before = self.filled.as_ref().map_or(0, |filled| filled.from.losses);
        match self.paid() {
            Some(true) => 0,
            Some(false) => before + 1,
            None => before,
        }
    }
}

/// Fills the mounts that this build will need. `cached`: it imports a build cache, so that steps whose files are as they were
/// will not run.
pub(super) async fn bring(
    planned: &PlannedContainer,
    parents: &BTreeMap<String, ImageRef>,
    cached: bool,
    shared: &Shared,
    cancel: &CancellationToken,
) -> Vec<Carried> {
    let mut carried = Vec::new();
    let container = &planned.container;
    if matches!(planned.mounts_in, CacheMounts::S3(_)) && shared.bucket.is_none() {
        // It cannot be used; that was said before the first build.
        return carried;
    }
    for (mount, base) in found(planned, parents).await {
        let platform = &container.platforms[0];
        let places = mount.places(container, platform, &planned.mounts_in);
        let (versions, mut unusable) = Versions::read(places, &mount, platform, shared).await;
        unusable.dedup();
        for why in unusable {
            let message = format!("cannot be fetched: {why}");
            warn(planned, &mount, &message, shared).await;
        }
        let inputs = mount.inputs.as_deref();
        let unchanged = |kept: &Kept| kept.inputs.is_some() && kept.inputs.as_deref() == inputs;
        let best = versions.best(inputs).cloned();
        let there = versions.newest().is_some_and(unchanged);
        let mut one = Carried {
            mount,
            versions,
            base,
            cold: best.as_ref().and_then(|kept| kept.cold),
            filled: None,
            ran: None,
            left: best.as_ref().is_some_and(|kept| kept.losses >= LOSSES),
        };
        if one.left {
            let left = EventKind::MountLeft {
                container: container.name.clone(),
                mount: one.mount.id.clone(),
                fills: LOSSES,
            };
            shared.events.send(left).await;
        } else if let Some(kept) = best.filter(|_| !(cached && there)) {
            fill(&mut one, kept, planned, shared, cancel).await;
        }
        carried.push(one);
    }
    carried
}

/// The mounts of a container that can be carried, with the image that each one's stage begins with.
async fn found(
    planned: &PlannedContainer,
    parents: &BTreeMap<String, ImageRef>,
) -> Vec<(CacheMount, String)> {
    if planned.carrying == Carrying::Off {
        return vec![];
    }
    let container = planned.container.clone();
    let read = move || mounts::of(&container, &container.platforms[0]);
    let found = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    let base = |mount: CacheMount| {
        let name = mount.base.strip_suffix(":latest").unwrap_or(&mount.base);
        let container = &planned.container;
        let base = match (parents.get(name), container.image_contexts.get(name)) {
            (Some(parent), _) if planned.images.iter().any(|image| image == name) => {
                parent.to_string()
            }
            (_, Some(image)) => image.to_string(),
            _ if container.contexts.contains_key(name) => return None,
            _ => mount.base.clone(),
        };
        Some((mount, base))
    };
    found.into_iter().filter_map(base).collect()
}

async fn fill(
    carried: &mut Carried,
    kept: Kept,
    planned: &PlannedContainer,
    shared: &Shared,
    cancel: &CancellationToken,
) {
    let started = clock::now();
    // Two containers that mount the same fill it once.
    let _turn = shared.filling.lock().await;
    let work = fill_from(&kept, carried, planned, shared, cancel);
    let why = match tokio::time::timeout(FILL_LIMIT, work).await {
        Ok((Some(Said::Full { size, seconds }), Ok(()))) => {
            let copying = seconds.unwrap_or_default();
            let seconds = started.elapsed().as_secs_f64();
            let filled = EventKind::MountFilled {
                container: planned.container.name.clone(),
                mount: carried.mount.id.clone(),
                reference: kept.place().to_string(),
                kib: kib(&size),
                seconds,
            };
            carried.filled = Some(Filled {
                from: kept,
                size,
                seconds,
                copying,
            });
            return shared.events.send(filled).await;
        }
        // Steps that the builder does not find look at the mount, too, and fail where it is in use.
        Ok((_, Ok(())) | (Some(Said::Same | Said::Large(_)), Err(_))) => return,
        Ok((Some(Said::Empty), Err(_))) => {
            "the builder does not find what was kept there: it is gone, or another version of BuildKit kept it".to_owned()
        }
        Ok((_, Err(why))) => why,
        Err(_) => format!("not done within {} s", FILL_LIMIT.as_secs()),
    };
    let message = format!("was not filled from {}: {why}", kept.place());
    warn(planned, &carried.mount, &message, shared).await;
}

/// Copies a version into the mount, unless something is in it. Returns what the step said, and how it ended.
async fn fill_from(
    kept: &Kept,
    carried: &Carried,
    planned: &PlannedContainer,
    shared: &Shared,
    cancel: &CancellationToken,
) -> (Option<Said>, Result<(), String>) {
    let (mount, base) = (&carried.mount, &carried.base);
    let build = match &kept.content {
        Content::Image { image, digest } => {
            let image = image.repository.digest(digest).to_string();
            Ok(OwnBuild {
                dockerfile: mount.filling(base, &image, &new_id()),
                ..OwnBuild::default()
            })
        }
        Content::Steps { version, note } => {
            let platform = &planned.container.platforms[0];
            bucket::filling(version, note, mount, base, platform, shared).await
        }
    };
    let build = match build {
        Ok(build) => build,
        Err(why) => return (None, Err(why)),
    };
    let ended = run(build, planned, shared, cancel).await;
    // A step that found something in it has had it, too.
    have_measured(mount, shared, cancel).await;
    ended
}

/// Has the builder measure a mount, so that the next step finds it.
async fn have_measured(mount: &CacheMount, shared: &Shared, cancel: &CancellationToken) {
    tokio::select! {
        () = measure_mounts(&shared.builder, &mount.id) => {}
        () = cancel.cancelled() => {}
    }
}

/// Takes down which steps ran, and tells what the mounts that were filled have saved.
pub(super) async fn measure(
    carried: &mut [Carried],
    steps: &Steps,
    planned: &PlannedContainer,
    shared: &Shared,
) {
    for one in carried {
        one.ran = steps.ran_with(&one.mount.flag);
        if let (Some(filled), Some(seconds)) = (&one.filled, one.ran) {
            let used = EventKind::MountUsed {
                container: planned.container.name.clone(),
                mount: one.mount.id.clone(),
                seconds,
                saved_seconds: one.cold.map(|cold| cold - seconds - filled.seconds),
            };
            shared.events.send(used).await;
        }
    }
}

/// What is noted with a version that is kept.
struct Measured {
    /// Seconds of its step with an empty mount.
    cold: Option<f64>,
    losses: u32,
}

/// Keeps the mounts whose steps ran, for the next runner.
pub(super) async fn keep(
    carried: &[Carried],
    planned: &PlannedContainer,
    shared: &Shared,
    cancel: &CancellationToken,
) {
    if planned.carrying != Carrying::Both {
        return;
    }
    let carried = carried.iter().filter(|one| !one.left);
    for (one, ran) in carried.filter_map(|one| Some((one, one.ran?))) {
        let started = clock::now();
        let mount = &one.mount;
        let Some((place, before)) = one.versions.place(mount.inputs.as_deref()) else {
            continue;
        };
        let measured = Measured {
            cold: one.cold.or(one.filled.is_none().then_some(ran)),
            losses: one.losses(),
        };
        let work = keep_in(&place, before, one, &measured, planned, shared, cancel);
        let why = match tokio::time::timeout(KEEP_LIMIT, work).await {
            Ok((Some(Said::Full { size, .. }), Ok(()))) => {
                let kept = EventKind::MountKept {
                    container: planned.container.name.clone(),
                    mount: mount.id.clone(),
                    reference: place.to_string(),
                    kib: kib(&size),
                    seconds: started.elapsed().as_secs_f64(),
                };
                shared.events.send(kept).await;
                continue;
            }
            // Nothing to keep, or nothing new.
            Ok((Some(Said::Empty | Said::Same), _)) => {
                note(one, planned, shared).await;
                continue;
            }
            Ok((Some(Said::Large(kib)), _)) => {
                format!(
                    "it has {} MiB, and the limit is {}",
                    kib >> 10,
                    LARGEST >> 10
                )
            }
            Ok((_, Err(why))) => why,
            Ok((_, Ok(()))) => "its step did not say what it did".to_owned(),
            Err(_) => format!("not done within {} s", KEEP_LIMIT.as_secs()),
        };
        warn(planned, mount, &format!("was not kept: {why}"), shared).await;
    }
}

/// Keeps a mount in this place. Returns what its step said, and how it ended.
async fn keep_in(
    place: &Place,
    before: Option<&Kept>,
    one: &Carried,
    measured: &Measured,
    planned: &PlannedContainer,
    shared: &Shared,
    cancel: &CancellationToken,
) -> (Option<Said>, Result<(), String>) {
    let (mount, base) = (&one.mount, &one.base);
    have_measured(mount, shared, cancel).await;
    let known = one.filled.as_ref().map_or("", |filled| &filled.size);
    let version = match place {
        Place::Registry(image) => {
            let dockerfile = mount.keeping(base, known, &new_id());
            let build = images::keeping(image, mount, dockerfile, measured);
            return run(build, planned, shared, cancel).await;
        }
        Place::S3(version) => version,
    };
    let made = bucket::keeping(version, mount, base, known, planned, shared).await;
    let (build, note): (OwnBuild, MountNote) = match made {
        Ok(made) => made,
        Err(why) => return (None, Err(why)),
    };
    let (said, ended) = run(build, planned, shared, cancel).await;
    if ended.is_err() || !matches!(said, Some(Said::Full { .. })) {
        return (said, ended);
    }
    (
        said,
        bucket::settle(version, note, measured, before, shared).await,
    )
}

/// Notes with what is kept already whether it has paid this time.
async fn note(one: &Carried, planned: &PlannedContainer, shared: &Shared) {
    let losses = one.losses();
    let Some(filled) = one.filled.as_ref().filter(|f| f.from.losses != losses) else {
        return;
    };
    if let Err(why) = note_losses(&filled.from, losses, shared).await {
        let message = format!("was used, and whether that saved time cannot be noted: {why}");
        warn(planned, &one.mount, &message, shared).await;
    }
}

async fn warn(planned: &PlannedContainer, mount: &CacheMount, what: &str, shared: &Shared) {
    let message = format!("the cache mount {} {what}", mount.id);
    shared
        .events
        .warn(Some(&planned.container.name), message)
        .await;
}
