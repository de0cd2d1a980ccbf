//! What a writer of records needs beside manifests: small blobs, and the list of a repository's tags (OCI distribution
//! spec 1.1, "Pushing a blob monolithically", "Content Discovery").

use bytes::Bytes;
use http::Method;
use http::header::{LINK, LOCATION};
use reqwest::Url;
use serde::Deserialize;

use super::client::Client;
use super::error::{Problem, RegistryError};
use super::http::{Request, Response};
use crate::reference::{Digest, Repository, Tag};

/// Tags that are asked for at a time: the most that ECR gives (its API reference, `ListImages`).
const PAGE: usize = 1000;

/// Largest page of tags that is read, in bytes: registries may ignore the size that is asked for.
const MAX_PAGE: usize = 16 << 20;

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
            repository,
            path: format!("blobs/{digest}"),
            location: None,
            accept: None,
            body: None,
            limit: 0,
        };
        match self.0.send(&request).await {
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
            repository,
            path: "blobs/uploads/".to_owned(),
            location: None,
            accept: None,
            body: Some((Bytes::new(), "application/octet-stream")),
            limit: MAX_PAGE,
        };
        let opened = self.0.send(&request).await?;
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
        self.0.send(&request).await.map(drop)
    }

    /// All tags of a repository; none: it is empty, or there is no such repository.
    pub(crate) async fn list_tags(
        &self,
        repository: &Repository,
    ) -> Result<Vec<Tag>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut query = format!("n={PAGE}");
        loop {
            let request = Request {
                operation: format!("list the tags of {repository}"),
                method: Method::GET,
                repository,
                path: format!("tags/list?{query}"),
                location: None,
                accept: None,
                body: None,
                limit: MAX_PAGE,
            };
            let response = match self.0.send(&request).await {
                Err(error) if matches!(*error.problem, Problem::NotFound(_)) => return Ok(tags),
                result => result?,
            };
            let page: Page = serde_json::from_slice(&response.body).map_err(|error| {
                let problem = Problem::Malformed(error.to_string());
                RegistryError::new(&request.operation, &response.url, problem)
            })?;
            let found = page.tags.unwrap_or_default();
            tags.extend(found.iter().filter_map(|tag| Tag::new(tag).ok()));
            match next_page(&response) {
                Some(next) if next != query => query = next,
                _ => return Ok(tags),
            }
        }
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

/// The query of `Link: <…>; rel="next"` (RFC 8288).
fn next_page(response: &Response) -> Option<String> {
    let text = response.headers.get(LINK)?.to_str().ok()?;
    let (target, parameters) = text.strip_prefix('<')?.split_once('>')?;
    if !parameters.contains("next") {
        return None;
    }
    Some(response.url.join(target).ok()?.query()?.to_owned())
}
