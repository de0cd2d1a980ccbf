//! `skiff inputs`: what a container is made from. Asks no engine, and of registries only for the digests and the keys that
//! a key is made from: what cannot be asked is told as not known, and everything else is told all the same.

use std::process::ExitCode;
use std::sync::Arc;

use indexmap::IndexMap;

use super::args::{FormatArg, InputsArgs};
use super::deploy::{client, load, warn};
use super::request::{self, Invocation};
use super::{lock, registry};
use crate::cancel::CancellationToken;
use crate::changes::git::Checkout;
use crate::changes::index::Index;
use crate::clock;
use crate::context::entry::Entry;
use crate::context::inputs::{self, BuildContext};
use crate::context::{ContextError, walk};
use crate::diagnostic::{Diagnostic, Severity};
use crate::engine;
use crate::environment::Environment;
use crate::error::Error;
use crate::manifest::model::Container;
use crate::plan::{self, ImageOutput, Orders, PlannedContainer};
use crate::project::{self, Project};
use crate::registry::credentials::CredentialSources;
use crate::release::channel::{self, ChannelRequest, Sources};
use crate::report::inputs::{ContextFiles, Listing};
use crate::report::output::Output;
use crate::resolve::{self, Reading, Settings};
use crate::retry::RetryPolicy;

pub(crate) async fn run(
    args: &InputsArgs,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let (mut project, warnings) = load(&[], invocation, environment)?;
    warn(&warnings, output);
    let container = project.manifest.containers.get(&args.name).cloned();
    let container = container.ok_or_else(|| project::unknown(&args.name, &project.manifest))?;
    // Git may not trust the checkout: then every file is read.
    let checkout = Checkout::find(&project.manifest.root).ok().flatten();
    let index = checkout.as_ref().map(Index::read).unwrap_or_default();
    let root = project.manifest.root.clone();
    let contexts =
        inputs::contexts(&container).map_err(|error| inputs::diagnostic(&error, &[], &root))?;
    let mut read = Vec::with_capacity(contexts.len());
    for context in &contexts {
        let files =
            files(context, &index).map_err(|error| inputs::diagnostic(&error, &contexts, &root))?;
        read.push(ContextFiles::new(context, files, &root));
    }
    let planned = keyed(&mut project, &container, index, environment, output).await?;
    let listing = Listing::new(&planned, read);
    output.out(&match args.format {
        FormatArg::Human => listing.human(),
        FormatArg::Json => listing.json(),
    });
    Ok(ExitCode::SUCCESS)
}

/// The container with what is known of its key, which is made as for a run.
async fn keyed(
    project: &mut Project,
    container: &Container,
    index: Arc<Index>,
    environment: &Environment,
    output: &Output,
) -> Result<PlannedContainer, Error> {
    // The names of releases are no inputs, and some can be made on a branch only.
    for container in project.manifest.containers.values_mut() {
        container.tags.clear();
    }
    let (ecr, said) = match registry::locate(&mut project.manifest, true).await {
        Ok((ecr, said)) => (ecr, said.into_iter().collect()),
        Err(error) => (None, error.diagnostics),
    };
    let said = said.into_iter().map(|said| Diagnostic {
        severity: Severity::Warning,
        ..said
    });
    warn(&said.collect::<Vec<_>>(), output);
    let credentials = CredentialSources {
        ecr,
        ..CredentialSources::new(environment.docker_config())
    };
    let registry = client(&project.manifest, credentials).asking(RetryPolicy::DRY_RUN);
    let selected = IndexMap::from([(container.name.clone(), "named".to_owned())]);
    let nothing = ChannelRequest {
        no_promote: true,
        ..ChannelRequest::default()
    };
    let sources = Sources::default();
    let orders = Orders {
        release: request::release(None, environment)?,
        channels: channel::decide(&project.manifest.channels, &sources, &nothing),
        tags: vec![],
        tag_unchanged: false,
        output: ImageOutput {
            push: true,
            load: false,
        },
        base: None,
    };
    let mut plan = plan::make(project, &selected, orders, &sources)?;
    warn(&project.findings(plan.containers.keys())?, output);
    let pinned = lock::honour(&plan, project, true, &registry, environment).await?;
    warn(&pinned.said, output);
    let settings = Settings {
        build_anyway: None,
        no_cache: None,
        builds: false,
        published: None,
        compare_all: false,
        attributes: engine::attributes,
        locked: pinned.digests,
        now: u64::try_from(clock::timestamp().as_second()).unwrap_or_default(),
    };
    // What there is to say of it is why containers are built; why there is no key is told with the inputs.
    let names = project.graph.closure([container.name.as_str()]);
    let reading = Reading::begin(project, names, || index);
    resolve::settle(&mut plan, project, &registry, reading, settings).await;
    let planned = plan.containers.swap_remove(&container.name);
    planned.ok_or_else(|| project::unknown(&container.name, &project.manifest).into())
}

/// All that is left of a context, in the order in which it is sent.
fn files(context: &BuildContext, index: &Arc<Index>) -> Result<Vec<Entry>, ContextError> {
    let mut files = Vec::new();
    walk::walk(
        &context.root,
        &context.filter(),
        &*index.known(&context.root),
        &CancellationToken::new(),
        |entry| {
            files.push(entry);
            Ok(())
        },
    )?;
    Ok(files)
}
