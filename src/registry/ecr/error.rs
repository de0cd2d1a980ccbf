//! What goes wrong with ECR: what was asked for, what AWS said, what to do.

use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};

use super::super::error::cleaned;
use super::super::failure::chain;
use crate::diagnostic::Diagnostic;
use crate::reference::RegistryHost;
use crate::retry::Failure;

/// Why ECR cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EcrError {
    #[error("no AWS region is set")]
    NoRegion,
    #[error(
        "`registry.region` is {wanted}, and the AWS configuration of this environment is for {found}"
    )]
    OtherRegion { wanted: String, found: String },
    #[error(
        "`registry.account` is {wanted}, and the AWS credentials of this environment are for account {found} ({host})"
    )]
    OtherAccount {
        wanted: String,
        found: String,
        host: RegistryHost,
    },
    #[error("no AWS credentials are found")]
    NoCredentials,
    /// A place that should have credentials has none that work.
    #[error("AWS credentials cannot be had: {0}")]
    Credentials(String),
    #[error("no answer from AWS to {action}: {reason}")]
    Unreachable { action: Action, reason: String },
    #[error(transparent)]
    Refused(Box<Refused>),
    #[error("{host} does not have {}, and `registry.create = false`", missing.join(", "))]
    Missing {
        missing: Vec<String>,
        host: RegistryHost,
        region: String,
    },
    #[error("{error}")]
    AfterCreating {
        created: Vec<String>,
        #[source]
        error: Box<EcrError>,
    },
    #[error("the answer to ecr:GetAuthorizationToken makes no sense: {0}")]
    Malformed(&'static str),
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    /// As IAM's policies name it.
    pub name: &'static str,
    /// Comma-separated paths; empty for the whole registry.
    pub repositories: String,
    pub region: String,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        if !self.repositories.is_empty() {
            write!(f, " on {}", self.repositories)?;
        }
        write!(f, " in {}", self.region)
    }
}

/// AWS said no. Its message names principal, action and resource where IAM is why.
#[derive(Debug, thiserror::Error)]
#[error("AWS refuses {action}: {code} \"{message}\"")]
pub(crate) struct Refused {
    pub action: Action,
    pub code: String,
    pub message: String,
}

impl EcrError {
    /// For people: what, AWS's own words, and what to do.
    pub(crate) fn diagnostic(&self) -> Diagnostic {
        let titled = |error: &Self| Diagnostic::error(error.to_string());
        match self {
            Self::NoRegion => titled(self)
                .note("looked at AWS_REGION, AWS_DEFAULT_REGION, the profile (AWS_PROFILE), and the instance")
                .help("set AWS_REGION, or write `region = \"…\"` below [registry]"),
            Self::OtherRegion { wanted, .. } => titled(self).help(format!(
                "set AWS_REGION={wanted}, or another AWS_PROFILE; or mend `registry.region`"
            )),
            Self::OtherAccount { wanted, .. } => titled(self).help(format!(
                "use credentials for account {wanted} (AWS_PROFILE, or the role that this runs as); or mend `registry.account`"
            )),
            Self::NoCredentials => titled(self)
                .note(
                    "looked at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile (AWS_PROFILE, else `default`, in \
                     ~/.aws/config and ~/.aws/credentials), AWS_WEB_IDENTITY_TOKEN_FILE, and the roles of the container \
                     (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI) and of the instance",
                )
                .help("on a laptop: `aws sso login` or `aws configure`, and AWS_PROFILE if it is not the default one")
                .help("in CI: give the job a role (CodeBuild: the project's service role; GitHub: aws-actions/configure-aws-credentials)"),
            Self::Credentials(_) => titled(self).help(
                "see that `aws sts get-caller-identity` works here; `aws sso login` renews an SSO session",
            ),
            Self::Unreachable { .. } => titled(self)
                .help("see the network, the region's name, HTTPS_PROXY, and AWS_ENDPOINT_URL if it is set"),
            Self::Refused(refused) => {
                let Refused { action, code, message } = &**refused;
                Diagnostic::error(format!("AWS refuses {action} ({code})"))
                    .note(message.clone())
                    .help(refused.remedy())
            }
            Self::Missing { missing, region, .. } => titled(self)
                .help(format!(
                    "create them: for name in {}; do aws ecr create-repository --region {region} --repository-name $name; done",
                    missing.join(" ")
                ))
                .help("or write `create = true`, and skiff does"),
            Self::AfterCreating { created, error } => error.diagnostic().note(format!(
                "created before that, and still there: {}",
                created.join(", ")
            )),
            Self::Malformed(_) => titled(self).help("see AWS_ENDPOINT_URL, if it is set"),
        }
    }
}

impl Refused {
    fn remedy(&self) -> String {
        let name = self.action.name;
        match self.code.as_str() {
            "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" => {
                let on = match self.action.repositories.as_str() {
                    "" => "*",
                    repositories => repositories,
                };
                format!("allow {name} on {on} to this principal, in its policy and in those above it")
            }
            "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => {
                "the AWS credentials have expired: renew them (`aws sso login`, a new session, a new job)".into()
            }
            "InvalidSignatureException" | "SignatureDoesNotMatch" => {
                "see that AWS_SECRET_ACCESS_KEY belongs to AWS_ACCESS_KEY_ID, and that this machine's clock is right".into()
            }
            "UnrecognizedClientException" | "InvalidClientTokenId" => {
                "see AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN: AWS does not know them, or the account has not enabled the region".into()
            }
            "LimitExceededException" => {
                "the account's quota is used up: delete repositories, or raise it in Service Quotas".into()
            }
            _ => format!("see what the API reference of ECR says of {} by {name}", self.code),
        }
    }
}

/// A failed call, and whether it may be tried again.
pub(super) fn sorted<E>(action: &Action, error: &SdkError<E>) -> Failure<EcrError>
where
    E: Error + ProvideErrorMetadata + 'static,
{
    if let SdkError::ServiceError(context) = error {
        let answer = context.raw();
        let status = answer.status().as_u16();
        let code = context
            .err()
            .code()
            .map_or_else(|| format!("HTTP {status}"), |code| cleaned(code, 100));
        let again = status == 429 || status >= 500 || THROTTLED.contains(&code.as_str());
        let after = answer
            .headers()
            .get("retry-after")
            .and_then(|text| text.parse().ok());
        let error = EcrError::Refused(Box::new(Refused {
            action: action.clone(),
            code,
            message: cleaned(
                context.err().message().unwrap_or("it does not say why"),
                1000,
            ),
        }));
        return if again {
            let after = after.map(Duration::from_secs);
            Failure::Transient { error, after }
        } else {
            Failure::Permanent(error)
        };
    }
    let innermost = |from: &dyn Error| {
        let last = chain(from.source()).last();
        cleaned(
            &last.map_or_else(|| from.to_string(), ToString::to_string),
            300,
        )
    };
    if let Some(cause) =
        chain(error.source()).find_map(|cause| cause.downcast_ref::<CredentialsError>())
    {
        return match cause {
            CredentialsError::CredentialsNotLoaded(_) => {
                Failure::Permanent(EcrError::NoCredentials)
            }
            CredentialsError::ProviderTimedOut(_) => Failure::Transient {
                error: EcrError::Credentials(innermost(cause)),
                after: None,
            },
            _ => Failure::Permanent(EcrError::Credentials(innermost(cause))),
        };
    }
    let refused = chain(error.source()).any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == ErrorKind::ConnectionRefused)
    });
    let reason = if matches!(error, SdkError::TimeoutError(_)) {
        "none in time".to_owned()
    } else {
        innermost(error)
    };
    let error = EcrError::Unreachable {
        action: action.clone(),
        reason,
    };
    if refused {
        Failure::Permanent(error)
    } else {
        Failure::Transient { error, after: None }
    }
}

/// Codes of "too fast" (the SDKs' list: smithy "retry behaviour", throttling errors).
const THROTTLED: [&str; 6] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
];
