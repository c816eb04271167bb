//! Where connections come from: a port, and the owner's socket. Tests have one in this process's memory, so that their clock can stand still:
//! the time-outs of connections are tested without waiting for them, and whatever else the machine does.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::access::OwnerSocket;
use super::exchange::{Ends, Entrance};

/// A connection's bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Why its other end neither sends nor listens any more, if it has said so. One that only sends no more may well listen.
    fn broken(&self) -> Option<io::Error>;
}

/// A source of connections.
pub(super) trait Listener: Send {
    /// A connection's bytes.
    type Stream: Stream;

    /// The next connection. Dropping the future loses none.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Ends)>> + Send;
}

/// Both ways into a host.
pub(super) struct Entrances {
    pub(super) port: TcpListener,
    pub(super) owner: OwnerSocket,
}

/// A connection by either.
pub(super) enum Connection {
    Port(TcpStream),
    Owner(UnixStream),
}

impl Listener for Entrances {
    type Stream = Connection;

    async fn accept(&mut self) -> io::Result<(Connection, Ends)> {
        tokio::select! {
            accepted = self.port.accept() => {
                let (stream, peer) = accepted?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Ok((Connection::Port(stream), Ends { local, peer, entrance: Entrance::Port }))
            }
            accepted = self.owner.accept() => {
                // It has no address: this one is nobody else's, so that its connections are counted apart.
                let peer = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                Ok((Connection::Owner(accepted?), Ends { local, peer, entrance: Entrance::OwnerSocket }))
            }
        }
    }
}

impl Stream for Connection {
    fn broken(&self) -> Option<io::Error> {
        match self {
            Connection::Port(stream) => stream.take_error(),
            Connection::Owner(stream) => stream.take_error(),
        }
        .unwrap_or_else(Some)
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Port(stream) => Pin::new(stream).poll_read(cx, buf),
            Connection::Owner(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Port(stream) => Pin::new(stream).poll_write(cx, bytes),
            Connection::Owner(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Port(stream) => Pin::new(stream).poll_flush(cx),
            Connection::Owner(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Port(stream) => Pin::new(stream).poll_shutdown(cx),
            Connection::Owner(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Port(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Connection::Owner(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Connection::Port(stream) => stream.is_write_vectored(),
            Connection::Owner(stream) => stream.is_write_vectored(),
        }
    }
}
