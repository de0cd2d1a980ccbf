//! Credentials for the builder's pulls and pushes, asked host by host. They travel inside the session and are never
//! stored by the builder.

use std::collections::HashMap;
use std::sync::Arc;

use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use crate::registry::credentials::{Credentials, DockerConfig};

/// Answers from the docker config, each host looked up once per run. Cheap to clone: clones share what was found.
#[derive(Clone)]
pub(crate) struct AuthService {
    config: Arc<DockerConfig>,
    found: Arc<Mutex<HashMap<String, Option<Credentials>>>>,
}

impl AuthService {
    pub(crate) fn new(config: Arc<DockerConfig>) -> Self {
        Self { config, found: Arc::default() }
    }
}

/// BuildKit asks for Docker Hub by the host of its API.
const DOCKER_HUB: [&str; 2] = ["registry-1.docker.io", "docker.io"];

#[tonic::async_trait]
impl Auth for AuthService {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let host = if host == DOCKER_HUB[0] { DOCKER_HUB[1].to_owned() } else { host };
        // The lock is held over the look-up: containers that start together ask a credential helper once.
        let mut found = self.found.lock().await;
        let credentials = match found.get(&host) {
            Some(known) => known.clone(),
            None => {
                let asked = self.config.credentials_for(&host).await.map_err(|e| Status::unavailable(e.to_string()))?;
                found.insert(host, asked.clone());
                asked
            }
        };
        Ok(Response::new(credentials.map_or_else(CredentialsResponse::default, |c| match c {
            Credentials::Basic { username, password, .. } => {
                CredentialsResponse { username, secret: password.expose().to_owned() }
            }
            // An empty user name tells BuildKit that the secret is a refresh token.
            Credentials::IdentityToken { token, .. } => {
                CredentialsResponse { username: String::new(), secret: token.expose().to_owned() }
            }
        })))
    }

    /// Unimplemented makes the builder fetch tokens itself, with the credentials above.
    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by the builder"))
    }

    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by the builder"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by the builder"))
    }
}
