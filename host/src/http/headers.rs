//! The headers that Granary reads and writes.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use granary_core::api::{CallFailure, Code};
use granary_core::id::RequestId;
use granary_core::message::Reply;

use super::config::HttpConfig;
use crate::router::IdempotencyKey;

/// Names a request that may be sent again.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long the caller waits.
pub(super) const TIMEOUT: HeaderName = HeaderName::from_static("granary-timeout");
/// `stale`: a read may be answered by a copy. In the reply: it was asked for so.
pub(super) const READ: HeaderName = HeaderName::from_static("granary-read");
/// W3C trace context.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The request's id, in every reply.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("granary-request-id");
/// The grain's last commit that the reply could see.
pub(super) const SEQ: HeaderName = HeaderName::from_static("granary-seq");
/// The revision that answered.
pub(super) const REVISION: HeaderName = HeaderName::from_static("granary-revision");
/// What holds for the reply.
pub(super) const DURABILITY: HeaderName = HeaderName::from_static("granary-durability");
/// The host that answered, in every reply.
pub(super) const HOST: HeaderName = HeaderName::from_static("granary-host");

/// Where the data folder's owner gets in without a token: in the refusal of a request from the same machine. Percent-encoded.
pub(super) const OWNER_SOCKET: HeaderName = HeaderName::from_static("granary-owner-socket");

/// The longest `idempotency-key`: it is hashed, so this only stops nonsense.
const IDEMPOTENCY_KEY_LIMIT: usize = 255;

/// Who calls: a token's name, or the peer's address where no tokens are asked for.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) token: Option<std::sync::Arc<str>>,
    pub(super) address: IpAddr,
}

impl Client {
    /// Whose idempotency keys it sends: its token's, or, where no tokens are asked for, everybody's. Not its address': a phone changes it, and
    /// proxies have several.
    fn key_scope(&self) -> String {
        self.token
            .as_ref()
            .map_or(String::new(), |name| format!("token:{name}"))
    }
}

/// Whether the client waits to be asked for its body.
pub(super) fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Bodies are read as they come: one that is compressed would be told that it is no JSON.
pub(super) fn refuse_compressed(headers: &HeaderMap) -> Result<(), CallFailure> {
    let plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        Ok(())
    } else {
        Err(bad(
            "compressed bodies aren't read: send the body as it is, without content-encoding".into(),
        ))
    }
}

/// Reads `idempotency-key`.
pub(super) fn idempotency(headers: &HeaderMap, client: &Client) -> Result<Option<IdempotencyKey>, CallFailure> {
    let Some(value) = single(headers, &IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let visible = bytes.iter().all(|byte| (0x21..=0x7e).contains(byte));
    match std::str::from_utf8(bytes) {
        Ok(key) if visible && (1..=IDEMPOTENCY_KEY_LIMIT).contains(&key.len()) => Ok(Some(IdempotencyKey {
            scope: client.key_scope(),
            key: key.to_owned(),
        })),
        _ => Err(bad(format!(
            "the header idempotency-key has 1 to {IDEMPOTENCY_KEY_LIMIT} visible ASCII characters and no spaces"
        ))),
    }
}

/// Reads `granary-read`.
pub(super) fn stale(headers: &HeaderMap) -> Result<bool, CallFailure> {
    match single(headers, &READ)?.map(HeaderValue::as_bytes) {
        None => Ok(false),
        Some(b"stale") => Ok(true),
        Some(_) => Err(bad(
            "the header granary-read is `stale`, for an answer that may be old; without it a read sees all that was acknowledged".into(),
        )),
    }
}

/// The reply may be old, and was asked for so.
pub(super) fn mark_stale(headers: &mut HeaderMap) {
    headers.insert(READ, HeaderValue::from_static("stale"));
}

/// Reads `granary-timeout`.
pub(super) fn timeout(headers: &HeaderMap, config: &HttpConfig) -> Result<Duration, CallFailure> {
    let Some(value) = single(headers, &TIMEOUT)? else {
        return Ok(config.default_deadline);
    };
    let limit = config.deadline_limit;
    let wrong = || {
        bad(format!(
            "the header granary-timeout is a number with a unit, `500ms`, `2s` or `1m`, and at most {limit:?}"
        ))
    };
    let wanted = value.to_str().ok().and_then(duration).ok_or_else(wrong)?;
    if wanted.is_zero() || wanted > limit {
        Err(wrong())
    } else {
        Ok(wanted)
    }
}

/// Reads `500ms`, `2s`, `1m`: digits and a unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// The trace id of a valid `traceparent`. An invalid one starts a new trace, as the standard wants, and is no error.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(&TRACEPARENT)?.to_str().ok()?;
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let last = parts.next().is_none();
    let shape = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let known = version != "ff" && (last || version != "00");
    let zero = trace.bytes().all(|b| b == b'0') || parent.bytes().all(|b| b == b'0');
    (shape && known && !zero).then_some(trace)
}

/// Adds what a grain's reply says of itself.
pub(super) fn stamp(headers: &mut HeaderMap, reply: &Reply) {
    headers.insert(SEQ, HeaderValue::from(reply.seq.0));
    headers.insert(REVISION, HeaderValue::from(reply.revision.0));
    headers.insert(DURABILITY, HeaderValue::from_static(reply.durability.as_str()));
}

/// A request's id as a header.
pub(super) fn request_id(id: RequestId) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(id.0) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    HeaderValue::from_bytes(&hex).expect("hex digits are a header value")
}

/// What a GET shows is true of this moment only.
pub(super) fn not_cached(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// `content-type: application/json`.
pub(super) fn json(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

/// A header that may come only once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, CallFailure> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(bad(format!("the header {name} is given twice"))),
    }
}

fn bad(detail: String) -> CallFailure {
    CallFailure::before(Code::BadArguments, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: HeaderName, value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        headers
    }

    fn client() -> Client {
        Client {
            token: None,
            address: "::ffff:10.0.0.7".parse().unwrap(),
        }
    }

    #[test]
    fn a_read_is_stale_when_it_says_so() {
        assert_eq!(stale(&HeaderMap::new()).ok(), Some(false));
        assert_eq!(stale(&one(READ, b"stale")).ok(), Some(true));
        assert!(stale(&one(READ, b"fresh")).unwrap_err().detail.contains("`stale`"));
    }

    #[test]
    fn timeouts_have_a_unit_and_a_limit() {
        let config = HttpConfig::default();
        let read = |value: &str| timeout(&one(TIMEOUT, value.as_bytes()), &config).ok();
        for (text, ms) in [
            ("2s", 2_000),
            ("500ms", 500),
            ("1m", 60_000),
            ("60s", 60_000),
            ("1ms", 1),
        ] {
            assert_eq!(read(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "2",
            "s",
            "0s",
            "61s",
            "2m",
            "2h",
            "-1s",
            "1.5s",
            "2 s",
            "1s1ms",
            "99999999999999999999s",
            "18446744073709551615m",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new(), &config), Ok(config.default_deadline));
        let failure = timeout(&one(TIMEOUT, b"61s"), &config).unwrap_err();
        assert!(failure.detail.ends_with("at most 60s"), "{}", failure.detail);
    }

    #[test]
    fn compressed_bodies_are_refused() {
        for (value, fine) in [
            ("identity", true),
            ("gzip", false),
            ("br", false),
            ("", false),
            ("identity, gzip", false),
        ] {
            let headers = one(header::CONTENT_ENCODING, value.as_bytes());
            assert_eq!(refuse_compressed(&headers).is_ok(), fine, "{value}");
        }
        assert!(refuse_compressed(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn idempotency_keys_are_visible_ascii() {
        let read = |value: &[u8]| idempotency(&one(IDEMPOTENCY_KEY, value), &client()).map(|key| key.unwrap().key);
        for good in ["k", "a-b_c.d:e/f", &"k".repeat(255), "\"quoted\""] {
            assert_eq!(read(good.as_bytes()).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "a\tb", "ü", &"k".repeat(256)] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(idempotency(&HeaderMap::new(), &client()), Ok(None));
        let mut twice = one(IDEMPOTENCY_KEY, b"a");
        twice.append(IDEMPOTENCY_KEY, HeaderValue::from_static("b"));
        assert!(idempotency(&twice, &client()).is_err());
    }

    #[test]
    fn a_key_belongs_to_a_token_or_to_everybody() {
        let read = |client: &Client| idempotency(&one(IDEMPOTENCY_KEY, b"k"), client).unwrap().unwrap().scope;
        assert_eq!(read(&client()), "");
        let elsewhere = Client {
            address: IpAddr::from([10, 0, 0, 8]),
            ..client()
        };
        assert_eq!(read(&elsewhere), "", "it has changed its network");
        let named = Client {
            token: Some("ci".into()),
            ..client()
        };
        assert_eq!(read(&named), "token:ci");
    }

    #[test]
    fn trace_ids_are_read_from_valid_traceparents_only() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let read = |value: &str| trace_id(&one(TRACEPARENT, value.as_bytes())).map(str::to_owned);
        assert_eq!(read(&format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        assert_eq!(
            read(&format!("01-{trace}-00f067aa0ba902b7-01-more")).as_deref(),
            Some(trace)
        );
        for bad in [
            "".to_owned(),
            trace.to_owned(),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
