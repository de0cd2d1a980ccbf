//! What a build is given beside its files: secrets, agents, hosts, limits. One table's words of it ([`Options`]), and
//! what they come to ([`BuildOptions`]).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use toml::Spanned;

use super::document::{Said, View};
use super::model::{
    BuildOptions, Container, ContainerName, Entitlement, SecretFrom, SecretSource, SshAgent,
};
use super::option_grammar;
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::reference::Digest;

type Texts = Said<Vec<Said<String>>>;

/// The good values of one table. Lists replace the defaults', tables merge.
#[derive(Clone, Default)]
pub(super) struct Options {
    secrets: Option<Vec<Secret>>,
    ssh: Option<Texts>,
    extra_hosts: BTreeMap<String, String>,
    shm_size: Option<Said<String>>,
    ulimits: BTreeMap<String, String>,
    no_cache_filter: Option<Texts>,
    entitlements: Option<Texts>,
}

/// An entry of `secrets`.
#[derive(Clone)]
struct Secret {
    id: Option<Said<String>>,
    env: Option<Said<String>>,
    file: Option<Said<String>>,
    /// A key of it was reported: nothing more is said.
    refused: bool,
    place: Range<usize>,
}

const SECRET_KEYS: [&str; 3] = ["id", "env", "file"];

impl Options {
    pub(super) fn read(view: View<'_>) -> Self {
        Self {
            secrets: view.tables("secrets").map(|entries| {
                let secret = |(place, entry): (Range<usize>, View<'_>)| Secret {
                    id: entry.text("id"),
                    env: entry.text("env"),
                    file: entry.text("file"),
                    refused: entry.keys().len() > entry.entries().len()
                        || entry.keys().iter().any(|key| !SECRET_KEYS.contains(key)),
                    place,
                };
                entries.into_iter().map(secret).collect()
            }),
            ssh: view.texts("ssh"),
            extra_hosts: texts(view.table("extra_hosts")),
            shm_size: view.text("shm_size"),
            ulimits: texts(view.table("ulimits")),
            no_cache_filter: view.texts("no_cache_filter"),
            entitlements: view.texts("entitlements"),
        }
    }

    pub(super) fn over(self, defaults: &Self) -> Self {
        let merged = |defaults: &BTreeMap<String, String>, own| {
            let mut all = defaults.clone();
            all.extend(own);
            all
        };
        Self {
            secrets: self.secrets.or_else(|| defaults.secrets.clone()),
            ssh: self.ssh.or_else(|| defaults.ssh.clone()),
            extra_hosts: merged(&defaults.extra_hosts, self.extra_hosts),
            shm_size: self.shm_size.or_else(|| defaults.shm_size.clone()),
            ulimits: merged(&defaults.ulimits, self.ulimits),
            no_cache_filter: self
                .no_cache_filter
                .or_else(|| defaults.no_cache_filter.clone()),
            entitlements: self.entitlements.or_else(|| defaults.entitlements.clone()),
        }
    }

    /// What they come to in a manifest that stands in `root`; what is wrong with them goes to `found`.
    pub(super) fn make(
        &self,
        root: &Path,
        source: &Arc<SourceText>,
        found: &mut Vec<Diagnostic>,
    ) -> BuildOptions {
        BuildOptions {
            secrets: self.secrets(root, source, found),
            secrets_apart: None,
            ssh: self.ssh(root, source, found),
            extra_hosts: self.extra_hosts.clone(),
            shm_size: self
                .shm_size
                .as_ref()
                .and_then(|said| option_grammar::bytes(said.get_ref()).ok()),
            ulimits: self.ulimits.clone(),
            no_cache_filter: list(self.no_cache_filter.as_ref())
                .map(|said| said.get_ref().clone())
                .collect(),
            entitlements: list(self.entitlements.as_ref())
                .filter_map(|said| Entitlement::parse(said.get_ref()))
                .collect::<BTreeSet<_>>(),
        }
    }

    fn secrets(
        &self,
        root: &Path,
        source: &Arc<SourceText>,
        found: &mut Vec<Diagnostic>,
    ) -> Vec<SecretSource> {
        let mut made: Vec<SecretSource> = Vec::new();
        for secret in self.secrets.iter().flatten().filter(|s| !s.refused) {
            let span = Span::new(source, secret.place.clone());
            let Some(id) = secret.id.as_ref().map(|said| said.get_ref().clone()) else {
                found.push(
                    Diagnostic::error("a secret has no id")
                        .at(span, "")
                        .help("write `id = \"…\"`, the one of `--mount=type=secret,id=…`"),
                );
                continue;
            };
            let from = match (&secret.env, &secret.file) {
                (Some(name), None) => SecretFrom::Env(name.get_ref().clone()),
                (None, Some(path)) => SecretFrom::File(root.join(path.get_ref())),
                (given, _) => {
                    let title = match given {
                        Some(_) => format!("secret `{id}` has two sources"),
                        None => format!("secret `{id}` has no source"),
                    };
                    found.push(
                        Diagnostic::error(title)
                            .at(span, "")
                            .help("write one of `env = \"VARIABLE\"` and `file = \"path\"`"),
                    );
                    continue;
                }
            };
            if let Some(first) = made.iter().find(|other| other.id == id) {
                found.push(
                    Diagnostic::error(format!("secret `{id}` is given twice"))
                        .at(span, "")
                        .see(first.span.clone(), "the first one")
                        .help("give each an id of its own"),
                );
                continue;
            }
            made.push(SecretSource { id, from, span });
        }
        made
    }

    fn ssh(
        &self,
        root: &Path,
        source: &Arc<SourceText>,
        found: &mut Vec<Diagnostic>,
    ) -> Vec<SshAgent> {
        let mut seen = HashSet::new();
        let mut made = Vec::new();
        for said in list(self.ssh.as_ref()) {
            let (id, socket) = option_grammar::split_ssh(said.get_ref());
            let span = Span::new(source, said.span());
            if !seen.insert(id) {
                found.push(
                    Diagnostic::error(format!("agent `{id}` is given twice"))
                        .at(span, "")
                        .help("give each an id of its own"),
                );
                continue;
            }
            made.push(SshAgent {
                id: id.to_owned(),
                socket: socket.map(|socket| root.join(socket)),
                span,
            });
        }
        made
    }
}

/// Marks the containers that have different sources for one secret id, those with the same sources alike.
pub(super) fn set_apart(containers: &mut IndexMap<ContainerName, Container>, root: &Path) {
    let mut sources: BTreeMap<String, SecretFrom> = BTreeMap::new();
    let mut contested = HashSet::new();
    for secret in containers.values().flat_map(|c| &c.options.secrets) {
        let first = sources
            .entry(secret.id.clone())
            .or_insert_with(|| secret.from.clone());
        if *first != secret.from {
            contested.insert(secret.id.clone());
        }
    }
    for options in containers.values_mut().map(|c| &mut c.options) {
        let secrets = options.secrets.iter();
        let mut named: Vec<String> = secrets
            .filter(|secret| contested.contains(&secret.id))
            .map(|secret| match &secret.from {
                SecretFrom::Env(name) => format!("{}\0env\0{name}", secret.id),
                SecretFrom::File(path) => {
                    // The same on every machine.
                    let path = path.strip_prefix(root).unwrap_or(path);
                    format!("{}\0file\0{}", secret.id, path.display())
                }
            })
            .collect();
        named.sort();
        options.secrets_apart = (!named.is_empty()).then(|| {
            let text = named.join("\0\0");
            Digest::of(text.as_bytes()).short().to_owned()
        });
    }
}

fn list(said: Option<&Texts>) -> impl Iterator<Item = &Said<String>> {
    said.into_iter().flat_map(Spanned::get_ref)
}

fn texts(view: View<'_>) -> BTreeMap<String, String> {
    let entries = view.entries().into_iter();
    entries
        .filter_map(|(key, _)| {
            let value = view.text(key.get_ref())?.into_inner();
            Some((key.get_ref().to_string(), value))
        })
        .collect()
}
