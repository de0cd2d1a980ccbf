//! Registries: manifests and blobs over HTTP, by raw bytes, with status and `Retry-After` kept (OCI distribution spec 1.1).
//!
//! From the outside in: [`client`] does what skiff wants done; [`http`] sends one request, bounded and retried; [`auth`]
//! answers challenges; [`credentials`] knows who to be. [`image`] reads what manifests and configs say.
//!
//! What must stay true: content is handed on only with its digest recomputed; nothing secret is in an error, a log line
//! or a URL that is shown; a failed question is an error and never looks like "not there".

pub(crate) mod auth;
pub(crate) mod client;
pub(crate) mod credentials;
pub(crate) mod error;
pub(crate) mod http;
pub(crate) mod image;
pub(crate) mod media_type;
#[cfg(test)]
mod tests;

pub(crate) use client::Client;
pub(crate) use error::{Problem, RegistryError};
pub(crate) use http::Options;
