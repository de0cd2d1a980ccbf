//! Who skiff says it is, to whom, and what it says when that is refused.

use super::scripted::{Reply, Scripted, reply};
use super::{docker_config, image, options, repository, text};
use crate::reference::{Digest, RegistryHost};
use crate::registry::auth::{Challenge, challenges, unauthorized};
use crate::registry::client::Client;
use crate::registry::error::Refusal;

const BASIC: (&str, &str) = ("WWW-Authenticate", r#"Basic realm="registry""#);
const BEARER: (&str, &str) = (
    "WWW-Authenticate",
    r#"Bearer realm="http://{host}/token",service="reg,1",scope="repository:team/app:pull""#,
);

fn refused(challenge: (&str, &str)) -> Reply {
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    reply("401 Unauthorized", &[challenge], body)
}

fn token(value: &str, seconds: u32) -> Reply {
    let body = format!(r#"{{"token":"{value}","expires_in":{seconds}}}"#);
    reply("200 OK", &[], &body)
}

fn missing() -> Reply {
    reply("404 Not Found", &[], "")
}

/// A client that knows this entry for the server.
fn client(server: &Scripted, entry: &serde_json::Value) -> (Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = serde_json::json!({ "auths": { server.host.as_str(): entry } });
    let mut options = options();
    options.credentials = docker_config(folder.path(), &config);
    (Client::new(options), folder)
}

fn password() -> serde_json::Value {
    serde_json::json!({"username": "AWS", "password": "hunter2"})
}

/// What Basic makes of `AWS:hunter2`.
const HEADER: &str = "Basic QVdTOmh1bnRlcjI=";

fn parsed(values: &[&str]) -> Vec<Challenge> {
    let mut headers = http::HeaderMap::new();
    for value in values {
        headers.append("www-authenticate", value.parse().unwrap());
    }
    challenges(&headers)
}

#[test]
fn challenges_are_read_as_they_come() {
    let bearer = |service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
        realm: "https://t/x".into(),
        service: service.map(Into::into),
        scope: scope.map(Into::into),
        error: None,
    };
    assert_eq!(
        parsed(&[r#"bearer realm="https://t/x",service="a, b",scope="repository:x:pull,push""#]),
        [bearer(Some("a, b"), Some("repository:x:pull,push"))]
    );
    assert_eq!(
        parsed(&[r#"Basic realm="x""#, r#"Bearer Realm="https://t/x""#]),
        [bearer(None, None), Challenge::Basic]
    );
    assert_eq!(
        parsed(&[r#"Negotiate, Basic realm="x""#]),
        [Challenge::Basic]
    );
    for nothing in [
        r#"Bearer service="x""#,
        "",
        "Negotiate",
        "Bearer realm=\"unclosed",
    ] {
        assert_eq!(parsed(&[nothing]), [], "{nothing}");
    }
}

#[tokio::test]
async fn a_password_is_sent_when_asked_for_and_then_at_once() {
    let server = Scripted::start(vec![refused(BASIC), missing(), missing()]).await;
    let (client, _folder) = client(&server, &password());
    for _ in 0..2 {
        assert_eq!(
            client.get_manifest(&image(&server.host)).await.unwrap(),
            None
        );
    }
    assert_eq!(
        server.summary(),
        format!(
            "GET /v2/team/app/manifests/v1 [-]\nGET /v2/team/app/manifests/v1 [{HEADER}]\n\
             GET /v2/team/app/manifests/v1 [{HEADER}]"
        )
    );
}

#[tokio::test]
async fn a_token_is_fetched_kept_and_renewed() {
    let server = Scripted::start(vec![
        refused(BEARER),
        token("one", 300),
        missing(),
        missing(),
        refused(BEARER),
        token("two", 0),
        missing(),
        refused(BEARER),
        token("three", 300),
        missing(),
    ])
    .await;
    let (client, _folder) = client(&server, &password());
    for _ in 0..4 {
        assert_eq!(
            client.get_manifest(&image(&server.host)).await.unwrap(),
            None
        );
    }
    insta::assert_snapshot!(server.summary(), @r#"
GET /v2/team/app/manifests/v1 [-]
GET /token?service=reg%2C1&scope=repository%3Ateam%2Fapp%3Apull [Basic QVdTOmh1bnRlcjI=]
GET /v2/team/app/manifests/v1 [Bearer one]
GET /v2/team/app/manifests/v1 [Bearer one]
GET /v2/team/app/manifests/v1 [Bearer one]
GET /token?service=reg%2C1&scope=repository%3Ateam%2Fapp%3Apull [Basic QVdTOmh1bnRlcjI=]
GET /v2/team/app/manifests/v1 [Bearer two]
GET /v2/team/app/manifests/v1 [-]
GET /token?service=reg%2C1&scope=repository%3Ateam%2Fapp%3Apull [Basic QVdTOmh1bnRlcjI=]
GET /v2/team/app/manifests/v1 [Bearer three]
"#);
}

#[tokio::test]
async fn an_identity_token_goes_in_a_form() {
    let server = Scripted::start(vec![refused(BEARER), token("one", 300), missing()]).await;
    let (client, _folder) = client(&server, &serde_json::json!({"identitytoken": "re fresh"}));
    assert_eq!(
        client.get_manifest(&image(&server.host)).await.unwrap(),
        None
    );
    let request = &server.requests()[1];
    assert!(request.starts_with("POST /token HTTP/1.1\r\n"), "{request}");
    insta::assert_snapshot!(request.split_once("\r\n\r\n").unwrap().1, @"grant_type=refresh_token&service=reg%2C1&scope=repository%3Ateam%2Fapp%3Apull&client_id=skiff&refresh_token=re+fresh");
}

/// The error of a GET to which the server answers with this script.
async fn error(script: Vec<Reply>, entry: serde_json::Value) -> String {
    let server = Scripted::start(script).await;
    let (client, folder) = client(&server, &entry);
    let error = client.get_manifest(&image(&server.host)).await.unwrap_err();
    let shown = format!("{} {error:?}", text(&error, &server.host));
    assert!(
        !shown.contains("hunter2") && !shown.contains(HEADER),
        "{shown}"
    );
    text(&error, &server.host).replace(&folder.path().display().to_string(), "DIR")
}

#[tokio::test]
async fn refusals_say_who_was_refused_and_what_to_do() {
    let nobody = || serde_json::json!({});
    let twice = || vec![refused(BASIC), refused(BASIC)];
    insta::assert_snapshot!(error(twice(), password()).await, @r#"cannot read HOST/team/app:v1: the registry refused the credentials (auths in DIR/config.json): HTTP 401 UNAUTHORIZED "authentication required": run `docker login HOST` (http://HOST/v2/team/app/manifests/v1)"#);
    insta::assert_snapshot!(error(twice(), nobody()).await, @r#"cannot read HOST/team/app:v1: the registry wants credentials, and none are configured for it: HTTP 401 UNAUTHORIZED "authentication required": run `docker login HOST` (http://HOST/v2/team/app/manifests/v1)"#);
    let bearer = || vec![refused(BEARER), reply("401 Unauthorized", &[], "")];
    insta::assert_snapshot!(error(bearer(), password()).await, @"cannot get a token for HOST: the registry refused the credentials (auths in DIR/config.json): HTTP 401: run `docker login HOST` (http://HOST/token)");
    let denied = r#"{"errors":[{"code":"DENIED","message":"no push for you"}]}"#;
    let forbidden = vec![refused(BASIC), reply("403 Forbidden", &[], denied)];
    insta::assert_snapshot!(error(forbidden, password()).await, @r#"cannot read HOST/team/app:v1: not allowed with these credentials (auths in DIR/config.json): HTTP 403 DENIED "no push for you" (http://HOST/v2/team/app/manifests/v1)"#);
    let scope = (
        "WWW-Authenticate",
        r#"Bearer realm="http://{host}/token",error="insufficient_scope""#,
    );
    let insufficient = vec![refused(BEARER), token("one", 300), refused(scope)];
    insta::assert_snapshot!(error(insufficient, nobody()).await, @r#"cannot read HOST/team/app:v1: not allowed without credentials, and none are configured: HTTP 401 UNAUTHORIZED "authentication required" (http://HOST/v2/team/app/manifests/v1)"#);
    insta::assert_snapshot!(error(vec![reply("401 Unauthorized", &[], "")], password()).await, @"cannot log in to HOST: the answer makes no sense: HTTP 401 without a `WWW-Authenticate` that offers Basic or Bearer (HOST)");
    let empty = vec![refused(BEARER), reply("200 OK", &[], "{}")];
    insta::assert_snapshot!(error(empty, password()).await, @"cannot get a token for HOST: the answer makes no sense: the token service sent no token (http://HOST/token)");
}

#[test]
fn ecr_has_a_login_of_its_own() {
    let host = RegistryHost::new("123456789012.dkr.ecr.eu-west-1.amazonaws.com").unwrap();
    let refusal = Refusal::new(http::StatusCode::UNAUTHORIZED, b"Not Authorized\n");
    insta::assert_snapshot!(unauthorized(&host, None, refusal), @r#"the registry wants credentials, and none are configured for it: HTTP 401 "Not Authorized": run `aws ecr get-login-password --region eu-west-1 | docker login --username AWS --password-stdin 123456789012.dkr.ecr.eu-west-1.amazonaws.com`"#);
}

#[tokio::test]
async fn a_token_service_in_trouble_is_waited_for() {
    let busy = reply("503 Service Unavailable", &[], "");
    let server = Scripted::start(vec![
        refused(BEARER),
        busy,
        refused(BEARER),
        token("one", 300),
        missing(),
    ])
    .await;
    let (client, _folder) = client(&server, &password());
    assert_eq!(
        client.get_manifest(&image(&server.host)).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_redirect_to_another_host_loses_the_password() {
    let storage = Scripted::start(vec![
        reply("200 OK", &[], "blob"),
        reply("403 Forbidden", &[], ""),
    ])
    .await;
    let location = format!("http://{}/data?X-Amz-Signature=secret", storage.host);
    let away = || reply("307 Temporary Redirect", &[("Location", &location)], "");
    let server = Scripted::start(vec![refused(BASIC), away(), away()]).await;
    let (client, _folder) = client(&server, &password());
    let (repository, digest) = (repository(&server.host), Digest::of(b"blob"));
    let blob = client.get_blob(&repository, &digest, 100).await.unwrap();
    assert_eq!(blob, "blob");
    assert_eq!(storage.summary(), "GET /data?X-Amz-Signature=secret [-]");
    assert!(!storage.requests()[0].to_lowercase().contains("referer"));

    let error = client
        .get_blob(&repository, &digest, 100)
        .await
        .unwrap_err();
    let text = text(&error, &server.host).replace(storage.host.as_str(), "STORAGE");
    insta::assert_snapshot!(text, @"cannot read blob sha256:fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8 of HOST/team/app: HTTP 403 (http://STORAGE/data)");
}

#[tokio::test]
async fn many_requests_fetch_one_token() {
    let server = Scripted::answering(|request| {
        Some(if request.starts_with("GET /token") {
            token("one", 300)
        } else if request.contains("authorization: Bearer one") {
            missing()
        } else {
            refused(BEARER)
        })
    })
    .await;
    let (client, _folder) = client(&server, &password());
    let image = image(&server.host);
    let all = (0..20).map(|_| client.get_manifest(&image));
    for result in futures_util::future::join_all(all).await {
        assert_eq!(result.unwrap(), None);
    }
    assert_eq!(server.summary().matches("GET /token").count(), 1);
}
