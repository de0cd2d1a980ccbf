//! What all clients of AWS have in common: credentials and region as every AWS tool finds them (environment, profiles,
//! SSO, credential processes, web identity, the container's role, the instance's), one HTTP client, limits. The SDK reads
//! the environment for that by itself; nobody else does.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};

/// The longest waits of one attempt.
const CONNECT: Duration = Duration::from_secs(5);
const ATTEMPT: Duration = Duration::from_secs(20);

/// The SDK's configuration, but for what a caller adds.
pub(crate) fn loader() -> ConfigLoader {
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
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(limits)
        // `crate::retry` does it, with one deadline over all attempts.
        .retry_config(RetryConfig::disabled())
}
