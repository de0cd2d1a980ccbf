//! `[registry]`: where images go, and the names that follow from it.

use std::sync::Arc;

use toml::Spanned;

use super::document::{Given, Said, View};
use super::model::{EcrSettings, Places, Provider, Registry};
use super::{collisions, pattern};
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::reference::{RegistryHost, Repository, Tag};

/// The host where it is not known yet, or wrong.
pub(super) const STAND_IN: &str = "registry.invalid";

/// What every container's names come from.
pub(super) struct Naming {
    pub registry: Registry,
    /// The pattern.
    pattern: String,
    pub repository_span: Option<Span>,
    pub cache_ref: Option<Said<String>>,
    /// `release.state`.
    state: Option<Said<String>>,
    /// `registry.untrusted`.
    pub untrusted: Option<Said<String>>,
}

impl Naming {
    /// Whether all containers have one repository.
    pub(super) fn is_shared(&self) -> bool {
        !self.pattern.contains('{')
    }

    /// A container's repositories, its cache's tag, and the repositories of runs that no channel trusts.
    pub(super) fn of(&self, name: &str) -> Result<(Places, Tag, Option<Places>), String> {
        let reference = match (&self.cache_ref, self.is_shared()) {
            (Some(said), _) => said.get_ref(),
            (None, true) => "{repository}:buildcache-{name}",
            (None, false) => "{repository}:buildcache",
        };
        let images = self.repository(&self.pattern, name)?;
        let (cache, tag) = collisions::cache_of(reference, &images, name)?;
        let untrusted = self.untrusted.as_ref().map(|said| {
            let images = self.repository(said.get_ref(), name)?;
            // A cache that is nobody's own would be shared with those who do not trust it.
            let cache = if reference.contains("{repository}") {
                collisions::cache_of(reference, &images, name)?.0
            } else {
                images.clone()
            };
            Ok::<_, String>(Places { images, cache })
        });
        Ok((Places { images, cache }, tag, untrusted.transpose()?))
    }

    fn repository(&self, pattern: &str, name: &str) -> Result<Repository, String> {
        let path = pattern::expand(pattern, |v| (v == "name").then(|| name.to_owned()));
        let path = path.map_err(|e| e.to_string())?;
        Repository::new(self.registry.host.clone(), &path).map_err(|e| e.to_string())
    }

    /// Where release records live: what `release.state` says, else the literal beginning of the pattern and `skiff`;
    /// without a variable, `skiff` beside the repository.
    fn state(&self) -> Result<Repository, String> {
        if let Some(said) = &self.state {
            return Repository::new(self.registry.host.clone(), said.get_ref())
                .map_err(|e| e.to_string());
        }
        let pattern = self.pattern.as_str();
        let prefix = match pattern.find('{') {
            Some(at) => &pattern[..at],
            None => pattern.rfind('/').map_or("", |at| &pattern[..=at]),
        };
        Repository::new(self.registry.host.clone(), &format!("{prefix}skiff"))
            .map_err(|e| e.to_string())
    }
}

/// Reads the table; a host stands in where the manifest's is wrong, so that all other names are still checked.
pub(super) fn read(
    view: View<'_>,
    source: &Arc<SourceText>,
) -> (Option<(Naming, Repository)>, Vec<Diagnostic>) {
    let mut diagnostics = problems(view, source);
    let table = view.table("registry");
    let text = |key| table.text(key).map(Spanned::into_inner);
    let provider = match text("provider").as_deref() {
        Some("oci") => Provider::Oci,
        _ => Provider::Ecr(EcrSettings {
            account: text("account"),
            region: text("region"),
            create: table.flag("create") != Some(false),
        }),
    };
    let host = match &provider {
        Provider::Oci => text("host").and_then(|h| RegistryHost::new(&h).ok()),
        Provider::Ecr(ecr) => ecr.host(),
    };
    let Some(host) = host.or_else(|| RegistryHost::new(STAND_IN).ok()) else {
        return (None, diagnostics);
    };
    let repository = table.text("repository");
    let naming = Naming {
        registry: Registry {
            plain_http: host.is_loopback() || table.flag("insecure") == Some(true),
            host,
            provider,
        },
        repository_span: repository
            .as_ref()
            .map(|said| Span::new(source, said.span())),
        pattern: repository.map_or_else(|| "{name}".to_owned(), Spanned::into_inner),
        cache_ref: view.table("cache").text("ref"),
        state: view.table("release").text("state"),
        untrusted: table.text("untrusted"),
    };
    match naming.state() {
        Ok(state) => (Some((naming, state)), diagnostics),
        Err(why) => {
            let diagnostic =
                Diagnostic::error("no registry accepts the release records' repository");
            let written = naming
                .state
                .as_ref()
                .map(|said| Span::new(source, said.span()));
            diagnostics.push(match written.as_ref().or(naming.repository_span.as_ref()) {
                Some(place) => diagnostic.at(place.clone(), why),
                None => diagnostic.note(why),
            });
            (None, diagnostics)
        }
    }
}

/// Keys that must be there, and those that are the other provider's.
fn problems(view: View<'_>, source: &Arc<SourceText>) -> Vec<Diagnostic> {
    let table = view.table("registry");
    let provider = match table.given_text("provider") {
        Given::Refused => return vec![],
        Given::Absent
            if ["registry", "registry.provider"]
                .into_iter()
                .any(|key| view.is_meant(key)) =>
        {
            return vec![];
        }
        Given::Absent => "ecr".to_owned(),
        Given::Value(said) => said.into_inner(),
    };
    let foreign = |key: &str, note: &str| {
        let other = if provider == "oci" { "ecr" } else { "oci" };
        let title = format!("`registry.{key}` is for provider \"{other}\" only");
        let place = Span::new(source, table.key(key)?);
        Some(Diagnostic::error(title).at(place, "").note(note))
    };
    if provider == "ecr" {
        let note = "an ECR registry's host follows from the credentials";
        let help = "leave it out, or write `provider = \"oci\"`; `account` and `region` are the guards of \"ecr\"";
        let found = ["host", "insecure"].map(|key| foreign(key, note).map(|d| d.help(help)));
        return found.into_iter().flatten().collect();
    }
    let mut found = Vec::new();
    if view.lacks("registry.host") {
        let header = view.key("registry").unwrap_or_default();
        found.push(
            Diagnostic::error("`registry.host` is missing")
                .at(Span::new(source, header), "")
                .help("write `host = \"…\"`, for example \"localhost:5000\""),
        );
    }
    let note = "only Amazon has accounts and regions";
    found.extend(["account", "region"].into_iter().filter_map(|key| {
        foreign(key, note).map(|d| d.help("leave it out, or write `provider = \"ecr\"`"))
    }));
    if table.flag("create") == Some(false) {
        let note = "other registries make a repository when something is pushed to it";
        found.extend(foreign("create", note).map(|d| d.help("leave it out")));
    }
    found
}

impl EcrSettings {
    /// The registry's host, when account and region are both given (Amazon ECR user guide, "Private registries").
    pub(crate) fn host(&self) -> Option<RegistryHost> {
        let (account, region) = (self.account.as_ref()?, self.region.as_ref()?);
        let domain = if region.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        RegistryHost::new(&format!("{account}.dkr.ecr.{region}.{domain}")).ok()
    }
}
