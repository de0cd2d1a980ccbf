//! Registries: manifests and blobs over HTTP, by raw bytes, with status and `Retry-After` kept (OCI distribution spec 1.1).
//!
//! From the outside in: [`client`] does what skiff wants done; [`http`] sends one request, bounded and retried ([`failure`]
//! sorts what went wrong); [`auth`] answers challenges, with a [`token`] where one is asked for; [`credentials`] knows who
//! to be, from [`ecr`], or from [`docker_config`] and its helpers; [`limits`] keeps to ECR's quotas. [`image`] reads what manifests and configs say; [`upload`] writes small blobs and lists tags; [`delete`] takes manifests away.
//!
//! What must stay true: content is handed on only with its digest recomputed; nothing secret is in an error, a log line
//! or a URL that is shown; a failed question is an error and never looks like "not there".

mod auth;
pub(crate) mod client;
pub(crate) mod credentials;
mod delete;
pub(crate) mod docker_config;
pub(crate) mod ecr;
pub(crate) mod error;
mod failure;
pub(crate) mod http;
pub(crate) mod image;
mod limits;
mod lists;
pub(crate) mod media_type;
mod silence;
#[cfg(test)]
mod tests;
mod token;
mod upload;

pub(crate) use client::Client;
pub(crate) use error::RegistryError;
pub(crate) use failure::innermost;
pub(crate) use http::Options;
