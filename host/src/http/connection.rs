//! One connection: its requests one after the other, until it rests too long, comes too slowly, or the host stops.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use granary_core::api::Code;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::body::SLOWEST;
use super::config::HttpConfig;
use super::error::Refusal;
use super::exchange::{Api, Arrival, Ends, answer};
use super::inside::Inside;
use super::listener::Stream;
use super::logs::Endless;
use super::pulse::{Felt, Phase, Pulse};
use super::request_id;

/// How much of what a client still sends is read behind the last words.
const LINGER_LIMIT: usize = 1 << 20;
/// How often in a header timeout a connection is looked at: a timeout is that part too long at most.
const LOOKS: u32 = 8;

/// Answers a connection's requests until it closes or `stop` is set; then the open request is the last.
pub(super) async fn run<H: Inside>(
    api: Arc<Api<H>>,
    rest: axum::Router,
    stream: impl Stream,
    ends: Ends,
    stop: watch::Receiver<bool>,
) {
    let pulse = Pulse::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (api, rest, pulse) = (&api, &rest, &pulse);
        async move {
            pulse.busy();
            let response = answer(api, rest, Arrival::new(ends, pulse.waited()), request).await;
            if response.extensions().get::<Endless>().is_some() {
                pulse.begin_endless();
            }
            pulse.rest();
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        // A client that has sent its request may end its own half at once, and still reads its reply.
        .half_close(true)
        .max_buf_size(api.config.header_limit)
        .max_header_size(api.config.header_limit)
        .serve_connection(TokioIo::new(Felt::new(stream, pulse.clone())), service);
    let mut looks = looks(&api.config);
    let mut since = (pulse.beat(), Instant::now());
    let mut reading = Reading::default();
    let mut stopped = std::pin::pin!(stopped(stop));
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                let Err(error) = ended else { return };
                let felt = connection.into_parts().io.into_inner();
                return explain(&api, felt, ends, &error).await;
            }
            () = &mut stopped, if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            now = looks.tick() => {
                if reading.is_too_slow(now, pulse.stuck(), api.config.reply_timeout) {
                    tracing::debug!(peer = %ends.peer, "a connection is closed since its replies are not read");
                    api.metrics.slow_readers.inc();
                    return;
                }
                let beat = pulse.beat();
                if beat != since.0 {
                    since = (beat, now);
                    continue;
                }
                let unchanged = now - since.1;
                match beat.0 {
                    Phase::Heading if unchanged >= api.config.header_timeout => {
                        api.metrics.refused(Code::SlowClient);
                        let io = connection.into_parts().io;
                        return last_words(io.into_inner().stream, too_slow()).await;
                    }
                    Phase::Resting if unchanged >= api.config.idle_timeout && pulse.stuck().is_none() => return,
                    Phase::Heading | Phase::Resting if !pulse.is_endless() => {}
                    _ => pulse.look(),
                }
            }
        }
    }
}

/// The host stops.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the listener is gone without a word, which is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// When a connection is looked at.
fn looks(config: &HttpConfig) -> Interval {
    let look = config.header_timeout.min(config.reply_timeout) / LOOKS;
    let look = look.max(Duration::from_millis(1));
    let mut looks = interval_at(Instant::now() + look, look);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// Tells a client whose bytes can't be read as HTTP what is wrong with them.
async fn explain<H: Inside>(
    api: &Api<H>,
    felt: Felt<impl AsyncRead + AsyncWrite + Unpin>,
    ends: Ends,
    error: &hyper::Error,
) {
    tracing::debug!(peer = %ends.peer, %error, "a connection ended");
    // A preface of HTTP/2 is the one thing that the library doesn't answer at all.
    let status = felt.kept_back.or(error.is_parse().then_some(505));
    let Some(status) = status.filter(|_| felt.pulse.stuck().is_none()) else {
        return;
    };
    let refusal = Refusal::unreadable(status, &api.config);
    api.metrics.refused(refusal.code());
    last_words(felt.stream, refusal).await;
}

fn too_slow() -> Refusal {
    Refusal::new(Code::SlowClient, "the request's headers came too slowly")
}

/// Since when a client hasn't taken all that it was sent.
#[derive(Debug, Default)]
struct Reading {
    /// When it was seen first, and how much it had taken by then.
    since: Option<(Instant, u64)>,
}

impl Reading {
    /// Whether a client takes less than [`SLOWEST`] bytes a second once `time` is over. `stuck` is what it has taken, if
    /// there is more for it: taking a byte now and then makes no difference.
    fn is_too_slow(&mut self, now: Instant, stuck: Option<u64>, time: Duration) -> bool {
        let Some(taken) = stuck else {
            self.since = None;
            return false;
        };
        let (since, before) = *self.since.get_or_insert((now, taken));
        let earned = (taken - before) as f64 / SLOWEST as f64;
        now - since > time + Duration::from_secs_f64(earned)
    }
}

/// Answers without a request: whoever is at the other end hears why the connection closes, if it still listens.
pub(super) async fn last_words(mut stream: impl AsyncRead + AsyncWrite + Unpin, refusal: Refusal) {
    let reply = refusal.into_bytes(request_id::fresh());
    // A client that doesn't take a kilobyte doesn't hear it. What it still sends is read for a moment: the system would
    // throw the reply away if the connection closed under it.
    let said = tokio::time::timeout(Duration::from_secs(1), async {
        stream.write_all(&reply).await?;
        stream.shutdown().await?;
        let mut left = [0; 4096];
        let mut length = 0;
        while length < LINGER_LIMIT {
            match stream.read(&mut left).await? {
                0 => break,
                more => length += more,
            }
        }
        io::Result::Ok(())
    });
    let _ = said.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_has_its_time_and_more_for_what_it_takes() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let time = Duration::from_secs(10);
        let mut reading = Reading::default();
        assert!(!reading.is_too_slow(at(0), Some(5), time));
        assert!(!reading.is_too_slow(at(10), Some(5), time));
        assert!(!reading.is_too_slow(at(11), Some(5 + 2 * SLOWEST as u64), time));
        assert!(reading.is_too_slow(at(13), Some(5 + 2 * SLOWEST as u64), time));
        let mut reading = Reading::default();
        assert!(!reading.is_too_slow(at(0), Some(5), time));
        assert!(!reading.is_too_slow(at(9), None, time), "it took all");
        assert!(
            !reading.is_too_slow(at(12), Some(9), time),
            "the next reply has its own time"
        );
    }
}
