//! The load generator: connections that stay open, each with one call at a time, as many calls as come back.
//!
//! One thread: it shares the machine with what it measures, and one is enough to saturate it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;

/// One workload.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) address: SocketAddr,
    /// Connections, each with one call in flight.
    pub(crate) connections: usize,
    /// How many keys the calls go to, one after the other.
    pub(crate) keys: usize,
    /// `POST .../add` or `GET .../get`.
    pub(crate) is_write: bool,
    /// What is thrown away at the beginning: first activations, first pages.
    pub(crate) warm_up: Duration,
    /// What is measured.
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Of each call, in microseconds, in order of size.
    pub(crate) latencies_us: Vec<u32>,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Measured {
    /// Calls in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies_us.len() as f64 / self.seconds
    }

    /// The latency in milliseconds that this share of the calls doesn't exceed.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies_us.get(at).copied().unwrap_or(0) as f64 / 1000.0
    }
}

/// Runs the workload.
pub(crate) fn run(load: &Load) -> Outcome<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let begin = Instant::now() + load.warm_up;
        let end = begin + load.time;
        let mut tasks = Vec::new();
        for number in 0..load.connections {
            tasks.push(tokio::spawn(connection(load.clone(), number, begin, end)));
        }
        let mut measured = Measured::default();
        for task in tasks {
            measured
                .latencies_us
                .extend(task.await?.map_err(|error| error.to_string())?);
        }
        measured.latencies_us.sort_unstable();
        measured.seconds = load.time.as_secs_f64();
        Ok(measured)
    })
}

/// Calls every key once, so that each is there.
pub(crate) fn touch(address: SocketAddr, keys: usize) -> Outcome<()> {
    const CONNECTIONS: usize = 32;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tasks: Vec<_> = (0..CONNECTIONS)
            .map(|first| {
                tokio::spawn(async move {
                    let mut connection = Connection::open(address).await?;
                    for key in (first..keys).step_by(CONNECTIONS) {
                        connection.call(&request(address, key, true)).await?;
                    }
                    Ok::<(), std::io::Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

async fn connection(load: Load, number: usize, begin: Instant, end: Instant) -> std::io::Result<Vec<u32>> {
    let requests: Vec<Vec<u8>> = (0..load.keys)
        .map(|key| request(load.address, key, load.is_write))
        .collect();
    let mut connection = Connection::open(load.address).await?;
    let mut latencies = Vec::new();
    // Connections begin at different keys, so that they don't run after each other.
    for turn in number * 7919.. {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        connection.call(&requests[turn % load.keys]).await?;
        if sent >= begin {
            latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    Ok(latencies)
}

fn request(address: SocketAddr, key: usize, is_write: bool) -> Vec<u8> {
    let path = format!("/v1/grains/counter/key-{key}");
    if is_write {
        let body = r#"{"n": 1}"#;
        format!(
            "POST {path}/add HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    } else {
        format!("GET {path}/get HTTP/1.1\r\nhost: {address}\r\n\r\n")
    }
    .into_bytes()
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: Vec::with_capacity(4096),
        })
    }

    /// One request and its reply, which has to be 200.
    async fn call(&mut self, request: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            match reply_length(&self.buffer) {
                Some(length) if self.buffer.len() >= length => break,
                _ => {}
            }
        }
        if !self.buffer.starts_with(b"HTTP/1.1 200") {
            return Err(std::io::Error::other(
                String::from_utf8_lossy(&self.buffer).into_owned(),
            ));
        }
        Ok(())
    }
}

/// Bytes of head and body, once the head is there.
fn reply_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    Some(head + length.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replys_length_is_head_and_body() {
        assert_eq!(reply_length(b"HTTP/1.1 200 OK\r\ncontent-le"), None);
        assert_eq!(reply_length(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n4"), Some(40));
    }

    #[test]
    fn quantiles_are_exact() {
        let measured = Measured {
            latencies_us: (0..=100).map(|n| n * 1000).collect(),
            seconds: 2.0,
        };
        assert_eq!((measured.quantile_ms(0.5), measured.quantile_ms(0.99)), (50.0, 99.0));
        assert_eq!(measured.rate(), 50.5);
    }
}
