//! Deleting what nobody needs any more (OCI distribution spec 1.1, "Content Management").

use http::Method;

use super::client::Client;
use super::error::{Problem, RegistryError};
use super::http::Request;
use crate::reference::{Digest, Repository};

/// Largest answer that is read, in bytes: there is nothing in it.
const MAX_ANSWER: usize = 64 << 10;

impl Client {
    /// Deletes a manifest by its digest, and with it **every tag that stands on it**; `false`: it was gone. Its blobs stay
    /// until the registry collects its garbage.
    pub(crate) async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let request = Request {
            operation: format!("delete {repository}@{digest}"),
            method: Method::DELETE,
            place: repository.into(),
            path: format!("manifests/{digest}"),
            location: None,
            accept: None,
            body: None,
            limit: MAX_ANSWER,
        };
        match self.send(&request).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(*error.problem, Problem::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl RegistryError {
    /// Whether the registry is set up to delete nothing, or never does: 405, with distribution's `UNSUPPORTED`.
    pub(crate) fn is_unsupported(&self) -> bool {
        match &*self.problem {
            Problem::Unexpected { refusal, .. } => {
                refusal.status == 405 || refusal.code.as_deref() == Some("UNSUPPORTED")
            }
            _ => false,
        }
    }
}
