//! The host itself: its view, probes, metrics. And the routes of all that isn't a grain.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Extension, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, get, post};
use granary_core::api::Code;
use http_body_util::Either;

use super::cluster;
use super::error::Refusal;
use super::exchange::{Api, Caller};
use super::inside::Inside;
use super::logs;
use super::modules;
use super::upgrades;

type Shared<H> = State<Arc<Api<H>>>;

/// Routes of everything but grains.
pub(super) fn routes<H: Inside>(api: Arc<Api<H>>) -> Router {
    Router::new()
        .route("/v1/modules", get(modules::list::<H>))
        .route("/v1/modules/{type}", get(modules::one::<H>).put(modules::put::<H>))
        .route("/v1/modules/{type}/rollback", post(upgrades::rollback::<H>))
        .route(
            "/v1/modules/{type}/upgrade",
            get(upgrades::status::<H>).post(upgrades::start::<H>),
        )
        .route("/v1/cluster", get(cluster::view::<H>))
        .route("/v1/cluster/token", post(cluster::token::<H>))
        .route("/v1/cluster/rotate", post(cluster::rotate::<H>))
        .route("/v1/cluster/drain", post(cluster::drain::<H>))
        .route("/v1/cluster/move", post(cluster::relocate::<H>))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz::<H>))
        .route("/metrics", get(metrics::<H>))
        .route("/v1/logs", get(logs::read::<H>))
        .route("/v1/openapi.json", get(openapi))
        .route("/", get(dashboard).options(readyz::<H>))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_verb)
        .with_state(api)
}

/// A refusal in axum's terms.
pub(super) fn refuse(refusal: Refusal, caller: &Caller) -> Response {
    let code = refusal.code();
    let mut response = refusal.into_response(caller.id).map(|body| match body {
        Either::Left(whole) => axum::body::Body::new(whole),
        Either::Right(body) => body,
    });
    response.extensions_mut().insert(code);
    response
}

/// The process runs and answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The host takes calls: it listens only when it's ready, and no more once it stops; and what each call depends on answers.
async fn readyz<H: Inside>(State(api): Shared<H>) -> Response {
    let refused = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
    if api.stopping.load(Ordering::Relaxed) {
        return refused("stopping");
    }
    match api.inside.ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(why) => refused(why),
    }
}

async fn metrics<H: Inside>(State(api): Shared<H>, Extension(caller): Extension<Caller>) -> Response {
    let asked = api.clone();
    // Some figures are counted when somebody asks, which may mean a look at the disk.
    let text = tokio::task::spawn_blocking(move || asked.metrics.text()).await;
    match text.unwrap_or_else(|error| Err(prometheus::Error::Msg(error.to_string()))) {
        Ok(text) => {
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics can't be shown");
            refuse(Refusal::new(Code::Internal, "the metrics can't be shown"), &caller)
        }
    }
}

async fn openapi(Extension(caller): Extension<Caller>) -> Response {
    let detail = "the OpenAPI document isn't built yet; GET /v1/modules/{type} has the methods with their JSON Schemas";
    refuse(Refusal::new(Code::NotImplemented, detail), &caller)
}

async fn dashboard(Extension(caller): Extension<Caller>) -> Response {
    let detail = "the dashboard isn't built yet; GET /v1/cluster and GET /v1/modules show what there is";
    refuse(Refusal::new(Code::NotImplemented, detail), &caller)
}

async fn not_found(Extension(caller): Extension<Caller>) -> Response {
    let detail = "there is nothing at this path; calls go to /v1/grains/{type}/{key}/{method}";
    refuse(Refusal::new(Code::NotFound, detail), &caller)
}

async fn wrong_verb(Extension(caller): Extension<Caller>) -> Response {
    // The router adds the header `allow`.
    refuse(
        Refusal::new(
            Code::ReadOnlyVerb,
            "this path doesn't take this verb; `allow` lists those it takes",
        ),
        &caller,
    )
}
