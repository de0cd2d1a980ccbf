//! Caches in an S3 bucket. The builder reads and writes them (BuildKit `cache/remotecache/s3`); skiff sees before the build
//! that the bucket can be used and which cache is there, by signed requests, and hands over credentials. Carried cache
//! mounts are such caches too, each with a note beside it ([`note`]).
//!
//! What must stay true: credentials are in memory and in the attributes of a solve only. They are asked for anew for each
//! solve, as what was handed over at the beginning of a long run may have ended at its end.

pub(crate) mod kept;
mod layers;
pub(crate) mod note;
mod objects;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::Region;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use http::StatusCode;
use reqwest::redirect::Policy;

use crate::aws;
use crate::buildkit::solve::Attributes;
use crate::manifest::model::S3Settings;
use crate::reference::RegistryHost;
use crate::registry::innermost;

/// Where BuildKit keeps the manifests below the prefix (`cache/remotecache/s3`, `manifests_prefix`).
const MANIFESTS: &str = "manifests/";

/// The longest waits of one request.
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(20);

/// A cache in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3Place {
    pub(crate) bucket: String,
    /// Empty, or with a slash at its end.
    pub(crate) prefix: String,
    /// What the builder calls it; unique below the prefix.
    pub(crate) name: String,
}

impl S3Place {
    /// Of what the builder writes there: a list of layers, and of the steps that they are of.
    pub(crate) fn key(&self) -> String {
        format!("{}{MANIFESTS}{}", self.prefix, self.name)
    }
}

impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key())
    }
}

/// A bucket that answers. Clones share it.
#[derive(Clone)]
pub(crate) struct Bucket(Arc<Inner>);

struct Inner {
    settings: S3Settings,
    region: String,
    /// Instead of AWS's own.
    endpoint: Option<String>,
    credentials: SharedCredentialsProvider,
    http: reqwest::Client,
}

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum S3Error {
    #[error("no AWS region is set for it")]
    NoRegion,
    #[error("AWS credentials cannot be had for it: {0}")]
    NoCredentials(String),
    #[error("there is no such bucket")]
    Missing,
    #[error("it may not be looked at with these credentials")]
    Forbidden,
    #[error("it may not be written to with these credentials")]
    ReadOnly,
    #[error("nothing in it may be deleted with these credentials")]
    KeepsAll,
    #[error("it is in {0}, and {1} was asked")]
    Elsewhere(String, String),
    #[error("it answers with HTTP {0}")]
    Status(u16),
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("its URL is none: {0}")]
    Url(String),
    #[error("its answer cannot be read: {0}")]
    Answer(String),
}

impl S3Error {
    /// What to do.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::NoRegion => "set AWS_REGION, or write `region` below [cache]",
            Self::NoCredentials(_) => "see that `aws sts get-caller-identity` works here",
            Self::Missing => {
                "see `bucket` below [cache], and make the bucket if it is to be that one"
            }
            Self::Forbidden | Self::ReadOnly => {
                "allow s3:ListBucket on the bucket, and s3:GetObject and s3:PutObject on what is in it, to this principal"
            }
            Self::KeepsAll => "allow s3:DeleteObject on what is in it to this principal",
            Self::Elsewhere(..) => "write that `region` below [cache]",
            Self::Status(_) | Self::Unreachable(_) | Self::Url(_) | Self::Answer(_) => {
                "see `endpoint` and `path_style` below [cache], and the network"
            }
        }
    }
}

impl Bucket {
    /// Finds credentials and region, and asks whether the bucket is there (one HEAD). `endpoint`: of the environment,
    /// where the manifest names none.
    pub(crate) async fn open(
        settings: &S3Settings,
        endpoint: Option<&str>,
    ) -> Result<Self, S3Error> {
        let mut loader = aws::loader();
        if let Some(region) = &settings.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let config = loader.load().await;
        let region = config.region().ok_or(S3Error::NoRegion)?.to_string();
        let none = || S3Error::NoCredentials("there are none".into());
        let endpoint = settings.endpoint.as_deref().or(endpoint);
        let bucket = Self(Arc::new(Inner {
            settings: settings.clone(),
            region,
            endpoint: endpoint.map(|text| text.trim_end_matches('/').to_owned()),
            credentials: config.credentials_provider().ok_or_else(none)?,
            http: client(endpoint)?,
        }));
        match bucket.head("").await? {
            StatusCode::NOT_FOUND => Err(S3Error::Missing),
            _ => Ok(bucket),
        }
    }

    /// Whether this cache is there.
    pub(crate) async fn has(&self, place: &S3Place) -> Result<bool, S3Error> {
        Ok(self.head(&place.key()).await? != StatusCode::NOT_FOUND)
    }

    /// The attributes of a cache of type `s3`, with credentials of this moment (BuildKit `cache/remotecache/s3`,
    /// `getConfig`).
    pub(crate) async fn attributes(&self, place: &S3Place) -> Result<Attributes, S3Error> {
        let credentials = self.credentials().await?;
        Ok(attributes(
            place,
            &self.0.region,
            self.0.endpoint.as_deref(),
            self.0.settings.path_style,
            &credentials,
        ))
    }

    async fn credentials(&self) -> Result<Credentials, S3Error> {
        let provided = self.0.credentials.provide_credentials().await;
        // Its text names the place that was asked, and never what was found there.
        provided.map_err(|error| S3Error::NoCredentials(error.to_string()))
    }

    fn url(&self, key: &str) -> String {
        let S3Settings {
            bucket, path_style, ..
        } = &self.0.settings;
        let (base, path_style) = match &self.0.endpoint {
            Some(endpoint) => (endpoint.clone(), *path_style),
            // No certificate holds for a name with more dots.
            None => (aws_endpoint(&self.0.region), bucket.contains('.')),
        };
        if path_style {
            return format!("{base}/{bucket}/{key}");
        }
        let (scheme, host) = base.split_once("://").unwrap_or(("https", &base));
        format!("{scheme}://{bucket}.{host}/{key}")
    }
}

/// AWS's own (AWS General Reference, "Amazon S3 endpoints").
fn aws_endpoint(region: &str) -> String {
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    format!("https://s3.{region}.{domain}")
}

fn attributes(
    place: &S3Place,
    region: &str,
    endpoint: Option<&str>,
    path_style: bool,
    credentials: &Credentials,
) -> Attributes {
    let mut attributes = Attributes::new();
    let mut set = |name: &str, value: &str| attributes.insert(name.to_owned(), value.to_owned());
    set("bucket", &place.bucket);
    set("region", region);
    set("prefix", &place.prefix);
    set("name", &place.name);
    if let Some(endpoint) = endpoint {
        set("endpoint_url", endpoint);
        set("use_path_style", if path_style { "true" } else { "false" });
    }
    set("access_key_id", credentials.access_key_id());
    set("secret_access_key", credentials.secret_access_key());
    if let Some(token) = credentials.session_token() {
        set("session_token", token);
    }
    attributes
}

/// A builder's message without what it was handed over to be kept.
pub(crate) fn without_secrets(mut message: String, secrets: &[String]) -> String {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        message = message.replace(secret.as_str(), "***");
    }
    message
}

/// The attributes that no message may show.
pub(crate) fn secrets(attributes: &Attributes) -> Vec<String> {
    let names = ["secret_access_key", "session_token"];
    let values = names.iter().filter_map(|name| attributes.get(*name));
    values.cloned().collect()
}

fn client(endpoint: Option<&str>) -> Result<reqwest::Client, S3Error> {
    crate::tls::install_provider();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("skiff/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(TOTAL)
        // A redirect is a bucket's word for another region, and no signature holds there.
        .redirect(Policy::none());
    let loopback = endpoint
        .and_then(|text| reqwest::Url::parse(text).ok())
        .and_then(|url| RegistryHost::new(url.host_str()?).ok())
        .is_some_and(|host| host.is_loopback());
    let builder = if loopback {
        builder.no_proxy()
    } else {
        builder
    };
    builder
        .build()
        .map_err(|error| S3Error::Unreachable(innermost(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> S3Place {
        S3Place {
            bucket: "caches".into(),
            prefix: "team/".into(),
            name: "etl/buildcache".into(),
        }
    }

    /// The names are those of BuildKit's `getConfig`, which ignores what it does not know.
    #[test]
    fn attributes_are_what_the_builder_reads() {
        let shown = |endpoint, token: Option<&str>| {
            let credentials =
                Credentials::new("id", "secret", token.map(str::to_owned), None, "test");
            let attributes = attributes(&place(), "eu-west-1", endpoint, true, &credentials);
            let lines = attributes.iter().map(|(k, v)| format!("{k}={v}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(shown(None, None), @r"
        access_key_id=id
        bucket=caches
        name=etl/buildcache
        prefix=team/
        region=eu-west-1
        secret_access_key=secret
        ");
        insta::assert_snapshot!(shown(Some("http://localhost:9000"), Some("token")), @r"
        access_key_id=id
        bucket=caches
        endpoint_url=http://localhost:9000
        name=etl/buildcache
        prefix=team/
        region=eu-west-1
        secret_access_key=secret
        session_token=token
        use_path_style=true
        ");
        assert_eq!(
            place().to_string(),
            "s3://caches/team/manifests/etl/buildcache"
        );
    }

    #[tokio::test]
    async fn a_bucket_is_asked_for_where_the_builder_will_look() {
        let url = |bucket: &str, endpoint: Option<&str>, path_style| {
            let settings = S3Settings {
                bucket: bucket.into(),
                prefix: String::new(),
                region: None,
                endpoint: None,
                path_style,
            };
            let credentials = Credentials::new("id", "secret", None, None, "test");
            let bucket = Bucket(Arc::new(Inner {
                settings,
                region: "cn-north-1".into(),
                endpoint: endpoint.map(str::to_owned),
                credentials: SharedCredentialsProvider::new(credentials),
                http: client(endpoint).unwrap(),
            }));
            bucket.url("k")
        };
        let local = Some("http://localhost:9000");
        assert_eq!(url("b", local, true), "http://localhost:9000/b/k");
        assert_eq!(url("b", local, false), "http://b.localhost:9000/k");
        let aws = "s3.cn-north-1.amazonaws.com.cn";
        assert_eq!(url("b", None, false), format!("https://b.{aws}/k"));
        assert_eq!(url("b.c", None, false), format!("https://{aws}/b.c/k"));
    }
}
