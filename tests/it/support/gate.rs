//! A real reverse proxy before the real registry, which answers some requests itself: faults by script, requests that
//! wait for their turn, and ECR's own rules ([`super::quotas`]).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

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

/// What the gate answers, or does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Status(u16),
    /// A status with `Retry-After`, in seconds.
    RetryAfter(u16, u64),
    /// A status with an error code of the registry.
    Refusal(u16, &'static str),
    /// 200 with this JSON.
    Page(&'static str),
    /// Who is there? (401, as ECR asks it.)
    Unauthorized,
    /// Nothing, ever.
    Stall,
    /// Passed on after a while.
    Delay(Duration),
    /// The end of the connection.
    Cut,
    /// Passed on, and the end of the connection in the place of the answer.
    CutAfter,
    /// Passed on, and half of the answer's body.
    Truncate,
    /// SIGKILL for the process that was aimed at; the request is not passed on.
    Kill,
    /// The same once the request was passed on and answered.
    KillAfter,
    /// Passed on when it is its turn.
    Turn,
}

/// A request, as a script sees it.
pub(crate) struct Asked<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// skiff's own requests are counted from 1; `None`: the builder's.
    pub own: Option<u64>,
    pub authorization: Option<&'a str>,
    /// Of a manifest.
    pub body: &'a [u8],
}

type Script = Box<dyn FnMut(&Asked<'_>) -> Option<Answer> + Send>;

/// A request that waits for its turn.
pub(crate) struct Waiting {
    go: oneshot::Sender<()>,
    done: Receiver<()>,
}

impl Waiting {
    /// Lets it pass, and waits until it is answered.
    pub(crate) fn pass(self) {
        if self.go.send(()).is_ok() {
            let _ = self.done.recv_timeout(Duration::from_secs(20));
        }
    }
}

struct Shared {
    upstream: String,
    script: Mutex<Script>,
    own: Mutex<u64>,
    seen: Mutex<Vec<String>>,
    victim: AtomicU32,
    turns: Mutex<Option<Sender<Waiting>>>,
}

/// Runs until it is dropped.
pub(crate) struct Gate {
    port: u16,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

impl Gate {
    /// Before the stack's registry.
    pub(crate) fn start(rules: &[Rule]) -> Self {
        Self::before(stack::registry(), rules)
    }

    /// Before another server (`host:port`).
    pub(crate) fn before(upstream: &str, rules: &[Rule]) -> Self {
        let mut rules: Vec<(Rule, u64)> = rules.iter().map(|rule| (*rule, 0)).collect();
        Self::scripted(upstream, move |asked| {
            rules.iter_mut().find_map(|(rule, count)| {
                if asked.method != rule.method || !asked.path.contains(rule.path) {
                    return None;
                }
                *count += 1;
                (*count >= rule.from && *count - rule.from < rule.times).then_some(rule.answer)
            })
        })
    }

    /// Every request of skiff's waits for its turn.
    pub(crate) fn in_turns() -> (Self, Receiver<Waiting>) {
        let gate = Self::scripted(stack::registry(), |asked| asked.own.map(|_| Answer::Turn));
        let (sender, receiver) = channel();
        *gate.shared.turns.lock().unwrap() = Some(sender);
        (gate, receiver)
    }

    /// Lets `script` see each request; `None`: it is passed on.
    pub(crate) fn scripted(
        upstream: &str,
        script: impl FnMut(&Asked<'_>) -> Option<Answer> + Send + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            script: Mutex::new(Box::new(script)),
            own: Mutex::default(),
            seen: Mutex::default(),
            victim: AtomicU32::new(0),
            turns: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                let service = service_fn(move |request| pass(request, Arc::clone(&shared)));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(client), service),
                );
            }
        });
        Self {
            port,
            shared,
            _runtime: runtime,
        }
    }

    /// `host:port`, as it stands in image names.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// `METHOD /path` of every request, in order; of AWS's, the action with its service.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The process that [`Answer::Kill`] ends.
    pub(crate) fn aim(&self, process: u32) {
        self.shared.victim.store(process, Ordering::SeqCst);
    }

    /// Requests of skiff's so far.
    pub(crate) fn own(&self) -> u64 {
        *self.shared.own.lock().unwrap()
    }
}

type Passed = Response<BoxBody<Bytes, std::io::Error>>;
type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn pass(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Passed, Failed> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let (method, path) = (
        request.method().to_string(),
        request.uri().path().to_owned(),
    );
    let line = header("x-amz-target").map_or_else(|| format!("{method} {path}"), str::to_owned);
    let by_skiff = header("user-agent").is_some_and(|agent| agent.starts_with("skiff/"));
    let authorization = header("authorization").map(str::to_owned);
    let (parts, body) = request.into_parts();
    // Layers are not collected: they may be large, and no script looks at them.
    let small =
        method != "PUT" && method != "POST" && method != "PATCH" || path.contains("/manifests/");
    let (collected, body) = if small {
        let bytes = body.collect().await?.to_bytes();
        let full = Full::new(bytes.clone()).map_err(|never| match never {});
        (bytes, full.boxed())
    } else {
        (Bytes::new(), body.map_err(std::io::Error::other).boxed())
    };
    let own = by_skiff.then(|| {
        let mut own = shared.own.lock().unwrap();
        *own += 1;
        *own
    });
    let answer = (shared.script.lock().unwrap())(&Asked {
        method: &method,
        path: &path,
        own,
        authorization: authorization.as_deref(),
        body: &collected,
    });
    shared.seen.lock().unwrap().push(line);
    let request = Request::from_parts(parts, body);
    let cut = || -> Failed { "cut by the gate".into() };
    match answer {
        None => forward(request, &shared).await,
        Some(Answer::Status(status)) => refuse(request, refused(status, "DENIED", None)?).await,
        Some(Answer::RetryAfter(status, seconds)) => {
            refuse(request, refused(status, "TOOMANYREQUESTS", Some(seconds))?).await
        }
        Some(Answer::Refusal(status, code)) => refuse(request, refused(status, code, None)?).await,
        Some(Answer::Page(text)) => refuse(request, page(text)?).await,
        Some(Answer::Unauthorized) => {
            let mut answer = refused(401, "UNAUTHORIZED", None)?;
            let realm = "Basic realm=\"gate\",service=\"ecr.amazonaws.com\"";
            answer
                .headers_mut()
                .insert("www-authenticate", realm.parse()?);
            refuse(request, answer).await
        }
        Some(Answer::Stall) => std::future::pending().await,
        Some(Answer::Delay(time)) => {
            tokio::time::sleep(time).await;
            forward(request, &shared).await
        }
        Some(Answer::Cut) => Err(cut()),
        Some(Answer::CutAfter) => {
            forward(request, &shared)
                .await?
                .into_body()
                .collect()
                .await?;
            Err(cut())
        }
        Some(Answer::Truncate) => {
            let (parts, body) = forward(request, &shared).await?.into_parts();
            let bytes = body.collect().await?.to_bytes();
            let half = Ok(Frame::data(bytes.slice(..bytes.len() / 2)));
            let cut = Err(std::io::Error::other("cut by the gate"));
            let stream = futures_util::stream::iter([half, cut]);
            Ok(Response::from_parts(
                parts,
                BodyExt::boxed(StreamBody::new(stream)),
            ))
        }
        Some(Answer::Kill) => {
            kill(&shared).await;
            Err(cut())
        }
        Some(Answer::KillAfter) => {
            forward(request, &shared)
                .await?
                .into_body()
                .collect()
                .await?;
            kill(&shared).await;
            Err(cut())
        }
        Some(Answer::Turn) => in_turn(request, &shared).await,
    }
}

async fn in_turn(
    request: Request<BoxBody<Bytes, std::io::Error>>,
    shared: &Shared,
) -> Result<Passed, Failed> {
    let ((go, turn), (answered, done)) = (oneshot::channel(), channel());
    let turns = shared.turns.lock().unwrap().clone();
    if turns.is_some_and(|turns| turns.send(Waiting { go, done }).is_ok()) {
        let _ = turn.await;
    }
    let (parts, body) = forward(request, shared).await?.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let _ = answered.send(());
    let body = Full::new(bytes).map_err(|never| match never {});
    Ok(Response::from_parts(parts, body.boxed()))
}

/// An error of the registry.
fn refused(status: u16, code: &str, after: Option<u64>) -> Result<Passed, Failed> {
    let text = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"by the gate\"}}]}}");
    let mut response = Response::builder().status(status);
    if let Some(seconds) = after {
        response = response.header("retry-after", seconds);
    }
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    Ok(response.body(body.boxed())?)
}

fn page(text: &'static str) -> Result<Passed, Failed> {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {});
    Ok(Response::builder().body(body.boxed())?)
}

/// As a registry does it: the request is read, then refused.
async fn refuse(
    request: Request<BoxBody<Bytes, std::io::Error>>,
    answer: Passed,
) -> Result<Passed, Failed> {
    request.into_body().collect().await?;
    Ok(answer)
}

async fn forward(
    request: Request<BoxBody<Bytes, std::io::Error>>,
    shared: &Shared,
) -> Result<Passed, Failed> {
    let upstream = TcpStream::connect(&shared.upstream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(upstream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| body.map_err(std::io::Error::other).boxed()))
}

/// Ends the process that was aimed at, and waits until it is gone.
async fn kill(shared: &Shared) {
    let mut process = 0;
    while process == 0 {
        process = shared.victim.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let kill = std::process::Command::new("kill")
        .arg("-KILL")
        .arg(process.to_string())
        .status();
    assert!(kill.unwrap().success());
}
