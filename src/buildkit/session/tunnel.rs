//! The byte stream that carries the HTTP/2 of a session: a connection of its own, or `Control.Session`, whose messages are
//! pieces of it either way. The latter puts each frame into another one, which costs the builder more than hashing what
//! is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bytes::{Buf, Bytes};
use futures_util::Stream as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{DropGuard, PollSender, WaitForCancellationFutureOwned};
use tonic::Streaming;
use tonic::transport::server::Connected;

use crate::buildkit::dial::Stream;

/// Largest message sent, well under gRPC's default limit of 4 MiB.
const CHUNK: usize = 64 << 10;

/// A session's stream.
pub(super) struct Line {
    stream: Stream,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _ended: DropGuard,
}

impl Line {
    /// Both directions end, with an error, once `closed` fires: the server that runs on it then drops what it serves.
    /// `ended` fires when the server has done so, for that reason or because the builder is gone.
    pub(super) fn new(
        stream: Stream,
        closed: WaitForCancellationFutureOwned,
        ended: DropGuard,
    ) -> Self {
        Self {
            stream,
            closed: Box::pin(closed),
            _ended: ended,
        }
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.closed.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_closed(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_closed(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_closed(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Line {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// The stream inside `Control.Session`.
pub(super) struct Tunnel {
    incoming: Streaming<BytesMessage>,
    unread: Bytes,
    outgoing: PollSender<BytesMessage>,
}

impl Tunnel {
    pub(super) fn new(
        incoming: Streaming<BytesMessage>,
        outgoing: mpsc::Sender<BytesMessage>,
    ) -> Self {
        Self {
            incoming,
            unread: Bytes::new(),
            outgoing: PollSender::new(outgoing),
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.incoming).poll_next(cx)) {
                Some(Ok(message)) => self.unread = message.data.into(),
                Some(Err(status)) => return Poll::Ready(Err(io::Error::other(status))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.unread.remaining().min(buf.remaining());
        buf.put_slice(&self.unread.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.outgoing.poll_reserve(cx))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let chunk = &bytes[..bytes.len().min(CHUNK)];
        let message = BytesMessage {
            data: chunk.to_vec(),
        };
        self.outgoing
            .send_item(message)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}
