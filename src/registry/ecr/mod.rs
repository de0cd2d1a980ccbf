//! Amazon ECR: which registry the credentials lead to, the token for it, and its repositories.
//!
//! [`Ecr`] is one account's registry in one region; [`config`] finds the region;
//! [`api`] sends one call, retried, with its failure sorted into an [`EcrError`]; [`images`] is what only ECR knows of
//! images.
//!
//! What must stay true: the token is in memory only; nobody is handed one that is about to end; a deploy makes no call
//! that it could do without.

mod api;
mod config;
mod error;
mod images;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::sync::Arc;

use aws_sdk_ecr::types::AuthorizationData;
use tokio::sync::Mutex;

pub(crate) use self::error::EcrError;
pub(crate) use self::images::ImageTimes;

use self::api::Api;
use self::token::Token;
use super::credentials::{Credentials, Login};
use crate::clock;
use crate::manifest::model::EcrSettings;
use crate::reference::{RegistryHost, Repository};

/// A registry that the credentials lead to, and the token for it. Clones share the token.
#[derive(Clone)]
pub(crate) struct Ecr(Arc<Inner>);

struct Inner {
    api: Api,
    host: RegistryHost,
    plain_http: bool,
    token: Mutex<Token>,
}

impl Ecr {
    /// Finds credentials, and asks ECR for a token and for the registry that they lead to (one call). `settings` are
    /// guards: other credentials than those for their account and region are refused.
    pub(crate) async fn connect(settings: &EcrSettings) -> Result<Self, EcrError> {
        let api = Api::new(&config::load(settings).await?);
        Self::with(api, settings).await
    }

    async fn with(api: Api, settings: &EcrSettings) -> Result<Self, EcrError> {
        let data = api.authorization().await?;
        let (host, plain_http) = endpoint(&data)?;
        let account = host.name().split('.').next().unwrap_or_default();
        if let Some(wanted) = settings.account.as_ref().filter(|a| *a != account) {
            return Err(EcrError::OtherAccount {
                wanted: wanted.clone(),
                found: account.to_owned(),
                host,
            });
        }
        let token = Token::new(&data)?;
        Ok(Self(Arc::new(Inner {
            api,
            host,
            plain_http,
            token: Mutex::new(token),
        })))
    }

    /// The registry's host, as ECR named it.
    pub(crate) fn host(&self) -> &RegistryHost {
        &self.0.host
    }

    /// Emulators speak plain HTTP.
    pub(crate) fn plain_http(&self) -> bool {
        self.0.plain_http
    }

    /// Whether a repository is in this registry.
    pub(crate) fn holds(&self, repository: &Repository) -> bool {
        repository.host == *self.host()
    }

    /// Whoever asks next gets another token.
    pub(crate) async fn forget_token(&self) {
        self.0.token.lock().await.renew = clock::now();
    }

    /// User and password for the registry, renewed when the token nears its end.
    pub(crate) async fn credentials(&self) -> Result<Credentials, EcrError> {
        // The lock is held over the call: many who ask at once renew it once.
        let mut token = self.0.token.lock().await;
        if clock::now() >= token.renew {
            match self
                .0
                .api
                .authorization()
                .await
                .and_then(|data| Token::new(&data))
            {
                Ok(new) => *token = new,
                // The old one is good for a while yet; the next who asks tries again.
                Err(error) if token.is_alive() => {
                    tracing::warn!(%error, "the ECR token is not renewed yet");
                    token.postpone();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Credentials {
            login: Login::Password {
                username: "AWS".to_owned(),
                password: token.password.clone(),
            },
            source: format!("ECR's token for {}", self.0.api.region()),
            until: Some(token.renew),
        })
    }

    /// Sees that these repositories are there; makes those that are missing if `create` says so, and returns them.
    pub(crate) async fn provide(
        &self,
        paths: &[String],
        create: bool,
    ) -> Result<Vec<String>, EcrError> {
        let mut doubtful = Vec::new();
        for batch in paths.chunks(Api::DESCRIBED_AT_ONCE) {
            if !self.0.api.all_exist(batch).await? {
                doubtful.extend_from_slice(batch);
            }
        }
        if create {
            self.create(&doubtful).await
        } else {
            self.insist(&doubtful).await
        }
    }

    /// ECR says that some are missing, and not which ones; to create each finds out in as many calls as to ask for each.
    async fn create(&self, doubtful: &[String]) -> Result<Vec<String>, EcrError> {
        let mut created = Vec::new();
        for path in doubtful {
            match self.0.api.create(path).await {
                Ok(true) => created.push(path.clone()),
                Ok(false) => {}
                // Whoever may not create gets no answer to that question, so it is asked in the other way.
                Err(EcrError::Refused(_))
                    if self.0.api.all_exist(std::slice::from_ref(path)).await? => {}
                Err(error) if created.is_empty() => return Err(error),
                Err(error) => {
                    return Err(EcrError::AfterCreating {
                        created,
                        error: Box::new(error),
                    });
                }
            }
        }
        Ok(created)
    }

    async fn insist(&self, doubtful: &[String]) -> Result<Vec<String>, EcrError> {
        let mut missing = Vec::new();
        for path in doubtful {
            if !self.0.api.all_exist(std::slice::from_ref(path)).await? {
                missing.push(path.clone());
            }
        }
        if missing.is_empty() {
            return Ok(vec![]);
        }
        Err(EcrError::Missing {
            missing,
            host: self.0.host.clone(),
            region: self.0.api.region().to_owned(),
        })
    }
}

impl fmt::Debug for Ecr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ecr").field(&self.0.host).finish()
    }
}

/// The registry's host and whether it speaks plain HTTP, from `proxyEndpoint`: a URL without path.
fn endpoint(data: &AuthorizationData) -> Result<(RegistryHost, bool), EcrError> {
    let url = data.proxy_endpoint().unwrap_or_default();
    let (host, plain_http) = match url.split_once("://") {
        Some(("https", host)) => (host, false),
        Some(("http", host)) => (host, true),
        _ => return Err(EcrError::Malformed("it names no registry")),
    };
    RegistryHost::new(host.trim_end_matches('/'))
        .map(|host| (host, plain_http))
        .map_err(|_| EcrError::Malformed("the registry it names has no valid host"))
}
