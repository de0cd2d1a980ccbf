//! What skiff does with a registry: look at manifests, read and write them byte for byte, read blobs (OCI distribution
//! spec 1.1). No content is handed on whose digest was not recomputed here.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use sha2::Digest as _;

use super::error::{Problem, RegistryError};
use super::http::{Options, Request, Response, Transport};
use super::image::{Descriptor, RawManifest};
use super::media_type;
use super::silence::Silence;
use crate::reference::{Digest, ImageRef, Repository};
use crate::retry::RetryPolicy;

/// A client for all registries of a run. Clones share connections, tokens and limits.
#[derive(Clone)]
pub(crate) struct Client {
    transport: Arc<Transport>,
    retry: RetryPolicy,
    /// Where hosts that do not answer are not asked again.
    silence: Option<Arc<Silence>>,
}

impl Client {
    /// Registries accept manifests up to 4 MiB or a little more; nobody's is near this.
    const MANIFEST: usize = 16 << 20;

    pub(crate) fn new(options: Options) -> Self {
        Self {
            retry: options.retry,
            transport: Arc::new(Transport::new(options)),
            silence: None,
        }
    }

    /// The same client for questions that can go without an answer: they are tried so often and so long, and a host that
    /// is silent is not asked again.
    pub(crate) fn asking(&self, retry: RetryPolicy) -> Self {
        Self {
            transport: Arc::clone(&self.transport),
            retry,
            silence: Some(self.silence.clone().unwrap_or_default()),
        }
    }

    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Response, RegistryError> {
        match &self.silence {
            Some(silence) => silence.send(&self.transport, request, self.retry).await,
            None => self.transport.send(request, self.retry).await,
        }
    }

    /// What stands under a tag or digest; `None`: nothing, or no such repository.
    pub(crate) async fn head_manifest(
        &self,
        image: &ImageRef,
    ) -> Result<Option<Descriptor>, RegistryError> {
        let request = manifest_request(Method::HEAD, image, format!("look for {image}"));
        match self.send(&request).await {
            Ok(response) => {
                if let Some(descriptor) = described(&response.headers) {
                    return match &image.digest {
                        Some(wanted) if *wanted != descriptor.digest => {
                            Err(mismatch(&request, &response, wanted, descriptor.digest))
                        }
                        _ => Ok(Some(descriptor)),
                    };
                }
            }
            Err(error) if matches!(*error.problem, Problem::NotFound(_)) => return Ok(None),
            Err(error) if !error.has_hidden_reason() => return Err(error),
            Err(_) => {}
        }
        // The headers are a SHOULD of the spec, and a refusal of HEAD has no body to say why: GET says it all.
        Ok(self.get_manifest(image).await?.map(|raw| Descriptor {
            size: raw.bytes.len() as u64,
            media_type: raw.media_type,
            digest: raw.digest,
        }))
    }

    /// The manifest under a tag or digest, byte for byte; `None`: nothing, or no such repository.
    pub(crate) async fn get_manifest(
        &self,
        image: &ImageRef,
    ) -> Result<Option<RawManifest>, RegistryError> {
        let request = manifest_request(Method::GET, image, format!("read {image}"));
        let response = match self.send(&request).await {
            Err(error) if matches!(*error.problem, Problem::NotFound(_)) => return Ok(None),
            result => result?,
        };
        let announced = announced_digest(&response.headers);
        let digest = match image.digest.as_ref().or(announced.as_ref()) {
            Some(expected) => checked(&request, &response, expected)?,
            None => Digest::of(&response.body),
        };
        let media_type = content_type(&response.headers)
            .or_else(|| media_type::of_manifest(&response.body))
            .unwrap_or_default();
        Ok(Some(RawManifest {
            bytes: response.body,
            media_type,
            digest,
        }))
    }

    /// Puts a manifest under a tag or digest; its blobs must be there. The registry must agree on the digest.
    pub(crate) async fn put_manifest(
        &self,
        image: &ImageRef,
        manifest: &RawManifest,
    ) -> Result<Digest, RegistryError> {
        let mut request = manifest_request(Method::PUT, image, format!("push {image}"));
        request.body = Some((manifest.bytes.clone(), &manifest.media_type));
        let response = match self.send(&request).await {
            Err(error) => return self.stands_already(image, manifest, error).await,
            Ok(response) => response,
        };
        match announced_digest(&response.headers) {
            Some(actual) if actual != manifest.digest => {
                Err(mismatch(&request, &response, &manifest.digest, actual))
            }
            _ => Ok(manifest.digest.clone()),
        }
    }

    /// What a refused PUT to a tag means: where tags are immutable, the digest that the tag stands on decides. ECR says 400
    /// `TAG_INVALID`, other registries 409 or 412.
    async fn stands_already(
        &self,
        image: &ImageRef,
        manifest: &RawManifest,
        mut error: RegistryError,
    ) -> Result<Digest, RegistryError> {
        if let Problem::Unexpected { refusal, .. } = &*error.problem
            && image.digest.is_none()
            && (refusal.code.as_deref() == Some("TAG_INVALID")
                || matches!(refusal.status, 409 | 412))
            && let Ok(Some(standing)) = self.head_manifest(image).await
        {
            if standing.digest == manifest.digest {
                return Ok(standing.digest);
            }
            *error.problem = Problem::Immutable {
                refusal: refusal.clone(),
                standing: standing.digest,
            };
        }
        Err(error)
    }

    /// A blob of at most `limit` bytes, held in memory: configs and records, not layers.
    pub(crate) async fn get_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
    ) -> Result<Bytes, RegistryError> {
        let request = Request {
            operation: format!("read blob {digest} of {repository}"),
            method: Method::GET,
            place: repository.into(),
            path: format!("blobs/{digest}"),
            location: None,
            accept: None,
            body: None,
            limit,
        };
        let response = self.send(&request).await?;
        checked(&request, &response, digest)?;
        Ok(response.body)
    }
}

fn manifest_request(method: Method, image: &ImageRef, operation: String) -> Request<'_> {
    let reference = match (&image.digest, &image.tag) {
        (Some(digest), _) => digest.as_str(),
        (None, Some(tag)) => tag.as_str(),
        (None, None) => "latest",
    };
    Request {
        operation,
        method,
        place: (&image.repository).into(),
        path: format!("manifests/{reference}"),
        location: None,
        accept: Some(media_type::ACCEPT_MANIFESTS),
        body: None,
        limit: Client::MANIFEST,
    }
}

/// The descriptor that the headers of a HEAD make, if all three are there.
fn described(headers: &HeaderMap) -> Option<Descriptor> {
    Some(Descriptor {
        media_type: content_type(headers)?,
        digest: announced_digest(headers)?,
        size: headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?,
    })
}

fn announced_digest(headers: &HeaderMap) -> Option<Digest> {
    let text = headers.get("docker-content-digest")?.to_str().ok()?;
    Digest::new(text).ok()
}

/// Without parameters such as `charset`.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let bare = text.split(';').next()?.trim();
    (!bare.is_empty()).then(|| bare.to_owned())
}

/// `expected`, if the body has it.
fn checked(
    request: &Request<'_>,
    response: &Response,
    expected: &Digest,
) -> Result<Digest, RegistryError> {
    let actual = if expected.as_str().starts_with("sha512:") {
        sha512(&response.body)
    } else {
        Digest::of(&response.body)
    };
    if actual == *expected {
        Ok(actual)
    } else {
        Err(mismatch(request, response, expected, actual))
    }
}

fn sha512(bytes: &[u8]) -> Digest {
    let mut text = String::from("sha512:");
    for byte in sha2::Sha512::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    // 128 hex digits always parse; were they not to, this differs from any SHA-512 digest.
    Digest::new(&text).unwrap_or_else(|_| Digest::of(bytes))
}

fn mismatch(
    request: &Request<'_>,
    response: &Response,
    expected: &Digest,
    actual: Digest,
) -> RegistryError {
    let problem = Problem::DigestMismatch {
        expected: expected.clone(),
        actual,
    };
    RegistryError::new(&request.operation, &response.url, problem)
}
