//! One connection: its requests one after the other, until it rests too long, comes too slowly, or the host stops.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use granary_core::api::Code;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::error::Refusal;
use super::exchange::{Api, Ends, answer};
use super::inside::Inside;
use super::pulse::{Felt, Phase, Pulse};
use super::request_id;

/// How often in a header timeout a connection is looked at: a timeout is that part too long at most.
const LOOKS: u32 = 8;

/// Answers a connection's requests until it closes or `stop` is set; then the open request is the last.
pub(super) async fn run<H: Inside>(
    api: Arc<Api<H>>,
    rest: axum::Router,
    stream: TcpStream,
    ends: Ends,
    mut stop: watch::Receiver<bool>,
) {
    let pulse = Pulse::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (api, rest, pulse) = (&api, &rest, &pulse);
        async move {
            pulse.busy();
            let response = answer(api, rest, ends, request).await;
            pulse.rest();
            Ok::<_, Infallible>(response)
        }
    });
    let felt = Felt {
        stream,
        pulse: pulse.clone(),
    };
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(api.config.header_limit)
        .serve_connection(TokioIo::new(felt), service);
    let look = (api.config.header_timeout / LOOKS).max(Duration::from_millis(1));
    let mut looks = interval_at(Instant::now() + look, look);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since = (pulse.beat(), Instant::now());
    let mut stopped = std::pin::pin!(async move {
        // An error means that the listener is gone without a word, which is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    });
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %ends.peer, %error, "a connection ended");
                }
                return;
            }
            () = &mut stopped, if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            now = looks.tick() => {
                let beat = pulse.beat();
                if beat != since.0 {
                    since = (beat, now);
                    continue;
                }
                let unchanged = now - since.1;
                match beat.0 {
                    Phase::Heading if unchanged >= api.config.header_timeout => {
                        let io = connection.into_parts().io;
                        return last_words(io.into_inner().stream, too_slow()).await;
                    }
                    Phase::Resting if unchanged >= api.config.idle_timeout => return,
                    _ => {}
                }
            }
        }
    }
}

fn too_slow() -> Refusal {
    Refusal::new(Code::SlowClient, "the request's headers came too slowly")
}

/// Answers without a request: whoever is at the other end hears why the connection closes, if it still listens.
pub(super) async fn last_words(mut stream: TcpStream, refusal: Refusal) {
    let reply = refusal.into_bytes(request_id::fresh());
    // A client that doesn't take a kilobyte doesn't hear it.
    let said = tokio::time::timeout(Duration::from_secs(1), async {
        stream.write_all(&reply).await?;
        stream.shutdown().await
    });
    let _ = said.await;
}
