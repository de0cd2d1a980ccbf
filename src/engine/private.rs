//! What a build may ask of this machine and nobody else may see: secrets and SSH agents. They are looked for before
//! anything is built, and read when a build asks. And the proxies of docker's configuration, whose addresses may hold a
//! password.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::buildkit::session::secrets::{self, MAX_SECRET, SecretValue, SecretsService};
use crate::buildkit::session::ssh::SshService;
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::manifest::model::{Container, ContainerName, SecretFrom, SecretSource, SshAgent};
use crate::plan::Plan;
use crate::registry::docker_config::proxy_arguments;
use crate::secret::Secret;

/// The address under which docker's configuration knows the engine when none is given.
const DEFAULT_ENGINE: &str = "unix:///var/run/docker.sock";

/// What one container's builds are given beside credentials.
#[derive(Clone, Default)]
pub(crate) struct Private {
    pub(crate) secrets: SecretsService,
    pub(crate) ssh: SshService,
    /// Predefined build arguments with the proxies of its steps. They are no part of an image, nor of its key.
    pub(crate) proxies: Arc<BTreeMap<&'static str, Secret>>,
}

/// For every container of the plan; or all that is missing.
pub(crate) async fn look(
    plan: &Plan,
    environment: &Environment,
) -> Result<BTreeMap<ContainerName, Private>, Vec<Diagnostic>> {
    let engine = environment.get("DOCKER_HOST").unwrap_or(DEFAULT_ENGINE);
    let folder = environment.docker_config();
    let proxies = proxy_arguments(folder.as_deref(), engine).await;
    let proxies = proxies.map_err(|error| vec![Diagnostic::error(error.to_string())])?;
    let proxies = Arc::new(proxies);
    let mut errors = Vec::new();
    let mut found = BTreeMap::new();
    for (name, planned) in &plan.containers {
        let private = Private {
            proxies: Arc::clone(&proxies),
            ..of(&planned.container, environment, &mut errors)
        };
        found.insert(name.clone(), private);
    }
    if errors.is_empty() {
        Ok(found)
    } else {
        Err(errors)
    }
}

fn of(container: &Container, environment: &Environment, errors: &mut Vec<Diagnostic>) -> Private {
    let mut values = HashMap::new();
    for source in &container.options.secrets {
        match secret(container, source, environment) {
            Ok(value) => drop(values.insert(source.id.clone(), value)),
            Err(error) => errors.push(error),
        }
    }
    let mut sockets = HashMap::new();
    for agent in &container.options.ssh {
        match socket(container, agent, environment) {
            Ok(path) => drop(sockets.insert(agent.id.clone(), path)),
            Err(error) => errors.push(error),
        }
    }
    Private {
        secrets: SecretsService::new(values),
        ssh: SshService::new(sockets),
        ..Private::default()
    }
}

fn secret(
    container: &Container,
    source: &SecretSource,
    environment: &Environment,
) -> Result<SecretValue, Diagnostic> {
    let id = &source.id;
    let error = |why: String| {
        Diagnostic::error(format!("secret `{id}` of `{}` {why}", container.name))
            .at(source.span.clone(), "")
    };
    match &source.from {
        // An empty one is a value: BuildKit makes an empty file of it.
        SecretFrom::Env(name) => match environment.variables.get(name) {
            None => Err(error(format!(
                "cannot be read: {name} is not set in the environment"
            ))
            .help(format!("set {name}, or take the secret out"))),
            Some(value) if value.len() > MAX_SECRET => Err(too_large(error)),
            Some(value) => Ok(SecretValue::Variable(Secret::new(value.clone()))),
        },
        SecretFrom::File(path) => match secrets::read(path) {
            Ok(_) => Ok(SecretValue::File(path.clone())),
            Err(secrets::UnreadSecret::TooLarge) => Err(too_large(error)),
            Err(why) => Err(error(format!("cannot be read: {}: {why}", path.display()))
                .help("write the file, relative to this one, or take the secret out")),
        },
    }
}

fn too_large(error: impl Fn(String) -> Diagnostic) -> Diagnostic {
    error(format!("has more than {} KiB", MAX_SECRET >> 10))
        .note("BuildKit takes no larger one")
        .help("put what is large into a named context, and only its key into a secret")
}

fn socket(
    container: &Container,
    agent: &SshAgent,
    environment: &Environment,
) -> Result<PathBuf, Diagnostic> {
    const START: &str = "start an agent and give it the key: eval \"$(ssh-agent)\" && ssh-add";
    let id = &agent.id;
    let error = |why: String| {
        Diagnostic::error(format!(
            "no ssh agent `{id}` for container `{}`: {why}",
            container.name
        ))
        .at(agent.span.clone(), "")
    };
    let path = match (&agent.socket, environment.get("SSH_AUTH_SOCK")) {
        (Some(path), _) => path.clone(),
        (None, Some(path)) => environment.directory.join(path),
        (None, None) => {
            return Err(error("SSH_AUTH_SOCK is not set".into()).help(START));
        }
    };
    match connect(&path) {
        Ok(()) => Ok(path),
        Err(Unreached::NoSocket) => Err(error(format!("{} is not a socket", path.display()))
            .note("keys are not read from files: an agent signs, and no build sees the key")
            .help(format!("{START} {}", path.display()))),
        Err(Unreached::Io(why)) => Err(error(format!("{}: {why}", path.display())).help(START)),
    }
}

enum Unreached {
    NoSocket,
    Io(std::io::Error),
}

fn connect(path: &Path) -> Result<(), Unreached> {
    let found = std::fs::metadata(path).map_err(Unreached::Io)?;
    if !found.file_type().is_socket() {
        return Err(Unreached::NoSocket);
    }
    UnixStream::connect(path).map(drop).map_err(Unreached::Io)
}
