//! What networks and troubled registries do.

use std::time::Duration;

use bytes::Bytes;

use super::scripted::{Reply, Scripted, reply};
use super::{client, image, options, repository, text};
use crate::clock;
use crate::reference::{Digest, RegistryHost};
use crate::registry::client::Client;
use crate::registry::image::RawManifest;
use crate::registry::media_type::OCI_MANIFEST;

const BODY: &str = r#"{"schemaVersion":2}"#;

fn manifest() -> RawManifest {
    RawManifest {
        bytes: Bytes::from_static(BODY.as_bytes()),
        media_type: OCI_MANIFEST.to_owned(),
        digest: Digest::of(BODY.as_bytes()),
    }
}

fn ok() -> Reply {
    reply("200 OK", &[("Content-Type", OCI_MANIFEST)], BODY)
}

fn unavailable() -> Reply {
    reply("503 Service Unavailable", &[], "")
}

/// Plays `script` to a GET of a manifest: the error's text, or the digest.
async fn get(script: Vec<Reply>) -> (String, usize) {
    let server = Scripted::start(script).await;
    let text = match client().get_manifest(&image(&server.host)).await {
        Ok(Some(manifest)) => {
            assert_eq!(manifest, super::faults::manifest());
            "ok".to_owned()
        }
        Ok(None) => "none".to_owned(),
        Err(error) => text(&error, &server.host),
    };
    (text, server.requests().len())
}

#[tokio::test]
async fn troubles_that_pass_are_waited_out() {
    let ok_after = |reply: Reply| get(vec![reply, ok()]);
    let good = ("ok".to_owned(), 2);
    assert_eq!(
        ok_after(reply("429 Too Many Requests", &[], "")).await,
        good
    );
    assert_eq!(ok_after(reply("408 Request Timeout", &[], "")).await, good);
    assert_eq!(
        ok_after(reply("500 Internal Server Error", &[], "x")).await,
        good
    );
    assert_eq!(ok_after(Reply::Bytes(String::new())).await, good);
    assert_eq!(
        ok_after(Reply::Bytes("HTTP/1.1 200 OK\r\nContent-Le".into())).await,
        good
    );
    let cut = [("Content-Length", "100")];
    assert_eq!(ok_after(reply("200 OK", &cut, BODY)).await, good);
    assert_eq!(ok_after(Reply::Stall).await, good);
    let three = vec![unavailable(), unavailable(), unavailable(), ok()];
    assert_eq!(get(three).await, ("ok".to_owned(), 4));
}

#[tokio::test]
async fn troubles_that_stay_are_told() {
    let (text, requests) = get((0..9).map(|_| unavailable()).collect()).await;
    insta::assert_snapshot!(text, @"cannot read HOST/team/app:v1: HTTP 503 (http://HOST/v2/team/app/manifests/v1)");
    assert_eq!(requests, 4);

    let (text, requests) = get((0..9).map(|_| Reply::Stall).collect()).await;
    insta::assert_snapshot!(text, @"cannot read HOST/team/app:v1: no answer in time (http://HOST/v2/team/app/manifests/v1)");
    assert_eq!(requests, 4);

    let (text, _) = get(Vec::new()).await;
    insta::assert_snapshot!(text, @"cannot read HOST/team/app:v1: the connection was cut: connection closed before message completed (http://HOST/v2/team/app/manifests/v1)");

    let strange = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}"#;
    let (text, requests) = get(vec![reply("400 Bad Request", &[], strange)]).await;
    insta::assert_snapshot!(text, @r#"cannot read HOST/team/app:v1: HTTP 400 MANIFEST_INVALID "no" (http://HOST/v2/team/app/manifests/v1)"#);
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn retry_after_is_kept() {
    let busy = |value: &str| reply("429 Too Many Requests", &[("Retry-After", value)], "");
    let started = clock::now();
    assert_eq!(get(vec![busy("1"), ok()]).await.0, "ok");
    assert!(started.elapsed() >= Duration::from_secs(1));

    let date = |seconds: i64| {
        let at = clock::timestamp() + jiff::SignedDuration::from_secs(seconds);
        jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&at)
            .unwrap()
    };
    let started = clock::now();
    assert_eq!(get(vec![busy(&date(2)), ok()]).await.0, "ok");
    // The date has whole seconds.
    assert!(started.elapsed() >= Duration::from_millis(900));
    assert_eq!(get(vec![busy(&date(-100)), ok()]).await.0, "ok");

    // Longer than the policy waits: told at once.
    let started = clock::now();
    insta::assert_snapshot!(get(vec![busy("60"), ok()]).await.0, @"cannot read HOST/team/app:v1: HTTP 429 (http://HOST/v2/team/app/manifests/v1)");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn nobody_there_is_told_at_once_and_with_a_hint() {
    let host = RegistryHost::new("127.0.0.1:1").unwrap();
    let error = client().head_manifest(&image(&host)).await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot look for 127.0.0.1:1/team/app:v1: connection refused: is the registry running? (http://127.0.0.1:1/v2/team/app/manifests/v1)");
}

#[tokio::test]
async fn who_asks_many_questions_asks_a_silent_host_one() {
    let server = Scripted::start(vec![]).await;
    let patient = client();
    let client = patient.asking(options().retry);
    let first = client.head_manifest(&image(&server.host)).await;
    let first = first.unwrap_err().problem.to_string();
    let asked = server.requests().len();
    assert_eq!(asked, 4);
    let again = client.asking(options().retry);
    let second = again.list_tags(&repository(&server.host)).await;
    let second = second.unwrap_err().problem.to_string();
    assert_eq!((second, server.requests().len()), (first, asked));
    // Who needs the answer asks again, and what is refused is an answer.
    assert!(patient.head_manifest(&image(&server.host)).await.is_err());
    assert_eq!(server.requests().len(), 2 * asked);
    let server = Scripted::answering(|_| Some(reply("404 Not Found", &[], ""))).await;
    for _ in 0..2 {
        let found = client.head_manifest(&image(&server.host)).await;
        assert_eq!(found.unwrap(), None);
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn plain_http_where_tls_was_expected_is_named() {
    // Any answer in plain text will do; the server hears a TLS greeting and never a request.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = RegistryHost::new(&listener.local_addr().unwrap().to_string()).unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let mut options = options();
    options.plain_http.insert(host.clone(), false);
    let error = Client::new(options)
        .head_manifest(&image(&host))
        .await
        .unwrap_err();
    insta::assert_snapshot!(text(&error, &host), @"cannot look for HOST/team/app:v1: no TLS connection: received corrupt message of type InvalidContentType: the registry speaks plain HTTP: if that is meant, set `insecure = true` for it (https://HOST/v2/team/app/manifests/v1)");
}

#[tokio::test]
async fn nothing_there_is_no_error() {
    let unknown =
        r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
    let server = Scripted::start(vec![
        reply("404 Not Found", &[], unknown),
        reply("404 Not Found", &[], ""),
        reply("404 Not Found", &[], unknown),
        reply("404 Not Found", &[], ""),
    ])
    .await;
    let (client, image) = (client(), image(&server.host));
    assert_eq!(client.get_manifest(&image).await.unwrap(), None);
    assert_eq!(client.head_manifest(&image).await.unwrap(), None);
    let error = client.put_manifest(&image, &manifest()).await.unwrap_err();
    insta::assert_snapshot!(text(&error, &server.host), @r#"cannot push HOST/team/app:v1: not found: HTTP 404 NAME_UNKNOWN "repository name not known to registry" (http://HOST/v2/team/app/manifests/v1)"#);
    let digest = Digest::of(b"");
    let blob = client.get_blob(&image.repository, &digest, 10).await;
    insta::assert_snapshot!(text(&blob.unwrap_err(), &server.host), @"cannot read blob sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 of HOST/team/app: not found: HTTP 404 (http://HOST/v2/team/app/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855)");
}

#[tokio::test]
async fn content_with_another_digest_is_refused() {
    let other = Digest::of(b"other").to_string();
    let headers = [
        ("Docker-Content-Digest", other.as_str()),
        ("Content-Type", OCI_MANIFEST),
    ];
    let lying = || reply("200 OK", &headers, BODY);
    let (text, _) = get(vec![lying()]).await;
    insta::assert_snapshot!(text, @"cannot read HOST/team/app:v1: the content has the digest sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f, not sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa: it was changed on its way or in the registry (http://HOST/v2/team/app/manifests/v1)");

    let server = Scripted::start(vec![ok(), lying(), lying(), ok()]).await;
    let (client, repository) = (client(), repository(&server.host));
    let by_digest = repository.digest(&Digest::of(b"wanted"));
    assert!(client.get_manifest(&by_digest).await.is_err());
    assert!(client.head_manifest(&by_digest).await.is_err());
    assert!(
        client
            .put_manifest(&image(&server.host), &manifest())
            .await
            .is_err()
    );
    let blob = client
        .get_blob(&repository, &Digest::of(b"wanted"), 100)
        .await;
    assert!(blob.is_err());
}

#[tokio::test]
async fn head_without_its_headers_asks_for_the_manifest() {
    let server = Scripted::start(vec![reply("200 OK", &[], ""), ok()]).await;
    let found = client()
        .head_manifest(&image(&server.host))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.digest, found.size),
        (manifest().digest, BODY.len() as u64)
    );
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_refusal_of_head_is_asked_for_its_reason() {
    let why = "Client sent an HTTP request to an HTTPS server.\n";
    let bad = |body: &str| reply("400 Bad Request", &[], body);
    let server = Scripted::start(vec![bad(""), bad(why)]).await;
    let error = client().head_manifest(&image(&server.host)).await;
    insta::assert_snapshot!(text(&error.unwrap_err(), &server.host), @r#"cannot read HOST/team/app:v1: HTTP 400 "Client sent an HTTP request to an HTTPS server." (http://HOST/v2/team/app/manifests/v1)"#);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let digest = Digest::of(b"x");
    let server = Scripted::start(vec![
        reply("200 OK", &[("Content-Length", "9999999999")], "x"),
        // Chunked, so its length is not announced.
        Reply::Bytes(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n4\r\nabcd\r\n"
                .into(),
        ),
    ])
    .await;
    let (client, repository) = (client(), repository(&server.host));
    for _ in 0..2 {
        let error = client.get_blob(&repository, &digest, 6).await.unwrap_err();
        assert!(error.to_string().contains("larger than 6 bytes"), "{error}");
    }
}
