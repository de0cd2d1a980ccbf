//! Credentials and region as every AWS tool finds them: environment, profiles, SSO, credential processes, web identity,
//! the container's role, the instance's. The SDK reads the environment for that by itself; nobody else does.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};

use super::error::EcrError;
use crate::manifest::model::EcrSettings;

/// The longest waits of one attempt.
const CONNECT: Duration = Duration::from_secs(5);
const ATTEMPT: Duration = Duration::from_secs(20);

/// The SDK's configuration; it has a region, and it is the one of `settings` where they name one.
pub(super) async fn load(settings: &EcrSettings) -> Result<SdkConfig, EcrError> {
    crate::tls::install_provider();
    let http = Builder::new().build_with_connector_fn(|limits, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(limits.cloned());
        connector.set_sleep_impl(
            components.and_then(aws_sdk_ecr::config::RuntimeComponents::sleep_impl),
        );
        connector
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build()
    });
    let limits = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(limits)
        // `crate::retry` does it, with one deadline over all attempts.
        .retry_config(RetryConfig::disabled());
    if let Some(wanted) = &settings.region {
        // Where the surroundings name none, the manifest's will do: the instance's need not be asked for.
        loader = loader.region(
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                .or_else(ProfileFileRegionProvider::new())
                .or_else(Region::new(wanted.clone())),
        );
    }
    let config = loader.load().await;
    let found = config.region().ok_or(EcrError::NoRegion)?.as_ref();
    match &settings.region {
        Some(wanted) if wanted != found => Err(EcrError::OtherRegion {
            wanted: wanted.clone(),
            found: found.to_owned(),
        }),
        _ => Ok(config),
    }
}
