//! One request to a registry: where it goes, who asks, how long it may take, how often it is tried, and what its answer
//! may weigh. Everything above deals in bytes and [`RegistryError`]s.
//!
//! What must stay true: an `Authorization` header goes to the host it was made for and nowhere else; no answer is read
//! without a bound; a request that is retried is one that may be repeated (HEAD, GET, DELETE, PUT of content by its digest,
//! and POST that opens an upload).
//!
//! Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, as reqwest reads them; never for
//! loopback hosts, as in Go's tools.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use reqwest::Url;
use reqwest::redirect::Policy;
use tokio::sync::Semaphore;

use super::auth::{self, Challenge, Grant, HostAuth};
use super::credentials::CredentialSources;
use super::error::{Problem, Refusal, RegistryError, shown};
use super::failure::{innermost, unreachable};
use super::limits::Pace;
use crate::clock;
use crate::reference::{RegistryHost, Repository};
use crate::retry::{Failure, RetryPolicy, retry};

/// How to talk to registries.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Plain HTTP or HTTPS for these hosts; any other host speaks plain HTTP if it is loopback, and else HTTPS.
    pub plain_http: HashMap<RegistryHost, bool>,
    pub credentials: CredentialSources,
    pub retry: RetryPolicy,
    pub limits: Limits,
}

/// The longest waits of one attempt, and how many requests a host gets at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub connect: Duration,
    /// Without a byte from the server: well below the retries' deadline, so that a stalled request is tried again.
    pub idle: Duration,
    pub total: Duration,
    pub concurrent: usize,
}

impl Options {
    pub(crate) fn new(credentials: CredentialSources) -> Self {
        Self {
            plain_http: HashMap::new(),
            credentials,
            retry: RetryPolicy::REGISTRY,
            limits: Limits {
                connect: Duration::from_secs(10),
                idle: Duration::from_secs(20),
                total: Duration::from_mins(1),
                concurrent: 8,
            },
        }
    }

    fn is_plain(&self, host: &RegistryHost) -> bool {
        self.plain_http
            .get(host)
            .copied()
            .unwrap_or_else(|| host.is_loopback())
    }
}

/// What a request is about.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Repository(&'a Repository),
    /// All repositories of a registry.
    Catalogue(&'a RegistryHost),
}

impl<'a> From<&'a Repository> for Place<'a> {
    fn from(repository: &'a Repository) -> Self {
        Self::Repository(repository)
    }
}

impl<'a> Place<'a> {
    pub(super) fn host(self) -> &'a RegistryHost {
        match self {
            Self::Repository(repository) => &repository.host,
            Self::Catalogue(host) => host,
        }
    }
}

/// A request below `/v2/<repository>/`, or below `/v2/`.
pub(super) struct Request<'a> {
    /// For errors: a verb and its object.
    pub operation: String,
    pub method: Method,
    pub place: Place<'a>,
    /// Such as `manifests/latest`.
    pub path: String,
    /// Where the registry said to go instead of `path`; on the same host.
    pub location: Option<Url>,
    pub accept: Option<&'static str>,
    /// The body with its media type.
    pub body: Option<(Bytes, &'a str)>,
    /// The largest answer, in bytes.
    pub limit: usize,
}

/// A successful answer.
pub(super) struct Response {
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Where it was asked for, for errors about its content.
    pub url: Url,
}

/// What is shared by all requests to one host.
struct Host {
    plain_http: bool,
    http: reqwest::Client,
    auth: HostAuth,
    slots: Semaphore,
    /// For PUTs of manifests, where there is a quota.
    manifests: Option<Pace>,
}

pub(super) struct Transport {
    options: Options,
    hosts: Mutex<HashMap<RegistryHost, Arc<Host>>>,
}

impl Transport {
    /// The largest body of an error that is read.
    const REFUSAL: usize = 64 << 10;

    pub(super) fn new(options: Options) -> Self {
        crate::tls::install_provider();
        Self {
            options,
            hosts: Mutex::default(),
        }
    }

    /// Sends it until it succeeds (any 2xx), fails for good, or the retries end.
    pub(super) async fn send(
        &self,
        request: &Request<'_>,
        policy: RetryPolicy,
    ) -> Result<Response, RegistryError> {
        let host = self.host(request.place.host())?;
        let url = host.url(request)?;
        // Boxed: callers nest deep enough to exceed what the compiler follows.
        Box::pin(retry(policy, || async {
            self.attempt(&host, request, &url).await.map_err(|error| {
                tracing::debug!(%error, retriable = error.is_retriable(), "registry request failed");
                if !error.is_retriable() {
                    return Failure::Permanent(error);
                }
                let after = match &*error.problem {
                    Problem::Unexpected { retry_after, .. } => *retry_after,
                    _ => None,
                };
                Failure::Transient { error, after }
            })
        }))
        .await
    }

    /// Sends it once, and once more if the registry asks who is there.
    async fn attempt(
        &self,
        host: &Host,
        request: &Request<'_>,
        url: &Url,
    ) -> Result<Response, RegistryError> {
        let writes = request.method == Method::PUT || request.method == Method::POST;
        let manifest = writes && request.path.starts_with("manifests/");
        if let Some(pace) = host.manifests.as_ref().filter(|_| manifest) {
            pace.pass().await;
        }
        let _slot = host.slots.acquire().await;
        let scope = request.scope();
        let mut grant = host.auth.current(&scope).await;
        let mut asked = false;
        loop {
            let mut response = request.send(&host.http, url, grant.as_ref()).await?;
            let status = response.status();
            let limit = if status.is_success() {
                request.limit
            } else {
                Self::REFUSAL
            };
            let body = read_body(&mut response, limit).await;
            tracing::debug!(method = %request.method, url = shown(url), status = status.as_u16(), "registry");
            if status.is_success() {
                return Ok(Response {
                    headers: std::mem::take(response.headers_mut()),
                    body: body.map_err(|problem| request.error(url, problem))?,
                    url: url.clone(),
                });
            }
            // The storage behind a registry knows nothing of its users: what it refuses is no matter of login.
            let own = response.url().origin() == url.origin();
            let offered = auth::challenges(response.headers());
            if status == StatusCode::UNAUTHORIZED && own && !asked {
                asked = true;
                let answer = host
                    .auth
                    .answer(&host.http, &scope, &offered, grant.as_ref());
                if let Some(new) = answer.await? {
                    grant = Some(new);
                    continue;
                }
            }
            // ECR answers so to a token that has ended (or was taken back) before its time.
            if status == StatusCode::FORBIDDEN
                && own
                && !asked
                && let Some(refused) = &grant
            {
                asked = true;
                if let Some(new) = host.auth.renewed(refused).await {
                    grant = Some(new);
                    continue;
                }
            }
            let refusal = Refusal::new(status, &body.unwrap_or_default());
            let tried = grant.and_then(|grant| grant.source);
            let problem = match status {
                StatusCode::UNAUTHORIZED if own && is_denial(&offered, &refusal) => {
                    Problem::Denied {
                        tried,
                        refusal,
                        remedy: None,
                    }
                }
                StatusCode::UNAUTHORIZED if own => host.auth.unauthorized(tried, refusal),
                StatusCode::FORBIDDEN if own => Problem::Denied {
                    tried,
                    remedy: (writes && request.place.host().is_ecr()).then_some(ECR_DENIAL),
                    refusal,
                },
                StatusCode::NOT_FOUND => Problem::NotFound(refusal),
                _ => Problem::Unexpected {
                    refusal,
                    retry_after: retry_after(response.headers()),
                },
            };
            return Err(request.error(response.url(), problem));
        }
    }

    fn host(&self, name: &RegistryHost) -> Result<Arc<Host>, RegistryError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(name) {
            return Ok(host.clone());
        }
        let plain_http = self.options.is_plain(name);
        let limits = self.options.limits;
        let http = client(name, limits).map_err(|cause| RegistryError {
            operation: format!("connect to {name}"),
            url: name.to_string(),
            problem: Box::new(Problem::Tls {
                reason: innermost(&cause),
                remedy: Some("install the system's CA certificates, or name them in SSL_CERT_FILE"),
            }),
        })?;
        let host = Arc::new(Host {
            plain_http,
            http,
            auth: HostAuth::new(name.clone(), self.options.credentials.clone(), plain_http),
            slots: Semaphore::new(limits.concurrent),
            manifests: name.is_ecr().then(Pace::of_ecr),
        });
        hosts.insert(name.clone(), host.clone());
        Ok(host)
    }
}

/// A client of its own for each host: connections are per host anyway, and proxies are not for loopback.
fn client(host: &RegistryHost, limits: Limits) -> reqwest::Result<reqwest::Client> {
    let redirects = Policy::custom(|attempt| {
        let downgrade = attempt.url().scheme() != "https"
            && attempt.previous().iter().any(|url| url.scheme() == "https");
        if downgrade {
            attempt.error("redirected from HTTPS to plain HTTP")
        } else if attempt.previous().len() > 5 {
            attempt.error("redirected more than 5 times")
        } else {
            attempt.follow()
        }
    });
    let builder = reqwest::Client::builder()
        .user_agent(concat!("skiff/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        .read_timeout(limits.idle)
        .timeout(limits.total)
        // To another host, reqwest follows without the `Authorization` header; the referrer would name the repository.
        .redirect(redirects)
        .referer(false);
    if host.is_loopback() {
        builder.no_proxy().build()
    } else {
        builder.build()
    }
}

impl Host {
    fn url(&self, request: &Request<'_>) -> Result<Url, RegistryError> {
        if let Some(location) = &request.location {
            return Ok(location.clone());
        }
        let Request { place, path, .. } = request;
        let scheme = if self.plain_http { "http" } else { "https" };
        // Docker Hub's API has another name than its images.
        let host = match place.host().as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        };
        let text = match place {
            Place::Repository(repository) => {
                format!("{scheme}://{host}/v2/{}/{path}", repository.path())
            }
            Place::Catalogue(_) => format!("{scheme}://{host}/v2/{path}"),
        };
        Url::parse(&text).map_err(|error| RegistryError {
            operation: request.operation.clone(),
            url: text,
            problem: Box::new(Problem::Malformed(error.to_string())),
        })
    }
}

impl Request<'_> {
    /// What it wants to do, as a token's scope.
    fn scope(&self) -> String {
        match self.place {
            Place::Repository(repository) => auth::scope(repository, auth::actions(&self.method)),
            Place::Catalogue(_) => auth::CATALOGUE.to_owned(),
        }
    }

    async fn send(
        &self,
        http: &reqwest::Client,
        url: &Url,
        grant: Option<&Grant>,
    ) -> Result<reqwest::Response, RegistryError> {
        let mut builder = http.request(self.method.clone(), url.clone());
        if let Some(accept) = self.accept {
            builder = builder.header(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(grant) = grant {
            builder = builder.header(AUTHORIZATION, grant.header.clone());
        }
        if let Some((body, media_type)) = &self.body {
            builder = builder.header(CONTENT_TYPE, *media_type).body(body.clone());
        }
        builder
            .send()
            .await
            .map_err(|cause| self.error(url, unreachable(&cause, url)))
    }

    fn error(&self, url: &Url, problem: Problem) -> RegistryError {
        RegistryError::new(&self.operation, url, problem)
    }
}

/// What ECR may mean by a 403 to a push.
const ECR_DENIAL: &str = "the principal needs ecr:PutImage on the repository, and the repository room for another image (a quota)";

fn is_denial(offered: &[Challenge], refusal: &Refusal) -> bool {
    let insufficient = |challenge: &Challenge| matches!(challenge, Challenge::Bearer { error: Some(error), .. } if error == "insufficient_scope");
    refusal.code.as_deref() == Some("DENIED") || offered.iter().any(insufficient)
}

/// Reads a body that must not be larger than `limit` bytes.
pub(super) async fn read_body(
    response: &mut reqwest::Response,
    limit: usize,
) -> Result<Bytes, Problem> {
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |length| length > limit) {
        return Err(Problem::TooLarge { limit });
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                return Err(Problem::TooLarge { limit });
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.into()),
            Err(cause) => return Err(unreachable(&cause, response.url())),
        }
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or an HTTP date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    // A date in the past: at once.
    Some(Duration::try_from(date.duration_since(clock::timestamp())).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(options: Options, repository: &str) -> String {
        let repository: Repository = repository.parse().unwrap();
        let transport = Transport::new(options);
        let request = Request {
            operation: String::new(),
            method: Method::GET,
            place: (&repository).into(),
            path: "manifests/v1".into(),
            location: None,
            accept: None,
            body: None,
            limit: 0,
        };
        let host = transport.host(&repository.host).unwrap();
        host.url(&request).unwrap().into()
    }

    #[test]
    fn https_unless_loopback_or_told() {
        let options = || Options::new(CredentialSources::new(None));
        let told = |host: &str, plain: bool| {
            let mut options = options();
            options
                .plain_http
                .insert(RegistryHost::new(host).unwrap(), plain);
            options
        };
        for (options, repository, expected) in [
            (
                options(),
                "ghcr.io/a/b",
                "https://ghcr.io/v2/a/b/manifests/v1",
            ),
            (
                options(),
                "localhost:5000/a",
                "http://localhost:5000/v2/a/manifests/v1",
            ),
            (
                options(),
                "[::1]:5000/a",
                "http://[::1]:5000/v2/a/manifests/v1",
            ),
            (
                told("localhost:5000", false),
                "localhost:5000/a",
                "https://localhost:5000/v2/a/manifests/v1",
            ),
            (
                told("reg.lan", true),
                "reg.lan/a",
                "http://reg.lan/v2/a/manifests/v1",
            ),
            (
                told("reg.lan", true),
                "reg.lan:5000/a",
                "https://reg.lan:5000/v2/a/manifests/v1",
            ),
            (
                options(),
                "docker.io/library/x",
                "https://registry-1.docker.io/v2/library/x/manifests/v1",
            ),
        ] {
            assert_eq!(url(options, repository), expected);
        }
    }
}
