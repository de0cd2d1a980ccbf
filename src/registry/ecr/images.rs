//! What only ECR's own API knows of images, and its way to take tags away.

use std::collections::HashMap;

use aws_sdk_ecr::types::{ImageFailureCode, ImageIdentifier};
use jiff::Timestamp;

use super::super::error::cleaned;
use super::{Ecr, EcrError};
use crate::reference::{Digest, Tag};

/// When an image was pushed, and when it was last pulled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ImageTimes {
    pub pushed: Option<Timestamp>,
    /// To the day: ECR renews it every 24 hours at the latest (API reference, `ImageDetail`).
    pub pulled: Option<Timestamp>,
}

impl Ecr {
    /// The times of all images of a repository, by digest; none: it is empty, or not there.
    pub(crate) async fn image_times(
        &self,
        path: &str,
    ) -> Result<HashMap<Digest, ImageTimes>, EcrError> {
        let mut found = HashMap::new();
        for image in self.0.api.images(path).await? {
            let Some(digest) = image.image_digest().and_then(|text| Digest::new(text).ok()) else {
                continue;
            };
            let time = |seconds: i64| Timestamp::from_second(seconds).ok();
            let times = ImageTimes {
                pushed: image.image_pushed_at().and_then(|at| time(at.secs())),
                pulled: image
                    .last_recorded_pull_time()
                    .and_then(|at| time(at.secs())),
            };
            found.insert(digest, times);
        }
        Ok(found)
    }

    /// Takes these tags away. An image goes with the last of its tags, and other tags stay where they are. Returns those
    /// that ECR did not take away, each with its reason; one that is gone already is none of them.
    pub(crate) async fn delete_tags(
        &self,
        path: &str,
        tags: &[Tag],
    ) -> Result<Vec<(String, String)>, EcrError> {
        /// Images that one `BatchDeleteImage` takes (its API reference).
        const AT_ONCE: usize = 100;
        let mut failed = Vec::new();
        for batch in tags.chunks(AT_ONCE) {
            for failure in self.0.api.delete(path, batch).await? {
                let code = failure.failure_code().map(ImageFailureCode::as_str);
                if matches!(code, Some("ImageNotFound")) {
                    continue;
                }
                let tag = failure.image_id().and_then(ImageIdentifier::image_tag);
                let why = failure.failure_reason().or(code);
                failed.push((
                    cleaned(tag.unwrap_or("an image"), 128),
                    cleaned(why.unwrap_or("ECR does not say why"), 300),
                ));
            }
        }
        Ok(failed)
    }
}
