//! What the same work costs without durability, isolation or activation: counters in a map behind axum, with the same
//! paths and bodies.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use serde_json::Value;

use crate::Outcome;

type Counters = Arc<Mutex<HashMap<String, i64>>>;

/// Serves until it's killed.
pub(crate) fn serve() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "reference ready http://{}", listener.local_addr()?)?;
        stdout.flush()?;
        let routes = Router::new()
            .route("/v1/grains/counter/{key}/add", post(add))
            .route("/v1/grains/counter/{key}/get", get(value))
            .with_state(Counters::default());
        Ok(axum::serve(listener, routes).await?)
    })
}

async fn add(State(counters): State<Counters>, Path(key): Path<String>, body: String) -> String {
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let n = body["n"].as_i64().unwrap_or(0);
    let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
    let value = counters.entry(key).or_default();
    *value += n;
    value.to_string()
}

async fn value(State(counters): State<Counters>, Path(key): Path<String>) -> String {
    let counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
    counters.get(&key).copied().unwrap_or(0).to_string()
}
