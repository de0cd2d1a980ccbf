//! Eyes on the registry: plain requests over loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::stack;

const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json";

/// Status and body of a GET on a registry (`host:port`).
pub(crate) fn get(host: &str, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: {ACCEPT}\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let status = String::from_utf8_lossy(&answer[..end])
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    (status, answer[end + 4..].to_vec())
}

/// A manifest of the stack's registry by tag or digest, if it is there.
pub(crate) fn manifest(repository: &str, reference: &str) -> Option<Value> {
    let (status, body) = get(
        stack::registry(),
        &format!("/v2/{repository}/manifests/{reference}"),
    );
    (status == 200).then(|| serde_json::from_slice(&body).unwrap())
}

/// The config of an image.
pub(crate) fn config(repository: &str, reference: &str) -> Value {
    let manifest = manifest(repository, reference).unwrap();
    let digest = manifest["config"]["digest"].as_str().unwrap();
    serde_json::from_slice(
        &get(
            stack::registry(),
            &format!("/v2/{repository}/blobs/{digest}"),
        )
        .1,
    )
    .unwrap()
}

/// The digests of an image's layers.
pub(crate) fn layers(repository: &str, reference: &str) -> Vec<String> {
    let manifest =
        manifest(repository, reference).unwrap_or_else(|| panic!("no {repository}:{reference}"));
    manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["digest"].as_str().unwrap().to_owned())
        .collect()
}

/// The tags of a repository, sorted, without those of keys.
pub(crate) fn tags(repository: &str) -> Vec<String> {
    let mut tags = all_tags(repository);
    tags.retain(|tag| !tag.starts_with("key-"));
    tags
}

/// All tags of a repository, sorted.
pub(crate) fn all_tags(repository: &str) -> Vec<String> {
    let (status, body) = get(stack::registry(), &format!("/v2/{repository}/tags/list"));
    if status != 200 {
        return vec![];
    }
    let list: Value = serde_json::from_slice(&body).unwrap();
    let mut tags: Vec<_> = list["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|tag| tag.as_str().unwrap().to_owned())
        .collect();
    tags.sort();
    tags
}
