//! `skiff cache ls`, `du` and `prune`: what lies in the registry for the next run, and of cache mounts in the bucket.

use std::collections::BTreeSet;
use std::process::ExitCode;

use super::args::{CacheArgs, CacheCommand, CriteriaArgs, FormatArg, PruneArgs};
use super::opened::{self, Connected};
use super::ready;
use super::request::Invocation;
use crate::cache::candidates::tag_of_branch;
use crate::cache::prune::{self, BranchCaches, Criteria};
use crate::cache::s3::Bucket;
use crate::cache::stored::total;
use crate::cache::survey::{self, Survey, survey};
use crate::changes::git::Checkout;
use crate::clock;
use crate::diagnostic::{Diagnostic, human};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::manifest;
use crate::manifest::model::{CacheBackend, CacheMounts, ProjectManifest};
use crate::project;
use crate::reference::ImageRef;
use crate::registry::RegistryError;
use crate::release::channel::Sources;
use crate::report::caches;
use crate::report::output::Output;

pub(super) async fn run(
    command: CacheCommand,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let connected = opened::connect(invocation, environment, output).await?;
    let bucket = bucket(&connected.manifest, environment, output).await;
    let bucket = bucket.as_ref();
    let text = match command {
        CacheCommand::Prune(args) => return prune(&args, &connected, bucket, output).await,
        CacheCommand::Ls(args) => {
            let found = look(&args, &connected, bucket, output).await?.caches;
            match args.format {
                FormatArg::Human => caches::list(&found),
                FormatArg::Json => caches::list_json(&found),
            }
        }
        CacheCommand::Du(args) => {
            let found = look(&args, &connected, bucket, output).await?.caches;
            match args.format {
                FormatArg::Human => caches::usage(&found),
                FormatArg::Json => caches::usage_json(&found),
            }
        }
    };
    output.out(&text);
    Ok(ExitCode::SUCCESS)
}

async fn prune(
    args: &PruneArgs,
    connected: &Connected,
    bucket: Option<&Bucket>,
    output: &Output,
) -> Result<ExitCode, Error> {
    let criteria = criteria(&args.criteria, &connected.manifest)?;
    let Survey { caches, tags, .. } = look(&args.caches, connected, bucket, output).await?;
    let (registry, ecr) = (&connected.registry, connected.ecr.as_ref());
    let before = total(&caches);
    let choice = criteria.choose(caches, clock::timestamp());
    let standing = prune::shared_with(&choice.goes, &tags, registry, ecr);
    let standing = standing.await.map_err(|error| unread(&error))?;
    let (goes, shielded) = prune::shielded(choice.goes, &standing);
    let stays = choice.spared.iter().chain(&choice.stays);
    let after = total(stays.chain(shielded.iter().map(|(cache, _)| cache)));
    let frees = before - after;
    let plan = caches::Plan {
        goes: &goes,
        spared: &choice.spared,
        shielded: &shielded,
        frees,
    };
    let json = args.caches.format == FormatArg::Json;
    if args.dry_run {
        output.out(&if json {
            plan.json(None)
        } else {
            plan.human() + &plan.would()
        });
        return Ok(ExitCode::SUCCESS);
    }
    if !json || !args.yes {
        output.err(plan.human().trim_end());
    }
    if !goes.is_empty() && !agreed(args, output).await? {
        output.out("nothing was deleted");
        return Ok(ExitCode::SUCCESS);
    }
    let pruned = prune::prune(goes.clone(), registry, ecr, bucket).await;
    output.out(&if json {
        plan.json(Some(&pruned))
    } else {
        let amazon = |image: &ImageRef| ecr.is_some_and(|ecr| ecr.holds(&image.repository));
        caches::pruned(&pruned, frees, amazon)
    });
    if pruned.failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::new(ErrorKind::Build, pruned.failed))
}

/// The bucket in which cache mounts are kept; without it, what it has is left out, and that is said.
async fn bucket(
    manifest: &ProjectManifest,
    environment: &Environment,
    output: &Output,
) -> Option<Bucket> {
    let CacheMounts::S3(settings) = &manifest.cache.mounts else {
        return None;
    };
    match Bucket::open(settings, ready::endpoint(environment)).await {
        Ok(bucket) => Some(bucket),
        Err(error) => {
            let warning = survey::unread(&settings.bucket, &error);
            output.err(&human::render(&[warning], output.screen()));
            None
        }
    }
}

/// All caches of the containers that were named.
async fn look(
    args: &CacheArgs,
    connected: &Connected,
    bucket: Option<&Bucket>,
    output: &Output,
) -> Result<Survey, Error> {
    let Connected {
        manifest,
        registry,
        ecr,
    } = connected;
    let unknown = args
        .names
        .iter()
        .filter(|name| !manifest.containers.contains_key(*name));
    let unknown: Vec<Diagnostic> = unknown
        .map(|name| project::unknown(name, manifest))
        .collect();
    if !unknown.is_empty() {
        return Err(unknown.into());
    }
    let elsewhere = match &manifest.cache.backend {
        CacheBackend::Local(folder) => Some(format!("in {}, on each machine", folder.display())),
        CacheBackend::S3(settings) => {
            let (bucket, prefix) = (&settings.bucket, &settings.prefix);
            Some(format!("in s3://{bucket}/{prefix}"))
        }
        CacheBackend::Registry | CacheBackend::None => None,
    };
    if let Some(place) = elsewhere {
        let title = match manifest.cache.mounts {
            CacheMounts::S3(_) => format!("build caches are {place}, and are not looked at"),
            _ => format!("build caches are {place}: only what is in the registry is looked at"),
        };
        output.err(&human::render(
            &[Diagnostic::warning(title)],
            output.screen(),
        ));
    }
    let found = survey(manifest, &args.names, registry, ecr.as_ref(), bucket).await;
    let mut found = found.map_err(|error| unread(&error))?;
    let warnings = std::mem::take(&mut found.warnings);
    if !warnings.is_empty() {
        output.err(&human::render(&warnings, output.screen()));
    }
    Ok(found)
}

fn unread(error: &RegistryError) -> Error {
    Diagnostic::error(format!("caches cannot be looked at: {error}")).into()
}

/// From what was asked to what decides.
fn criteria(args: &CriteriaArgs, manifest: &ProjectManifest) -> Result<Criteria, Error> {
    let older_than = args.older_than.as_deref().map(|text| {
        manifest::duration(text).map_err(|(why, help)| {
            let error = Diagnostic::error(format!("--older-than: `{text}` {why}"));
            help.into_iter().fold(error, Diagnostic::help)
        })
    });
    let checkout = Checkout::find(&manifest.root).map_err(Diagnostic::from)?;
    let default = checkout.as_ref().and_then(Checkout::default_branch);
    let of = |branches: &[String]| branch_caches(manifest, branches, default.as_deref());
    let living = if args.gone_branches {
        Some(of(&branches(checkout.as_ref())?))
    } else {
        None
    };
    Ok(Criteria {
        all: args.all,
        older_than: older_than.transpose()?,
        named: (!args.branch.is_empty()).then(|| of(&args.branch)),
        living,
    })
}

/// The branches that there are.
fn branches(checkout: Option<&Checkout>) -> Result<Vec<String>, Diagnostic> {
    let help = "run it in a checkout whose remote can be asked, or name branches: --branch NAME";
    let Some(checkout) = checkout else {
        let error =
            Diagnostic::error("outside of git there is nobody to say which branches are gone");
        return Err(error.help(help));
    };
    let found = checkout.branches().map_err(|error| {
        let title = format!("which branches are gone cannot be told: {error}");
        Diagnostic::error(title).help(help)
    })?;
    if found.is_empty() {
        // An empty answer must not mean that all are gone.
        let error =
            Diagnostic::error("which branches are gone cannot be told: the remote has none");
        return Err(error.help(help));
    }
    Ok(found)
}

/// The caches that these branches have, of every container.
fn branch_caches(
    manifest: &ProjectManifest,
    branches: &[String],
    default: Option<&str>,
) -> BranchCaches {
    let sources = Sources {
        checkout: true,
        default_branch: default.map(str::to_owned),
        ..Sources::default()
    };
    let mut caches = BTreeSet::new();
    for container in manifest.containers.values() {
        for branch in branches {
            let tag = tag_of_branch(Some(branch), container, manifest, &sources);
            caches.extend(tag.map(|tag| (container.name.clone(), tag)));
        }
    }
    caches
}

/// Asks on a terminal. Nothing is deleted that nobody has agreed to.
async fn agreed(args: &PruneArgs, output: &Output) -> Result<bool, Diagnostic> {
    if args.yes {
        return Ok(true);
    }
    output.confirm("delete them?").await.ok_or_else(|| {
        Diagnostic::error("nothing was deleted: there is nobody to be asked")
            .help("say --yes; --dry-run shows what would go")
    })
}
