//! Whose name skiff gives to a registry: docker's `config.json` and its credential helpers.
//!
//! Helpers are run here and not by the `docker_credential` crate, which waits for them without a limit, blocks its
//! thread, and puts their output, which may hold a password, into its error. It decodes `auths` entries for us.
//! No credential is ever part of an error, a log line or a `Debug`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use docker_credential::DockerCredential;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::reference::RegistryHost;
use crate::secret::Secret;

/// Who to be at a registry, and where that was found.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub login: Login,
    /// Named in errors: `auths in /root/.docker/config.json`, `docker-credential-ecr-login`.
    pub source: String,
}

#[derive(Clone)]
pub(crate) enum Login {
    Password {
        username: String,
        password: Secret,
    },
    /// An OAuth2 refresh token for the registry's token service.
    IdentityToken(Secret),
}

/// Where credentials come from.
#[derive(Debug, Clone)]
pub(crate) struct CredentialSources {
    /// The folder of docker's `config.json`: `$DOCKER_CONFIG`, else `~/.docker`. `None` where there is no home.
    pub docker_config: Option<PathBuf>,
    /// How long a helper may take.
    pub helper_timeout: Duration,
}

impl CredentialSources {
    pub(crate) fn new(docker_config: Option<PathBuf>) -> Self {
        Self {
            docker_config,
            helper_timeout: Duration::from_secs(30),
        }
    }

    /// The credentials for `host`, or `None`: ask anonymously. As docker does it, a helper for the host comes before the
    /// general one, and `auths` counts only where no helper does.
    pub(crate) async fn credentials_for(
        &self,
        host: &RegistryHost,
    ) -> Result<Option<Credentials>, CredentialError> {
        let Some(folder) = &self.docker_config else {
            return Ok(None);
        };
        let path = folder.join("config.json");
        let Some(config) = read(&path).await? else {
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

/// The name under which docker keeps a registry's credentials. Docker Hub's is the URL of its long gone v1 API.
fn server_key(host: &RegistryHost) -> &str {
    match host.as_str() {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/",
        other => other,
    }
}

/// A key of `auths` or `credHelpers` as a host: some tools write `https://host/v1/`.
fn key_names(key: &str, host: &RegistryHost) -> bool {
    let bare = |text: &str| {
        let text = text.strip_prefix("https://").unwrap_or(text);
        let text = text.strip_prefix("http://").unwrap_or(text);
        let name = text.split('/').next().unwrap_or("").to_owned();
        match name.as_str() {
            "docker.io" | "registry-1.docker.io" => "index.docker.io".to_owned(),
            _ => name,
        }
    };
    bare(key) == bare(host.as_str())
}

/// docker/cli `cli/config/configfile`: what of it concerns credentials. Without `Debug`: it holds passwords.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    auths: Option<BTreeMap<String, Entry>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    /// base64 of `username:password`.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

impl ConfigFile {
    /// An empty name for a host says "no helper for this one", as in docker.
    fn helper_for(&self, host: &RegistryHost) -> Option<&str> {
        find(self.cred_helpers.as_ref(), host)
            .or(self.creds_store.as_ref())
            .map(String::as_str)
            .filter(|helper| !helper.is_empty())
    }

    fn entry_for(
        &self,
        path: &Path,
        host: &RegistryHost,
    ) -> Result<Option<Credentials>, CredentialError> {
        let Some(entry) = find(self.auths.as_ref(), host) else {
            return Ok(None);
        };
        let found = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let login = if let Some(token) = found(&entry.identitytoken) {
            Login::IdentityToken(Secret::new(token))
        } else if let Some(auth) = found(&entry.auth) {
            decode(&auth).ok_or_else(|| CredentialError::Entry {
                path: path.to_owned(),
                host: host.to_string(),
            })?
        } else if let (Some(username), Some(password)) =
            (found(&entry.username), found(&entry.password))
        {
            login(username, password)
        } else {
            return Ok(None);
        };
        Ok(Some(Credentials {
            login,
            source: format!("auths in {}", path.display()),
        }))
    }
}

fn find<'a, T>(entries: Option<&'a BTreeMap<String, T>>, host: &RegistryHost) -> Option<&'a T> {
    let entries = entries?;
    entries.get(server_key(host)).or_else(|| {
        entries
            .iter()
            .find_map(|(key, value)| key_names(key, host).then_some(value))
    })
}

fn login(username: String, password: String) -> Login {
    if username == "<token>" {
        Login::IdentityToken(Secret::new(password))
    } else {
        Login::Password {
            username,
            password: Secret::new(password),
        }
    }
}

/// Undoes base64 and splits at the first colon, by the crate that knows docker's file: it is shown this one value only,
/// so that it finds no helper to run.
fn decode(auth: &str) -> Option<Login> {
    let document = serde_json::json!({ "auths": { "it": { "auth": auth } } }).to_string();
    match docker_credential::get_credential_from_reader(document.as_bytes(), "it") {
        Ok(DockerCredential::UsernamePassword(username, password)) => Some(login(
            username,
            // Docker pads what it encodes in some versions, and trims what it decodes.
            password.trim_matches('\0').to_owned(),
        )),
        _ => None,
    }
}

async fn read(path: &Path) -> Result<Option<ConfigFile>, CredentialError> {
    let text = match tokio::fs::read(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(CredentialError::Unreadable {
                path: path.to_owned(),
                reason: error.kind().to_string(),
            });
        }
    };
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        CredentialError::Damaged {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            // serde's own text quotes the value it did not like, and that may be a password.
            reason: if error.is_data() {
                "a value of the wrong type"
            } else {
                "not JSON"
            },
        }
    })
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

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
        };
        let text = match sources
            .credentials_for(&RegistryHost::new(host).unwrap())
            .await
        {
            Ok(None) => "anonymous".to_owned(),
            Ok(Some(Credentials { login, source })) => match login {
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

    fn helper(folder: &Path, script: &str) -> String {
        let bin = folder.join("docker-credential-x");
        std::fs::write(&bin, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&bin, std::fs::Permissions::from_mode(0o755)).unwrap();
        bin.display().to_string()
    }

    async fn run(script: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let program = helper(folder.path(), script);
        let sources = CredentialSources {
            docker_config: None,
            helper_timeout: Duration::from_millis(500),
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
            run("sleep 60").await,
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
