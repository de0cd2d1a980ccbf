//! What skiff must know of a build cache in a bucket beside whether it is there: whether all of it can still be read, and
//! which steps it has. A rule of the bucket may have taken layers away, and the builder finds that out only when it builds
//! from them, which fails the build.

use futures_util::{StreamExt as _, stream};
use serde::Deserialize;

use super::{Bucket, S3Error, S3Place};

/// Layers that are asked for at a time.
const AT_ONCE: usize = 16;

/// Where BuildKit keeps layers below the prefix (`cache/remotecache/s3`, `blobs_prefix`).
const BLOBS: &str = "blobs/";

/// Where the hashes of a cache's steps are, below the prefix.
const STEPS: &str = "steps/";

/// BuildKit `cache/remotecache/v1/types`, `CacheConfig`.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    blob: String,
}

impl Bucket {
    /// Why not all of this cache can be read; `None`: all of it can.
    pub(crate) async fn lacks(&self, place: &S3Place) -> Option<String> {
        let said = |what: &str, error: &S3Error| Some(format!("{what}: {error}"));
        let bytes = match self.get(&place.key()).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Some("it is gone".to_owned()),
            Err(error) => return said("it cannot be read", &error),
        };
        let config: Config = match serde_json::from_slice(&bytes) {
            Ok(config) => config,
            Err(error) => return Some(format!("it cannot be read: {error}")),
        };
        let asked = config.layers.into_iter().map(|Layer { blob }| async move {
            let key = format!("{}{BLOBS}{blob}", place.prefix);
            match self.readable(&key).await {
                Ok(true) => None,
                Ok(false) => Some(format!("{blob} is gone")),
                Err(error) => said(&format!("{blob} cannot be read"), &error),
            }
        });
        let asked: Vec<_> = asked.collect();
        let answers: Vec<_> = stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        answers.into_iter().flatten().next()
    }

    /// The hashes of the steps that this cache has; none where it does not say.
    pub(crate) async fn steps(&self, place: &S3Place) -> Vec<String> {
        let Ok(Some(bytes)) = self.get(&steps_key(place)).await else {
            return vec![];
        };
        let text = String::from_utf8_lossy(&bytes);
        text.split(',').map(str::to_owned).collect()
    }

    /// Notes which steps it has.
    pub(crate) async fn note_steps(
        &self,
        place: &S3Place,
        steps: &[String],
    ) -> Result<(), S3Error> {
        self.put(&steps_key(place), &steps.join(",").into()).await
    }
}

fn steps_key(place: &S3Place) -> String {
    format!("{}{STEPS}{}", place.prefix, place.name)
}
