//! `skiff lock`, and what `pin = true` means for a run: base images are those of `containers.lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use super::args::LockArgs;
use super::opened;
use super::request::Invocation;
use crate::diagnostic::{Diagnostic, human, nearest};
use crate::environment::Environment;
use crate::error::Error;
use crate::lock::Lock;
use crate::manifest::model::ProjectManifest;
use crate::plan::Plan;
use crate::project::{self, Project};
use crate::reference::{Digest, ImageRef};
use crate::registry::Client;
use crate::release::ci;
use crate::report::output::Output;
use crate::resolve::locked::{self, Fault, Pin};
use crate::retry::RetryPolicy;

pub(super) async fn run(
    args: &LockArgs,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let connected = opened::connect(invocation, environment, output).await?;
    let project = project::read(connected.manifest)?;
    let manifest = &project.manifest;
    let found = project.findings(manifest.containers.keys())?;
    let wanted = locked::wanted(&project.recipes, manifest)?;
    let named = named(&args.images, &wanted)?;
    let path = manifest.lock_file();
    let shown = project::shown(&path, &environment.directory);
    let old = Lock::read(&path, &shown)?;
    let is_new = old.is_none();
    let old = old.unwrap_or_default();
    let renewed = |name: &String| args.update && (named.is_empty() || named.contains(name));
    let mut asked = wanted.clone();
    asked.retain(|name, _| renewed(name) || !old.images.contains_key(name));
    let mut images = old.images.clone();
    images.retain(|name, _| wanted.contains_key(name));
    let registry = connected.registry.asking(RetryPolicy::QUESTION);
    images.extend(locked::newest(asked, &manifest.mirrors, &registry).await?);
    let new = Lock { images };
    if is_new || new != old {
        new.write(&path, &shown)?;
    }
    output.out(&told(&old, &new, &shown));
    let mut warnings = found;
    if !manifest.pin {
        warnings.push(
            Diagnostic::warning(format!("builds do not use {shown}: `pin` is not set"))
                .help("write `pin = true` below `version` in the manifest"),
        );
    }
    if !warnings.is_empty() {
        output.err(&human::render(&warnings, output.screen()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The images that were named, by their names in full.
fn named(
    images: &[String],
    wanted: &BTreeMap<String, ImageRef>,
) -> Result<BTreeSet<String>, Vec<Diagnostic>> {
    let mut named = BTreeSet::new();
    let mut errors = Vec::new();
    for text in images {
        let full = text.parse::<ImageRef>().map(|image| image.to_string());
        let full = full.unwrap_or_else(|_| text.clone());
        if wanted.contains_key(&full) {
            named.insert(full);
            continue;
        }
        let error = Diagnostic::error(format!("no Dockerfile uses `{text}` without a digest"));
        errors.push(match nearest(&full, wanted.keys().map(String::as_str)) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("name an image as Dockerfiles do, or none for all"),
        });
    }
    if errors.is_empty() {
        Ok(named)
    } else {
        Err(errors)
    }
}

/// What is new, other and gone, a line each.
fn told(old: &Lock, new: &Lock, shown: &str) -> String {
    let mut lines = Vec::new();
    for (name, digest) in &new.images {
        match old.images.get(name) {
            None => lines.push(format!("+ {name} {}", digest.as_str())),
            Some(before) if before != digest => lines.push(format!(
                "~ {name} {} -> {}",
                before.as_str(),
                digest.as_str()
            )),
            Some(_) => {}
        }
    }
    let gone = old.images.keys();
    let gone = gone.filter(|name| !new.images.contains_key(*name));
    lines.extend(gone.map(|name| format!("- {name}, which no Dockerfile uses")));
    let count = new.images.len();
    let images = if count == 1 { "image" } else { "images" };
    lines.push(match lines.len() {
        0 => format!("{shown} is as it was: {count} {images}"),
        _ => format!("{shown} has {count} {images}: commit it"),
    });
    lines.join("\n")
}

/// The digests that a run takes from the lock file, and what there is to say of it.
#[derive(Default)]
pub(super) struct Pinned {
    pub digests: BTreeMap<String, Digest>,
    pub said: Vec<Diagnostic>,
}

/// With `pin = true`: the lock file, with the images that it lacks added to it. In a CI these are an error, since nobody would
/// commit them; a dry run only names them.
pub(super) async fn honour(
    plan: &Plan,
    project: &Project,
    dry_run: bool,
    registry: &Client,
    environment: &Environment,
) -> Result<Pinned, Vec<Diagnostic>> {
    let manifest = &project.manifest;
    if !manifest.pin {
        return Ok(Pinned::default());
    }
    let path = manifest.lock_file();
    let shown = project::shown(&path, &environment.directory);
    let mut lock = Lock::read(&path, &shown)?.unwrap_or_default();
    let recipes = plan.containers.keys();
    let recipes = recipes.filter_map(|name| project.recipes.get_key_value(name));
    let mut missing = locked::wanted(recipes, manifest)?;
    missing.retain(|name, _| !lock.images.contains_key(name));
    let mut said: Vec<_> = unused(&lock, project, &shown).into_iter().collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.keys().map(String::as_str).collect();
        let names = names.join(", ");
        if ci::is_ci(environment) {
            return Err(vec![
                Diagnostic::error(format!("{shown} lacks {names}"))
                    .note("`pin` is set, and in a CI nothing is added to the lock file")
                    .help("run `skiff lock` in a checkout, and commit the file"),
            ]);
        }
        if dry_run {
            said.push(
                Diagnostic::warning(format!("{shown} lacks {names}")).help("run `skiff lock`"),
            );
        } else {
            lock.images
                .extend(locked::newest(missing, &manifest.mirrors, registry).await?);
            lock.write(&path, &shown).map_err(|error| vec![error])?;
            said.push(Diagnostic::warning(format!("{shown} is new for {names}")).help("commit it"));
        }
    }
    Ok(Pinned {
        digests: lock.images,
        said,
    })
}

/// That a file has images that no Dockerfile of the project names without a digest; `None` also where one cannot be read.
fn unused(lock: &Lock, project: &Project, shown: &str) -> Option<Diagnostic> {
    let wanted = locked::wanted(&project.recipes, &project.manifest).ok()?;
    let unused = lock
        .images
        .keys()
        .filter(|name| !wanted.contains_key(*name));
    let names: Vec<&str> = unused.map(String::as_str).collect();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        let title = format!("{shown} has {names}, which no Dockerfile uses without a digest");
        Diagnostic::warning(title).help("run `skiff lock`, and commit the file")
    })
}

/// That the registries still have the locked images of what is to be built. Returns what there is to say of those that are
/// for other platforms: a stage may want such a one, and mostly it is a slip.
pub(super) async fn still_there(
    plan: &Plan,
    project: &Project,
    registry: &Client,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let manifest: &ProjectManifest = &project.manifest;
    if !manifest.pin {
        return Ok(vec![]);
    }
    let mut pins: BTreeMap<String, Pin> = BTreeMap::new();
    for (_, planned) in plan.containers.iter().filter(|(name, _)| plan.builds(name)) {
        for (image, digest) in &planned.keyed.pins {
            let pin = pins.entry(image.to_string()).or_insert_with(|| Pin {
                image: image.clone(),
                digest: digest.clone(),
                platforms: BTreeSet::new(),
            });
            pin.platforms.extend(planned.container.platforms.clone());
        }
    }
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for (name, digest, fault) in locked::faults(pins, &manifest.mirrors, registry).await {
        let digest = digest.as_str();
        let renew = format!("run `skiff lock --update {name}`, and commit the lock file");
        match fault {
            Fault::Gone => errors.push(
                Diagnostic::error(format!(
                    "the registry no longer has {name} as it is locked: {digest}"
                ))
                .help(renew),
            ),
            Fault::NotFor(platform) => warnings.push(
                Diagnostic::warning(format!(
                    "{name} is locked as an image that is not for {platform}: {digest}"
                ))
                .help(format!("{renew}; or name an image that is for {platform}")),
            ),
        }
    }
    if errors.is_empty() {
        Ok(warnings)
    } else {
        Err(errors)
    }
}
