//! Token services: distribution's token authentication spec, and its OAuth 2 form for identity tokens.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use reqwest::Url;
use serde::Deserialize;

use super::auth::{Grant, sensitive, unauthorized};
use super::credentials::{Credentials, Login};
use super::error::{Problem, Refusal, RegistryError};
use super::failure::unreachable;
use super::http::{read_body, retry_after};
use crate::clock;
use crate::reference::RegistryHost;
use crate::secret::Secret;

/// One question to a token service.
pub(super) struct TokenRequest<'a> {
    pub realm: Url,
    pub service: Option<&'a str>,
    pub scope: &'a str,
    pub credentials: Option<&'a Credentials>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    /// OAuth 2's name for it.
    access_token: Option<String>,
    /// Seconds; 60 where the service does not say.
    expires_in: Option<u64>,
}

impl TokenRequest<'_> {
    const BODY: usize = 1 << 20;
    /// Taken off a token's life, so that it does not end on its way.
    const MARGIN: Duration = Duration::from_secs(10);

    pub(super) async fn send(
        self,
        http: &reqwest::Client,
        host: &RegistryHost,
    ) -> Result<Grant, RegistryError> {
        let asked = clock::now();
        let operation = format!("get a token for {host}");
        let tried = self.credentials.map(|c| c.source.clone());
        let error = |problem| RegistryError::new(&operation, &self.realm, problem);

        let mut response = self
            .request(http)
            .send()
            .await
            .map_err(|cause| error(unreachable(&cause, &self.realm)))?;
        let status = response.status();
        let wait = retry_after(response.headers());
        let body = read_body(&mut response, Self::BODY).await.map_err(error)?;
        if !status.is_success() {
            let refusal = Refusal::new(status, &body);
            return Err(error(match status.as_u16() {
                // OAuth 2 says 400 `invalid_grant` of a stale identity token.
                400 | 401 => unauthorized(host, tried, refusal),
                403 => Problem::Denied {
                    tried,
                    refusal,
                    remedy: None,
                },
                _ => Problem::Unexpected {
                    refusal,
                    retry_after: wait,
                },
            }));
        }
        let malformed = || error(Problem::Malformed("the token service sent no token".into()));
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| malformed())?;
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty())
            .map(Secret::new)
            .ok_or_else(malformed)?;
        let life =
            Duration::from_secs(answer.expires_in.unwrap_or(60)).saturating_sub(Self::MARGIN);
        Ok(Grant {
            header: sensitive(&format!("Bearer {}", token.expose())).ok_or_else(malformed)?,
            source: tried,
            expires: asked.checked_add(life),
        })
    }

    /// GET with Basic for a password or for nobody; POST with the `refresh_token` grant for an identity token.
    fn request(&self, http: &reqwest::Client) -> reqwest::RequestBuilder {
        let mut url = self.realm.clone();
        let login = self.credentials.map(|credentials| &credentials.login);
        if let Some(Login::IdentityToken(token)) = login {
            let mut form = Url::clone(&url);
            form.set_query(None);
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", self.service.unwrap_or(""))
                .append_pair("scope", self.scope)
                .append_pair("client_id", "skiff")
                .append_pair("refresh_token", token.expose());
            return http
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.query().unwrap_or("").to_owned());
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            // A challenge may name several, with spaces between.
            for scope in self.scope.split_whitespace() {
                query.append_pair("scope", scope);
            }
        }
        let request = http.get(url);
        match login {
            Some(Login::Password { username, password }) => {
                request.basic_auth(username, Some(password.expose()))
            }
            _ => request,
        }
    }
}
