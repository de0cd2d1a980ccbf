//! A TCP server that plays a script: one reply per request, in order, each on a connection of its own. It misbehaves in
//! ways that no real registry can be asked to.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::reference::RegistryHost;

pub(super) enum Reply {
    /// These bytes, and the end of the connection.
    Bytes(String),
    /// Nothing, for ever.
    Stall,
}

/// A reply with a right `Content-Length`; an empty one for HEAD may bring its own.
pub(super) fn reply(status: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    Reply::Bytes(format!("{text}\r\n{body}"))
}

pub(super) struct Scripted {
    pub host: RegistryHost,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Plays `script` on a free loopback port; `{host}` in it becomes the server's own. After its end, connections are
    /// closed unanswered.
    pub(super) async fn start(script: Vec<Reply>) -> Self {
        let mut script = script.into_iter();
        Self::answering(move |_| script.next()).await
    }

    /// Lets `answer` see each request.
    pub(super) async fn answering(
        mut answer: impl FnMut(&str) -> Option<Reply> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = RegistryHost::new(&listener.local_addr().unwrap().to_string()).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, name) = (requests.clone(), host.to_string());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read_request(&mut stream).await else {
                    continue;
                };
                let reply = answer(&request);
                seen.lock().unwrap().push(request);
                match reply {
                    Some(Reply::Bytes(text)) => {
                        let text = text.replace("{host}", &name);
                        let _ = stream.write_all(text.as_bytes()).await;
                    }
                    Some(Reply::Stall) => {
                        tokio::spawn(async move {
                            let _stream = stream;
                            std::future::pending::<()>().await;
                        });
                    }
                    None => {}
                }
            }
        });
        Self { host, requests }
    }

    /// The requests so far, head and body.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// `METHOD path authorization` of each request so far.
    pub(super) fn summary(&self) -> String {
        let line = |request: &String| {
            let first = request.lines().next().unwrap_or("");
            let head = first.trim_end_matches(" HTTP/1.1");
            let authorization = request
                .lines()
                .find_map(|line| line.strip_prefix("authorization: "));
            format!("{head} [{}]", authorization.unwrap_or("-"))
        };
        self.requests()
            .iter()
            .map(line)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Head and body; `None` if the client hung up.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(text.into_owned());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
