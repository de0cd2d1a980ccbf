//! Cache mounts carried across runners: filled before the build that mounts them, kept after the release. Nothing that goes
//! wrong here is more than a warning.
//!
//! What must stay true: a mount with something in it is never overwritten, an image with something in it is never
//! replaced by an empty or partial one (the step that copies out fails, and nothing is pushed), and only runs of branches
//! that move a channel write.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::event::EventKind;
use super::job::Shared;
use super::solve_request::{credentials, pins};
use super::steps::Steps;
use super::versions::{Kept, Versions, note_losses};
use crate::buildkit::new_id;
use crate::buildkit::solve::{Attributes, Solve, SolveError, solve};
use crate::buildkit::status::StatusUpdate;
use crate::cache::labels::{self, COLD, ID, INPUTS};
use crate::cache::mounts::{self, CacheMount, LARGEST, NAMESPACE, Said, kib};
use crate::clock;
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
    for (mount, base) in found(planned, parents).await {
        let platform = &container.platforms[0];
        let tags = mount.tags(container, platform);
        let repository = container.trusted_cache();
        let (versions, unusable) = Versions::read(repository, tags, platform, shared).await;
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
    let image = kept.image.repository.digest(&kept.digest);
    let text = carried.mount.filling(&carried.base, &image, &new_id());
    // Two containers that mount the same fill it once.
    let _turn = shared.filling.lock().await;
    let solved = run(&text, BTreeMap::new(), None, planned, shared, cancel);
    let why = match tokio::time::timeout(FILL_LIMIT, solved).await {
        Ok((Some(Said::Full { size, seconds }), Ok(()))) => {
            let copying = seconds.unwrap_or_default();
            let seconds = started.elapsed().as_secs_f64();
            let filled = EventKind::MountFilled {
                container: planned.container.name.clone(),
                mount: carried.mount.id.clone(),
                reference: kept.image.to_string(),
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
        Ok((_, Ok(()))) => return,
        Ok((_, Err(why))) => why,
        Err(_) => format!("not done within {} s", FILL_LIMIT.as_secs()),
    };
    let message = format!("was not filled from {image}: {why}");
    warn(planned, &carried.mount, &message, shared).await;
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
        let Some(place) = one.versions.place(mount.inputs.as_deref()) else {
            continue;
        };
        let known = one.filled.as_ref().map_or("", |filled| &filled.size);
        let text = mount.keeping(&one.base, known, &new_id());
        let image = [
            ("name", place.to_string()),
            ("push", "true".into()),
            ("store", "false".into()),
            ("unpack", "false".into()),
            ("oci-mediatypes", "true".into()),
            ("compression", "zstd".into()),
        ];
        let image = image.map(|(name, value)| (name.to_owned(), value));
        let cold = one.cold.or(one.filled.is_none().then_some(ran));
        let labels = [
            (ID, Some(mount.id.clone())),
            (INPUTS, mount.inputs.clone()),
            (COLD, cold.map(|seconds| format!("{seconds:.1}"))),
            (labels::LOSSES, Some(one.losses().to_string())),
        ];
        let labels = labels
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let solved = run(
            &text,
            labels.collect(),
            Some(image.into()),
            planned,
            shared,
            cancel,
        );
        let why = match tokio::time::timeout(KEEP_LIMIT, solved).await {
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

/// Builds one of our own Dockerfiles beside the container's: on its platform, with its mirrors, without network. Returns
/// what its step said, and how it ended.
async fn run(
    dockerfile: &str,
    labels: BTreeMap<&str, String>,
    image: Option<Attributes>,
    planned: &PlannedContainer,
    shared: &Shared,
    cancel: &CancellationToken,
) -> (Option<Said>, Result<(), String>) {
    const LOCAL: &str = "mounts";
    let folder = match written(dockerfile) {
        Ok(folder) => folder,
        Err(error) => return (None, Err(error.to_string())),
    };
    let served = shared.files.serve(LOCAL, folder.path()).await;
    let (files, session) = match (served, credentials(shared).await) {
        (Ok(files), Ok(session)) => (files, session),
        (Err(status), _) => return (None, Err(status.message().to_owned())),
        (_, Err(error)) => return (None, Err(error.to_string())),
    };
    let container = &planned.container;
    let mut frontend = Attributes::from([
        ("platform".into(), container.platforms[0].to_string()),
        ("dockerfilekey".into(), LOCAL.into()),
        (format!("local-sessionid:{LOCAL}"), files.session.id.clone()),
        ("force-network-mode".into(), "none".into()),
    ]);
    if let Some(namespace) = container.args.get(NAMESPACE) {
        frontend.insert(format!("build-arg:{NAMESPACE}"), namespace.clone());
    }
    for (name, value) in labels {
        frontend.insert(format!("label:{name}"), value);
    }
    let request = Solve {
        session: session.id.clone(),
        frontend,
        mirrors: planned.mirrors.clone(),
        pins: pins(planned),
        image,
        ..Solve::default()
    };
    let (sender, mut updates) = mpsc::channel::<StatusUpdate>(16);
    let listen = async {
        let (mut output, mut errors): (Vec<u8>, Vec<u8>) = Default::default();
        while let Some(update) = updates.recv().await {
            for log in update.logs {
                let lines = if log.stderr { &mut errors } else { &mut output };
                lines.extend(log.bytes);
            }
        }
        let said = String::from_utf8_lossy(&output)
            .lines()
            .find_map(Said::read);
        let errors = String::from_utf8_lossy(&errors);
        (said, errors.lines().last().map(str::to_owned))
    };
    let solving = solve(&shared.builder, request, cancel, sender);
    let (result, (said, complaint)) = tokio::join!(solving, listen);
    let result = match result {
        Ok(_) => Ok(()),
        Err(SolveError::Cancelled) => Err("interrupted".to_owned()),
        // The builder's own message has the whole script in it.
        Err(SolveError::Failed(error)) => Err(complaint.unwrap_or(error.message)),
    };
    (said, result)
}

/// A folder with this Dockerfile.
fn written(dockerfile: &str) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("Dockerfile"), dockerfile)?;
    Ok(folder)
}
