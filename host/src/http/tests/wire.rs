//! The other end of a connection in memory: writes bytes, reads replies.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::mpsc;

use super::super::exchange::{Ends, Entrance};
use super::super::listener::{Listener, Stream};

/// What is on its way in each direction at most: a reader that stops is noticed.
const BUFFER_BYTES: usize = 1 << 16;

/// Takes connections that are made in memory.
pub(super) struct Port {
    address: SocketAddr,
    coming: mpsc::Receiver<Pipe>,
    /// Whoever connects is the owner.
    is_owners: bool,
}

/// Makes them.
#[derive(Debug)]
pub(super) struct Dialer {
    address: SocketAddr,
    port: mpsc::Sender<Pipe>,
}

/// A port in memory, and who connects to it.
pub(super) fn port(address: SocketAddr, is_owners: bool) -> (Port, Dialer) {
    let (port, coming) = mpsc::channel(1024);
    let listener = Port {
        address,
        coming,
        is_owners,
    };
    (listener, Dialer { address, port })
}

/// The host's end of a connection.
pub(super) struct Pipe {
    stream: DuplexStream,
    is_broken: Arc<AtomicBool>,
}

impl Stream for Pipe {
    fn broken(&self) -> Option<io::Error> {
        let is_broken = self.is_broken.load(Ordering::Relaxed);
        is_broken.then(|| io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
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

impl Listener for Port {
    type Stream = Pipe;

    async fn accept(&mut self) -> io::Result<(Pipe, Ends)> {
        let Some(stream) = self.coming.recv().await else {
            // Nobody will connect any more, which is no error: the end comes in another way.
            return std::future::pending().await;
        };
        let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
        let local = self.address;
        let entrance = match self.is_owners {
            true => Entrance::OwnerSocket,
            false => Entrance::Port,
        };
        Ok((stream, Ends { local, peer, entrance }))
    }
}

impl Dialer {
    /// A connection, unless nobody listens.
    pub(super) async fn connect(&self) -> Option<Wire> {
        let (here, there) = duplex(BUFFER_BYTES);
        let is_broken = Arc::new(AtomicBool::new(false));
        let there = Pipe {
            stream: there,
            is_broken: is_broken.clone(),
        };
        self.port.send(there).await.ok()?;
        Some(Wire {
            stream: BufReader::new(here),
            is_broken,
            address: self.address,
        })
    }
}

/// A connection.
pub(super) struct Wire {
    stream: BufReader<DuplexStream>,
    is_broken: Arc<AtomicBool>,
    address: SocketAddr,
}

/// A reply.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Wire {
    /// Writes bytes as they are.
    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends no more, and still reads.
    pub(super) async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Is gone without a goodbye, which the other system says.
    pub(super) fn break_off(self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    /// Sends a request; `more` are further headers, each ended by CRLF.
    pub(super) async fn send(&mut self, verb: &str, path: &str, more: &str, body: &str) {
        let (host, length) = (self.address, body.len());
        self.write(format!(
            "{verb} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n{more}\r\n{body}"
        ))
        .await;
    }

    /// Sends a request and reads its reply.
    pub(super) async fn ask(&mut self, verb: &str, path: &str, more: &str, body: &str) -> Got {
        self.send(verb, path, more, body).await;
        self.reply(verb != "HEAD").await
    }

    /// Reads a reply, with its body unless it answers a HEAD.
    pub(super) async fn reply(&mut self, with_body: bool) -> Got {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.stream.read_line(&mut head).await.unwrap();
            assert!(read > 0, "closed after {head:?}");
        }
        let status = head["HTTP/1.1 ".len()..][..3].parse().unwrap();
        let mut got = Got {
            status,
            head,
            body: String::new(),
        };
        let length: usize = got.header("content-length").map_or(0, |length| length.parse().unwrap());
        if with_body && status != 204 && status >= 200 {
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.unwrap();
            got.body = String::from_utf8(body).unwrap();
        }
        got
    }

    /// Reads from a reply whose length isn't known until it holds a text; returns all up to that line's end.
    pub(super) async fn until(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            let more = self.stream.read_line(&mut read).await.unwrap();
            assert!(more > 0, "closed without `{text}`: {read}");
        }
        read
    }

    /// Whether the host closes the connection without another word.
    pub(super) async fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]).await, Ok(0) | Err(_))
    }
}

impl Got {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The reply has to be a problem document with this status and code.
    #[track_caller]
    pub(super) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{self:?}");
        assert_eq!(
            problem["request_id"].as_str(),
            self.header("granary-request-id"),
            "{self:?}"
        );
        problem
    }
}
