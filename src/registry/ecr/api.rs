//! The calls of ECR's API that skiff makes, each retried, its failure sorted.

use aws_config::SdkConfig;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::{AuthorizationData, ImageDetail, ImageFailure, ImageIdentifier};

use super::error::{Action, EcrError, sorted};
use crate::reference::Tag;
use crate::retry::{RetryPolicy, retry};

/// The code of an error: no such repository.
const NO_REPOSITORY: &str = "RepositoryNotFoundException";

/// ECR's API in one region.
pub(super) struct Api {
    client: Client,
    region: String,
    pub(super) retry: RetryPolicy,
}

impl Api {
    /// Names that one `DescribeRepositories` takes (its API reference).
    pub(super) const DESCRIBED_AT_ONCE: usize = 100;

    pub(super) fn new(config: &SdkConfig) -> Self {
        let region = config.region().map_or("", AsRef::as_ref).to_owned();
        Self {
            client: Client::new(config),
            region,
            retry: RetryPolicy::REGISTRY,
        }
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    /// A token, and the registry that it is for.
    pub(super) async fn authorization(&self) -> Result<AuthorizationData, EcrError> {
        let action = self.action("ecr:GetAuthorizationToken", "");
        let answer = self
            .call(action, || self.client.get_authorization_token().send())
            .await?;
        let data = answer
            .authorization_data
            .unwrap_or_default()
            .into_iter()
            .next();
        data.ok_or(EcrError::Malformed("it has no authorization data"))
    }

    /// Whether all of these repositories are there: ECR answers for all or for none.
    pub(super) async fn all_exist(&self, paths: &[String]) -> Result<bool, EcrError> {
        let action = self.action("ecr:DescribeRepositories", &paths.join(", "));
        let request = || {
            let request = self.client.describe_repositories();
            request.set_repository_names(Some(paths.to_vec())).send()
        };
        match self.call(action, request).await {
            Ok(_) => Ok(true),
            Err(EcrError::Refused(refusal)) if refusal.code == NO_REPOSITORY => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a repository with the registry's own defaults; `false`: it is there already.
    pub(super) async fn create(&self, path: &str) -> Result<bool, EcrError> {
        let action = self.action("ecr:CreateRepository", path);
        let request = || self.client.create_repository().repository_name(path).send();
        match self.call(action, request).await {
            Ok(_) => Ok(true),
            Err(EcrError::Refused(refusal))
                if refusal.code == "RepositoryAlreadyExistsException" =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// All images of a repository; none: there is no such repository.
    pub(super) async fn images(&self, path: &str) -> Result<Vec<ImageDetail>, EcrError> {
        /// As many as one call gives (its API reference).
        const PAGE: i32 = 1000;
        let mut images = Vec::new();
        let mut next = None;
        loop {
            let action = self.action("ecr:DescribeImages", path);
            let request = || {
                let request = self.client.describe_images().repository_name(path);
                let request = request.max_results(PAGE).set_next_token(next.clone());
                request.send()
            };
            let answer = match self.call(action, request).await {
                Err(EcrError::Refused(refusal)) if refusal.code == NO_REPOSITORY => {
                    return Ok(images);
                }
                answer => answer?,
            };
            images.extend(answer.image_details.unwrap_or_default());
            match answer.next_token {
                Some(token) if next.as_ref() != Some(&token) => next = Some(token),
                _ => return Ok(images),
            }
        }
    }

    /// Takes tags away; what failed is said for each.
    pub(super) async fn delete(
        &self,
        path: &str,
        tags: &[Tag],
    ) -> Result<Vec<ImageFailure>, EcrError> {
        let action = self.action("ecr:BatchDeleteImage", path);
        let request = || {
            let ids = tags.iter().map(|tag| {
                let id = ImageIdentifier::builder().image_tag(tag.as_str());
                id.build()
            });
            let request = self.client.batch_delete_image().repository_name(path);
            request.set_image_ids(Some(ids.collect())).send()
        };
        match self.call(action, request).await {
            Err(EcrError::Refused(refusal)) if refusal.code == NO_REPOSITORY => Ok(vec![]),
            answer => Ok(answer?.failures.unwrap_or_default()),
        }
    }

    fn action(&self, name: &'static str, repositories: &str) -> Action {
        Action {
            name,
            repositories: repositories.to_owned(),
            region: self.region.clone(),
        }
    }

    async fn call<T, E, F>(&self, action: Action, request: impl Fn() -> F) -> Result<T, EcrError>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        retry(self.retry, || async {
            request().await.map_err(|error| sorted(&action, &error))
        })
        .await
    }
}
