//! What the same work costs without durability, isolation or activation: counters in maps behind axum, with the same paths and
//! bodies. The limit for whoever speaks HTTP with this library on this machine.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt;

use crate::Outcome;

/// So many that threads seldom meet in one.
const SHARDS: usize = 64;

#[derive(Debug)]
struct Counters {
    shards: [Mutex<HashMap<String, i64>>; SHARDS],
    hashing: RandomState,
}

/// Serves until it's killed.
pub(crate) fn serve() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "reference ready http://{}", listener.local_addr()?)?;
        stdout.flush()?;
        let counters = Arc::new(Counters {
            shards: std::array::from_fn(|_| Mutex::default()),
            hashing: RandomState::new(),
        });
        let routes = Router::new()
            .route("/v1/grains/counter/{key}/add", post(add))
            .with_state(counters);
        let listener = listener.tap_io(|stream| {
            // Best effort: without it latencies would be worse, not wrong.
            let _ = stream.set_nodelay(true);
        });
        Ok(axum::serve(listener, routes).await?)
    })
}

async fn add(
    State(counters): State<Arc<Counters>>,
    Path(key): Path<String>,
    body: String,
) -> Result<String, StatusCode> {
    let [n]: [i64; 1] = serde_json::from_str(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let shard = counters.hashing.hash_one(&key) as usize % SHARDS;
    let mut counters = counters.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
    let value = counters.entry(key).or_default();
    *value += n;
    Ok(value.to_string())
}
