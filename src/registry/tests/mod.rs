//! The client against servers: scripted ones, for what goes wrong ([`faults`], [`login`]); a real one is under every test of `tests/it`.

mod faults;
mod login;
mod scripted;

use std::path::Path;
use std::time::Duration;

use super::client::Client;
use super::credentials::CredentialSources;
use super::http::Options;
use crate::reference::{ImageRef, RegistryHost, Repository, Tag};
use crate::retry::RetryPolicy;

/// Quick retries, short waits, no credentials.
fn options() -> Options {
    let mut options = Options::new(CredentialSources::new(None));
    options.retry = RetryPolicy {
        retries: 3,
        first_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(2),
        deadline: Duration::from_secs(5),
    };
    options.limits.idle = Duration::from_millis(300);
    options.limits.total = Duration::from_millis(600);
    options
}

fn client() -> Client {
    Client::new(options())
}

/// `team/app` on this host.
fn repository(host: &RegistryHost) -> Repository {
    Repository::new(host.clone(), "team/app").unwrap()
}

fn image(host: &RegistryHost) -> ImageRef {
    repository(host).tag(&Tag::new("v1").unwrap())
}

/// An error's text without the port.
fn text(error: &super::RegistryError, host: &RegistryHost) -> String {
    error.to_string().replace(host.as_str(), "HOST")
}

/// Writes a docker config and gives its folder's sources.
fn docker_config(folder: &Path, config: &serde_json::Value) -> CredentialSources {
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    CredentialSources::new(Some(folder.to_owned()))
}
