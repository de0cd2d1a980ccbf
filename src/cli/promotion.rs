//! What `skiff promote` moves a channel to: the images of a release, or of a plan that others have built.

use std::path::Path;

use futures_util::{StreamExt as _, stream};
use indexmap::IndexMap;

use super::args::PromoteArgs;
use super::moving::{Plan, Planned};
use super::opened::{Opened, missed};
use crate::clock;
use crate::diagnostic::{Diagnostic, nearest};
use crate::engine::outcome::ChannelOutcome;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::manifest::model::Container;
use crate::plan_file::{PlanFile, PlannedImage};
use crate::reference::Tag;
use crate::registry::image::RawManifest;
use crate::release::choose::{self, Found, Released};
use crate::release::converge::Verdict;
use crate::release::names;
use crate::release::promote::Move;
use crate::release::publish;
use crate::release::record::{Deed, Due, Placed};
use crate::release::standing::{Lineage as _, Relation};
use crate::report::summary::channel_line;
use crate::resolve::{self, Lookup};

/// Images that belong together.
struct Set {
    release: Tag,
    containers: IndexMap<String, Placed>,
    /// Immutable tags that they are to have.
    tags: Vec<Move>,
}

pub(super) async fn plan(
    opened: &mut Opened,
    args: &PromoteArgs,
    environment: &Environment,
) -> Result<Plan, Error> {
    let channel = opened.channel(args.moving.channel.as_deref())?;
    let view = opened.mover.view(&channel, None).await;
    let standing = view.map_err(|error| opened.unread(&error))?.standing;
    let Set {
        release,
        containers: mut to,
        tags,
    } = match (&args.plan, &args.release) {
        (Some(path), _) => planned(opened, &environment.directory.join(path)).await?,
        (None, name) => {
            let name = name.as_deref().unwrap_or_default();
            let found = released(opened, name, &channel).await?;
            Set {
                release: found.release,
                containers: found.containers,
                tags: vec![],
            }
        }
    };
    let unknown = args.names.iter().filter(|name| !to.contains_key(*name));
    let unknown: Vec<Diagnostic> = unknown
        .map(|name| {
            let known: Vec<&str> = to.keys().map(String::as_str).collect();
            Diagnostic::error(format!("release {release} has no container `{name}`"))
                .note(format!("containers: {}", known.join(", ")))
        })
        .collect();
    if !unknown.is_empty() {
        return Err(unknown.into());
    }
    to.retain(|name, _| args.names.is_empty() || args.names.contains(name));
    let now = clock::timestamp();
    let mut newer = false;
    for (name, placed) in &mut to {
        placed.created = now;
        let Some(stands) = standing.containers.get(name) else {
            newer = true;
            continue;
        };
        let history = &mut opened.mover.history;
        let relation = tokio::task::block_in_place(|| history.relation(stands, placed));
        newer |= matches!(relation, Relation::Newer | Relation::Same);
        if matches!(relation, Relation::Diverged | Relation::Unknown) && !args.force_promote {
            let verdict = Verdict::Stayed {
                container: name.clone(),
                stands: Box::new(stands.clone()),
                relation,
                unfetched: history.unfetched().map(str::to_owned),
            };
            let line = channel_line(
                &channel,
                &ChannelOutcome::Ended(Box::new(verdict)),
                &release,
            );
            return Err(missed(Diagnostic::error(line)));
        }
    }
    if !newer && !args.force_promote {
        let why = format!(
            "{channel} stays: release {release} is older than what it stands on; `skiff rollback --to {release}` goes back, \
             and holds it there"
        );
        return Ok(Err((channel, why)));
    }
    let stands = |(name, placed): (&String, &Placed)| {
        standing.containers.get(name).is_some_and(|stands| {
            (&stands.release, &stands.digest) == (&placed.release, &placed.digest)
        })
    };
    if standing.hold.is_none() && to.iter().all(stands) {
        let why = format!("{channel} stands on release {release} already");
        return Ok(Err((channel, why)));
    }
    let images = to.iter().map(|(name, placed)| (name, placed.home()));
    let before = publish::before(&opened.mover, &channel, &standing, images).await;
    let before = before.map_err(|error| opened.stopped(error))?;
    let begins = standing.hold.is_some() || args.force_promote;
    let due = Due {
        epoch: standing.epoch + u64::from(begins),
        force: args.force_promote,
        lifts_hold: standing.hold.is_some(),
        previous_release: standing.release.clone(),
        before,
    };
    let deed = Deed::Promotion {
        containers: to.clone(),
        channels: IndexMap::from([(channel.clone(), due)]),
    };
    Ok(Ok(Planned {
        channel,
        release,
        standing,
        to,
        stays: vec![],
        tags,
        deed,
    }))
}

/// The release of this name, or what is there instead.
pub(super) async fn released(
    opened: &mut Opened,
    name: &str,
    channel: &Tag,
) -> Result<Released, Error> {
    let found = choose::find(&mut opened.mover.store, name, channel).await;
    match found.map_err(|error| opened.unread(&error))? {
        Found::Release(found) => Ok(*found),
        Found::Missing(names) => {
            let error = Diagnostic::error(format!("there is no release `{name}`"));
            let error = match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error,
            };
            Err(error.help("`skiff releases` lists them").into())
        }
    }
}

/// How many look-ups are under way at a time; the client has its own limit for each registry.
const AT_ONCE: usize = 16;

/// The images of a plan: all are there, or none is promoted.
async fn planned(opened: &Opened, path: &Path) -> Result<Set, Error> {
    let plan = PlanFile::read(path)?;
    let commit = plan.revision.as_deref();
    let created = clock::timestamp();
    let mut set = Set {
        release: plan.release.clone(),
        containers: IndexMap::new(),
        tags: vec![],
    };
    let plan = &plan;
    let looks = plan
        .released()
        .map(async |image| (image, look(opened, image, plan).await));
    let answers: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let mut errors = Vec::new();
    for (image, answer) in answers {
        let (container, manifest) = match answer {
            Ok(found) => found,
            Err(why) => {
                errors.push(Diagnostic::error(format!(
                    "`{}` of the plan {why}",
                    image.name
                )));
                continue;
            }
        };
        let moves = image.tags.iter().map(|tag| Move {
            container: image.name.clone(),
            repository: container.repository.clone(),
            tag: tag.clone(),
            manifest: manifest.clone(),
            channel: false,
        });
        set.tags.extend(moves);
        let placed = Placed {
            repository: container.repository.clone(),
            shared: container.shared,
            digest: manifest.digest,
            key: image.key.clone(),
            release: plan.release.clone(),
            record: None,
            commit: commit.map(|c| c.trim_end_matches("-dirty").to_owned()),
            dirty: commit.is_some_and(|c| c.ends_with("-dirty")),
            created,
            seconds: None,
        };
        set.containers.insert(image.name.clone(), placed);
    }
    if errors.is_empty() {
        return Ok(set);
    }
    errors.push(
        Diagnostic::error("nothing was moved: not all of the plan is built").help(format!(
            "build it: `skiff deploy --plan {} --no-promote`",
            path.display()
        )),
    );
    Err(Error::new(ErrorKind::Promotion, errors))
}

/// The image that was built for this part of a plan: under its key, or where it has none under the release's name, if it
/// says that it is of the plan's commit.
async fn look<'a>(
    opened: &'a Opened,
    image: &PlannedImage,
    plan: &PlanFile,
) -> Result<(&'a Container, RawManifest), String> {
    let container = opened.manifest.containers.get(&image.name);
    let container = container.ok_or("is no container of the manifest")?;
    let repository = &container.repository;
    if image.repository != repository.to_string() {
        return Err(format!(
            "was built for {}, from where nothing is promoted to {repository}",
            image.repository
        ));
    }
    let registry = &opened.mover.registry;
    if let Some(key) = image.key.as_deref().and_then(Key::new) {
        return match resolve::key_in(&key, container, repository, registry).await {
            Lookup::Found { manifest, .. } => Ok((container, manifest)),
            Lookup::Missing => Err("is not built".to_owned()),
            Lookup::Distrusted(why) => Err(format!("is not what it should be: {why}")),
            Lookup::Failed(why) => Err(format!("cannot be looked for: {why}")),
        };
    }
    let failed = |why: String| format!("cannot be looked for: {why}");
    let Some(tag) = image.tags.first() else {
        return Err("has neither a key nor a tag by which it could be found".to_owned());
    };
    let found = registry.get_manifest(&repository.tag(tag)).await;
    let found = found.map_err(|error| failed(error.to_string()))?;
    let manifest = found.ok_or("is not built")?;
    let fit = resolve::check(container, repository, &manifest.digest, &manifest, registry).await;
    fit.map_err(|unfit| format!("is not what it should be: {unfit}"))?;
    let revision = names::revision(repository, tag, registry).await;
    match revision.map_err(|error| failed(error.to_string()))? {
        Some(revision) if Some(&revision) == plan.revision.as_ref() => Ok((container, manifest)),
        _ => Err(format!(
            "is not built: {repository}:{tag} is of another commit"
        )),
    }
}
