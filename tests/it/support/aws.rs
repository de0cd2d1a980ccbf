//! ECR as tests need it: under its true name with TLS and login, its API watched, or an API that says what a test wants.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::guarded::{GuardedRegistry, Tls};
use super::stack::within;

/// The registry that the stack's credentials lead to.
pub(crate) const NAME: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";

/// bcrypt of the token that the stack's API gives out.
const TOKEN: &str = "$2b$04$abcdefghijklmnopqrstuu/cMn6kFoLFEf9ShbIPSVtJoiKQtizZG";

/// A registry that is reached by [`NAME`], with TLS and login, by those who are inside: a mount namespace of their own in
/// which that name leads to a loopback address.
pub(crate) struct TrueName {
    pub registry: GuardedRegistry,
    folder: tempfile::TempDir,
}

impl TrueName {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Port 443 of a loopback address that nobody else has.
        let id = std::process::id();
        let address = format!("127.{}.{}.{}", 100 + id % 100, id / 100 % 250, 1 + id % 250);
        let hosts = format!("127.0.0.1 localhost\n{address} {NAME}\n");
        std::fs::write(folder.path().join("hosts"), hosts).unwrap();
        let tls = Tls::make(folder.path(), NAME);
        let registry = GuardedRegistry::with_tls(&format!("{address}:443"), TOKEN, &tls);
        Self { registry, folder }
    }

    /// The same command inside.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let hosts = self.folder.path().join("hosts");
        let outer = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            script,
            hosts.to_str().unwrap(),
        ];
        let mut inside = within(&outer, command);
        inside.env("SSL_CERT_FILE", self.certificate());
        inside
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }
}

/// Calls the stack's ECR.
pub(crate) fn call(action: &str, input: &Value) -> Value {
    let body = input.to_string();
    let mut stream = std::net::TcpStream::connect(super::stack::aws()).unwrap();
    // Emulators look for the service in the signature, and believe it.
    let scope = "AWS4-HMAC-SHA256 Credential=skiff-dev/20260101/us-east-1/ecr/aws4_request, SignedHeaders=host, Signature=0";
    write!(
        stream,
        "POST / HTTP/1.0\r\nHost: {}\r\nAuthorization: {scope}\r\nContent-Type: application/x-amz-json-1.1\r\n\
         X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.{action}\r\nContent-Length: {}\r\n\r\n{body}",
        super::stack::aws(),
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{action}: {answer}");
    serde_json::from_str(body).unwrap()
}

/// Calls the stack's S3. The path is a bucket's or an object's.
pub(crate) fn s3(method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(super::stack::aws()).unwrap();
    let scope = "AWS4-HMAC-SHA256 Credential=skiff-dev/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: {scope}\r\nContent-Length: {}\r\n\r\n{body}",
        super::stack::aws(),
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// What [`Api`] answers to a call.
pub(crate) enum Answer {
    /// A success.
    Json(Value),
    /// An error of the service: code and message.
    Error(&'static str, &'static str),
    Status(u16),
}

type Script = Box<dyn FnMut(&str, &Value) -> Answer + Send>;

/// An API of ECR that says what a test wants, in the protocol of the real one (JSON 1.1). Runs until it is dropped.
pub(crate) struct Api {
    port: u16,
    calls: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Api {
    /// `script` gets an action such as `CreateRepository` and its input.
    pub(crate) fn start(script: impl FnMut(&str, &Value) -> Answer + Send + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = Arc::<Mutex<Vec<String>>>::default();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let log = Arc::clone(&calls);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                let service = service_fn(move |request| {
                    answer(request, Arc::clone(&script), Arc::clone(&log))
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(client), service),
                );
            }
        });
        Self {
            port,
            calls,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How often each action was called.
    pub(crate) fn calls(&self) -> BTreeMap<String, usize> {
        counted(self.calls.lock().unwrap().iter().map(String::as_str))
    }
}

/// How often each action stands in there.
pub(crate) fn counted<'a>(actions: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for action in actions {
        *counts.entry(action.to_owned()).or_default() += 1;
    }
    counts
}

/// The answer to `GetAuthorizationToken`: a token for this registry that lives so many seconds.
pub(crate) fn authorization(endpoint: &str, password: &str, seconds: i64) -> Answer {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let end = i64::try_from(now.as_secs()).unwrap() + seconds;
    Answer::Json(json!({"authorizationData": [{
        "authorizationToken": super::base64(&format!("AWS:{password}")),
        "expiresAt": end,
        "proxyEndpoint": endpoint,
    }]}))
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Mutex<Script>>,
    log: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let target = request.headers()["x-amz-target"].to_str().unwrap();
    let action = target.rsplit('.').next().unwrap().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let input = serde_json::from_slice(&body).unwrap();
    let answer = (script.lock().unwrap())(&action, &input);
    log.lock().unwrap().push(action);
    let (status, body) = match answer {
        Answer::Json(value) => (200, value),
        Answer::Error(code, message) => (400, json!({"__type": code, "message": message})),
        Answer::Status(status) => (status, json!({})),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1")
        .body(Full::new(Bytes::from(body.to_string())));
    Ok(response.unwrap())
}
