//! Problem documents (RFC 9457), and the one place that picks a status.

use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use granary_core::api::{CallFailure, Code, Committed};
use granary_core::id::RequestId;
use granary_core::message::Reply;
use serde::Serialize;
use serde_json::value::RawValue;

use super::ReplyBody;
use super::config::HttpConfig;
use super::headers;

/// A request that gets a problem document.
#[derive(Debug)]
pub(super) struct Refusal {
    failure: Box<CallFailure>,
    allow: Option<&'static str>,
    /// Another status than the code's, where HTTP has a word of its own.
    status: Option<StatusCode>,
    reply: Option<Box<Reply>>,
}

impl Refusal {
    /// A request that changed nothing.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Refusal {
        CallFailure::before(code, detail).into()
    }

    /// A verb that the path doesn't have; `allow` lists those that it has.
    pub(super) fn verb(allow: &'static str, detail: impl Into<String>) -> Refusal {
        Refusal {
            allow: Some(allow),
            ..Refusal::new(Code::ReadOnlyVerb, detail)
        }
    }

    /// What can't be read as HTTP, by the status that HTTP has for it.
    pub(super) fn unreadable(status: u16, config: &HttpConfig) -> Refusal {
        let limit = config.header_limit;
        let (code, detail) = match status {
            431 => (
                Code::TooLarge,
                format!("the request line and headers are longer than {limit} bytes, or more than 100"),
            ),
            414 => (Code::TooLarge, format!("the request line is longer than {limit} bytes")),
            505 => (Code::BadArguments, "HTTP/2 isn't spoken here: use HTTP/1.1".to_owned()),
            _ => (
                Code::BadArguments,
                "this is no HTTP/1.1 request: its request line, a header or its length can't be read".to_owned(),
            ),
        };
        Refusal {
            status: StatusCode::from_u16(status).ok(),
            ..Refusal::new(code, detail)
        }
    }

    /// What a grain answered.
    pub(super) fn of_reply(failure: CallFailure, reply: Reply) -> Refusal {
        Refusal {
            reply: (reply.revision.0 > 0).then(|| Box::new(reply)),
            ..failure.into()
        }
    }

    /// Which kind.
    pub(super) fn code(&self) -> Code {
        self.failure.code
    }

    /// The reply for the caller.
    pub(super) fn into_response(self, id: RequestId) -> Response<ReplyBody> {
        let status = self.status();
        let mut response = Response::new(super::full(document(&self.failure, status, id)));
        *response.status_mut() = status;
        self.fill(response.headers_mut());
        response
    }

    /// The reply as it goes over a connection that is about to close.
    pub(super) fn into_bytes(self, id: RequestId) -> Vec<u8> {
        let status = self.status();
        let document = document(&self.failure, status, id);
        let mut headers = HeaderMap::new();
        self.fill(&mut headers);
        headers.insert(headers::REQUEST_ID, headers::request_id(id));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(header::CONTENT_LENGTH, document.len().into());
        let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in &headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&document);
        bytes
    }

    fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| status(&self.failure))
    }

    fn fill(&self, headers: &mut HeaderMap) {
        let code = self.failure.code;
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(reply) = &self.reply {
            headers::stamp(headers, reply);
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(seconds) = retry_after_seconds(code).filter(|_| is_retryable(&self.failure)) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        match code {
            Code::Unauthenticated => {
                let challenge = HeaderValue::from_static("Bearer realm=\"granary\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            // What is left of the body would be read as the next request.
            Code::SlowClient => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
    }
}

impl From<CallFailure> for Refusal {
    fn from(failure: CallFailure) -> Refusal {
        Refusal {
            failure: Box::new(failure),
            allow: None,
            status: None,
            reply: None,
        }
    }
}

/// The guest may choose the status of its own errors, within those that are errors.
fn status(failure: &CallFailure) -> StatusCode {
    let chosen = failure
        .status
        .filter(|status| failure.code == Code::GuestError && (400..600).contains(status));
    let status = chosen.unwrap_or_else(|| failure.code.status());
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Whether the same request may succeed later. What has had its effect would have it twice or, under its key, fail again.
fn is_retryable(failure: &CallFailure) -> bool {
    failure.code.is_retryable() && failure.committed != Committed::Yes
}

/// How long waiting helps, where it does.
fn retry_after_seconds(code: Code) -> Option<&'static str> {
    match code {
        Code::MailboxFull | Code::Quota | Code::Overloaded | Code::NoQuorum | Code::Moved | Code::InProgress => {
            Some("1")
        }
        Code::IdempotencyFull => Some("10"),
        Code::DiskReserve => Some("30"),
        _ => None,
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    request_id: String,
    committed: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
}

/// The document's text.
fn document(failure: &CallFailure, status: StatusCode, id: RequestId) -> Vec<u8> {
    let code = failure.code;
    let error = failure
        .error
        .as_deref()
        .and_then(|error| serde_json::from_slice(error).ok());
    let problem = Problem {
        r#type: &format!("urn:granary:problem:{code}"),
        title: title(code),
        status: status.as_u16(),
        code: code.as_str(),
        detail: &failure.detail,
        request_id: id.to_string(),
        committed: failure.committed.as_str(),
        retryable: is_retryable(failure),
        error,
    };
    serde_json::to_vec(&problem).expect("texts, numbers and checked JSON have a JSON form")
}

fn title(code: Code) -> &'static str {
    match code {
        Code::BadArguments => "The request is not what the method takes",
        Code::Unauthenticated => "A token is needed",
        Code::Forbidden => "Not allowed from here",
        Code::UnknownType => "No such grain type",
        Code::UnknownMethod => "No such method",
        Code::NotFound => "Nothing at this path",
        Code::ReadOnlyVerb => "Not by this verb",
        Code::SlowClient => "The request came too slowly",
        Code::InProgress => "The same request is being worked on",
        Code::BreakingChange => "The module would break its callers",
        Code::NoRevision => "There is no earlier revision",
        Code::ReplyNotKept => "The reply was not kept",
        Code::TooLarge => "Too large",
        Code::BadModule => "The module can't be hosted",
        Code::UpgradeFailed => "The grain could not be moved to another revision",
        Code::GuestError => "The grain answered with an error",
        Code::IdempotencyMismatch => "The idempotency key belongs to another request",
        Code::MailboxFull => "The grain's mailbox is full",
        Code::IdempotencyFull => "The grain keeps as many replies as it may",
        Code::Quota => "The share is used up",
        Code::Trap => "The grain's code trapped",
        Code::TurnTimeout => "The turn took too much processor time",
        Code::MemoryLimit => "The grain's memory is at its limit",
        Code::Internal => "The host failed",
        Code::NotImplemented => "Not built yet",
        Code::Overloaded => "The host is at a limit",
        Code::NoQuorum => "Too few replicas can be reached",
        Code::Moved => "The grain is on another host",
        Code::Deadline => "The deadline passed",
        Code::DiskReserve => "Free disk space is below the reserve",
        Code::Deadlock => "The calls wait for each other",
        Code::ChainTooDeep => "Calls are nested too deep",
    }
}

#[cfg(test)]
mod tests {
    use granary_core::api::{Committed, Durability};
    use granary_core::id::{Revision, Seq};

    use super::*;

    const ID: RequestId = RequestId([0xab; 16]);

    #[test]
    fn a_problem_document_reads_like_this() {
        let failure = CallFailure::before(Code::BadArguments, "missing: `n`. `add` takes `n`");
        let expect = r#"{"type":"urn:granary:problem:bad_arguments","title":"The request is not what the method takes","status":400,"code":"bad_arguments","detail":"missing: `n`. `add` takes `n`","request_id":"abababababababababababababababab","committed":"no","retryable":false}"#;
        assert_eq!(
            String::from_utf8(document(&failure, status(&failure), ID)).unwrap(),
            expect
        );
    }

    fn guest(error: &[u8], status: Option<u16>) -> CallFailure {
        CallFailure {
            code: Code::GuestError,
            detail: "12 more are needed".into(),
            committed: Committed::Yes,
            error: Some(error.to_vec()),
            status,
        }
    }

    #[test]
    fn a_guests_error_is_in_the_document_as_the_guest_wrote_it() {
        let expect = r#"{"type":"urn:granary:problem:guest_error","title":"The grain answered with an error","status":409,"code":"guest_error","detail":"12 more are needed","request_id":"abababababababababababababababab","committed":"yes","retryable":false,"error":{"Missing": 12.0}}"#;
        let failure = guest(br#"{"Missing": 12.0}"#, Some(409));
        assert_eq!(
            String::from_utf8(document(&failure, status(&failure), ID)).unwrap(),
            expect
        );
        assert!(
            !String::from_utf8(document(&guest(b"{", None), StatusCode::OK, ID))
                .unwrap()
                .contains("error\":{")
        );
    }

    #[test]
    fn a_guest_chooses_the_status_of_its_own_errors_only() {
        assert_eq!(status(&guest(b"1", None)).as_u16(), 422);
        assert_eq!(status(&guest(b"1", Some(409))).as_u16(), 409);
        assert_eq!(status(&guest(b"1", Some(200))).as_u16(), 422);
        assert_eq!(status(&guest(b"1", Some(999))).as_u16(), 422);
        let trap = CallFailure {
            status: Some(400),
            ..CallFailure::before(Code::Trap, "")
        };
        assert_eq!(status(&trap).as_u16(), 500);
    }

    #[test]
    fn every_code_has_its_status_and_says_when_to_come_again() {
        for &code in Code::ALL {
            let response = Refusal::new(code, "x").into_response(ID);
            assert_eq!(response.status().as_u16(), code.status());
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
            let waiting = response.headers().contains_key(header::RETRY_AFTER);
            assert!(!waiting || code.is_retryable(), "{code}");
            assert!(waiting || !matches!(code.status(), 429 | 503 | 507), "{code}");
            assert_eq!(
                code == Code::Unauthenticated,
                response.headers().contains_key(header::WWW_AUTHENTICATE)
            );
        }
    }

    #[test]
    fn the_document_for_callers_lists_every_code_as_it_is() {
        let rows = include_str!("../../../docs/http.md")
            .lines()
            .filter(|line| line.starts_with("| `"));
        let listed: Vec<String> = rows
            .filter(|row| row.matches('|').count() == 5)
            .map(str::to_owned)
            .collect();
        assert_eq!(listed.len(), Code::ALL.len());
        for code in Code::ALL {
            let retryable = if code.is_retryable() { "yes" } else { "no" };
            let row = format!("| `{code}` | {} | {retryable} | ", code.status());
            assert!(listed.iter().any(|listed| listed.starts_with(&row)), "{row}");
        }
    }

    #[test]
    fn a_grains_failure_still_says_what_answered() {
        let failure = guest(b"null", None);
        let reply = Reply {
            result: Ok(Vec::new()),
            seq: Seq(7),
            revision: Revision(2),
            durability: Durability::Relaxed,
            rests_on: Default::default(),
            by: None,
        };
        let response = Refusal::of_reply(failure, reply).into_response(ID);
        assert_eq!(response.headers()[headers::SEQ], "7");
        assert_eq!(response.headers()[headers::REVISION], "2");
        assert_eq!(response.headers()[headers::DURABILITY], "relaxed");
        assert_eq!(
            Refusal::verb("POST", "x").into_response(ID).headers()[header::ALLOW],
            "POST"
        );
    }
}
