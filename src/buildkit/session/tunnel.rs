//! The byte stream inside `Control.Session`: messages of bytes either way, which carry the HTTP/2 of the session.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bytes::{Buf, Bytes};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{DropGuard, PollSender, WaitForCancellationFutureOwned};
use tonic::Streaming;
use tonic::transport::server::Connected;

/// Largest message sent, well under gRPC's default limit of 4 MiB.
const CHUNK: usize = 64 << 10;

pub(super) struct Tunnel {
    incoming: Streaming<BytesMessage>,
    unread: Bytes,
    outgoing: PollSender<BytesMessage>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _ended: DropGuard,
}

impl Tunnel {
    /// Both directions end, with an error, once `closed` fires: the server that runs on it then drops what it serves.
    /// `ended` fires when the server has done so, for that reason or because the builder is gone.
    pub(super) fn new(
        incoming: Streaming<BytesMessage>,
        outgoing: mpsc::Sender<BytesMessage>,
        closed: WaitForCancellationFutureOwned,
        ended: DropGuard,
    ) -> Self {
        Self {
            incoming,
            unread: Bytes::new(),
            outgoing: PollSender::new(outgoing),
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

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_closed(cx)?;
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
        self.poll_closed(cx)?;
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

impl Connected for Tunnel {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
