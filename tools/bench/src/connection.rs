//! One HTTP/1.1 connection that stays open: a request's bytes in, its reply out. Raw, so that the generator takes as little of
//! the machine as it can.
//!
//! **Not here:** chunked replies; neither a host nor the reference sends them.

use std::net::SocketAddr;
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(to: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: Vec::with_capacity(4096),
        })
    }

    /// One request and its reply, which has to be 200. Returns the reply's body.
    pub(crate) async fn call(&mut self, request: &[u8]) -> std::io::Result<&[u8]> {
        let (status, body) = self.exchange(request).await?;
        if status != 200 {
            return Err(std::io::Error::other(
                String::from_utf8_lossy(&self.buffer).into_owned(),
            ));
        }
        Ok(&self.buffer[body])
    }

    /// One request and its reply, whatever it is: its status and where its body is in the buffer.
    async fn exchange(&mut self, request: &[u8]) -> std::io::Result<(u16, Range<usize>)> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (head, length) = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            match reply_length(&self.buffer) {
                Some((head, length)) if self.buffer.len() >= length => break (head, length),
                _ => {}
            }
        };
        let status = self.buffer.get("HTTP/1.1 ".len()..).and_then(|rest| rest.get(..3));
        let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
        Ok((status, head..length))
    }

    /// One request; the status of its reply.
    pub(crate) async fn status(&mut self, request: &[u8]) -> std::io::Result<u16> {
        Ok(self.exchange(request).await?.0)
    }
}

/// Bytes of the head and of head and body, once the head is there.
fn reply_length(bytes: &[u8]) -> Option<(usize, usize)> {
    const NAME: &[u8] = b"content-length:";
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let length = bytes[..head].split(|byte| *byte == b'\n').find_map(|line| {
        let name = line.get(..NAME.len())?;
        let value = || {
            std::str::from_utf8(&line[NAME.len()..])
                .ok()?
                .trim()
                .parse::<usize>()
                .ok()
        };
        name.eq_ignore_ascii_case(NAME).then(value)?
    });
    Some((head, head + length.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replys_length_is_head_and_body() {
        assert_eq!(reply_length(b"HTTP/1.1 200 OK\r\ncontent-le"), None);
        assert_eq!(
            reply_length(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n4"),
            Some((38, 40))
        );
    }
}
