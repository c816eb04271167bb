//! Reads the answer of a host that answers before it has read the whole request.
//!
//! A host refuses a body by its length alone, reads on for a while and closes. The rest can't be written then, and why is in the answer,
//! which is there to be read.

use std::io::{self, ErrorKind};

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Goes on with a connection on which nothing can be written any more.
#[derive(Debug)]
pub(crate) struct EarlyAnswer;

impl<In: Transport> Connector<In> for EarlyAnswer {
    type Out = Connection<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Connection<In>>, Error> {
        Ok(chained.map(|inner| Connection { inner, shut: None }))
    }
}

#[derive(Debug)]
pub(crate) struct Connection<T> {
    inner: T,
    /// Why nothing can be written.
    shut: Option<io::Error>,
}

impl<T: Transport> Transport for Connection<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.shut.is_some() {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(Error::Io(error)) if is_shut(&error) => {
                self.shut = Some(error);
                Ok(())
            }
            other => other,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        match self.inner.await_input(timeout) {
            Ok(true) => Ok(true),
            // There is no answer: what kept the request from being written says more.
            end => self.shut.take().map_or(end, |error| Err(error.into())),
        }
    }

    fn is_open(&mut self) -> bool {
        self.shut.is_none() && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn is_shut(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{Shutdown, TcpListener};

    use ureq::http::{Request, Response};
    use ureq::unversioned::resolver::DefaultResolver;
    use ureq::unversioned::transport::DefaultConnector;

    use super::*;

    /// Sends a body that no socket's buffers hold to a host that reads the request's head only, says `answer` and closes.
    fn send_to_host_that_says(answer: &'static str) -> Result<Response<ureq::Body>, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let host = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::with_capacity(1, &stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            (&stream).write_all(answer.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let connector = DefaultConnector::new().chain(EarlyAnswer);
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let agent = ureq::Agent::with_parts(config, connector, DefaultResolver::default());
        let response = agent.run(Request::put(url).body(vec![0; 64 << 20]).unwrap());
        host.join().unwrap();
        response
    }

    #[test]
    fn an_answer_to_half_a_request_is_read() {
        let mut response = send_to_host_that_says("HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\nlong").unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(response.body_mut().read_to_string().unwrap(), "long");
    }

    #[test]
    fn without_an_answer_the_failed_write_is_the_error() {
        let error = send_to_host_that_says("").unwrap_err();
        assert!(matches!(&error, Error::Io(error) if is_shut(error)), "{error}");
    }
}
