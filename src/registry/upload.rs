//! What a writer of records needs beside manifests: small blobs (OCI distribution spec 1.1, "Pushing a blob
//! monolithically").

use bytes::Bytes;
use http::Method;
use http::header::LOCATION;
use reqwest::Url;

use super::client::Client;
use super::error::{Problem, RegistryError};
use super::http::{Request, Response};
use crate::reference::{Digest, Repository};

/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;

impl Client {
    /// Puts a blob that fits into memory, unless it is there.
    pub(crate) async fn put_blob(
        &self,
        repository: &Repository,
        bytes: &Bytes,
    ) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let mut again = true;
        loop {
            if self.has_blob(repository, &digest).await? {
                return Ok(digest);
            }
            match self.upload(repository, bytes, &digest).await {
                Ok(()) => return Ok(digest),
                // An upload ends with the answer to its PUT, also when that answer is lost: a second PUT finds none.
                Err(error) if again && is_over(&error) => again = false,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a repository has this blob.
    pub(crate) async fn has_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let request = Request {
            operation: format!("look for blob {digest} of {repository}"),
            method: Method::HEAD,
            place: repository.into(),
            path: format!("blobs/{digest}"),
            location: None,
            accept: None,
            body: None,
            limit: 0,
        };
        match self.send(&request).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(*error.problem, Problem::NotFound(_)) => Ok(false),
            // A refusal of HEAD has no body to say why: the upload's has.
            Err(error) if error.has_hidden_reason() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn upload(
        &self,
        repository: &Repository,
        bytes: &Bytes,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let mut request = Request {
            operation: format!("push a blob to {repository}"),
            method: Method::POST,
            place: repository.into(),
            path: "blobs/uploads/".to_owned(),
            location: None,
            accept: None,
            body: Some((Bytes::new(), "application/octet-stream")),
            limit: MAX_ANSWER,
        };
        let opened = self.send(&request).await?;
        let mut location = location(&opened).ok_or_else(|| {
            let problem = Problem::Malformed("the upload has no place on this host".into());
            RegistryError::new(&request.operation, &opened.url, problem)
        })?;
        location
            .query_pairs_mut()
            .append_pair("digest", digest.as_str());
        request.method = Method::PUT;
        request.location = Some(location);
        request.body = Some((bytes.clone(), "application/octet-stream"));
        self.send(&request).await.map(drop)
    }
}

/// The upload that was written to is not there (any more), or not as it was.
fn is_over(error: &RegistryError) -> bool {
    match &*error.problem {
        Problem::NotFound(_) => true,
        Problem::Unexpected { refusal, .. } => matches!(refusal.status, 400 | 409 | 416),
        _ => false,
    }
}

/// Where an upload goes on. Credentials are this host's: another one is not followed.
fn location(opened: &Response) -> Option<Url> {
    let text = opened.headers.get(LOCATION)?.to_str().ok()?;
    let mut location = opened.url.join(text).ok()?;
    if location.host_str() != opened.url.host_str() {
        return None;
    }
    // Registries behind a proxy may not know by which scheme and port they are reached.
    location.set_scheme(opened.url.scheme()).ok()?;
    location.set_port(opened.url.port()).ok()?;
    Some(location)
}
