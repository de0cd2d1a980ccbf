//! What the configs of base images say of how much a Dockerfile reads. Each config is asked for once, however many
//! containers begin with it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::images::{self, AT_ONCE};
use crate::manifest::model::{Mirror, Platform};
use crate::plan::PlannedContainer;
use crate::project::{Project, Recipe};
use crate::reference::Digest;
use crate::registry::Client;
use crate::registry::image::ImageConfig;

/// A base image by its name in the Dockerfile and its digest, for a platform.
pub(super) type Question = (String, Digest, Platform);

/// The answers; `None`: there is none.
pub(super) type Bases = BTreeMap<Question, Option<ImageConfig>>;

type Digests = BTreeMap<String, Result<Digest, String>>;

/// What is to be known of the base images of a container.
pub(super) fn questions<'a>(
    planned: &'a PlannedContainer,
    recipe: &'a Recipe,
    digests: &'a Digests,
) -> impl Iterator<Item = Question> + 'a {
    let known = recipe.bases.iter().filter_map(|base| {
        let digest = digests.get(base)?.as_ref().ok()?;
        Some((base, digest))
    });
    known.flat_map(|(base, digest)| {
        let platforms = planned.container.platforms.iter();
        platforms.map(|platform| (base.clone(), digest.clone(), platform.clone()))
    })
}

pub(super) async fn ask(
    questions: BTreeSet<Question>,
    mirrors: &[Mirror],
    registry: &Client,
) -> Bases {
    let asked = stream::iter(questions).map(|question| async move {
        let (name, digest, platform) = &question;
        let config = images::base_config(name, digest, platform, mirrors, registry);
        let config = config.await.ok().flatten();
        (question, config)
    });
    asked.buffer_unordered(AT_ONCE).collect().await
}

/// Whether a target may read more of its context than its Dockerfile shows. In doubt it does.
pub(super) fn reads_more(
    recipe: &Recipe,
    planned: &PlannedContainer,
    project: &Project,
    digests: &Digests,
    bases: &Bases,
) -> bool {
    for parent in &planned.images {
        let known = project.recipes.get(parent);
        // What is in a container's environment is known once it is built, so an `ARG` may be overruled.
        if known.is_none_or(|parent| parent.triggers) || !recipe.sources.variables.is_empty() {
            return true;
        }
    }
    let all_known = recipe
        .bases
        .iter()
        .all(|base| digests.get(base).is_some_and(Result::is_ok));
    let more = |question| match bases.get(&question) {
        Some(Some(config)) => {
            let overruled = !config.environment.is_disjoint(&recipe.sources.variables);
            config.triggers || overruled
        }
        _ => true,
    };
    !all_known || questions(planned, recipe, digests).any(more)
}
