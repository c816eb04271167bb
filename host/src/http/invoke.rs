//! Calls: `/v1/grains/{type}/{key}/{method}`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{self, Method};
use granary_core::api::{CallFailure, Code, Committed};
use granary_core::id::{GrainName, GrainType};
use granary_core::message::Reply;
use hyper::body::Body;

use super::access::Act;
use super::error::Refusal;
use super::exchange::{Api, Caller};
use super::inside::{Deployed, Inside};
use super::{Response, args, body, full, headers, query};
use crate::description::{self, MethodKind};
use crate::router::Invocation;

/// Calls a method of a grain.
pub(super) async fn call<H, B>(
    api: &Arc<Api<H>>,
    caller: &Caller,
    parts: &Parts,
    grain: GrainName,
    method: &str,
    body: &mut Option<B>,
) -> Result<Response, Refusal>
where
    H: Inside,
    B: Body<Data = Bytes> + Unpin,
{
    // Whoever may not even read isn't told what there is.
    caller.may(Act::Read(&grain.kind))?;
    let timeout = headers::timeout(&parts.headers, &api.config)?;
    let found = tokio::time::timeout(timeout, deployed(&api.inside, &grain.kind)).await;
    let deployment = found.map_err(|_| CallFailure::deadline(Committed::No))??;
    let described = method_of(&deployment, method, caller)?;
    let by_query = by_query(&parts.method, described)?;
    let idempotency = headers::idempotency(&parts.headers, &caller.client)?;
    let stale = headers::stale(&parts.headers)?;
    if stale && described.kind != MethodKind::Read {
        let detail = format!("`{method}` may change its grain: only a read can be stale");
        return Err(Refusal::new(Code::BadArguments, detail));
    }
    let depth_limit = api.config.depth_limit;
    let _place = api.place()?;
    // The body's share of the memory is held until the reply is there: until then its bytes are.
    let (args, _share) = if by_query {
        if body.as_ref().is_some_and(|body| !body.is_end_stream()) {
            let detail = "a GET takes its arguments from the query and has no body";
            return Err(Refusal::new(Code::BadArguments, detail));
        }
        (
            query::from_query(described, parts.uri.query().unwrap_or_default(), depth_limit)?,
            None,
        )
    } else {
        if parts.uri.query().is_some_and(|query| !query.is_empty()) {
            let detail = "a POST takes its arguments from the body and has no query";
            return Err(Refusal::new(Code::BadArguments, detail));
        }
        let read = match body {
            Some(body) => body::read(body, api.body_limits(), &api.body_memory).await?,
            None => body::Read::default(),
        };
        (args::from_body(described, &read.bytes, depth_limit)?, read.share)
    };
    let invocation = Invocation {
        id: caller.id,
        grain,
        method: method.to_owned(),
        args,
        timeout,
        idempotency,
        stale,
    };
    let reply = api.inside.invoke(invocation).await;
    let mut response = respond(api, described.kind, reply).await?;
    if stale {
        headers::mark_stale(response.headers_mut());
    }
    if by_query {
        headers::not_cached(response.headers_mut());
    }
    Ok(response)
}

/// What a grain has answered, as a response.
async fn respond<H>(api: &Api<H>, kind: MethodKind, mut reply: Reply) -> Result<Response, Refusal> {
    let value = match std::mem::replace(&mut reply.result, Ok(Vec::new())) {
        Ok(value) if value.is_empty() => b"null".to_vec(),
        Ok(value) => value,
        Err(failure) => return Err(Refusal::of_reply(failure, reply)),
    };
    let Some(value) = api.body_memory.keep(value).await else {
        return Err(Refusal::of_reply(no_room(kind), reply));
    };
    let mut response = http::Response::new(full(value));
    headers::json(response.headers_mut());
    headers::stamp(response.headers_mut(), &reply);
    Ok(response)
}

/// A type's current module.
pub(super) async fn deployed<H: Inside>(inside: &H, kind: &GrainType) -> Result<Deployed, Refusal> {
    inside.find(kind).await.map_err(|failure| {
        if failure.code != Code::UnknownType {
            return failure.into();
        }
        let detail = format!("no module of type `{kind}` is deployed; `granary deploy FILE --type {kind}` deploys one");
        Refusal::new(Code::UnknownType, detail)
    })
}

/// A type's method, if the caller may call it.
fn method_of<'a>(deployment: &'a Deployed, method: &str, caller: &Caller) -> Result<&'a description::Method, Refusal> {
    let Some((_, described)) = deployment.contract.method(method) else {
        return Err(unknown_method(deployment, method));
    };
    if described.kind == MethodKind::Write {
        caller.may(Act::Call(&deployment.kind))?;
    }
    Ok(described)
}

/// Whether the arguments are in the query; refuses verbs that the method doesn't have.
fn by_query(verb: &Method, method: &description::Method) -> Result<bool, Refusal> {
    let reads = method.kind == MethodKind::Read;
    match *verb {
        Method::POST => Ok(false),
        Method::GET | Method::HEAD if reads => Ok(true),
        Method::GET | Method::HEAD => Err(Refusal::verb(
            "POST",
            format!("`{}` may change its grain: call it by POST", method.name),
        )),
        _ if reads => Err(Refusal::verb(
            "GET, HEAD, POST",
            "a #[read] method is called by GET or POST",
        )),
        _ => Err(Refusal::verb("POST", "a method is called by POST")),
    }
}

/// A reply that can't be held while it's sent. What the call did stands.
fn no_room(kind: MethodKind) -> CallFailure {
    let detail = "the call took place, but the host has no memory left for so long a reply";
    CallFailure {
        committed: match kind {
            MethodKind::Read => Committed::No,
            MethodKind::Write => Committed::Yes,
        },
        ..CallFailure::before(Code::ReplyNotKept, detail)
    }
}

fn unknown_method(deployment: &Deployed, method: &str) -> Refusal {
    let names: Vec<&str> = deployment
        .contract
        .description
        .methods
        .iter()
        .map(|method| method.name.as_str())
        .collect();
    let method: String = method.chars().take(80).collect();
    let detail = format!(
        "`{}` has no method `{method}`; it has {}",
        deployment.kind,
        names.join(", ")
    );
    Refusal::new(Code::UnknownMethod, detail)
}
