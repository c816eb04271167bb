//! One request and its reply: what holds for every path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, header};
use granary_core::api::Code;
use granary_core::id::RequestId;
use http_body_util::Either;
use hyper::body::Body;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::access::{Act, Need, Principal, Purpose, Rights, Security, Trail};
use super::body::Limits;
use super::config::HttpConfig;
use super::door::Door;
use super::error::Refusal;
use super::facts::HostFacts;
use super::headers::{self, Client};
use super::inside::Inside;
use super::memory::Memory;
use super::metrics::Metrics;
use super::{ReplyBody, Response, body, full, grains, invoke, path, request_id};
use crate::audit::Audit;

/// What all requests of a listener share.
pub(super) struct Api<H> {
    pub(super) inside: H,
    pub(super) facts: Arc<HostFacts>,
    pub(super) metrics: Metrics,
    pub(super) config: HttpConfig,
    pub(super) security: Security,
    pub(super) audit: Arc<Audit>,
    /// Where the owner's socket is, percent-encoded, for those who could open it.
    pub(super) owner: Option<HeaderValue>,
    /// Of large request bodies and replies.
    pub(super) body_memory: Memory,
    /// Calls and deletions that are being waited for.
    pub(super) calls: AtomicUsize,
    pub(super) door: Door,
    /// Of those who follow log records.
    pub(super) followers: Arc<Semaphore>,
    /// The host takes no more connections.
    pub(super) stopping: AtomicBool,
    /// `facts.host` as a header.
    pub(super) host: HeaderValue,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) id: RequestId,
    pub(super) client: Client,
    pub(super) by: Principal,
    pub(super) rights: Rights,
}

impl Caller {
    /// Refuses what it has no right to.
    pub(super) fn may(&self, act: Act<'_>) -> Result<(), Refusal> {
        if self.rights.allow(act) {
            return Ok(());
        }
        Err(match &self.by {
            Principal::Token(name) => Refusal::new(Code::Forbidden, format!("the token `{name}` may not {act}")),
            Principal::Owner | Principal::Anybody => {
                let detail = "administration is the host's owner's: run `granary` on its machine as the user whose data folder it is, or \
                              show an `admin` token of its token file";
                Refusal::new(Code::Unauthenticated, detail)
            }
        })
    }
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) entrance: Entrance,
}

/// Where a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// The port that anybody on the network may reach.
    Port,
    /// The socket that only the data folder's owner can open.
    OwnerSocket,
}

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) ends: Ends,
    /// How long its bytes waited for its connection's turn; 0 when that isn't known.
    pub(super) waited_nanos: u64,
}

impl Arrival {
    pub(super) fn new(ends: Ends, waited_nanos: u64) -> Arrival {
        Arrival { ends, waited_nanos }
    }
}

impl<H: Inside> Api<H> {
    /// The limits of a body that isn't a module.
    pub(super) fn body_limits(&self) -> Limits {
        Limits {
            bytes: self.config.body_limit,
            time: self.config.body_timeout,
            what: "the body",
            remedy: "",
        }
    }
}

/// A call's place among those that are waited for, given back when dropped.
pub(super) struct Place<'a>(&'a AtomicUsize);

impl<H> Api<H> {
    /// A place for a call. None left: the host can't say when the turns that it waits for end, so more would only wait, too.
    pub(super) fn place(&self) -> Result<Place<'_>, Refusal> {
        let limit = self.config.call_limit;
        let next = |count: usize| (count < limit).then_some(count + 1);
        match self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(Place(&self.calls)),
            Err(_) => {
                self.metrics.calls_refused.inc();
                let detail = format!("{limit} calls wait for their replies, as many as may; try again");
                Err(Refusal::new(Code::Overloaded, detail))
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request as long as it's worked on, also when its client goes away.
struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    fn new(metrics: &'a Metrics) -> InFlight<'a> {
        metrics.in_flight.inc();
        InFlight(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// Answers a request.
pub(super) async fn answer<H, B>(
    api: &Arc<Api<H>>,
    rest: &axum::Router,
    arrival: Arrival,
    request: Request<B>,
) -> Response
where
    H: Inside,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    let started = Instant::now();
    let _in_flight = InFlight::new(&api.metrics);
    let (parts, body) = request.into_parts();
    let mut body = Some(body);
    let id = request_id::of(&parts.headers);
    let noted = tracing::enabled!(tracing::Level::DEBUG).then(|| Note::of(&parts));
    let is_chunked = parts.headers.contains_key(header::TRANSFER_ENCODING);
    let mut allowed_origin = None;
    let answer = checked(api, rest, arrival, id, &parts, &mut body, &mut allowed_origin).await;
    let (mut response, code) = match answer {
        Ok(response) => {
            let code = response.extensions().get::<Code>().copied();
            (response, code)
        }
        Err(refusal) => {
            let code = refusal.code();
            if let Some(body) = body.as_mut().filter(|_| code != Code::SlowClient) {
                body::discard(body, &parts.headers, api.config.body_timeout).await;
            }
            (refusal.into_response(id), Some(code))
        }
    };
    let headers = response.headers_mut();
    if is_chunked {
        // Where a proxy in front believes in a length that came along, what follows the last chunk is no request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(headers::REQUEST_ID, headers::request_id(id));
    headers.insert(headers::HOST, api.host.clone());
    if let Some(origin) = allowed_origin {
        allow_origin(headers, origin);
    }
    if code == Some(Code::Unauthenticated) && arrival.ends.peer.ip().to_canonical().is_loopback() {
        headers.extend(api.owner.clone().map(|path| (headers::OWNER_SOCKET, path)));
    }
    let took = started.elapsed();
    api.metrics.answered(code, took);
    if let Some(note) = noted {
        note.log(id, &response, code, took.as_micros() as u64);
    }
    response
}

/// The body stays with the caller unless axum's routes take it.
async fn checked<H, B>(
    api: &Arc<Api<H>>,
    rest: &axum::Router,
    Arrival { ends, waited_nanos }: Arrival,
    id: RequestId,
    parts: &Parts,
    body: &mut Option<B>,
    allowed_origin: &mut Option<HeaderValue>,
) -> Result<Response, Refusal>
where
    H: Inside,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    let path = parts.uri.path();
    let purpose = purpose(parts);
    let pass = api.security.check(&parts.uri, &parts.headers, ends, purpose)?;
    *allowed_origin = pass.origin;
    if purpose == Purpose::Preflight {
        return Ok(preflight_reply());
    }
    headers::refuse_compressed(&parts.headers)?;
    let token = match &pass.by {
        Principal::Token(name) => Some(name.clone()),
        Principal::Owner | Principal::Anybody => None,
    };
    let client = Client {
        token,
        address: ends.peer.ip(),
    };
    let caller = Caller {
        id,
        client,
        by: pass.by,
        rights: pass.rights,
    };
    if let Some(grain) = path.strip_prefix(path::PREFIX) {
        return match path::parse(grain)? {
            path::Target::Method(grain, method) => {
                let in_flight = api.calls.load(Ordering::Relaxed);
                let entered = api.door.admit(&grain, waited_nanos, in_flight, &api.metrics)?;
                let called = invoke::call(api, &caller, parts, grain, &method, body).await;
                entered.answered();
                called
            }
            path::Target::Grain(grain) => grains::one(api, &caller, parts, grain).await,
            path::Target::Type(kind) => grains::list(api, &caller, parts, kind).await,
        };
    }
    let need = Need::of(&parts.method, path);
    need.act().map_or(Ok(()), |act| caller.may(act))?;
    let trail = match need.is_audited() {
        true => Some(Trail::begin(&api.audit, &caller, &parts.method, path).await?),
        false => None,
    };
    let body = body.take().map_or_else(axum::body::Body::empty, axum::body::Body::new);
    let mut request = Request::from_parts(parts.clone(), body);
    request.extensions_mut().insert(caller);
    let Ok(response) = rest.clone().oneshot(request).await;
    if let Some(trail) = trail {
        trail
            .end(response.extensions().get().copied(), response.extensions())
            .await;
    }
    Ok(response.map(Either::Right))
}

/// What a request is for. `OPTIONS /` is what balancers ask that were told nothing else.
fn purpose(parts: &Parts) -> Purpose {
    let is_question = parts.method == Method::OPTIONS;
    match parts.uri.path() {
        _ if is_question && parts.headers.contains_key(header::ORIGIN) => Purpose::Preflight,
        "/healthz" | "/readyz" => Purpose::Probe(parts.version),
        "/" if is_question => Purpose::Probe(parts.version),
        _ => Purpose::Use,
    }
}

fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    let exposed = "granary-request-id, granary-seq, granary-revision, granary-durability, granary-read, granary-host, retry-after";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
}

/// What a browser hears that asks whether a page may send a request. Whether its origin is allowed was checked before.
fn preflight_reply() -> Response {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = axum::http::StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = "authorization, content-type, idempotency-key, granary-timeout, granary-read, traceparent";
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// What the log says of a request, kept only when it will.
struct Note {
    verb: Method,
    path: String,
}

impl Note {
    fn of(parts: &Parts) -> Note {
        Note {
            verb: parts.method.clone(),
            path: parts.uri.path().chars().take(256).collect(),
        }
    }

    fn log(self, id: RequestId, response: &axum::http::Response<ReplyBody>, code: Option<Code>, micros: u64) {
        let (kind, key, method) = match self.path.strip_prefix(path::PREFIX).map(path::parse) {
            Some(Ok(path::Target::Method(name, method))) => (Some(name.kind), Some(name.key), Some(method)),
            Some(Ok(path::Target::Grain(name))) => (Some(name.kind), Some(name.key), None),
            Some(Ok(path::Target::Type(kind))) => (Some(kind), None, None),
            _ => (None, None, None),
        };
        tracing::debug!(
            request = %id,
            verb = %self.verb,
            path = self.path,
            r#type = kind.as_ref().map(|kind| kind.as_str()),
            key = key.as_ref().map(|key| key.as_str()),
            method = method.as_deref(),
            status = response.status().as_u16(),
            code = code.map(Code::as_str),
            micros,
            "request"
        );
    }
}
