//! The driver `docker-container`: a buildkitd in a privileged container of the engine, made once, kept, and reused by every
//! run that wants the same configuration. What it has cached is in a volume that outlives the container.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::container::LogOutput;
use bollard::errors::Error as EngineError;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ExecConfig, HostConfig, Mount, MountType,
    RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, future, stream};
use tokio_util::io::StreamReader;

use super::buildkitd::Config;
use super::engine::Engine;
use super::stream::Stream as ByteStream;
use super::{Connected, DialError, Dialer, connect};
use crate::buildkit::{Builder, Driver, new_id};
use crate::clock;
use crate::reference::ImageRef;
use crate::registry::credentials::{CredentialSources, Login};

/// Marks containers of skiff's.
const LABEL: &str = "io.skiff.builder";

/// The longest that a buildkitd may take to answer after its container was started.
const START: Duration = Duration::from_mins(1);

/// The builder of this configuration: there already, or made now.
pub(super) async fn builder(
    engine: &Engine,
    image: &str,
    config: &Config,
    credentials: &CredentialSources,
) -> Result<Builder, DialError> {
    let name = format!("skiff-buildkit-{}", config.id());
    let image_id = provide_image(&engine.docker, image, credentials).await?;
    let machine = Machine {
        docker: &engine.docker,
        name: &name,
        image,
        image_id: &image_id,
        config,
    };
    machine.provide().await?;
    existing(engine, &name).await
}

/// A container that is there, whoever made it; it is started if need be.
pub(super) async fn existing(engine: &Engine, name: &str) -> Result<Builder, DialError> {
    let exec = Exec {
        docker: engine.docker.clone(),
        container: name.into(),
    };
    let connected = exec.ready(&engine.address.to_string()).await?;
    let version = connected
        .version
        .map_or_else(String::new, |v| format!(" {v}"));
    Ok(Builder {
        channel: connected.channel,
        connects: connected.connects,
        description: format!(
            "buildkit{version} in container {name} of docker engine {} at {}",
            engine.version(),
            engine.address
        ),
        cpus: engine.cpus(),
        driver: Driver::Container,
        sessions: None,
    })
}

/// The image's id; pulled if the engine has it not.
async fn provide_image(
    docker: &Docker,
    image: &str,
    credentials: &CredentialSources,
) -> Result<String, DialError> {
    let failed = |error: EngineError| DialError::Image(image.to_owned(), error.into());
    let inspected = match docker.inspect_image(image).await {
        Err(error) if status(&error) == Some(404) => {
            let options = CreateImageOptionsBuilder::default()
                .from_image(image)
                .build();
            let login = login(image, credentials).await?;
            let mut pull = docker.create_image(Some(options), None, login);
            while pull.try_next().await.map_err(failed)?.is_some() {}
            docker.inspect_image(image).await
        }
        inspected => inspected,
    };
    Ok(inspected.map_err(failed)?.id.unwrap_or_default())
}

/// Who to be at the image's registry.
async fn login(
    image: &str,
    credentials: &CredentialSources,
) -> Result<Option<DockerCredentials>, DialError> {
    let failed = |error| DialError::Image(image.to_owned(), error);
    let reference: ImageRef = image
        .parse()
        .map_err(|error| failed(anyhow::Error::new(error)))?;
    let found = credentials
        .credentials_for(&reference.repository.host)
        .await;
    let found = found.map_err(|error| failed(error.into()))?;
    Ok(found.map(|found| match found.login {
        Login::Password { username, password } => DockerCredentials {
            username: Some(username),
            password: Some(password.expose().to_owned()),
            ..DockerCredentials::default()
        },
        Login::IdentityToken(token) => DockerCredentials {
            identitytoken: Some(token.expose().to_owned()),
            ..DockerCredentials::default()
        },
    }))
}

/// A container that is to be.
struct Machine<'a> {
    docker: &'a Docker,
    name: &'a str,
    image: &'a str,
    image_id: &'a str,
    config: &'a Config,
}

impl Machine<'_> {
    /// Makes the container unless it is there; makes it anew when it is of another image, unless somebody builds in it.
    async fn provide(&self) -> Result<(), DialError> {
        let failed =
            |error| DialError::Container(format!("{} cannot be looked at", self.name), error);
        match self.docker.inspect_container(self.name, None).await {
            Ok(found) => {
                let same = found.image.as_deref() == Some(self.image_id);
                if same || self.is_used(&found).await {
                    return Ok(());
                }
                self.remove(self.name).await?;
            }
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => return Err(failed(error.into())),
        }
        self.make().await
    }

    /// Whether a client is connected to the one that is there.
    async fn is_used(&self, found: &ContainerInspectResponse) -> bool {
        for exec in found.exec_ids.iter().flatten() {
            let running = self.docker.inspect_exec(exec).await;
            if running.is_ok_and(|exec| exec.running == Some(true)) {
                return true;
            }
        }
        false
    }

    async fn remove(&self, name: &str) -> Result<(), DialError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        match self.docker.remove_container(name, Some(options)).await {
            // Somebody else was faster.
            Err(error) if !matches!(status(&error), Some(404 | 409)) => Err(DialError::Container(
                format!("{name} cannot be replaced by one of {}", self.image),
                error.into(),
            )),
            _ => Ok(()),
        }
    }

    /// It gets its name when it is whole, so that of two runs that make it at once neither starts half a container.
    async fn make(&self) -> Result<(), DialError> {
        let failed = |what: &'static str| {
            let text = format!("{} cannot be {what}", self.name);
            move |error: anyhow::Error| DialError::Container(text, error)
        };
        let draft = format!("{}-{}", self.name, new_id());
        let options = CreateContainerOptionsBuilder::default()
            .name(&draft)
            .build();
        self.docker
            .create_container(Some(options), self.body())
            .await
            .map_err(|error| failed("made")(error.into()))?;
        let finished = self.finish(&draft).await;
        match finished {
            Ok(()) => Ok(()),
            Err(error) => {
                self.remove(&draft).await?;
                // Somebody else made one meanwhile.
                if matches!(
                    error.downcast_ref::<EngineError>().map(status),
                    Some(Some(409))
                ) {
                    return Ok(());
                }
                Err(failed("made")(error))
            }
        }
    }

    async fn finish(&self, draft: &str) -> anyhow::Result<()> {
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let archive = bollard::body_full(self.config.archive()?.into());
        self.docker
            .upload_to_container(draft, Some(options), archive)
            .await?;
        let options = RenameContainerOptionsBuilder::default()
            .name(self.name)
            .build();
        self.docker.rename_container(draft, options).await?;
        Ok(())
    }

    fn body(&self) -> ContainerCreateBody {
        let state = Mount {
            target: Some("/var/lib/buildkit".into()),
            source: Some(format!("{}-state", self.name)),
            typ: Some(MountType::VOLUME),
            ..Mount::default()
        };
        let host = HostConfig {
            privileged: Some(true),
            init: Some(true),
            network_mode: self.config.host_network.then(|| "host".to_owned()),
            mounts: Some(vec![state]),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                ..RestartPolicy::default()
            }),
            ..HostConfig::default()
        };
        ContainerCreateBody {
            image: Some(self.image.to_owned()),
            env: Some(self.config.variables.clone()),
            labels: Some([(LABEL.to_owned(), self.config.id())].into()),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        }
    }
}

/// `buildctl dial-stdio` in a container: it passes bytes on to the buildkitd there.
#[derive(Clone)]
pub(super) struct Exec {
    docker: Docker,
    container: Arc<str>,
}

impl Exec {
    /// A fresh connection. The container is started where it does not run: an engine that was restarted may leave it so.
    pub(super) async fn open(&self) -> io::Result<ByteStream> {
        let run = || ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(["buildctl", "dial-stdio"].map(str::to_owned).into()),
            ..ExecConfig::default()
        };
        let exec = match self.docker.create_exec(&self.container, run()).await {
            // Not running.
            Err(error) if status(&error) == Some(409) => {
                let started = self.docker.start_container(&self.container, None).await;
                started.map_err(io::Error::other)?;
                self.docker.create_exec(&self.container, run()).await
            }
            exec => exec,
        };
        let exec = exec.map_err(io::Error::other)?.id;
        let options = StartExecOptions {
            output_capacity: Some(256 << 10),
            ..StartExecOptions::default()
        };
        let started = self.docker.start_exec(&exec, Some(options)).await;
        let StartExecResults::Attached { output, input } = started.map_err(io::Error::other)?
        else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let reader = StreamReader::new(Box::pin(bytes(output)));
        Ok(Box::new(tokio::io::join(reader, input)))
    }

    /// Connects once buildkitd answers, which takes it a moment after its start.
    async fn ready(&self, engine: &str) -> Result<Connected, DialError> {
        let until = clock::now() + START;
        let mut restarts = None;
        loop {
            let error = match connect(Dialer::Exec(self.clone())).await {
                Ok(connected) => return Ok(connected),
                Err(error) => error,
            };
            let state = match self.docker.inspect_container(&self.container, None).await {
                Err(error) if status(&error) == Some(404) => {
                    let name = self.container.to_string();
                    return Err(DialError::NoContainer(name, engine.to_owned()));
                }
                inspected => inspected.ok(),
            };
            // The engine starts one again that has ended.
            let restarted = state.as_ref().and_then(|found| found.restart_count);
            let ends = *restarts.get_or_insert(restarted) != restarted;
            let state = state.and_then(|found| found.state).unwrap_or_default();
            let runs = state.running == Some(true) && state.restarting != Some(true) && !ends;
            if clock::now() >= until || !runs {
                return Err(self.silent(error).await);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// With the last thing that buildkitd said, where it said something.
    async fn silent(&self, error: anyhow::Error) -> DialError {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail("5")
            .build();
        let logs = self.docker.logs(&self.container, Some(options));
        let lines: Vec<String> = logs
            .filter_map(|line| async { Some(line.ok()?.to_string().trim().to_owned()) })
            .collect()
            .await;
        let last = lines.into_iter().rfind(|line| !line.is_empty());
        let name = self.container.to_string();
        DialError::Silent(name, last.map_or(error, anyhow::Error::msg))
    }
}

/// What the program writes to stdout. What it says on stderr is the reason when it ends without a byte.
fn bytes(
    output: impl Stream<Item = Result<LogOutput, EngineError>>,
) -> impl Stream<Item = io::Result<Bytes>> {
    // `None` marks the end.
    let pieces = output.map(Some).chain(stream::once(async { None }));
    let state = (false, String::new());
    pieces
        .scan(state, |(heard, said), piece| {
            let piece = match piece {
                Some(Ok(LogOutput::StdErr { message })) => {
                    String::from_utf8_lossy(&message).trim().clone_into(said);
                    tracing::debug!(said, "buildctl dial-stdio");
                    None
                }
                Some(Ok(other)) => {
                    *heard = true;
                    Some(Ok(other.into_bytes()))
                }
                Some(Err(error)) => Some(Err(io::Error::other(error))),
                None if !*heard && !said.is_empty() => Some(Err(io::Error::other(said.clone()))),
                None => None,
            };
            future::ready(Some(piece))
        })
        .filter_map(future::ready)
}

/// The status with which the engine refused.
fn status(error: &EngineError) -> Option<u16> {
    match error {
        EngineError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}
