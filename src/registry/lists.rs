//! Lists: the tags of a repository (OCI distribution spec 1.1, "Content Discovery"), and the repositories of a registry
//! (distribution's "Listing Repositories", which the OCI spec has not).

use std::collections::BTreeSet;

use http::Method;
use http::header::LINK;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::error::{Problem, RegistryError};
use super::http::{Place, Request, Response};
use crate::reference::{RegistryHost, Repository, Tag};

/// Names that are asked for at a time: the most that ECR gives (its API reference, `ListImages`) and that distribution gives
/// by default (`catalog.maxentries`).
const PAGE: usize = 1000;

/// Largest page that is read, in bytes: registries may ignore the size that is asked for.
const MAX_PAGE: usize = 16 << 20;

/// Pages of a catalogue that are read: in one that is longer, asking for each name that is wanted is no slower.
const CATALOGUE: usize = 10;

impl Client {
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
            let operation = format!("list the tags of {repository}");
            let page = self.page(repository.into(), operation, "tags/list", &query);
            let (page, next) = match page.await {
                Err(error) if matches!(*error.problem, Problem::NotFound(_)) => return Ok(tags),
                answer => answer?,
            };
            let Page { tags: found } = page;
            let found = found.unwrap_or_default();
            tags.extend(found.iter().filter_map(|tag| Tag::new(tag).ok()));
            match next {
                Some(next) if next != query => query = next,
                _ => return Ok(tags),
            }
        }
    }

    /// The paths of the repositories that a registry lists: those that the user may see, where it distinguishes. `None`: there
    /// are too many.
    pub(crate) async fn list_repositories(
        &self,
        host: &RegistryHost,
    ) -> Result<Option<BTreeSet<String>>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            repositories: Option<BTreeSet<String>>,
        }
        let mut all = BTreeSet::new();
        let mut query = format!("n={PAGE}");
        for _ in 0..CATALOGUE {
            let operation = format!("list the repositories of {host}");
            let page = self.page(Place::Catalogue(host), operation, "_catalog", &query);
            let (Page { repositories }, next) = page.await?;
            all.extend(repositories.unwrap_or_default());
            match next {
                Some(next) if next != query => query = next,
                _ => return Ok(Some(all)),
            }
        }
        Ok(None)
    }

    /// A page, and the query of the next one.
    async fn page<T: DeserializeOwned>(
        &self,
        place: Place<'_>,
        operation: String,
        path: &str,
        query: &str,
    ) -> Result<(T, Option<String>), RegistryError> {
        let request = Request {
            operation,
            method: Method::GET,
            place,
            path: format!("{path}?{query}"),
            location: None,
            accept: None,
            body: None,
            limit: MAX_PAGE,
        };
        let response = self.send(&request).await?;
        let page = serde_json::from_slice(&response.body).map_err(|error| {
            let problem = Problem::Malformed(error.to_string());
            RegistryError::new(&request.operation, &response.url, problem)
        })?;
        Ok((page, next_page(&response)))
    }
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
