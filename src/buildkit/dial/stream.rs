//! Byte streams to wherever a builder is: a socket, TLS, or another program's input and output. An engine's HTTP/1 and a
//! BuildKit's HTTP/2 run over them alike.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// The longest that a connection may take to be made, and a call that does no work to be answered.
pub(super) const ANSWER: Duration = Duration::from_secs(20);

/// How to get a stream.
#[derive(Debug, Clone)]
pub(super) enum Route {
    Unix(PathBuf),
    /// `host:port`, plain.
    Tcp(String),
    Tls {
        address: String,
        /// Whom the certificate must name.
        server: ServerName<'static>,
        config: Arc<ClientConfig>,
    },
    /// A program whose input and output are the connection.
    Program(Vec<String>),
}

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(crate) type Stream = Box<dyn Duplex>;

impl Route {
    pub(super) fn is_program(&self) -> bool {
        matches!(self, Self::Program(_))
    }

    /// A fresh connection, within [`ANSWER`].
    pub(super) async fn open(&self) -> io::Result<Stream> {
        let connect = async {
            Ok(match self {
                Self::Unix(path) => Box::new(UnixStream::connect(path).await?) as Stream,
                Self::Tcp(address) => Box::new(tcp(address).await?),
                Self::Tls {
                    address,
                    server,
                    config,
                } => {
                    let tls = tokio_rustls::TlsConnector::from(Arc::clone(config));
                    Box::new(tls.connect(server.clone(), tcp(address).await?).await?)
                }
                Self::Program(words) => Box::new(Piped::start(words)?),
            })
        };
        tokio::time::timeout(ANSWER, connect)
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {} s", ANSWER.as_secs()),
                ))
            })
    }
}

/// Connects; a peer that vanishes without a word is noticed within a minute, however long a build is silent. (HTTP/2's
/// own pings will not do: grpc-go ends connections that ping more often than every five minutes.)
async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
    rustix::net::sockopt::set_tcp_keepidle(&stream, Duration::from_secs(30))?;
    rustix::net::sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(10))?;
    rustix::net::sockopt::set_tcp_keepcnt(&stream, 3)?;
    Ok(stream)
}

/// A running program as a stream. It is killed when this is dropped.
struct Piped {
    input: ChildStdin,
    output: ChildStdout,
    /// What it says on stderr, once it has ended: why there is no connection.
    said: JoinHandle<String>,
    /// The same, once it is known: whoever reads and whoever writes are both told.
    last: Option<String>,
    /// It has answered.
    heard: bool,
    _child: Child,
}

/// What is kept of a program's stderr, in bytes.
const SAID: u64 = 2048;

impl Piped {
    fn start(words: &[String]) -> io::Result<Self> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C is for skiff: it ends the build in order over this very connection.
            .process_group(0)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot run {program}: {error}"))
            })?;
        let (Some(input), Some(output), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let said = tokio::spawn(async move {
            let mut text = Vec::new();
            let mut stderr = stderr.take(SAID);
            let _ = stderr.read_to_end(&mut text).await;
            // The rest is read and let go, so that the program is never blocked.
            let _ = tokio::io::copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await;
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        Ok(Self {
            input,
            output,
            said,
            last: None,
            heard: false,
            _child: child,
        })
    }
}

impl Piped {
    /// Why a program that ended without an answer did so. To be asked once it has ended.
    fn last_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let last = if let Some(last) = &self.last {
            last.clone()
        } else {
            let said = ready!(Pin::new(&mut self.said).poll(cx)).unwrap_or_default();
            let last = said.lines().last().unwrap_or("it ended without a word");
            self.last.insert(last.to_owned()).clone()
        };
        Poll::Ready(io::Error::other(last))
    }
}

impl AsyncRead for Piped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.output).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.heard = true;
        } else if !self.heard && buf.remaining() > 0 {
            return self.last_words(cx).map(Err);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Piped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.input).poll_write(cx, bytes)) {
            // It ended before it was asked anything.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !self.heard => {
                self.last_words(cx).map(Err)
            }
            result => Poll::Ready(result),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn who_reads_and_who_writes_are_both_told_why_a_program_ended() {
        let script = "exec <&-; echo no way >&2; exit 255";
        let words = ["sh", "-c", script].map(str::to_owned);
        let mut stream = Piped::start(&words).unwrap();
        for _ in 0..2 {
            let read = stream.read(&mut [0; 8]).await.unwrap_err();
            let written = stream.write_all(b"hello").await.unwrap_err();
            assert_eq!(
                (read.to_string(), written.to_string()),
                ("no way".into(), "no way".into())
            );
        }
    }
}
