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

/// Sends a request with a body; gives status, head and body of the answer.
fn send(method: &str, path: &str, media_type: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let host = stack::registry();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: {ACCEPT}\r\nContent-Type: {media_type}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// The SHA-256 of these bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hex: Vec<String> = sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{}", hex.concat())
}

/// Puts a blob, and returns its digest.
pub(crate) fn put_blob(repository: &str, content: &[u8]) -> String {
    let (status, head, _) = send(
        "POST",
        &format!("/v2/{repository}/blobs/uploads/"),
        "text/plain",
        b"",
    );
    assert_eq!(status, 202, "{head}");
    let location = header(&head, "location").unwrap();
    let path = location
        .split_once(stack::registry())
        .map_or(location.as_str(), |(_, path)| path);
    let digest = digest(content);
    let (status, head, _) = send(
        "PUT",
        &format!("{path}&digest={digest}"),
        "application/octet-stream",
        content,
    );
    assert_eq!(status, 201, "{head}");
    digest
}

/// Puts an artifact of one layer under a tag.
pub(crate) fn put_artifact(repository: &str, tag: &str, kind: &str, content: &str) {
    let (empty, layer) = (
        put_blob(repository, b"{}"),
        put_blob(repository, content.as_bytes()),
    );
    let body = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": kind,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": kind, "digest": layer, "size": content.len()}],
    });
    put_manifest(repository, tag, body.to_string().as_bytes());
}

/// Puts an OCI manifest under a tag; its blobs must be there.
pub(crate) fn put_manifest(repository: &str, tag: &str, body: &[u8]) {
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let (status, head, _) = send(
        "PUT",
        &format!("/v2/{repository}/manifests/{tag}"),
        media_type,
        body,
    );
    assert_eq!(status, 201, "{head}");
}

/// Puts an artifact of one repository into another one.
pub(crate) fn copy(from: &str, to: &str, tag: &str) {
    let (status, _, body) = send(
        "GET",
        &format!("/v2/{from}/manifests/{tag}"),
        "text/plain",
        b"",
    );
    assert_eq!(status, 200, "{from}:{tag}");
    let manifest: Value = serde_json::from_slice(&body).unwrap();
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for blob in layers.chain([&manifest["config"]]) {
        let digest = blob["digest"].as_str().unwrap();
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        let (status, head, _) = send("POST", &path, "text/plain", b"");
        assert_eq!(status, 201, "{head}");
    }
    put_manifest(to, tag, &body);
}

/// Takes an image away, as a lifecycle rule does: with all its tags.
pub(crate) fn delete(repository: &str, tag: &str) {
    let (_, head, _) = send(
        "GET",
        &format!("/v2/{repository}/manifests/{tag}"),
        "text/plain",
        b"",
    );
    let digest = header(&head, "docker-content-digest").unwrap();
    let (status, head, _) = send(
        "DELETE",
        &format!("/v2/{repository}/manifests/{digest}"),
        "text/plain",
        b"",
    );
    assert_eq!(status, 202, "{head}");
}

/// Takes a blob away from a repository, as its collection of garbage does.
pub(crate) fn delete_blob(repository: &str, digest: &str) {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let (status, head, _) = send("DELETE", &path, "text/plain", b"");
    assert_eq!(status, 202, "{head}");
}
