//! Grains without calling them: status, deletion, lists of keys.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{self, Method, StatusCode};
use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainKey, GrainName, GrainType};
use serde_json::json;

use super::access::Act;
use super::error::Refusal;
use super::exchange::{Api, Caller};
use super::inside::Inside;
use super::invoke::deployed;
use super::upgrades;
use super::{Response, full, headers, query};
use crate::router::Deletion;

/// Keys on a page unless the caller says otherwise.
const PAGE_DEFAULT: usize = 100;
/// Keys on a page at most: bounds a reply to about 1 MiB.
const PAGE_LIMIT: usize = 1000;

/// `/v1/grains/{type}/{key}`: status or deletion.
pub(super) async fn one<H: Inside>(
    api: &Arc<Api<H>>,
    caller: &Caller,
    parts: &Parts,
    grain: GrainName,
) -> Result<Response, Refusal> {
    match parts.method {
        Method::GET | Method::HEAD => {
            caller.may(Act::Read(&grain.kind))?;
            let with_digest = query::flag(parts.uri.query().unwrap_or_default(), "digest", "A grain's status")?;
            status(api, grain, with_digest).await
        }
        Method::DELETE => {
            caller.may(Act::Call(&grain.kind))?;
            no_query(parts)?;
            delete(api, caller, parts, grain).await
        }
        _ => Err(Refusal::verb(
            "GET, HEAD, DELETE",
            "a grain's status is read by GET, a grain is deleted by DELETE",
        )),
    }
}

async fn status<H: Inside>(api: &Arc<Api<H>>, grain: GrainName, with_digest: bool) -> Result<Response, Refusal> {
    let current = deployed(&api.inside, &grain.kind).await?.revision;
    let status = api.inside.status(&grain).await?;
    let mut document = json!({
        "type": grain.kind.as_str(),
        "key": grain.key.as_str(),
        "host": status.host.to_string(),
        "exists": status.exists,
        "resident": status.resident,
        "revision": status.revision.0,
        "current_revision": current.0,
        "ballot": status.ballot,
        "seq": status.seq.0,
        "memory_bytes": status.memory_bytes,
        "idle_ms": status.idle_ms,
        "queued": status.queued,
        "durability": status.durability.as_str(),
        "last_error": status.last_error,
        "upgrade_failure": status.upgrade_failure.as_ref().map(upgrades::failure),
    });
    if with_digest {
        document["digest"] = api.inside.digest(&grain).await?.into();
    }
    Ok(json_response(document.to_string()))
}

async fn delete<H: Inside>(
    api: &Arc<Api<H>>,
    caller: &Caller,
    parts: &Parts,
    grain: GrainName,
) -> Result<Response, Refusal> {
    deployed(&api.inside, &grain.kind).await?;
    let deletion = Deletion {
        id: caller.id,
        grain,
        timeout: headers::timeout(&parts.headers, &api.config)?,
        idempotency: headers::idempotency(&parts.headers, &caller.client)?,
    };
    let _place = api.place()?;
    let mut reply = api.inside.delete(deletion).await;
    if let Err(failure) = std::mem::replace(&mut reply.result, Ok(Vec::new())) {
        return Err(Refusal::of_reply(failure, reply));
    }
    let mut response = http::Response::new(full(Vec::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    headers::stamp(response.headers_mut(), &reply);
    Ok(response)
}

/// `/v1/grains/{type}`: a page of keys.
pub(super) async fn list<H: Inside>(
    api: &Arc<Api<H>>,
    caller: &Caller,
    parts: &Parts,
    kind: GrainType,
) -> Result<Response, Refusal> {
    caller.may(Act::Read(&kind))?;
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Refusal::verb("GET, HEAD", "the keys of a type are listed by GET"));
    }
    deployed(&api.inside, &kind).await?;
    let options = ListOptions::read(parts.uri.query().unwrap_or_default())?;
    let ListOptions { prefix, after, limit } = options;
    let page = api.inside.list(&kind, &prefix, after.as_ref(), limit).await?;
    let keys: Vec<&str> = page.keys.iter().map(GrainKey::as_str).collect();
    let next = page.next.as_ref().map(cursor);
    let page = json!({ "keys": keys, "next": next }).to_string();
    let kept = api.body_memory.keep(page.into_bytes()).await;
    let page =
        kept.ok_or_else(|| Refusal::new(Code::Overloaded, "the host has no memory for a page of keys; try again"))?;
    Ok(json_response(page))
}

#[derive(Debug, PartialEq, Eq)]
struct ListOptions {
    prefix: String,
    after: Option<GrainKey>,
    limit: usize,
}

impl ListOptions {
    fn read(query: &str) -> Result<ListOptions, CallFailure> {
        let (mut prefix, mut after, mut limit) = (None, None, None);
        for pair in query::pairs(query) {
            let (name, value) = pair?;
            let twice = match &*name {
                "prefix" => prefix.replace(value.into_owned()).is_some(),
                "cursor" => after.replace(key_of(&value)?).is_some(),
                "limit" => limit.replace(page_length(&value)?).is_some(),
                _ => {
                    let name: String = name.chars().take(64).collect();
                    return Err(bad(format!(
                        "unknown: `{name}`. A list takes `prefix`, `limit` and `cursor`"
                    )));
                }
            };
            if twice {
                return Err(bad(format!("`{name}` is given twice")));
            }
        }
        Ok(ListOptions {
            prefix: prefix.unwrap_or_default(),
            after,
            limit: limit.unwrap_or(PAGE_DEFAULT),
        })
    }
}

fn page_length(text: &str) -> Result<usize, CallFailure> {
    let length = text.parse().ok().filter(|length| (1..=PAGE_LIMIT).contains(length));
    length.ok_or_else(|| bad(format!("`limit` is a number from 1 to {PAGE_LIMIT}")))
}

/// A key as a cursor: its bytes in hex, which passes through any query unchanged.
fn cursor(key: &GrainKey) -> String {
    key.as_str().bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn key_of(cursor: &str) -> Result<GrainKey, CallFailure> {
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::from_str_radix(pair, 16).ok()
    };
    let whole = cursor.len().is_multiple_of(2);
    let bytes: Option<Vec<u8>> = if whole {
        cursor.as_bytes().chunks(2).map(byte).collect()
    } else {
        None
    };
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let key = text.and_then(|text| GrainKey::new(&text).ok());
    key.ok_or_else(|| bad("`cursor` is not one that a list gave as `next`".into()))
}

fn no_query(parts: &Parts) -> Result<(), CallFailure> {
    match parts.uri.query() {
        None | Some("") => Ok(()),
        Some(_) => Err(bad("this path takes no query".into())),
    }
}

fn bad(detail: String) -> CallFailure {
    CallFailure::before(Code::BadArguments, detail)
}

fn json_response(json: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(json));
    headers::json(response.headers_mut());
    headers::not_cached(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_lead_back_to_their_keys() {
        for key in ["a", "a/b", "\0", "ü %2F+&=", &"k".repeat(1024)] {
            let key = GrainKey::new(key).unwrap();
            assert_eq!(key_of(&cursor(&key)), Ok(key));
        }
        for wrong in ["", "6", "6g", "+6", "ff", "üü", &"61".repeat(1025)] {
            assert_eq!(key_of(wrong).unwrap_err().code, Code::BadArguments, "{wrong}");
        }
    }

    #[test]
    fn a_lists_options_are_checked() {
        let read = |query: &str| ListOptions::read(query);
        let options = |prefix: &str, after: Option<&str>, limit| ListOptions {
            prefix: prefix.into(),
            after: after.map(|key| GrainKey::new(key).unwrap()),
            limit,
        };
        assert_eq!(read(""), Ok(options("", None, 100)));
        assert_eq!(
            read("prefix=a%2F&limit=7&cursor=6162"),
            Ok(options("a/", Some("ab"), 7))
        );
        assert_eq!(read("limit=1000"), Ok(options("", None, 1000)));
        for wrong in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=",
            "limit=1&limit=2",
            "cursor=zz",
            "page=2",
            "prefix=%ff",
        ] {
            assert_eq!(read(wrong).unwrap_err().code, Code::BadArguments, "{wrong}");
        }
    }
}
