//! Which Docker Engine: `DOCKER_HOST`, else a docker context, else docker's own socket (docker/cli `cli/command/cli.go`,
//! `resolveContextName`). Contexts are folders below docker's configuration: `contexts/meta/<sha256 of the name>/meta.json`
//! and `contexts/tls/<the same>/docker/{ca,cert,key}.pem` (docker/cli `cli/context/store`).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::DialError;
use super::address::{Address, Peer};
use super::tls::TlsFiles;
use crate::environment::Environment;
use crate::reference::Digest;

/// Docker's own default.
const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// The context that stands for none.
const DEFAULT_CONTEXT: &str = "default";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    current_context: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    #[serde(default)]
    name: String,
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The engine that docker's client would talk to.
pub(super) fn engine(environment: &Environment) -> Result<Address, DialError> {
    if let Some(host) = environment.get("DOCKER_HOST") {
        let tls = tls_of_environment(environment);
        return Address::parse(host, Peer::Engine, tls.as_ref());
    }
    let Some(folder) = environment.docker_config() else {
        return Address::parse(DEFAULT_SOCKET, Peer::Engine, None);
    };
    let (name, source) = match environment.get("DOCKER_CONTEXT") {
        Some(name) => (name.to_owned(), "DOCKER_CONTEXT".to_owned()),
        None => current(&folder.join("config.json"))?,
    };
    if name.is_empty() || name == DEFAULT_CONTEXT {
        return Address::parse(DEFAULT_SOCKET, Peer::Engine, None);
    }
    read(&folder.join("contexts"), &name, &source)
}

/// docker/cli `cli/flags/options.go`.
fn tls_of_environment(environment: &Environment) -> Option<TlsFiles> {
    let verify = environment.get("DOCKER_TLS_VERIFY").is_some();
    if !verify && environment.get("DOCKER_TLS").is_none() {
        return None;
    }
    let folder = environment.get("DOCKER_CERT_PATH").map(PathBuf::from);
    let folder = folder.or_else(|| environment.docker_config());
    Some(TlsFiles {
        skip_verify: !verify,
        ..folder.map_or_else(TlsFiles::default, |folder| TlsFiles::of_folder(&folder))
    })
}

/// `currentContext` of docker's `config.json`, and where that stands.
fn current(path: &Path) -> Result<(String, String), DialError> {
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(<_>::default()),
        Err(error) => return Err(DialError::DockerConfig(shown, error.to_string())),
    };
    // The file holds passwords: what is wrong with it is told by its place, never by its text.
    let config: ConfigFile = serde_json::from_str(&text).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        DialError::DockerConfig(
            shown.clone(),
            format!("it is not the JSON that docker writes ({place})"),
        )
    })?;
    Ok((config.current_context, format!("currentContext of {shown}")))
}

fn read(contexts: &Path, name: &str, source: &str) -> Result<Address, DialError> {
    let id = Digest::of(name.as_bytes());
    let id = id.to_string();
    let id = id.strip_prefix("sha256:").unwrap_or(&id);
    let path = contexts.join("meta").join(id).join("meta.json");
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            DialError::NoContext(name.to_owned(), source.to_owned(), known(contexts))
        }
        _ => DialError::DockerConfig(shown.clone(), error.to_string()),
    })?;
    let meta: Meta = serde_json::from_str(&text)
        .map_err(|error| DialError::DockerConfig(shown.clone(), error.to_string()))?;
    let endpoint = meta
        .endpoints
        .docker
        .filter(|endpoint| !endpoint.host.is_empty());
    let Some(endpoint) = endpoint else {
        let why = "the context has no docker endpoint".to_owned();
        return Err(DialError::DockerConfig(shown, why));
    };
    let found = TlsFiles::of_folder(&contexts.join("tls").join(id).join("docker"));
    let tls = TlsFiles {
        skip_verify: endpoint.skip_tls_verify,
        ..found
    };
    let tls = (tls != TlsFiles::default()).then_some(tls);
    let mut address = Address::parse(&endpoint.host, Peer::Engine, tls.as_ref())?;
    address.shown = format!("{} (docker context {name})", address.shown);
    Ok(address)
}

/// The names of the contexts that there are.
fn known(contexts: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(contexts.join("meta"));
    let metas = folders
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|folder| {
            let text = std::fs::read_to_string(folder.path().join("meta.json")).ok()?;
            Some(serde_json::from_str::<Meta>(&text).ok()?.name)
        });
    let mut names: Vec<String> = metas.filter(|name| !name.is_empty()).collect();
    names.push(DEFAULT_CONTEXT.to_owned());
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Config(tempfile::TempDir);

    impl Config {
        fn new(config: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            Self(folder)
        }

        fn context(&self, name: &str, host: &str) {
            let id = Digest::of(name.as_bytes())
                .to_string()
                .replace("sha256:", "");
            let folder = self.0.path().join("contexts/meta").join(id);
            std::fs::create_dir_all(&folder).unwrap();
            let text = format!(
                "{{\"Name\":\"{name}\",\"Metadata\":{{}},\"Endpoints\":{{\"docker\":{{\"Host\":\"{host}\",\"SkipTLSVerify\":false}}}}}}"
            );
            std::fs::write(folder.join("meta.json"), text).unwrap();
        }

        fn engine(&self, variables: &[(&str, &str)]) -> Result<String, String> {
            let mut all = vec![("DOCKER_CONFIG", self.0.path().to_str().unwrap())];
            all.extend(variables);
            let environment = Environment {
                variables: all
                    .into_iter()
                    .map(|(n, v)| (n.to_owned(), v.to_owned()))
                    .collect(),
                directory: PathBuf::new(),
                stdout_is_terminal: false,
                stderr_is_terminal: false,
            };
            engine(&environment)
                .map(|a| a.to_string())
                .map_err(|e| e.to_string())
        }
    }

    #[test]
    fn host_then_context_then_current_context_then_the_socket() {
        let config = Config::new(r#"{"currentContext": "lab"}"#);
        config.context("lab", "unix:///lab.sock");
        config.context("far", "ssh://me@far");
        let (lab, far) = (
            "unix:///lab.sock (docker context lab)",
            "ssh://me@far (docker context far)",
        );
        assert_eq!(config.engine(&[]).as_deref(), Ok(lab));
        assert_eq!(
            config.engine(&[("DOCKER_CONTEXT", "far")]).as_deref(),
            Ok(far)
        );
        assert_eq!(
            config.engine(&[("DOCKER_CONTEXT", "default")]).as_deref(),
            Ok(DEFAULT_SOCKET)
        );
        let both = [("DOCKER_CONTEXT", "far"), ("DOCKER_HOST", "tcp://h:1")];
        assert_eq!(config.engine(&both).as_deref(), Ok("tcp://h:1"));
        assert_eq!(Config::new("{}").engine(&[]).as_deref(), Ok(DEFAULT_SOCKET));
    }

    #[test]
    fn a_context_that_is_not_there_is_named_with_those_that_are() {
        let config = Config::new("{}");
        config.context("lab", "unix:///lab.sock");
        let error = config.engine(&[("DOCKER_CONTEXT", "lap")]).unwrap_err();
        assert_eq!(
            error,
            "the docker context `lap` (DOCKER_CONTEXT) does not exist; there are: default, lab"
        );
        let broken = Config::new("{\"auths\": \"secret\"")
            .engine(&[])
            .unwrap_err();
        assert!(
            broken.contains("line 1") && !broken.contains("secret"),
            "{broken}"
        );
    }
}
