//! `skiff deploy` and `skiff build`: from request to plan, and from plan to run.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use super::registry;
use super::request::{DeployRequest, Invocation};
use super::selection::{Selected, Survey};
use crate::atomic_file;
use crate::buildkit::Builder;
use crate::buildkit::dial::{self, DialError, EngineAddress};
use crate::buildkit::session::auth::AuthService;
use crate::cancel;
use crate::diagnostic::{Diagnostic, Severity, human};
use crate::engine::dispatcher::{self, Tools};
use crate::engine::event::Events;
use crate::engine::outcome::{ContainerStatus, RunOutcome};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::manifest;
use crate::plan::{self, Orders, Plan};
use crate::project::{self, Project};
use crate::registry::credentials::CredentialSources;
use crate::registry::{Client, Options};
use crate::release::channel::{self, Sources};
use crate::release::names;
use crate::report::output::{self, Output};
use crate::report::{self, Progress, failure, metadata, summary};

/// Runs the command to its exit code; errors are those found before anything was done.
pub(crate) async fn run(
    request: DeployRequest,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let (mut project, warnings) = load(&request, invocation, environment)?;
    warn(&warnings, output);
    let mut survey = Survey::new(&project.manifest, environment)?;
    let selected = survey.select(&project, &request.selection, None)?;
    let ecr = registry::locate(&mut project.manifest, request.dry_run).await?;
    let sources = survey.sources(&project, &selected.containers)?;
    let plan = make_plan(&project, selected, &request, &sources)?;
    warn(&project.findings(plan.containers.keys())?, output);
    if request.dry_run {
        output.out(&report::plan::render(&plan));
        return Ok(ExitCode::SUCCESS);
    }
    if plan.containers.is_empty() {
        return nothing(&plan, &request, invocation, output).await;
    }
    let credentials = CredentialSources {
        ecr,
        ..CredentialSources::new(environment.docker_config())
    };
    execute(
        plan,
        &project,
        credentials,
        &request,
        invocation,
        environment,
        output,
    )
    .await
}

/// The manifest and its Dockerfiles.
fn load(
    request: &DeployRequest,
    invocation: &Invocation,
    environment: &Environment,
) -> Result<(Project, Vec<Diagnostic>), Error> {
    let path = manifest::find(invocation.manifest.as_deref(), &environment.directory)?;
    let shown = project::shown(&path, &environment.directory);
    let (mut manifest, warnings) = manifest::load(&path, &shown)?;
    if let Some(platform) = &request.platform {
        for container in manifest.containers.values_mut() {
            container.platform = platform.clone();
        }
    }
    Ok((project::read(manifest)?, warnings))
}

fn warn(warnings: &[Diagnostic], output: &Output) {
    debug_assert!(
        warnings
            .iter()
            .all(|warning| warning.severity == Severity::Warning)
    );
    if !warnings.is_empty() {
        output.err(&human::render(warnings, output.color));
    }
}

fn make_plan(
    project: &Project,
    selected: Selected,
    request: &DeployRequest,
    sources: &Sources,
) -> Result<Plan, Error> {
    let channels = channel::decide(&project.manifest.channels, sources, &request.channels);
    let orders = Orders {
        release: request.release.clone(),
        channels,
        tags: request.tags.clone(),
        output: request.output,
        base: selected.base,
    };
    Ok(plan::make(project, &selected.containers, orders, sources)?)
}

/// A run that has nothing to do, told as every run is.
async fn nothing(
    plan: &Plan,
    request: &DeployRequest,
    invocation: &Invocation,
    output: &Output,
) -> Result<ExitCode, Error> {
    let file = invocation.events.as_deref().map(create).transpose()?;
    if let Some(path) = &request.metadata_file {
        create(path)?;
        atomic_file::write(path, b"{}\n").map_err(|error| cannot_write(path, &error))?;
    }
    let progress = match invocation.progress {
        Progress::Json => Progress::Json,
        _ => Progress::Quiet,
    };
    let (events, receiver) = Events::channel();
    let reporter = report::spawn(receiver, progress, file, output.clone());
    dispatcher::nothing(plan, events).await;
    let _ = reporter.await;
    if progress != Progress::Json {
        output.out(&report::plan::nothing(plan));
    }
    Ok(ExitCode::SUCCESS)
}

async fn execute(
    plan: Plan,
    project: &Project,
    credentials: CredentialSources,
    request: &DeployRequest,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let event_file = invocation.events.as_deref().map(create).transpose()?;
    // Found out before anything is built, not after: the file can be written.
    let metadata = request.metadata_file.as_deref().map(create).transpose()?;
    drop(metadata);
    let cancel = cancel::on_signals(output.clone()).map_err(|error| {
        Error::from(Diagnostic::error("signals cannot be listened to")).caused_by(error)
    })?;
    let client = client(project, credentials.clone());
    let builder = tokio::select! {
        ready = prepare(&plan, &client, environment) => ready?,
        () = cancel.cancelled() => {
            let stopped = Diagnostic::error("interrupted before anything was built");
            return Err(Error::new(ErrorKind::Interrupted, vec![stopped]));
        }
    };
    let created = match &credentials.ecr {
        Some(ecr) if plan.output.push => registry::provide(ecr, &plan, &project.manifest).await?,
        _ => vec![],
    };

    let (events, receiver) = Events::channel();
    let reporter = report::spawn(receiver, invocation.progress, event_file, output.clone());
    if let (Progress::Terminal, Some(base)) = (invocation.progress, &plan.base) {
        output.err(&base.sentence());
    }
    let tools = Tools {
        jobs: request.jobs.unwrap_or_else(|| builder.cpus.clamp(2, 8)),
        keep_going: request.keep_going,
        stall: request.stall,
        created,
        builder,
        registry: client,
        auth: AuthService::new(credentials),
        events,
        cache: project.manifest.cache.clone(),
        machine: machine(environment),
        root: project.manifest.root.clone(),
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

/// A builder that can do the job, and a registry in which the names of this run are free.
async fn prepare(
    plan: &Plan,
    registry: &Client,
    environment: &Environment,
) -> Result<Builder, Error> {
    let address =
        EngineAddress::from_docker_host(environment.get("DOCKER_HOST")).map_err(no_builder)?;
    let builder = dial::engine(&address).await.map_err(no_builder)?;
    if plan.output.push {
        names::free(plan, registry).await?;
    }
    Ok(builder)
}

/// What there is to say at the end: failures in full, the table, the last lines.
fn conclude(outcome: &RunOutcome, plan: &Plan, invocation: &Invocation, output: &Output) {
    for (name, container) in &outcome.containers {
        if let (ContainerStatus::Failed, Some(failed)) = (container.status, &container.failure) {
            output.err(&format!(
                "\n{}",
                failure::render(name, failed, output.color)
            ));
        }
    }
    if invocation.progress != Progress::Json {
        let (rows, footer) = (
            summary::rows(outcome, output::stdout_columns()),
            summary::footer(outcome, plan),
        );
        output.out(&format!("\n{rows}\n\n{footer}"));
    }
}

/// A file that a flag names, opened for writing.
fn create(path: &Path) -> Result<File, Diagnostic> {
    File::create(path).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error(format!("cannot write {}: {error}", path.display()))
        .help("see that its folder exists and may be written to")
}

fn no_builder(error: DialError) -> Error {
    let diagnostic = Diagnostic::error(error.to_string()).help(error.help());
    let diagnostic = match std::error::Error::source(&error) {
        Some(cause) => diagnostic.note(cause.to_string()),
        None => diagnostic,
    };
    Error::from(diagnostic).caused_by(error)
}

fn client(project: &Project, credentials: CredentialSources) -> Client {
    let mut options = Options::new(credentials);
    let registry = &project.manifest.registry;
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
