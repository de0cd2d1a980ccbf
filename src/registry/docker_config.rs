//! Docker's `config.json`: what of it concerns credentials and proxies (docker/cli, `cli/config/configfile`). Nothing here
//! has a `Debug`, and no error quotes the file: it holds passwords.

use std::collections::BTreeMap;
use std::path::Path;

use docker_credential::DockerCredential;
use serde::Deserialize;

use super::credentials::{CredentialError, Credentials, Login};
use crate::reference::RegistryHost;
use crate::secret::Secret;

/// The name under which docker keeps a registry's credentials. Docker Hub's is the URL of its long gone v1 API.
pub(super) fn server_key(host: &RegistryHost) -> &str {
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

/// The file, as far as it is read. Without `Debug`: it holds passwords.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ConfigFile {
    auths: Option<BTreeMap<String, Entry>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
    proxies: Option<BTreeMap<String, Proxies>>,
}

/// The proxies of what an engine runs and builds. An address may hold a password.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Proxies {
    #[serde(rename = "httpProxy")]
    http: Option<String>,
    #[serde(rename = "httpsProxy")]
    https: Option<String>,
    #[serde(rename = "noProxy")]
    no: Option<String>,
    #[serde(rename = "ftpProxy")]
    ftp: Option<String>,
}

impl Proxies {
    fn named(&self) -> [(&'static str, Option<&String>); 4] {
        [
            ("HTTP_PROXY", self.http.as_ref()),
            ("HTTPS_PROXY", self.https.as_ref()),
            ("NO_PROXY", self.no.as_ref()),
            ("FTP_PROXY", self.ftp.as_ref()),
        ]
    }
}

/// The predefined build arguments that docker's configuration in this folder gives to builds on `engine` (its address):
/// those named for it, else the default ones. As buildx passes them (`util/cobrautil`, `GetProxyConfig`).
pub(crate) async fn proxy_arguments(
    folder: Option<&Path>,
    engine: &str,
) -> Result<BTreeMap<&'static str, Secret>, CredentialError> {
    let Some(folder) = folder else {
        return Ok(BTreeMap::new());
    };
    let config = read(&folder.join("config.json")).await?;
    let proxies = config.and_then(|config| config.proxies).unwrap_or_default();
    let found = proxies.get(engine).or_else(|| proxies.get("default"));
    let named = found.into_iter().flat_map(Proxies::named);
    Ok(named
        .filter_map(|(name, value)| Some((name, Secret::new(value?.clone()))))
        .filter(|(_, value)| !value.expose().is_empty())
        .collect())
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

impl ConfigFile {
    /// An empty name for a host says "no helper for this one", as in docker.
    pub(super) fn helper_for(&self, host: &RegistryHost) -> Option<&str> {
        find(self.cred_helpers.as_ref(), host)
            .or(self.creds_store.as_ref())
            .map(String::as_str)
            .filter(|helper| !helper.is_empty())
    }

    pub(super) fn entry_for(
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
            until: None,
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

pub(super) fn login(username: String, password: String) -> Login {
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

pub(super) async fn read(path: &Path) -> Result<Option<ConfigFile>, CredentialError> {
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
