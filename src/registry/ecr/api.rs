//! The three calls of ECR's API that skiff makes, each retried, its failure sorted.

use aws_config::SdkConfig;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::AuthorizationData;

use super::error::{Action, EcrError, sorted};
use crate::retry::{RetryPolicy, retry};

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
            Err(EcrError::Refused(refusal)) if refusal.code == "RepositoryNotFoundException" => {
                Ok(false)
            }
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
