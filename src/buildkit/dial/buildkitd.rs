//! What a buildkitd of skiff's is configured with, so that it reaches registries as the engine would: `buildkitd.toml`
//! (BuildKit `docs/buildkitd.toml.md`), certificates, proxies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bollard::models::SystemInfo;

use crate::environment::Environment;
use crate::reference::{Digest, RegistryHost};

/// Where buildkitd looks for its configuration.
const FOLDER: &str = "etc/buildkit";

/// A registry that the run uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsedRegistry {
    pub(crate) host: RegistryHost,
    pub(crate) plain_http: bool,
}

/// Everything that a buildkitd is started with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// Share the machine's network: registries on loopback are reached no other way.
    pub(super) host_network: bool,
    /// `NAME=value`.
    pub(super) variables: Vec<String>,
    /// By path, without the leading slash.
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

/// One `[registry."host"]`.
#[derive(Default)]
struct Registry {
    plain_http: bool,
    insecure: bool,
    mirrors: Vec<String>,
    ca: Vec<String>,
    keypair: Option<(String, String)>,
}

impl Config {
    pub(super) fn new(info: &SystemInfo, used: &[UsedRegistry], environment: &Environment) -> Self {
        let mut config = Self {
            host_network: used.iter().any(|registry| registry.host.is_loopback()),
            ..Self::default()
        };
        let mut registries = of_engine(info);
        for registry in used {
            let entry = registries.entry(registry.host.to_string()).or_default();
            entry.plain_http |= registry.plain_http;
        }
        let mut folders = vec![PathBuf::from("/etc/docker/certs.d")];
        folders.extend(
            environment
                .docker_config()
                .map(|folder| folder.join("certs.d")),
        );
        let hosts: BTreeSet<String> = registries.keys().cloned().collect();
        for host in hosts {
            for folder in &folders {
                config.certificates(&folder.join(&host), &host, &mut registries);
            }
        }
        config.bundle(environment);
        config.proxies(info);
        let text = render(&registries);
        config
            .files
            .insert(format!("{FOLDER}/buildkitd.toml"), text.into());
        config
    }

    /// A registry's certificates, as docker keeps them (dockerd `docs/reference/certs.d`): `*.crt` are roots, `*.cert` with
    /// `*.key` is who to be.
    fn certificates(
        &mut self,
        folder: &Path,
        host: &str,
        registries: &mut BTreeMap<String, Registry>,
    ) {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        for path in paths {
            let kind = path.extension().and_then(|kind| kind.to_str());
            match kind {
                Some("crt") => {
                    if let Some(inside) = self.copy(&path, host) {
                        registries
                            .entry(host.to_owned())
                            .or_default()
                            .ca
                            .push(inside);
                    }
                }
                Some("cert") => {
                    let (cert, key) = (
                        self.copy(&path, host),
                        self.copy(&path.with_extension("key"), host),
                    );
                    if let (Some(cert), Some(key)) = (cert, key) {
                        registries.entry(host.to_owned()).or_default().keypair = Some((key, cert));
                    }
                }
                _ => {}
            }
        }
    }

    /// Puts a file of this machine inside; its path there.
    fn copy(&mut self, path: &Path, host: &str) -> Option<String> {
        let bytes = std::fs::read(path).ok()?;
        let name = path.file_name()?.to_str()?;
        let inside = format!("{FOLDER}/certs/{host}/{name}");
        self.files.insert(inside.clone(), bytes);
        Some(format!("/{inside}"))
    }

    /// Roots that this process trusts instead of the system's: so does the builder.
    fn bundle(&mut self, environment: &Environment) {
        let Some(bytes) = environment
            .get("SSL_CERT_FILE")
            .and_then(|path| std::fs::read(path).ok())
        else {
            return;
        };
        let inside = format!("{FOLDER}/certs/bundle.pem");
        self.variables.push(format!("SSL_CERT_FILE=/{inside}"));
        self.files.insert(inside, bytes);
    }

    /// The engine's.
    fn proxies(&mut self, info: &SystemInfo) {
        let proxies = [
            ("HTTP_PROXY", &info.http_proxy),
            ("HTTPS_PROXY", &info.https_proxy),
            ("NO_PROXY", &info.no_proxy),
        ];
        for (name, value) in proxies {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                self.variables.push(format!("{name}={value}"));
            }
        }
    }

    /// Tells this configuration from every other one.
    pub(super) fn id(&self) -> String {
        let mut text = format!("{}\0{:?}", self.host_network, self.variables).into_bytes();
        for (path, bytes) in &self.files {
            text.extend_from_slice(format!("\0{path}\0{}\0", bytes.len()).as_bytes());
            text.extend_from_slice(bytes);
        }
        Digest::of(&text).short().to_owned()
    }

    /// The files as a tar archive. Times are 0.
    pub(super) fn archive(&self) -> std::io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, bytes) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            archive.append_data(&mut header, path, bytes.as_slice())?;
        }
        archive.into_inner()
    }
}

/// Mirrors and insecure registries of the engine: images come from where they would come from without skiff.
fn of_engine(info: &SystemInfo) -> BTreeMap<String, Registry> {
    let mut registries = BTreeMap::<String, Registry>::new();
    let configs = info
        .registry_config
        .as_ref()
        .and_then(|config| config.index_configs.as_ref());
    for (host, index) in configs.into_iter().flatten() {
        let registry = Registry {
            insecure: index.secure == Some(false),
            mirrors: index
                .mirrors
                .iter()
                .flatten()
                .map(|mirror| mirror.trim_end_matches('/').to_owned())
                .collect(),
            ..Registry::default()
        };
        if registry.insecure || !registry.mirrors.is_empty() {
            registries.insert(host.clone(), registry);
        }
    }
    // A mirror that is spoken to without TLS says so in its address.
    let plain: Vec<String> = registries
        .values()
        .flat_map(|registry| &registry.mirrors)
        .filter_map(|mirror| mirror.strip_prefix("http://").map(str::to_owned))
        .collect();
    for registry in registries.values_mut() {
        for mirror in &mut registry.mirrors {
            if let Some((_, bare)) = mirror.split_once("://") {
                *mirror = bare.to_owned();
            }
        }
    }
    for mirror in plain {
        let host = mirror.split('/').next().unwrap_or_default().to_owned();
        registries.entry(host).or_default().plain_http = true;
    }
    registries
}

fn render(registries: &BTreeMap<String, Registry>) -> String {
    let mut text = String::from(
        "# Written by skiff.\n# RUN with the host's network is asked for by each build that needs it.\ninsecure-entitlements = [\"network.host\"]\n",
    );
    for (host, registry) in registries {
        let _ = write!(text, "\n[registry.{}]\n", quoted(host));
        for (key, value) in [
            ("http", registry.plain_http),
            ("insecure", registry.insecure),
        ] {
            if value {
                let _ = writeln!(text, "{key} = true");
            }
        }
        for (key, list) in [("mirrors", &registry.mirrors), ("ca", &registry.ca)] {
            if !list.is_empty() {
                let list: Vec<String> = list.iter().map(|item| quoted(item)).collect();
                let _ = writeln!(text, "{key} = [{}]", list.join(", "));
            }
        }
        if let Some((key, cert)) = &registry.keypair {
            let _ = write!(
                text,
                "\n[[registry.{}.keypair]]\nkey = {}\ncert = {}\n",
                quoted(host),
                quoted(key),
                quoted(cert)
            );
        }
    }
    text
}

/// A basic string of TOML; JSON's is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use bollard::models::{IndexInfo, RegistryServiceConfig};

    use super::*;

    fn environment(folder: &Path) -> Environment {
        let folder = folder.display().to_string();
        Environment {
            variables: [("DOCKER_CONFIG".to_owned(), folder)].into(),
            directory: PathBuf::new(),
            stdout_is_terminal: false,
            stderr_is_terminal: false,
        }
    }

    fn used(host: &str, plain_http: bool) -> UsedRegistry {
        let host = RegistryHost::new(host).unwrap();
        UsedRegistry { host, plain_http }
    }

    #[test]
    fn registries_are_those_of_the_engine_and_of_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs.d/registry.local:8443");
        std::fs::create_dir_all(&certs).unwrap();
        for name in ["ca.crt", "client.cert", "client.key"] {
            std::fs::write(certs.join(name), name).unwrap();
        }
        let index = |mirrors: &[&str], secure| IndexInfo {
            mirrors: Some(mirrors.iter().map(|&m| m.to_owned()).collect()),
            secure: Some(secure),
            ..IndexInfo::default()
        };
        let configs = [
            (
                "docker.io".to_owned(),
                index(&["http://mirror.local:5000/"], true),
            ),
            ("old.local".to_owned(), index(&[], false)),
        ];
        let info = SystemInfo {
            registry_config: Some(RegistryServiceConfig {
                index_configs: Some(configs.into()),
                ..RegistryServiceConfig::default()
            }),
            http_proxy: Some("http://proxy:3128".into()),
            ..SystemInfo::default()
        };
        let registries = [
            used("localhost:5000", true),
            used("registry.local:8443", false),
        ];
        let config = Config::new(&info, &registries, &environment(folder.path()));
        assert!(config.host_network);
        assert_eq!(config.variables, ["HTTP_PROXY=http://proxy:3128"]);
        let text = &config.files["etc/buildkit/buildkitd.toml"];
        insta::assert_snapshot!(String::from_utf8_lossy(text), @r#"
        # Written by skiff.
        # RUN with the host's network is asked for by each build that needs it.
        insecure-entitlements = ["network.host"]

        [registry."docker.io"]
        mirrors = ["mirror.local:5000"]

        [registry."localhost:5000"]
        http = true

        [registry."mirror.local:5000"]
        http = true

        [registry."old.local"]
        insecure = true

        [registry."registry.local:8443"]
        ca = ["/etc/buildkit/certs/registry.local:8443/ca.crt"]

        [[registry."registry.local:8443".keypair]]
        key = "/etc/buildkit/certs/registry.local:8443/client.key"
        cert = "/etc/buildkit/certs/registry.local:8443/client.cert"
        "#);
        let remote = Config::new(&info, &registries[1..], &environment(folder.path()));
        assert!(!remote.host_network);
        assert_ne!(config.id(), remote.id());
        assert!(config.archive().unwrap().len() > 4 * 512);
    }
}
