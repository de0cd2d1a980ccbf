//! A real reverse proxy before the real registry, which answers some requests itself: faults by script.

use std::sync::Arc;
use std::sync::Mutex;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::stack;

/// Requests of this method whose path contains `path` are counted from 1; numbers `from` to `from + times - 1` are
/// answered by the gate instead of being passed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub method: &'static str,
    pub path: &'static str,
    pub from: u64,
    pub times: u64,
    pub answer: Answer,
}

/// What the gate answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Status(u16),
    /// Nothing, ever.
    Stall,
}

/// Runs until it is dropped.
pub(crate) struct Gate {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Gate {
    /// Before the stack's registry.
    pub(crate) fn start(rules: &[Rule]) -> Self {
        Self::before(stack::registry(), rules)
    }

    /// Before another server (`host:port`).
    pub(crate) fn before(upstream: &str, rules: &[Rule]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(Mutex::new(
            rules.iter().map(|rule| (*rule, 0)).collect::<Vec<_>>(),
        ));
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&seen);
        let upstream: Arc<str> = upstream.into();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (rules, log) = (Arc::clone(&rules), Arc::clone(&log));
                let upstream = Arc::clone(&upstream);
                let service = service_fn(move |request| {
                    pass(
                        request,
                        Arc::clone(&upstream),
                        Arc::clone(&rules),
                        Arc::clone(&log),
                    )
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(client), service),
                );
            }
        });
        Self {
            port,
            seen,
            _runtime: runtime,
        }
    }

    /// `host:port`, as it stands in image names.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// `METHOD /path` of every request, in order; of AWS's, the action with its service.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass(
    request: Request<Incoming>,
    upstream: Arc<str>,
    rules: Arc<Mutex<Vec<(Rule, u64)>>>,
    log: Arc<Mutex<Vec<String>>>,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Box<dyn std::error::Error + Send + Sync>> {
    let mut line = format!("{} {}", request.method(), request.uri().path());
    if let Some(action) = request.headers().get("x-amz-target") {
        line = action.to_str()?.to_owned();
    }
    let answer = rules.lock().unwrap().iter_mut().find_map(|(rule, count)| {
        if request.method() != rule.method || !request.uri().path().contains(rule.path) {
            return None;
        }
        *count += 1;
        (*count >= rule.from && *count - rule.from < rule.times).then_some(rule.answer)
    });
    log.lock().unwrap().push(line);
    if let Some(answer) = answer {
        // As a registry does it: the request is read, then refused.
        request.into_body().collect().await?;
        let Answer::Status(status) = answer else {
            return std::future::pending().await;
        };
        let body = Full::new(Bytes::from(
            "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"by the gate\"}]}",
        ));
        return Ok(Response::builder()
            .status(status)
            .body(body.map_err(|never| match never {}).boxed())?);
    }
    let upstream = TcpStream::connect(&*upstream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(upstream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(BodyExt::boxed))
}
