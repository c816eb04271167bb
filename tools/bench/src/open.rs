//! The other load generator: calls that come at their own pace, by chance, whatever the replies do (an open loop). More may come
//! than the server can do.
//!
//! A latency counts from when the call was due, so what a slow server keeps waiting in front of it counts as well. Calls take
//! connections that are free and wait for one when there is none. One thread, which never sleeps: its timer would be
//! coarser than the gaps between calls.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::Outcome;
use crate::connection::Connection;
use crate::load::{Call, Chance, quantile_ms};

/// What is offered to a server.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) to: SocketAddr,
    pub(crate) call: Call,
    pub(crate) keys: usize,
    /// Calls in a second.
    pub(crate) rate: f64,
    /// As many may be in flight.
    pub(crate) connections: usize,
    /// What is due in it doesn't count.
    pub(crate) warm_up: Duration,
    /// What is due in it counts, whenever it's answered.
    pub(crate) time: Duration,
}

/// What became of it. Latencies are in microseconds, in order of size.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) accepted_us: Vec<u32>,
    /// Answered by 429 or 503.
    pub(crate) refused_us: Vec<u32>,
    pub(crate) seconds: f64,
}

impl Answered {
    /// Accepted calls in a second.
    pub(crate) fn accepted(&self) -> f64 {
        self.accepted_us.len() as f64 / self.seconds
    }

    /// Refused calls in a second.
    pub(crate) fn refused(&self) -> f64 {
        self.refused_us.len() as f64 / self.seconds
    }

    /// Milliseconds that this share of the accepted calls doesn't exceed.
    pub(crate) fn accepted_ms(&self, share: f64) -> f64 {
        quantile_ms(&self.accepted_us, share)
    }

    /// Milliseconds that this share of the refused calls doesn't exceed.
    pub(crate) fn refused_ms(&self, share: f64) -> f64 {
        quantile_ms(&self.refused_us, share)
    }
}

/// Offers it, and waits for all replies.
pub(crate) fn run(offer: &Offer) -> Outcome<Answered> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut open = Vec::new();
        for _ in 0..offer.connections {
            open.push(Connection::open(offer.to).await?);
        }
        let counted_from = Instant::now() + offer.warm_up;
        let run = Rc::new(Run {
            offer: offer.clone(),
            counted_from,
            due: RefCell::default(),
            is_over: Cell::new(false),
            more: Notify::new(),
            answered: RefCell::default(),
        });
        let tasks: Vec<_> = open
            .into_iter()
            .zip(1..)
            .map(|(connection, seed)| tokio::task::spawn_local(run.clone().calls(connection, seed)))
            .collect();
        run.pace(counted_from + offer.time).await;
        for task in tasks {
            task.await??;
        }
        let mut answered = run.answered.take();
        answered.accepted_us.sort_unstable();
        answered.refused_us.sort_unstable();
        answered.seconds = offer.time.as_secs_f64();
        Ok(answered)
    })
}

/// What the connections share.
#[derive(Debug)]
struct Run {
    offer: Offer,
    counted_from: Instant,
    /// When the calls were due that no connection has taken yet.
    due: RefCell<VecDeque<Instant>>,
    is_over: Cell<bool>,
    more: Notify,
    answered: RefCell<Answered>,
}

impl Run {
    /// Makes calls due until `end`, by a Poisson process.
    async fn pace(&self, end: Instant) {
        let mut chance = Chance(0);
        let mut next = Instant::now();
        while next < end {
            let now = Instant::now();
            while next <= now && next < end {
                self.due.borrow_mut().push_back(next);
                self.more.notify_one();
                next += Duration::from_secs_f64(-chance.share().ln() / self.offer.rate);
            }
            tokio::task::yield_now().await;
        }
        self.is_over.set(true);
        self.more.notify_waiters();
    }

    async fn calls(self: Rc<Self>, mut connection: Connection, seed: u64) -> std::io::Result<()> {
        let mut chance = Chance(seed);
        let mut request = Vec::with_capacity(512);
        loop {
            let next = self.due.borrow_mut().pop_front();
            let Some(due) = next else {
                if self.is_over.get() {
                    return Ok(());
                }
                self.more.notified().await;
                continue;
            };
            let key = chance.below(self.offer.keys);
            self.offer.call.render(self.offer.to, key, 0, &mut request);
            let status = connection.status(&request).await?;
            if due < self.counted_from {
                continue;
            }
            let micros = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
            let mut answered = self.answered.borrow_mut();
            match status {
                200 => answered.accepted_us.push(micros),
                429 | 503 => answered.refused_us.push(micros),
                _ => return Err(std::io::Error::other(format!("a call was answered by status {status}"))),
            }
        }
    }
}
