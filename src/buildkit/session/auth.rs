//! Credentials for the builder's pulls and pushes, asked host by host. They travel inside the session and are never
//! stored by the builder.

use std::collections::HashMap;
use std::sync::Arc;

use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use crate::clock;
use crate::reference::RegistryHost;
use crate::registry::credentials::{CredentialSources, Credentials, Login};

/// Answers from the docker config and from ECR, each host looked up once per run, or anew when what was found nears its
/// end: the builder asks again when a registry does not take what it has. Cheap to clone: clones share what was found.
#[derive(Clone)]
pub(crate) struct AuthService {
    sources: CredentialSources,
    found: Arc<Mutex<HashMap<RegistryHost, Option<Credentials>>>>,
}

impl AuthService {
    pub(crate) fn new(sources: CredentialSources) -> Self {
        Self {
            sources,
            found: Arc::default(),
        }
    }

    /// What builders have asked for so far, and where the answers came from.
    pub(crate) async fn given(&self) -> Vec<Given> {
        let folder = self.sources.docker_config.as_ref();
        let file = folder.map(|folder| folder.join("config.json").display().to_string());
        let found = self.found.lock().await;
        let given = found.iter().map(|(host, credentials)| Given {
            host: host.clone(),
            source: credentials.as_ref().map(|found| found.source.clone()),
            looked_in: file.clone(),
        });
        given.collect()
    }
}

/// What a builder was given for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) host: RegistryHost,
    /// Where the credentials were found: `auths in …/config.json`, the name of a helper; `None`: there were none.
    pub(crate) source: Option<String>,
    /// The file that was looked in.
    pub(crate) looked_in: Option<String>,
}

/// BuildKit asks for Docker Hub by the host of its API (`registry.ConfigureHosts`); credentials know it by its name.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

#[tonic::async_trait]
impl Auth for AuthService {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let host = if host == DOCKER_HUB_API {
            "docker.io"
        } else {
            &host
        };
        let host =
            RegistryHost::new(host).map_err(|error| Status::invalid_argument(error.to_string()))?;
        // The lock is held over the look-up: containers that start together ask a credential helper once.
        let mut found = self.found.lock().await;
        let known = found.get(&host).filter(|known| {
            let until = known.as_ref().and_then(|credentials| credentials.until);
            until.is_none_or(|until| clock::now() < until)
        });
        let credentials = if let Some(known) = known {
            known.clone()
        } else {
            let asked = self.sources.credentials_for(&host).await;
            let asked = asked.map_err(|error| Status::unavailable(error.to_string()))?;
            found.insert(host, asked.clone());
            asked
        };
        Ok(Response::new(
            match credentials.map(|credentials| credentials.login) {
                None => CredentialsResponse::default(),
                Some(Login::Password { username, password }) => CredentialsResponse {
                    username,
                    secret: password.expose().to_owned(),
                },
                // An empty user name tells BuildKit that the secret is a refresh token.
                Some(Login::IdentityToken(token)) => CredentialsResponse {
                    username: String::new(),
                    secret: token.expose().to_owned(),
                },
            },
        ))
    }

    /// Unimplemented makes the builder fetch tokens itself, with the credentials above.
    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by the builder"))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by the builder"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by the builder"))
    }
}
