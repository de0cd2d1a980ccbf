//! Secrets for the steps that mount them (`moby.buildkit.secrets.v1.Secrets`). A value is read when a builder asks for
//! it and goes into the answer; nothing holds, logs or shows it.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use tonic::{Request, Response, Status};

use crate::secret::Secret;

/// Largest secret, in bytes: BuildKit's own limit (`session/secrets/secretsprovider`, `MaxSecretSize`).
pub(crate) const MAX_SECRET: usize = 500 << 10;

/// Where a value is.
#[derive(Clone)]
pub(crate) enum SecretValue {
    /// A variable, as it was when skiff started.
    Variable(Secret),
    File(PathBuf),
}

/// Why a file cannot be a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnreadSecret {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it has more than {} KiB", MAX_SECRET >> 10)]
    TooLarge,
}

/// The secrets of one container, by id. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct SecretsService {
    values: Arc<HashMap<String, SecretValue>>,
}

impl SecretsService {
    pub(super) const METHOD: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";

    pub(crate) fn new(values: HashMap<String, SecretValue>) -> Self {
        Self {
            values: Arc::new(values),
        }
    }
}

/// The bytes of a secret's file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, UnreadSecret> {
    let mut bytes = Vec::new();
    let limit = MAX_SECRET as u64 + 1;
    std::fs::File::open(path)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    if bytes.len() > MAX_SECRET {
        return Err(UnreadSecret::TooLarge);
    }
    Ok(bytes)
}

#[tonic::async_trait]
impl Secrets for SecretsService {
    /// Not found is no failure yet: a mount that is not `required` then has no file, and any other fails its step
    /// (BuildKit `solver/llbsolver/mounts/mount.go`).
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let data = match self.values.get(&id) {
            None => return Err(Status::not_found(format!("secret {id} is not given"))),
            Some(SecretValue::Variable(value)) => value.expose().as_bytes().to_vec(),
            Some(SecretValue::File(path)) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || read(&path))
                    .await
                    .map_err(|error| Status::internal(error.to_string()))?
                    .map_err(|error| {
                        Status::failed_precondition(format!("secret {id} cannot be read: {error}"))
                    })?
            }
        };
        Ok(Response::new(GetSecretResponse { data }))
    }
}
