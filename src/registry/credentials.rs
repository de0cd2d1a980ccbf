//! Whose name skiff gives to a registry: ECR's token for its own, else docker's `config.json` and its credential helpers.
//!
//! Helpers are run here and not by the `docker_credential` crate, which waits for them without a limit, blocks its
//! thread, and puts their output, which may hold a password, into its error. It decodes `auths` entries for us.
//! No credential is ever part of an error, a log line or a `Debug`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::docker_config::{self, login, server_key};
use super::ecr::{Ecr, EcrError};
use crate::reference::RegistryHost;
use crate::secret::Secret;

/// Who to be at a registry, and where that was found.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub login: Login,
    /// Named in errors: `auths in /root/.docker/config.json`, `docker-credential-ecr-login`.
    pub source: String,
    /// From then on others are to be asked for; `None` where that is not known.
    pub until: Option<Instant>,
}

#[derive(Clone)]
pub(crate) enum Login {
    Password {
        username: String,
        password: Secret,
    },
    /// An OAuth 2 refresh token for the registry's token service.
    IdentityToken(Secret),
}

/// Where credentials come from.
#[derive(Debug, Clone)]
pub(crate) struct CredentialSources {
    /// The folder of docker's `config.json`: `$DOCKER_CONFIG`, else `~/.docker`. `None` where there is no home.
    pub docker_config: Option<PathBuf>,
    /// How long a helper may take.
    pub helper_timeout: Duration,
    /// Knows the token for its own host.
    pub ecr: Option<Ecr>,
}

impl CredentialSources {
    pub(crate) fn new(docker_config: Option<PathBuf>) -> Self {
        Self {
            docker_config,
            helper_timeout: Duration::from_secs(30),
            ecr: None,
        }
    }

    /// The credentials for `host`, or `None`: ask anonymously. As docker does it, a helper for the host comes before the
    /// general one, and `auths` counts only where no helper does.
    pub(crate) async fn credentials_for(
        &self,
        host: &RegistryHost,
    ) -> Result<Option<Credentials>, CredentialError> {
        if let Some(ecr) = self.ecr_of(host) {
            return Ok(Some(ecr.credentials().await?));
        }
        let Some(folder) = &self.docker_config else {
            return Ok(None);
        };
        let path = folder.join("config.json");
        let Some(config) = docker_config::read(&path).await? else {
            return Ok(None);
        };
        match config.helper_for(host) {
            Some(helper) => {
                let program = format!("docker-credential-{helper}");
                self.ask_helper(&path, program, host).await
            }
            None => config.entry_for(&path, host),
        }
    }

    /// The ECR registry that has this host.
    pub(super) fn ecr_of(&self, host: &RegistryHost) -> Option<&Ecr> {
        self.ecr.as_ref().filter(|ecr| ecr.host() == host)
    }

    /// Runs `<program> get` (docker/docker-credential-helpers: server on stdin, JSON on stdout).
    async fn ask_helper(
        &self,
        path: &Path,
        program: String,
        host: &RegistryHost,
    ) -> Result<Option<Credentials>, CredentialError> {
        let run = run_helper(&program, server_key(host));
        // A timeout drops the future, and with it the child, which is killed.
        let (status, output) = match tokio::time::timeout(self.helper_timeout, run).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(CredentialError::HelperMissing {
                    program,
                    path: path.to_owned(),
                });
            }
            Ok(Err(error)) => {
                return Err(CredentialError::HelperFailed {
                    program,
                    outcome: error.kind().to_string(),
                    server: server_key(host).to_owned(),
                });
            }
            Err(_) => {
                return Err(CredentialError::HelperTimeout {
                    program,
                    limit: self.helper_timeout,
                });
            }
        };
        if !status.success() {
            if output.trim_ascii() == b"credentials not found in native keychain" {
                return Ok(None);
            }
            return Err(CredentialError::HelperFailed {
                program,
                outcome: status.to_string(),
                server: server_key(host).to_owned(),
            });
        }
        let answer: HelperAnswer =
            serde_json::from_slice(&output).map_err(|_| CredentialError::HelperAnswer {
                program: program.clone(),
            })?;
        Ok(Some(Credentials {
            login: login(answer.username, answer.secret),
            source: program,
            until: None,
        }))
    }
}

async fn run_helper(
    program: &str,
    server: &str,
) -> std::io::Result<(std::process::ExitStatus, Vec<u8>)> {
    /// Far above any token; a helper that writes more is broken.
    const OUTPUT: u64 = 1 << 20;
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input is free to close it; its exit status tells the rest.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(OUTPUT).read_to_end(&mut output).await?;
    }
    Ok((child.wait().await?, output))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Why there is no saying who to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}:{line}:{column}: {reason}: mend the file, or move it away and log in again", path.display())]
    Damaged {
        path: PathBuf,
        line: usize,
        column: usize,
        reason: &'static str,
    },
    #[error("{}: the `auth` of `{host}` is not base64 of `user:password`: log in again with `docker login {host}`", path.display())]
    Entry { path: PathBuf, host: String },
    #[error("{program}, which {} names, is not on PATH: install it, or take it out of that file", path.display())]
    HelperMissing { program: String, path: PathBuf },
    #[error("{program} failed ({outcome}): run `echo {server} | {program} get` to see why")]
    HelperFailed {
        program: String,
        outcome: String,
        server: String,
    },
    #[error(
        "{program} gave no answer within {limit:?}: it may be waiting for input or for a locked keychain"
    )]
    HelperTimeout { program: String, limit: Duration },
    #[error("{program} answered with something that is not credentials")]
    HelperAnswer { program: String },
    #[error(transparent)]
    Ecr(#[from] EcrError),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `user:password` or `token=…`, with its source; the temp folder's name taken out.
    async fn ask(config: &str, host: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        ask_in(folder.path(), host).await
    }

    async fn ask_in(folder: &Path, host: &str) -> String {
        let sources = CredentialSources {
            docker_config: Some(folder.to_owned()),
            helper_timeout: Duration::from_millis(500),
            ecr: None,
        };
        let text = match sources
            .credentials_for(&RegistryHost::new(host).unwrap())
            .await
        {
            Ok(None) => "anonymous".to_owned(),
            Ok(Some(Credentials { login, source, .. })) => match login {
                Login::Password { username, password } => {
                    format!("{username}:{} from {source}", password.expose())
                }
                Login::IdentityToken(token) => format!("token={} from {source}", token.expose()),
            },
            Err(error) => error.to_string(),
        };
        text.replace(&folder.display().to_string(), "DIR")
    }

    #[tokio::test]
    async fn no_folder_and_no_file_are_anonymous() {
        let host = RegistryHost::new("ghcr.io").unwrap();
        let nowhere = CredentialSources::new(None);
        assert!(nowhere.credentials_for(&host).await.unwrap().is_none());
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ask_in(folder.path(), "ghcr.io").await, "anonymous");
        assert_eq!(ask("", "ghcr.io").await, "anonymous");
        assert_eq!(ask("{}", "ghcr.io").await, "anonymous");
    }

    #[tokio::test]
    async fn auths_are_found_by_host() {
        // dTpwOnc= is `u:p:w`
        let config = r#"{"auths": {
            "localhost:5000": {"auth": "dTpwOnc="},
            "https://index.docker.io/v1/": {"auth": "dTpwOnc"},
            "https://quay.io/v2/": {"username": "q", "password": "s"},
            "acr.example": {"auth": "dTpwOnc=", "identitytoken": "refresh"},
            "empty.example": {}
        }}"#;
        for (host, expected) in [
            ("localhost:5000", "u:p:w from auths in DIR/config.json"),
            ("docker.io", "u:p:w from auths in DIR/config.json"),
            ("quay.io", "q:s from auths in DIR/config.json"),
            ("acr.example", "token=refresh from auths in DIR/config.json"),
            ("empty.example", "anonymous"),
            ("localhost", "anonymous"),
        ] {
            assert_eq!(ask(config, host).await, expected, "{host}");
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_named_and_nothing_of_it_shown() {
        insta::assert_snapshot!(
            ask("{\n  \"auths\": {,\n}", "ghcr.io").await,
            @"DIR/config.json:2:13: not JSON: mend the file, or move it away and log in again"
        );
        insta::assert_snapshot!(
            ask("{\n  \"auths\": \"hunter2\"}", "ghcr.io").await,
            @"DIR/config.json:2:20: a value of the wrong type: mend the file, or move it away and log in again"
        );
        insta::assert_snapshot!(
            ask(r#"{"auths": {"ghcr.io": {"auth": "hunter2!"}}}"#, "ghcr.io").await,
            @"DIR/config.json: the `auth` of `ghcr.io` is not base64 of `user:password`: log in again with `docker login ghcr.io`"
        );
    }

    /// Another process writes the file: a descriptor for writing, inherited by a helper that starts at the same moment,
    /// would make it "text file busy".
    fn helper(folder: &Path, script: &str) -> String {
        let program = folder.join("docker-credential-x");
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\"; chmod 755 \"$0\"";
        let status = std::process::Command::new("sh")
            .args(["-c", write])
            .arg(&program)
            .arg(script)
            .status();
        assert!(status.unwrap().success());
        program.display().to_string()
    }

    async fn run(script: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let program = helper(folder.path(), script);
        let sources = CredentialSources {
            docker_config: None,
            helper_timeout: Duration::from_millis(500),
            ecr: None,
        };
        let host = RegistryHost::new("docker.io").unwrap();
        let text = match sources
            .ask_helper(Path::new("config.json"), program, &host)
            .await
        {
            Ok(None) => "anonymous".to_owned(),
            Ok(Some(credentials)) => match credentials.login {
                Login::Password { username, password } => {
                    format!("{username}:{}", password.expose())
                }
                Login::IdentityToken(token) => format!("token={}", token.expose()),
            },
            Err(error) => error.to_string(),
        };
        text.replace(&folder.path().display().to_string(), "DIR")
    }

    #[tokio::test]
    async fn helpers_get_the_server_and_answer_in_json() {
        let echo = r#"read s; echo "{\"ServerURL\":\"$s\",\"Username\":\"$1\",\"Secret\":\"$s\"}""#;
        assert_eq!(run(echo).await, "get:https://index.docker.io/v1/");
        assert_eq!(
            run(r#"echo '{"Username":"<token>","Secret":"abc"}'"#).await,
            "token=abc"
        );
        assert_eq!(
            run("echo credentials not found in native keychain; exit 1").await,
            "anonymous"
        );
    }

    #[tokio::test]
    async fn a_helper_that_fails_is_named_and_its_output_is_not_shown() {
        insta::assert_snapshot!(
            run("echo hunter2; echo hunter2 >&2; exit 3").await,
            @"DIR/docker-credential-x failed (exit status: 3): run `echo https://index.docker.io/v1/ | DIR/docker-credential-x get` to see why"
        );
        insta::assert_snapshot!(
            run("echo hunter2").await,
            @"DIR/docker-credential-x answered with something that is not credentials"
        );
        insta::assert_snapshot!(
            run("exec sleep 60").await,
            @"DIR/docker-credential-x gave no answer within 500ms: it may be waiting for input or for a locked keychain"
        );
    }

    #[tokio::test]
    async fn the_helper_of_the_host_comes_first_and_a_missing_one_is_an_error() {
        let config = r#"{"credsStore": "skiff-no-store", "credHelpers": {"ghcr.io": "skiff-no-helper", "plain.example": ""},
            "auths": {"plain.example": {"auth": "dTpw"}}}"#;
        insta::assert_snapshot!(
            ask(config, "ghcr.io").await,
            @"docker-credential-skiff-no-helper, which DIR/config.json names, is not on PATH: install it, or take it out of that file"
        );
        insta::assert_snapshot!(
            ask(config, "quay.io").await,
            @"docker-credential-skiff-no-store, which DIR/config.json names, is not on PATH: install it, or take it out of that file"
        );
        assert_eq!(
            ask(config, "plain.example").await,
            "u:p from auths in DIR/config.json"
        );
    }
}
