//! Against a real registry: `SKIFF_DEV_REGISTRY` (`host:port`, or `https://host:port`), with the login of
//! `DOCKER_CONFIG` if it is set. `dev/test` runs it against the development stack.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::clock;
use crate::reference::{Digest, RegistryHost, Repository, Tag};
use crate::registry::client::Client;
use crate::registry::credentials::{CredentialSources, Login};
use crate::registry::http::Options;
use crate::registry::image::{ImageConfig, ImageManifest, RawManifest};
use crate::registry::media_type::{DOCKER_CONFIG, DOCKER_MANIFEST};

#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Uploads a blob in two requests, which skiff itself never does.
async fn upload(options: &Options, base: &str, repository: &Repository, content: &'static [u8]) {
    let login = options.credentials.credentials_for(&repository.host).await;
    let login = login.unwrap().map(|credentials| credentials.login);
    let with_login = |request: reqwest::RequestBuilder| match &login {
        Some(Login::Password { username, password }) => {
            request.basic_auth(username, Some(password.expose()))
        }
        _ => request,
    };
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let start = format!("{base}/v2/{}/blobs/uploads/", repository.path());
    let started = with_login(http.post(start)).send().await.unwrap();
    assert_eq!(started.status(), 202);
    let mut url = reqwest::Url::parse(started.headers()["location"].to_str().unwrap()).unwrap();
    url.query_pairs_mut()
        .append_pair("digest", Digest::of(content).as_str());
    let done = with_login(http.put(url))
        .body(content)
        .send()
        .await
        .unwrap();
    assert_eq!(done.status(), 201);
}

#[tokio::test]
#[ignore = "needs a registry: SKIFF_DEV_REGISTRY"]
async fn an_image_goes_there_and_back() {
    let address = variable("SKIFF_DEV_REGISTRY").expect("SKIFF_DEV_REGISTRY is set");
    let (scheme, host) = address.split_once("://").unwrap_or(("http", &address));
    let host = RegistryHost::new(host).unwrap();
    let mut options = Options::new(CredentialSources::new(
        variable("DOCKER_CONFIG").map(PathBuf::from),
    ));
    options.plain_http.insert(host.clone(), scheme == "http");
    let client = Client::new(options.clone());
    let name = format!("skiff-test/{}", clock::timestamp().as_nanosecond());
    let repository = Repository::new(host, &name).unwrap();
    let image = repository.tag(&Tag::new("v1").unwrap());

    let started = clock::now();
    assert_eq!(client.head_manifest(&image).await.unwrap(), None);
    assert!(started.elapsed() < Duration::from_secs(2));

    let config = br#"{"os":"linux","architecture":"amd64","config":{"Labels":{"a":"b"}},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    upload(
        &options,
        &format!("{scheme}://{}", repository.host),
        &repository,
        config,
    )
    .await;
    let bytes = Bytes::from(
        serde_json::json!({
            "schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": [],
            "config": {"mediaType": DOCKER_CONFIG, "digest": Digest::of(config), "size": config.len()},
        })
        .to_string(),
    );
    let raw = RawManifest {
        media_type: DOCKER_MANIFEST.to_owned(),
        digest: Digest::of(&bytes),
        bytes,
    };
    assert_eq!(client.put_manifest(&image, &raw).await.unwrap(), raw.digest);

    let head = client.head_manifest(&image).await.unwrap().unwrap();
    assert_eq!(
        (&head.digest, head.size),
        (&raw.digest, raw.bytes.len() as u64)
    );
    assert_eq!(head.media_type, DOCKER_MANIFEST);
    let by_digest = repository.digest(&raw.digest);
    assert_eq!(
        client.get_manifest(&image).await.unwrap(),
        Some(raw.clone())
    );
    assert_eq!(
        client.get_manifest(&by_digest).await.unwrap(),
        Some(raw.clone())
    );

    let manifest = ImageManifest::parse(&raw).unwrap();
    let blob = client
        .get_blob(&repository, &manifest.config.digest, 1 << 20)
        .await
        .unwrap();
    assert_eq!(ImageConfig::parse(&blob).unwrap().labels["a"], "b");

    // A channel moves: the same bytes under another tag.
    let latest = repository.tag(&Tag::new("latest").unwrap());
    client.put_manifest(&latest, &raw).await.unwrap();
    assert_eq!(client.head_manifest(&latest).await.unwrap(), Some(head));
}
