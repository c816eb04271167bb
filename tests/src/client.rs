//! An HTTP/1.1 client with one connection that stays open, by a host's port or by its owner's socket. It never retries on its own: a test has to know whether a
//! request may have been seen.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// Longer than any deadline a test sets: a reply that takes longer won't come.
const REPLY_LIMIT: Duration = Duration::from_secs(70);

/// A connection to a host.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    /// The owner's socket, if it's used instead of the port.
    socket: Option<PathBuf>,
    stream: Option<BufReader<Stream>>,
}

/// A connection's bytes.
trait Wire: Read + Write + Send + std::fmt::Debug {}

impl Wire for TcpStream {}
impl Wire for UnixStream {}

type Stream = Box<dyn Wire>;

/// What to send.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    method: &'a str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl<'a> Request<'a> {
    /// A request without headers or body.
    pub fn new(method: &'a str, path: impl Into<String>) -> Request<'a> {
        Request {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Request<'a> {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request<'a> {
        self.body = body.into();
        self
    }

    fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\ncontent-length: {}\r\n",
            self.method,
            self.path,
            self.body.len()
        );
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("host: {address}\r\n");
        }
        self.headers
            .iter()
            .for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head += "\r\n";
        [head.as_bytes(), &self.body].concat()
    }
}

impl Client {
    /// A client that connects with its first request.
    pub fn new(address: SocketAddr) -> Client {
        Client {
            address,
            socket: None,
            stream: None,
        }
    }

    /// The same by the owner's socket, which lets a client do everything.
    pub fn of_owner(address: SocketAddr, socket: PathBuf) -> Client {
        Client {
            socket: Some(socket),
            ..Client::new(address)
        }
    }

    /// Sends a request and waits for its reply; connects first when no connection is open. After an error the
    /// connection is closed, and the request may have been seen.
    pub fn try_send(&mut self, request: &Request<'_>) -> io::Result<Reply> {
        self.write(request)?;
        self.read()
    }

    /// Waits for the reply to what was written.
    pub fn read(&mut self) -> io::Result<Reply> {
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let result = read_reply(stream);
        match &result {
            Ok(reply) if reply.header("connection") != Some("close") => {}
            _ => self.stream = None,
        }
        result
    }

    /// Sends a request; the reply has to come.
    pub fn send(&mut self, request: &Request<'_>) -> Reply {
        self.try_send(request)
            .unwrap_or_else(|error| panic!("{} {} got no reply: {error}", request.method, request.path))
    }

    /// Calls `TYPE/KEY/METHOD` with a body by POST.
    pub fn call(&mut self, path: &str, body: &str) -> Reply {
        self.send(&Request::new("POST", format!("/v1/grains/{path}")).body(body))
    }

    /// GETs any path.
    pub fn fetch(&mut self, path: &str) -> Reply {
        self.send(&Request::new("GET", path))
    }

    /// Makes `wasm` the current module of a type.
    pub fn deploy(&mut self, kind: &str, wasm: &[u8]) -> Reply {
        self.send(&Request::new("PUT", format!("/v1/modules/{kind}")).body(wasm))
    }

    /// Sends a request and doesn't wait.
    pub fn write(&mut self, request: &Request<'_>) -> io::Result<()> {
        let bytes = request.bytes(self.address);
        let written = self.open()?.get_mut().write_all(&bytes);
        if written.is_err() {
            self.stream = None;
        }
        written
    }

    /// Sends bytes as they are, which need be no request, and doesn't wait.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open()?.get_mut().write_all(bytes)
    }

    /// What else comes on this connection, line by line, until it ends: for replies that go on.
    pub fn into_lines(self) -> impl Iterator<Item = String> {
        let stream = self.stream.expect("a request was written");
        stream.lines().map_while(Result::ok)
    }

    /// Closes the connection, whatever was sent on it.
    pub fn close(&mut self) {
        self.stream = None;
    }

    fn open(&mut self) -> io::Result<&mut BufReader<Stream>> {
        if self.stream.is_none() {
            let stream: Stream = if let Some(socket) = &self.socket {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(REPLY_LIMIT))?;
                Box::new(stream)
            } else {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(REPLY_LIMIT))?;
                Box::new(stream)
            };
            self.stream = Some(BufReader::new(stream));
        }
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Reply {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{} with a body that is no JSON ({error}): {}", self.status, self.text()))
    }

    /// The value of a call that went well.
    #[track_caller]
    pub fn value(&self) -> Value {
        self.expect(200).json()
    }

    /// The whole number that a call gave.
    #[track_caller]
    pub fn integer(&self) -> i64 {
        let value = self.value();
        value
            .as_i64()
            .unwrap_or_else(|| panic!("expected a whole number, got {value}"))
    }

    /// The status has to be this one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> &Reply {
        assert_eq!(
            self.status,
            status,
            "the host answered {}: {}",
            self.status,
            self.text()
        );
        self
    }

    /// The reply has to be a complete problem document with this status and code, which is returned.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(
            self.status,
            status,
            "expected {status} {code}, got {}: {}",
            self.status,
            self.text()
        );
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/problem+json"), "content-type is `{kind}`");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        for field in ["type", "title", "detail", "request_id"] {
            assert!(
                problem[field].as_str().is_some_and(|text| !text.is_empty()),
                "`{field}` is missing in {problem}"
            );
        }
        assert!(
            ["yes", "no", "unknown"]
                .map(Value::from)
                .contains(&problem["committed"]),
            "{problem}"
        );
        assert!(problem["retryable"].is_boolean(), "{problem}");
        problem
    }
}

fn read_reply(stream: &mut impl BufRead) -> io::Result<Reply> {
    let status_line = read_line(stream)?;
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| malformed(&status_line))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut reply = Reply {
        status,
        headers,
        body: Vec::new(),
    };
    if status < 200 || status == 204 || status == 304 {
        return Ok(reply);
    }
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = read_chunks(stream)?;
    } else if let Some(length) = reply.header("content-length") {
        let length: usize = length.parse().map_err(|_| malformed(length))?;
        reply.body = vec![0; length];
        stream.read_exact(&mut reply.body)?;
    } else {
        stream.read_to_end(&mut reply.body)?;
    }
    Ok(reply)
}

fn read_chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(|_| malformed(&line))?;
        let start = body.len();
        body.resize(start + length, 0);
        stream.read_exact(&mut body[start..])?;
        read_line(stream)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed reply: `{what}`"))
}
