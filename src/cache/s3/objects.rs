//! Requests for single objects of a bucket (Amazon S3 API reference), signed with AWS Signature Version 4. Small ones: what
//! is large goes between builder and bucket.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use reqwest::{Response, Url};

use super::{Bucket, S3Error};
use crate::clock;
use crate::registry::innermost;
use crate::retry::{Failure, RetryPolicy, retry};

/// A bucket out of reach costs seconds, and then the caches.
const PATIENCE: RetryPolicy = RetryPolicy {
    retries: 3,
    first_delay: Duration::from_millis(200),
    max_delay: Duration::from_secs(2),
    deadline: Duration::from_secs(15),
};

/// Largest object, or piece of a list, that is read, in bytes.
const LARGEST: usize = 4 << 20;

impl Bucket {
    /// Success or "not found"; all else is an error.
    pub(super) async fn head(&self, key: &str) -> Result<StatusCode, S3Error> {
        let answer = self.ask(&Method::HEAD, &self.url(key), &Bytes::new()).await;
        Ok(answer?.status())
    }

    /// An object's bytes; `None`: it is not there.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>, S3Error> {
        let answer = self
            .ask(&Method::GET, &self.url(key), &Bytes::new())
            .await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(body(answer).await?))
    }

    /// Whether it is there, and what is in it may be read, which a HEAD does not tell. Its bytes are left where they are.
    pub(super) async fn readable(&self, key: &str) -> Result<bool, S3Error> {
        let answer = self.ask(&Method::GET, &self.url(key), &Bytes::new()).await;
        Ok(answer?.status() != StatusCode::NOT_FOUND)
    }

    /// Writes an object, whatever was there.
    pub(crate) async fn put(&self, key: &str, bytes: &Bytes) -> Result<(), S3Error> {
        match self.ask(&Method::PUT, &self.url(key), bytes).await {
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => Err(S3Error::Missing),
            Ok(_) => Ok(()),
            Err(S3Error::Forbidden) => Err(S3Error::ReadOnly),
            Err(error) => Err(error),
        }
    }

    /// Takes an object away, if it is there.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), S3Error> {
        match self
            .ask(&Method::DELETE, &self.url(key), &Bytes::new())
            .await
        {
            Ok(_) => Ok(()),
            Err(S3Error::Forbidden) => Err(S3Error::KeepsAll),
            Err(error) => Err(error),
        }
    }

    /// The keys that begin so, in order (`ListObjectsV2`).
    pub(crate) async fn list(&self, beginning: &str) -> Result<Vec<String>, S3Error> {
        let mut keys = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut url = Url::parse(&self.url("")).map_err(|error| wrong(&error))?;
            url.query_pairs_mut()
                .append_pair("list-type", "2")
                .append_pair("prefix", beginning)
                .extend_pairs(token.iter().map(|token| ("continuation-token", token)));
            let answer = self.ask(&Method::GET, url.as_str(), &Bytes::new()).await?;
            if answer.status() == StatusCode::NOT_FOUND {
                return Err(S3Error::Missing);
            }
            let bytes = body(answer).await?;
            let text = String::from_utf8_lossy(&bytes);
            keys.extend(elements(&text, "Key"));
            token = elements(&text, "NextContinuationToken").next();
            if token.is_none() {
                return Ok(keys);
            }
        }
    }

    async fn ask(&self, method: &Method, url: &str, body: &Bytes) -> Result<Response, S3Error> {
        retry(PATIENCE, || async {
            let answer = self.attempt(method, url, body).await;
            answer.map_err(|error| match error {
                S3Error::Unreachable(_) | S3Error::Status(429 | 500..) => {
                    Failure::Transient { error, after: None }
                }
                error => Failure::Permanent(error),
            })
        })
        .await
    }

    async fn attempt(&self, method: &Method, url: &str, body: &Bytes) -> Result<Response, S3Error> {
        let request = self.signed(method, url, body).await?;
        let request = request.map(reqwest::Body::from);
        let request = reqwest::Request::try_from(request).map_err(|error| wrong(&error))?;
        let answer = self.0.http.execute(request).await;
        let answer = answer.map_err(|error| S3Error::Unreachable(innermost(&error)))?;
        let region = answer.headers().get("x-amz-bucket-region");
        let region = region.and_then(|region| region.to_str().ok());
        if let Some(region) = region.filter(|region| *region != self.0.region) {
            return Err(S3Error::Elsewhere(region.into(), self.0.region.clone()));
        }
        match answer.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(answer),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Err(S3Error::Forbidden),
            status => Err(S3Error::Status(status.as_u16())),
        }
    }

    /// A request with a signature, as S3 wants it.
    async fn signed(
        &self,
        method: &Method,
        url: &str,
        body: &Bytes,
    ) -> Result<http::Request<Bytes>, S3Error> {
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = self.credentials().await?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.0.region)
            .name("s3")
            .time(SystemTime::from(clock::timestamp()))
            .settings(settings)
            .build()
            .map_err(|error| wrong(&error))?
            .into();
        let content = SignableBody::Bytes(body);
        let unsigned = SignableRequest::new(method.as_str(), url, std::iter::empty(), content);
        let unsigned = unsigned.map_err(|error| wrong(&error))?;
        let (instructions, _) = sign(unsigned, &parameters)
            .map_err(|error| wrong(&error))?
            .into_parts();
        let mut request = http::Request::builder()
            .method(method)
            .uri(url)
            .body(body.clone())
            .map_err(|error| wrong(&error))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

fn wrong(error: &dyn fmt::Display) -> S3Error {
    S3Error::Url(error.to_string())
}

/// An answer's body, if it is no larger than what is asked for here can be.
async fn body(mut answer: Response) -> Result<Bytes, S3Error> {
    let mut bytes = BytesMut::new();
    loop {
        let piece = answer.chunk().await;
        let Some(piece) = piece.map_err(|error| S3Error::Unreachable(innermost(&error)))? else {
            return Ok(bytes.freeze());
        };
        bytes.extend_from_slice(&piece);
        if bytes.len() > LARGEST {
            return Err(S3Error::Answer(format!("more than {LARGEST} bytes")));
        }
    }
}

/// The texts of the elements of this name, which have no elements inside: all that is read of S3's XML.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = String> + use<'a> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let begin = rest.find(&open)? + open.len();
        let end = begin + rest[begin..].find(&close)?;
        let text = &rest[begin..end];
        rest = &rest[end + close.len()..];
        let marks = [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&apos;", "'"),
            ("&#39;", "'"),
        ];
        let text = marks
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        Some(text.replace("&amp;", "&"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_the_token_for_more_are_read_of_a_list() {
        let xml = "<?xml version=\"1.0\"?>\n<ListBucketResult><Prefix>a/</Prefix><Contents><Key>a/b&amp;lt;</Key>\
                   <Size>3</Size></Contents><Contents><Key>a/c</Key></Contents>\
                   <NextContinuationToken>1/x==</NextContinuationToken></ListBucketResult>";
        let keys: Vec<_> = elements(xml, "Key").collect();
        assert_eq!(keys, ["a/b&lt;", "a/c"]);
        let token = elements(xml, "NextContinuationToken").next();
        assert_eq!(token.as_deref(), Some("1/x=="));
        assert_eq!(elements("<Key>cut", "Key").next(), None);
    }
}
