//! The region of ECR, and that it is the one that the manifest wants.

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{Region, SdkConfig};

use super::error::EcrError;
use crate::aws;
use crate::manifest::model::EcrSettings;

/// The SDK's configuration; it has a region, and it is the one of `settings` where they name one.
pub(super) async fn load(settings: &EcrSettings) -> Result<SdkConfig, EcrError> {
    let mut loader = aws::loader();
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
