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
use crate::buildkit::new_id;
use crate::buildkit::solve::{Attributes, Solve, SolveError, solve};
use crate::buildkit::status::StatusUpdate;
use crate::cache::labels::{COLD, ID, INPUTS};
use crate::cache::mounts::{self, CacheMount, LARGEST, NAMESPACE, Said, kib};
use crate::clock;
use crate::plan::{Carrying, PlannedContainer};
use crate::reference::{Digest, ImageRef};
use crate::registry::image::{ImageConfig, ImageManifest};

/// Longest wait for a mount's contents, before a build.
const FILL_LIMIT: Duration = Duration::from_mins(2);

/// Longest wait for a mount to be kept; nobody waits for it but the runner.
const KEEP_LIMIT: Duration = Duration::from_mins(5);

/// Largest image config that is read, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// A cache mount of a build.
pub(super) struct Carried {
    mount: CacheMount,
    /// Where it is kept.
    kept: ImageRef,
    /// The image on which its steps run.
    base: String,
    /// Seconds of its step with an empty mount, where that was measured.
    cold: Option<f64>,
    /// What it held once it was filled, and the seconds that took.
    filled: Option<(String, f64)>,
    /// Seconds of its step in this build; `None`: the builder had the step.
    ran: Option<f64>,
}

/// What is kept of a mount.
struct Kept {
    digest: Digest,
    inputs: Option<String>,
    cold: Option<f64>,
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
    for (mount, base) in found(planned, parents).await {
        let container = &planned.container;
        let platform = &container.platforms[0];
        let Some(tag) = mount.tag(container, platform) else {
            continue;
        };
        let kept = container.trusted_cache().tag(&tag);
        let known = match look_up(&kept, planned, shared).await {
            Ok(known) => known,
            Err(why) => {
                warn(
                    planned,
                    &mount,
                    &format!("cannot be fetched: {why}"),
                    shared,
                )
                .await;
                None
            }
        };
        let mut one = Carried {
            mount,
            kept,
            base,
            cold: known.as_ref().and_then(|known| known.cold),
            filled: None,
            ran: None,
        };
        let unchanged = |known: &Kept| known.inputs.is_some() && known.inputs == one.mount.inputs;
        if let Some(known) = known.filter(|known| !(cached && unchanged(known))) {
            fill(&mut one, &known.digest, planned, shared, cancel).await;
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

async fn look_up(
    kept: &ImageRef,
    planned: &PlannedContainer,
    shared: &Shared,
) -> Result<Option<Kept>, String> {
    let raw = shared.registry.get_manifest(kept).await;
    let Some(raw) = raw.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let manifest = ImageManifest::parse(&raw).map_err(|error| error.to_string())?;
    let config = &manifest.config.digest;
    let config = shared
        .registry
        .get_blob(&kept.repository, config, MAX_CONFIG);
    let config = config.await.map_err(|error| error.to_string())?;
    let config = ImageConfig::parse(&config).map_err(|error| error.to_string())?;
    if config.platform != planned.container.platforms[0] || !config.labels.contains_key(ID) {
        return Err(format!("{kept} is something else"));
    }
    let label = |name| config.labels.get(name).cloned();
    Ok(Some(Kept {
        digest: raw.digest,
        inputs: label(INPUTS),
        cold: label(COLD).and_then(|text| text.parse().ok()),
    }))
}

async fn fill(
    carried: &mut Carried,
    digest: &Digest,
    planned: &PlannedContainer,
    shared: &Shared,
    cancel: &CancellationToken,
) {
    let started = clock::now();
    let image = carried.kept.repository.digest(digest);
    let text = carried.mount.filling(&carried.base, &image, &new_id());
    // Two containers that mount the same fill it once.
    let _turn = shared.filling.lock().await;
    let solved = run(&text, BTreeMap::new(), None, planned, shared, cancel);
    let why = match tokio::time::timeout(FILL_LIMIT, solved).await {
        Ok((Some(Said::Full(size)), Ok(()))) => {
            let seconds = started.elapsed().as_secs_f64();
            let filled = EventKind::MountFilled {
                container: planned.container.name.clone(),
                mount: carried.mount.id.clone(),
                reference: carried.kept.to_string(),
                kib: kib(&size),
                seconds,
            };
            carried.filled = Some((size, seconds));
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
        if let (Some((_, fill_seconds)), Some(seconds)) = (&one.filled, one.ran) {
            let used = EventKind::MountUsed {
                container: planned.container.name.clone(),
                mount: one.mount.id.clone(),
                seconds,
                saved_seconds: one.cold.map(|cold| cold - seconds - fill_seconds),
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
    for (one, ran) in carried.iter().filter_map(|one| Some((one, one.ran?))) {
        let started = clock::now();
        let mount = &one.mount;
        let known = one.filled.as_ref().map_or("", |(size, _)| size);
        let text = mount.keeping(&one.base, known, &new_id());
        let image = [
            ("name", one.kept.to_string()),
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
            Ok((Some(Said::Full(size)), Ok(()))) => {
                let kept = EventKind::MountKept {
                    container: planned.container.name.clone(),
                    mount: mount.id.clone(),
                    reference: one.kept.to_string(),
                    kib: kib(&size),
                    seconds: started.elapsed().as_secs_f64(),
                };
                shared.events.send(kept).await;
                continue;
            }
            // Nothing to keep, or nothing new.
            Ok((Some(Said::Empty | Said::Same), _)) => continue,
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
