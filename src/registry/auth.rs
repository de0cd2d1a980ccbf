//! Answers to a registry's "who are you": Basic (RFC 7617) and Bearer tokens from a token service (distribution's token
//! authentication spec, and its OAuth 2 form for identity tokens).
//!
//! Grants live in memory only: Basic per host, tokens per host and scope. A grant that was refused is never used again,
//! and credentials whose grant was refused are asked for anew: a login may have been renewed meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http_auth::parser::ChallengeParser;
use reqwest::Url;

use super::credentials::{CredentialSources, Credentials, Login};
use super::error::{Problem, Refusal, RegistryError};
use super::token::TokenRequest;
use crate::clock;
use crate::reference::{RegistryHost, Repository};

/// One way in that a 401 offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
        /// `insufficient_scope`: known, and not allowed.
        error: Option<String>,
    },
}

/// The challenges that skiff can answer, tokens first: where a registry offers both they are the narrower power.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    for header in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = header.to_str() else { continue };
        // What follows a malformed challenge cannot be trusted to be parsed right.
        for challenge in ChallengeParser::new(text).map_while(Result::ok) {
            let parameter = |name: &str| {
                challenge
                    .params
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                found.push(Challenge::Basic);
            } else if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm")
            {
                let bearer = Challenge::Bearer {
                    realm,
                    service: parameter("service"),
                    scope: parameter("scope"),
                    error: parameter("error"),
                };
                found.insert(0, bearer);
            }
        }
    }
    found
}

/// The scope of a token that may list a registry's repositories (distribution's token scope documentation).
pub(super) const CATALOGUE: &str = "registry:catalog:*";

/// What a request wants to do in a repository, as a token's scope.
pub(super) fn scope(repository: &Repository, actions: &str) -> String {
    format!("repository:{}:{actions}", repository.path())
}

/// The actions that a method takes (distribution's token scope documentation).
pub(super) fn actions(method: &Method) -> &'static str {
    match *method {
        Method::PUT | Method::POST => "pull,push",
        Method::DELETE => "pull,delete",
        _ => "pull",
    }
}

/// An `Authorization` header and where it came from.
#[derive(Clone)]
pub(super) struct Grant {
    pub header: HeaderValue,
    /// For errors: the source of the credentials; `None` for a token that anybody gets.
    pub source: Option<String>,
    pub expires: Option<Instant>,
}

/// All that is known of one host's ways in.
pub(super) struct HostAuth {
    host: RegistryHost,
    sources: CredentialSources,
    /// Whether the registry itself is spoken to in plain HTTP; its token service may be, then.
    plain_http: bool,
    credentials: tokio::sync::Mutex<Option<Known>>,
    /// By scope; [`BASIC`] for the whole host. One lock each, so that many requests ask for a token once.
    slots: Mutex<HashMap<String, Slot>>,
    /// ECR's token was renewed after a refusal.
    renewed: AtomicBool,
}

struct Known {
    credentials: Option<Credentials>,
    until: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Grant>>>;

const BASIC: &str = "";

impl HostAuth {
    /// Credentials are asked for again after this long: helpers hand out short-lived ones.
    const CREDENTIALS_AGE: Duration = Duration::from_mins(5);

    pub(super) fn new(host: RegistryHost, sources: CredentialSources, plain_http: bool) -> Self {
        Self {
            host,
            sources,
            plain_http,
            credentials: tokio::sync::Mutex::default(),
            slots: Mutex::default(),
            renewed: AtomicBool::new(false),
        }
    }

    /// The grant to send at once, when an earlier request earned one.
    pub(super) async fn current(&self, scope: &str) -> Option<Grant> {
        for key in [BASIC, scope] {
            let grant = self.slot(key).lock().await.clone();
            if let Some(grant) = grant.filter(Grant::is_fresh) {
                return Some(grant);
            }
        }
        None
    }

    /// A grant that answers the challenges of a 401 to a request that carried `refused`; `None`: there is no way in.
    pub(super) async fn answer(
        &self,
        http: &reqwest::Client,
        scope: &str,
        offered: &[Challenge],
        refused: Option<&Grant>,
    ) -> Result<Option<Grant>, RegistryError> {
        let Some(challenge) = offered.first() else {
            return Err(
                self.malformed("HTTP 401 without a `WWW-Authenticate` that offers Basic or Bearer")
            );
        };
        let slot = self.slot(match challenge {
            Challenge::Basic => BASIC,
            Challenge::Bearer { .. } => scope,
        });
        let mut slot = slot.lock().await;
        let is_refused = |grant: &Grant| refused.is_some_and(|old| old.header == grant.header);
        if let Some(grant) = slot.as_ref().filter(|g| g.is_fresh() && !is_refused(g)) {
            // Another request was faster.
            return Ok(Some(grant.clone()));
        }
        *slot = None;
        let credentials = self.credentials(refused.is_some()).await?;
        let grant = match challenge {
            Challenge::Basic => self.basic(credentials)?,
            Challenge::Bearer {
                realm,
                service,
                scope: asked,
                ..
            } => {
                let request = TokenRequest {
                    realm: self.realm(realm)?,
                    service: service.as_deref(),
                    scope: asked.as_deref().unwrap_or(scope),
                    credentials: credentials.as_ref(),
                };
                Some(request.send(http, &self.host).await?)
            }
        };
        slot.clone_from(&grant);
        // The same credentials that were just refused would be refused again.
        Ok(grant.filter(|grant| !is_refused(grant)))
    }

    /// Another grant in the place of one that was forbidden something, where it is ECR's token: it may have ended. Asked for
    /// once a run: from then on what is forbidden is forbidden.
    pub(super) async fn renewed(&self, refused: &Grant) -> Option<Grant> {
        let ecr = self.sources.ecr_of(&self.host)?;
        let slot = self.slot(BASIC);
        let mut slot = slot.lock().await;
        let is_new = |grant: &&Grant| grant.header != refused.header;
        if let Some(grant) = slot.as_ref().filter(is_new) {
            // Another request was faster.
            return Some(grant.clone());
        }
        if self.renewed.swap(true, Ordering::Relaxed) {
            return None;
        }
        ecr.forget_token().await;
        // What is wrong with it is said of the refusal.
        let credentials = self.credentials(true).await.ok()?;
        let grant = self.basic(credentials).ok()??;
        *slot = Some(grant.clone());
        Some(grant).filter(|grant| is_new(&grant))
    }

    fn basic(&self, credentials: Option<Credentials>) -> Result<Option<Grant>, RegistryError> {
        let Some(Credentials {
            login,
            source,
            until,
        }) = credentials
        else {
            return Ok(None);
        };
        let Login::Password { username, password } = login else {
            return Err(self.malformed(&format!(
                "it takes user and password only, and {source} has an identity token"
            )));
        };
        let header = http_auth::basic::encode_credentials(&username, password.expose());
        Ok(sensitive(&header).map(|header| Grant {
            header,
            source: Some(source),
            expires: until,
        }))
    }

    fn slot(&self, key: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(key.to_owned()).or_default().clone()
    }

    async fn credentials(&self, anew: bool) -> Result<Option<Credentials>, RegistryError> {
        let mut known = self.credentials.lock().await;
        if let Some(known) = known.as_ref()
            && !anew
            && clock::now() < known.until
        {
            return Ok(known.credentials.clone());
        }
        let credentials = self
            .sources
            .credentials_for(&self.host)
            .await
            .map_err(|error| self.error(error.into()))?;
        let age = clock::now() + Self::CREDENTIALS_AGE;
        let until = credentials.as_ref().and_then(|found| found.until);
        *known = Some(Known {
            credentials: credentials.clone(),
            until: until.map_or(age, |until| until.min(age)),
        });
        Ok(credentials)
    }

    /// The problem of a 401 to a request that carried credentials from `tried`.
    pub(super) fn unauthorized(&self, tried: Option<String>, refusal: Refusal) -> Problem {
        if self.sources.ecr_of(&self.host).is_some() {
            let remedy = "the token is ECR's own: see that this machine's clock is right";
            return Problem::Unauthorized {
                tried,
                refusal,
                remedy: remedy.to_owned(),
            };
        }
        unauthorized(&self.host, tried, refusal)
    }

    /// The token service's URL. Over plain HTTP it would see the credentials on the wire, so only a registry that is
    /// itself trusted in plain HTTP may name such a one.
    fn realm(&self, text: &str) -> Result<Url, RegistryError> {
        let url = Url::parse(text)
            .ok()
            .filter(Url::has_host)
            .ok_or_else(|| self.malformed("its token service has no valid URL"))?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.plain_http => Ok(url),
            _ => Err(self.malformed(
                "its token service does not speak HTTPS, so no credentials are sent there",
            )),
        }
    }

    fn malformed(&self, what: &str) -> RegistryError {
        self.error(Problem::Malformed(what.to_owned()))
    }

    fn error(&self, problem: Problem) -> RegistryError {
        RegistryError {
            operation: format!("log in to {}", self.host),
            url: self.host.to_string(),
            problem: Box::new(problem),
        }
    }
}

impl Grant {
    fn is_fresh(&self) -> bool {
        self.expires.is_none_or(|end| clock::now() < end)
    }
}

/// A header value that no log shows.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The problem of refused credentials, with the command that mends it.
pub(super) fn unauthorized(
    host: &RegistryHost,
    tried: Option<String>,
    refusal: Refusal,
) -> Problem {
    let name = host.name();
    let region = name
        .contains(".dkr.ecr.")
        .then(|| name.split('.').nth(3))
        .flatten();
    let remedy = match region {
        Some(region) => format!(
            "run `aws ecr get-login-password --region {region} | docker login --username AWS --password-stdin {host}`"
        ),
        None => format!("run `docker login {host}`"),
    };
    Problem::Unauthorized {
        tried,
        refusal,
        remedy,
    }
}
