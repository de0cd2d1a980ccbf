//! `skiff deploy` and `skiff build`: from request to plan, and from plan to run.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::args::{FormatArg, PlanFormatArg};
use super::ready::{bucket, prepare};
use super::released::{self, Looked};
use super::request::{self, DeployRequest, Invocation, PlanRequest, Selection};
use super::selection::{Selected, Survey};
use super::{builder, contexts, cost, keys, nothing, registry};
use crate::atomic_file;
use crate::buildkit::session::auth::AuthService;
use crate::buildkit::session::load::Loader;
use crate::cancel::{self, CancellationToken};
use crate::changes::git::Checkout;
use crate::diagnostic::{Diagnostic, Severity, human};
use crate::engine::dispatcher::{self, Tools};
use crate::engine::event::Events;
use crate::engine::outcome::{ContainerStatus, RunOutcome};
use crate::engine::private;
use crate::engine::releasing::Releasing;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::manifest;
use crate::manifest::model::{Container, Platform, ProjectManifest, Provider};
use crate::plan::{self, Orders, Plan};
use crate::profile;
use crate::project::{self, Project};
use crate::registry::credentials::CredentialSources;
use crate::registry::{Client, Options};
use crate::release::channel::{self, ChannelDecision, ChannelRequest, Sources};
use crate::release::ci;
use crate::release::lineage::History;
use crate::release::publish::Circumstances;
use crate::release::record::Home;
use crate::release::store::Store;
use crate::report::output::{self, Output};
use crate::report::{self, Progress, failure, metadata, summary};
use crate::retry::RetryPolicy;

/// How often a run that is named by the time waits for another name.
const OTHER_NAMES: usize = 10;

/// Runs the command to its exit code; errors are those found before anything was done. Where the time gives a name that
/// another run has, the next second gives another one.
pub(crate) async fn run(
    mut request: DeployRequest,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let cancel = cancel::on_signals(output.clone()).map_err(|error| {
        Error::from(Diagnostic::error("signals cannot be listened to")).caused_by(error)
    })?;
    for _ in 0..OTHER_NAMES {
        match attempt(&request, &cancel, invocation, environment, output).await {
            Err(error) if error.kind == ErrorKind::NameTaken && request.named_by_clock => {}
            ended => return ended,
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = cancel.cancelled() => return Err(interrupted()),
        }
        request.release = request::by_clock()?;
    }
    attempt(&request, &cancel, invocation, environment, output).await
}

/// The same under the name that the release has now.
async fn attempt(
    request: &DeployRequest,
    cancel: &CancellationToken,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let (mut project, warnings) = load(&request.platforms, invocation, environment)?;
    warn(&warnings, output);
    let mut survey = Survey::new(&project.manifest, &request.selection, environment)?;
    let (ecr, said) = tokio::select! {
        located = registry::locate(&mut project.manifest, request.dry_run) => located?,
        () = cancel.cancelled() => return Err(interrupted()),
    };
    warn(said.as_slice(), output);
    let credentials = CredentialSources {
        ecr,
        ..CredentialSources::new(environment.docker_config())
    };
    let mut client = client(&project.manifest, credentials.clone());
    if request.dry_run {
        client = client.asking(RetryPolicy::DRY_RUN);
    }
    let looked = tokio::select! {
        looked = look(&project, &survey, request, &credentials, &client) => looked,
        () = cancel.cancelled() => return Err(interrupted()),
    };
    let released = looked.as_ref().and_then(Looked::released);
    if request.named_by_clock && released.is_some_and(|known| known.has_release(&request.release)) {
        let taken = format!("there is a release `{}` already", request.release);
        let diagnostic = Diagnostic::error(taken).help("run it again; nothing was built");
        return Err(Error::new(ErrorKind::NameTaken, vec![diagnostic]));
    }
    let selected = survey.select(&project, request, released)?;
    let read = survey.read(&project, &selected);
    let sources = survey.sources(&project, &selected.containers)?;
    let channels = channel::decide(&project.manifest.channels, &sources, &request.channels);
    let untrusted = !channels.is_trusted() && project.manifest.distrust();
    let mut plan = make_plan(&project, selected, request, channels, &sources)?;
    warn(&project.findings(plan.containers.keys())?, output);
    one_platform(&plan)?;
    let published = looked.as_ref().zip(project.manifest.channels.keys().next());
    let published = published.and_then(|(looked, first)| looked.names(first));
    let said = tokio::select! {
        said = keys::settle(&mut plan, &project, request, published, read, &client, environment) => said?,
        () = cancel.cancelled() => return Err(interrupted()),
    };
    warn(&said, output);
    let strayed = request.given.as_ref().map(|given| given.differences(&plan));
    if let Some(errors) = strayed.filter(|errors| !errors.is_empty()) {
        return Err(errors.into());
    }
    if request.dry_run {
        return tell_plan(&plan, request.plan.as_ref(), output);
    }
    if plan.containers.is_empty() {
        let mover = nothing::Finishing {
            store: Store::new(client.clone(), project.manifest.state.clone()),
            history: history(&project.manifest.root)?,
            registry: client,
            cancel: cancel.clone(),
            released: looked.and_then(|looked| looked.found.ok().flatten()),
        };
        return nothing::run(&plan, mover, request, invocation, output).await;
    }
    let built = plan.containers.iter().filter(|(name, _)| plan.builds(name));
    let built = built.map(|(_, planned)| &planned.container);
    contexts::check(built, &project.manifest.root)?;
    cost::rank(&mut plan, &project.graph, released);
    let mut circumstances = ci::circumstances(&sources, environment);
    circumstances.reason.clone_from(&request.reason);
    circumstances.leaves_no_record |= untrusted;
    execute(
        plan,
        &project,
        looked.as_ref(),
        circumstances,
        credentials,
        client,
        cancel.clone(),
        request,
        invocation,
        environment,
        output,
    )
    .await
}

fn interrupted() -> Error {
    let stopped = Diagnostic::error("interrupted before anything was built");
    Error::new(ErrorKind::Interrupted, vec![stopped])
}

/// Prints a plan, and does nothing.
fn tell_plan(
    plan: &Plan,
    request: Option<&PlanRequest>,
    output: &Output,
) -> Result<ExitCode, Error> {
    let text = match request {
        None => report::plan::render(plan),
        Some(PlanRequest::Why { name, format }) => match plan.containers.get(name) {
            Some(planned) if *format == FormatArg::Json => report::why::json(planned),
            Some(planned) => report::why::human(planned),
            None => return Err(Diagnostic::error("`why` takes one container").into()),
        },
        Some(PlanRequest::Plan { format, out }) => {
            if let Some(path) = out {
                let json = report::plan::json(plan);
                atomic_file::write(path, json.as_bytes()).map_err(|error| {
                    Diagnostic::error(format!("cannot write {}: {error}", path.display()))
                        .help("see that its folder exists and may be written to")
                })?;
            }
            match format {
                PlanFormatArg::Human => report::plan::render(plan),
                PlanFormatArg::Json => report::plan::json(plan),
                PlanFormatArg::GithubMatrix => report::plan::github_matrix(plan),
                PlanFormatArg::CodebuildBatch => report::plan::codebuild_batch(plan),
            }
        }
    };
    output.out(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// What the channel stands on that this run would move, else the manifest's first: from that follow which containers
/// changed, and how long their builds may take.
async fn look(
    project: &Project,
    survey: &Survey,
    request: &DeployRequest,
    credentials: &CredentialSources,
    registry: &Client,
) -> Option<Looked> {
    let manifest = &project.manifest;
    let wide = matches!(
        request.selection,
        Selection::Changed { since: None } | Selection::All { .. }
    );
    let of_use = !request.dry_run || wide;
    // A dry run may go on without ECR.
    let is_ecr = matches!(manifest.registry.provider, Provider::Ecr(_));
    if !of_use || (is_ecr && credentials.ecr.is_none()) {
        return None;
    }
    let asked = ChannelRequest {
        no_promote: false,
        ..request.channels.clone()
    };
    let moves = channel::decide(&manifest.channels, &survey.sources, &asked).moves;
    let channel = moves.first().or_else(|| manifest.channels.keys().next())?;
    let store = Store::new(registry.clone(), manifest.state.clone());
    released::read(&store, channel, request.dry_run).await
}

/// The manifest and its Dockerfiles. `platforms`: instead of the manifest's, if there are any.
pub(super) fn load(
    platforms: &[Platform],
    invocation: &Invocation,
    environment: &Environment,
) -> Result<(Project, Vec<Diagnostic>), Error> {
    let path = manifest::find(invocation.manifest.as_deref(), &environment.directory)?;
    let shown = project::shown(&path, &environment.directory);
    let (mut manifest, warnings) = manifest::load(&path, &shown)?;
    for container in manifest.containers.values_mut() {
        if !platforms.is_empty() {
            platforms.clone_into(&mut container.platforms);
        }
        epoch(container, environment)?;
    }
    Ok((project::read(manifest)?, warnings))
}

/// `SOURCE_DATE_EPOCH` of the environment, where the manifest gives none.
fn epoch(container: &mut Container, environment: &Environment) -> Result<(), Diagnostic> {
    let Some(value) = environment.get(profile::SOURCE_DATE_EPOCH) else {
        return Ok(());
    };
    if value.parse::<u64>().is_err() {
        let error = Diagnostic::error(format!(
            "SOURCE_DATE_EPOCH in the environment is `{value}`, which is no time"
        ));
        return Err(error.help("set it to seconds since 1970, such as `git log -1 --format=%ct`"));
    }
    let name = profile::SOURCE_DATE_EPOCH.to_owned();
    container
        .args
        .entry(name)
        .or_insert_with(|| value.to_owned());
    Ok(())
}

/// With `--platform`: what the manifest could not be held to.
fn one_platform(plan: &Plan) -> Result<(), Vec<Diagnostic>> {
    let errors = plan.containers.iter().filter_map(|(name, planned)| {
        let container = &planned.container;
        let why = container.profile.one_platform()?;
        (container.platforms.len() > 1).then(|| {
            Diagnostic::error(format!("`{name}` cannot be built for several platforms"))
                .at(container.span.clone(), why)
                .help("name one platform, or write `profile = \"oci\"`")
        })
    });
    let errors: Vec<_> = errors.collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

pub(super) fn warn(warnings: &[Diagnostic], output: &Output) {
    debug_assert!(
        warnings
            .iter()
            .all(|warning| warning.severity == Severity::Warning)
    );
    if !warnings.is_empty() {
        output.err(&human::render(warnings, output.screen()));
    }
}

fn make_plan(
    project: &Project,
    selected: Selected,
    request: &DeployRequest,
    channels: ChannelDecision,
    sources: &Sources,
) -> Result<Plan, Error> {
    let orders = Orders {
        release: request.release.clone(),
        channels,
        tags: request.tags.clone(),
        tag_unchanged: request.tag_unchanged,
        output: request.output,
        base: selected.base,
    };
    Ok(plan::make(project, &selected.containers, orders, sources)?)
}

#[expect(clippy::too_many_arguments, reason = "what a run is made of")]
async fn execute(
    mut plan: Plan,
    project: &Project,
    looked: Option<&Looked>,
    circumstances: Circumstances,
    credentials: CredentialSources,
    client: Client,
    cancel: CancellationToken,
    request: &DeployRequest,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let private = private::look(&plan, environment).await?;
    let event_file = invocation.events.as_deref().map(create).transpose()?;
    // Found out before anything is built, not after: the file can be written.
    let metadata = request.metadata_file.as_deref().map(create).transpose()?;
    drop(metadata);
    let store = Store::new(client.clone(), project.manifest.state.clone());
    let bucket = tokio::select! {
        bucket = Box::pin(bucket(&plan, &project.manifest, environment)) => bucket,
        () = cancel.cancelled() => return Err(interrupted()),
    };
    if let Err(warning) = &bucket {
        output.err(&human::render(
            std::slice::from_ref(warning),
            output.screen(),
        ));
        for planned in plan.containers.values_mut() {
            planned.build_cache.leave_bucket();
        }
    }
    let search = builder::find(&plan, project, request, &credentials, environment);
    let search = Box::pin(search);
    let found = tokio::select! {
        ready = prepare(&plan, &client, &store, looked, search) => ready?,
        () = cancel.cancelled() => return Err(interrupted()),
    };
    let created = match &credentials.ecr {
        Some(ecr) if plan.output.push => registry::provide(ecr, &plan, &project.manifest).await?,
        _ => vec![],
    };

    for error in &found.dead {
        output.err(&format!("warning: {}", error.full()));
    }
    let cpus: usize = found.builders.iter().map(|builder| builder.cpus).sum();
    let (events, receiver) = Events::channel();
    let reporter = report::spawn(receiver, invocation.progress, event_file, output.clone());
    if let (Progress::Terminal, Some(base)) = (invocation.progress, &plan.base) {
        output.err(&base.sentence());
    }
    let tools = Tools {
        // With one for each processor a fresh runner is slower than bake, which has no limit (bench/RESULTS.md).
        jobs: request.jobs.unwrap_or_else(|| (2 * cpus).clamp(2, 8)),
        keep_going: request.keep_going,
        stall: request.stall,
        created,
        builders: found.builders,
        loader: found.engine.map(Loader::new),
        chosen_by: found.reason,
        registry: client,
        bucket: bucket.ok().flatten(),
        auth: AuthService::new(credentials),
        private,
        events,
        machine: machine(environment),
        root: project.manifest.root.clone(),
        releasing: Releasing {
            store,
            history: history(&project.manifest.root)?,
            circumstances,
            force: request.force_promote,
            all: all(&project.manifest),
        },
    };
    let outcome = dispatcher::run(plan.clone(), tools, &cancel).await;
    // The run dropped its end of the channel: what is left is to be written.
    let _ = reporter.await;
    if let Some(path) = &request.metadata_file {
        let text = metadata::render(&outcome, &plan);
        if let Err(error) = atomic_file::write(path, text.as_bytes()) {
            output.err(&format!(
                "warning: cannot write {}: {error}",
                path.display()
            ));
        }
    }
    conclude(&outcome, &plan, invocation, output);
    Ok(outcome
        .error_kind()
        .map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind.code())))
}

/// Which commit is newer, as far as the checkout knows.
pub(super) fn history(root: &Path) -> Result<History, Diagnostic> {
    Ok(History::new(Checkout::find(root)?))
}

/// Every container with where its images are.
fn all(manifest: &ProjectManifest) -> Vec<(String, Home)> {
    let containers = manifest.containers.iter();
    containers
        .map(|(name, container)| (name.clone(), container.into()))
        .collect()
}

/// What there is to say at the end: failures in full, the table, the last lines.
fn conclude(outcome: &RunOutcome, plan: &Plan, invocation: &Invocation, output: &Output) {
    for (name, container) in &outcome.containers {
        if let (ContainerStatus::Failed, Some(failed)) = (container.status, &container.failure) {
            output.err(&format!(
                "\n{}",
                failure::render(name, failed, output.screen())
            ));
        }
    }
    if invocation.progress != Progress::Json {
        let columns = output::stdout_columns();
        let (rows, footer) = (
            summary::rows(outcome, columns),
            summary::footer(outcome, plan),
        );
        let footer = columns.map_or_else(|| footer.clone(), |n| human::wrapped(&footer, n));
        output.out(&format!("\n{rows}\n\n{footer}"));
    }
}

/// A file that a flag names, opened for writing.
pub(super) fn create(path: &Path) -> Result<File, Diagnostic> {
    File::create(path).map_err(|error| cannot_write(path, &error))
}

pub(super) fn cannot_write(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error(format!("cannot write {}: {error}", path.display()))
        .help("see that its folder exists and may be written to")
}

pub(super) fn client(manifest: &ProjectManifest, credentials: CredentialSources) -> Client {
    let mut options = Options::new(credentials);
    let registry = &manifest.registry;
    options
        .plain_http
        .insert(registry.host.clone(), registry.plain_http);
    Client::new(options)
}

/// A name of this machine that stays: systemd's machine id, else the host's name.
fn machine(environment: &Environment) -> String {
    let read = |path| {
        std::fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
            .filter(|t| !t.is_empty())
    };
    read("/etc/machine-id")
        .or_else(|| environment.get("HOSTNAME").map(str::to_owned))
        .or_else(|| read("/etc/hostname"))
        .unwrap_or_default()
}
