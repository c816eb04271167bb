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

/// A source of connections.
pub(super) trait Listener: Send {
    /// A connection's bytes.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection. Dropping the future loses none.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Ends)>> + Send;
}

/// Both ways into a host.
pub(super) struct Entrances {
    pub(super) port: TcpListener,
    pub(super) owner: OwnerSocket,
}

/// A connection by either.
pub(super) enum Stream {
    Port(TcpStream),
    Owner(UnixStream),
}

impl Listener for Entrances {
    type Stream = Stream;

    async fn accept(&mut self) -> io::Result<(Stream, Ends)> {
        tokio::select! {
            accepted = self.port.accept() => {
                let (stream, peer) = accepted?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Ok((Stream::Port(stream), Ends { local, peer, entrance: Entrance::Port }))
            }
            accepted = self.owner.accept() => {
                // It has no address: this one is nobody else's, so that its connections are counted apart.
                let peer = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                Ok((Stream::Owner(accepted?), Ends { local, peer, entrance: Entrance::OwnerSocket }))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Port(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Owner(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Port(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Owner(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Port(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Owner(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Port(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Owner(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Port(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Stream::Owner(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Port(stream) => stream.is_write_vectored(),
            Stream::Owner(stream) => stream.is_write_vectored(),
        }
    }
}
