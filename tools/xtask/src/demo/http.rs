//! As much of HTTP/1.1 as the demo speaks: one request, one reply, over a connection that stays open.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than the host's own deadline: a reply that takes longer won't come.
const REPLY_LIMIT: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    /// The status code.
    pub(super) status: u16,
    /// The body, as text.
    pub(super) body: String,
}

impl Reply {
    /// The body of a good reply, as a number.
    pub(super) fn integer(&self) -> Result<i64, String> {
        if self.status != 200 {
            return Err(format!("the host answered {}: {}", self.status, self.body));
        }
        self.body
            .trim()
            .parse()
            .map_err(|_| format!("expected a whole number, got `{}`", self.body))
    }
}

/// One request over a connection of its own.
pub(super) fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<Reply, String> {
    Connection::open(address)
        .and_then(|mut connection| connection.request(method, path, body))
        .map_err(|error| format!("no reply from {address}: {error}"))
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    pub(super) fn open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        Ok(Connection {
            address,
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and waits for its reply.
    pub(super) fn request(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<Reply> {
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.get_mut().write_all(text.as_bytes())?;
        let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
        let status = self.line()?;
        let status = status
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| bad("no status"))?;
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_| bad("no length"))?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Reply {
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}
