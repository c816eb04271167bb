//! The load generator: connections that stay open, each with one call at a time, as many calls as come back (a closed loop).
//!
//! One thread: it shares the machine with what it measures, the same for all that is measured. Every latency is kept, so
//! percentiles are exact. A reply other than 200 ends the measurement: rates of refusals say nothing.
//!
//! **Not here:** calls that come at their own pace, whatever the replies do (`open`).

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::Outcome;
use crate::connection::Connection;

/// One kind of call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) grain_type: &'static str,
    pub(crate) method: &'static str,
    /// Keys are this and a number.
    pub(crate) prefix: String,
    /// The body, made of the key's number and of the call's.
    pub(crate) body: fn(usize, usize) -> Cow<'static, str>,
}

impl Call {
    /// `add` of 1 to a grain of this type.
    pub(crate) fn add(grain_type: &'static str, prefix: &str) -> Call {
        Call {
            grain_type,
            method: "add",
            prefix: prefix.to_owned(),
            body: |_, _| "[1]".into(),
        }
    }

    pub(crate) fn render(&self, to: SocketAddr, key: usize, number: usize, out: &mut Vec<u8>) {
        let Call {
            grain_type,
            method,
            prefix,
            body,
        } = self;
        let body = body(key, number);
        out.clear();
        // Writing to a vector can't fail.
        let _ = write!(
            out,
            "POST /v1/grains/{grain_type}/{prefix}{key}/{method} HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
}

/// Which keys, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// Keys by chance, for a time; what comes before it is thrown away: first activations, first pages.
    Passed { warm_up: Duration, time: Duration },
    /// Each key once.
    EachKey,
    /// Keys by chance, until the server is gone.
    Killed,
}

/// One workload.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) call: Call,
    /// Connections, each with one call in flight.
    pub(crate) connections: usize,
    pub(crate) keys: usize,
    pub(crate) until: Until,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Of each call, in microseconds, in order of size.
    pub(crate) latencies_us: Vec<u32>,
    /// How long it took.
    pub(crate) seconds: f64,
    /// For each key, how many calls were answered, and how many were sent.
    pub(crate) acked: Vec<u32>,
    pub(crate) sent: Vec<u32>,
}

impl Measured {
    /// Calls in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies_us.len() as f64 / self.seconds
    }

    /// The latency in milliseconds that this share of the calls doesn't exceed.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        quantile_ms(&self.latencies_us, share)
    }

    /// Both runs as if they had been one.
    pub(crate) fn and(mut self, other: Measured) -> Measured {
        self.latencies_us.extend(other.latencies_us);
        self.latencies_us.sort_unstable();
        self.seconds += other.seconds;
        self
    }
}

/// Of latencies in microseconds in order of size, the one that this share of them doesn't exceed, in milliseconds; 0 of none.
pub(crate) fn quantile_ms(sorted_us: &[u32], share: f64) -> f64 {
    let count = sorted_us.len();
    let at = ((count as f64 * share).ceil() as usize).clamp(1, count.max(1)) - 1;
    sorted_us.get(at).copied().unwrap_or(0) as f64 / 1000.0
}

/// Runs the workload.
pub(crate) fn run(load: &Load) -> Outcome<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut open = Vec::new();
        for _ in 0..load.connections {
            open.push(Connection::open(load.to).await?);
        }
        let run = Rc::new(Run::new(load.clone()));
        let tasks: Vec<_> = open
            .into_iter()
            .zip(1..)
            .map(|(connection, seed)| tokio::task::spawn_local(run.clone().calls(connection, seed)))
            .collect();
        for task in tasks {
            match (task.await?, load.until) {
                (Ok(()), _) | (Err(_), Until::Killed) => {}
                (Err(error), _) => return Err(error.into()),
            }
        }
        let run = Rc::into_inner(run).ok_or("a connection is still open")?;
        Ok(run.measured())
    })
}

/// Calls every key once, so that each is there.
pub(crate) fn touch(to: SocketAddr, call: &Call, keys: usize) -> Outcome<Measured> {
    run(&Load {
        to,
        call: call.clone(),
        connections: 64,
        keys,
        until: Until::EachKey,
    })
}

/// What the connections share.
#[derive(Debug)]
struct Run {
    load: Load,
    begin: Instant,
    end: Option<Instant>,
    next: Cell<usize>,
    last_reply: Cell<Instant>,
    latencies_us: RefCell<Vec<u32>>,
    acked: RefCell<Vec<u32>>,
    sent: RefCell<Vec<u32>>,
}

impl Run {
    fn new(load: Load) -> Run {
        let now = Instant::now();
        let (begin, end) = match load.until {
            Until::Passed { warm_up, time } => (now + warm_up, Some(now + warm_up + time)),
            Until::EachKey | Until::Killed => (now, None),
        };
        Run {
            begin,
            end,
            next: Cell::new(0),
            last_reply: Cell::new(begin),
            // Room for what a fast server answers: growing would stop all connections for a moment.
            latencies_us: RefCell::new(Vec::with_capacity(1 << 20)),
            acked: RefCell::new(vec![0; load.keys]),
            sent: RefCell::new(vec![0; load.keys]),
            load,
        }
    }

    async fn calls(self: Rc<Self>, mut connection: Connection, seed: u64) -> std::io::Result<()> {
        let mut chance = Chance(seed);
        let mut request = Vec::with_capacity(512);
        loop {
            let number = self.next.replace(self.next.get() + 1);
            let key = match self.load.until {
                Until::EachKey if number >= self.load.keys => return Ok(()),
                Until::EachKey => number,
                _ => chance.below(self.load.keys),
            };
            self.load.call.render(self.load.to, key, number, &mut request);
            let sent = Instant::now();
            if self.end.is_some_and(|end| sent >= end) {
                return Ok(());
            }
            self.sent.borrow_mut()[key] += 1;
            connection.call(&request).await?;
            let now = Instant::now();
            self.acked.borrow_mut()[key] += 1;
            // Counted by when the reply came: nothing that took long is left out at the end.
            if now >= self.begin && self.end.is_none_or(|end| now < end) {
                let micros = u32::try_from((now - sent).as_micros()).unwrap_or(u32::MAX);
                self.latencies_us.borrow_mut().push(micros);
                self.last_reply.set(now);
            }
        }
    }

    fn measured(self) -> Measured {
        let mut latencies_us = self.latencies_us.into_inner();
        latencies_us.sort_unstable();
        let end = self.end.unwrap_or(self.last_reply.get());
        Measured {
            latencies_us,
            seconds: (end - self.begin).as_secs_f64(),
            acked: self.acked.into_inner(),
            sent: self.sent.into_inner(),
        }
    }
}

/// SplitMix64: the same keys in every run.
#[derive(Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// Above 0, at most 1.
    pub(crate) fn share(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact() {
        let measured = Measured {
            latencies_us: (1..=100).map(|n| n * 1000).collect(),
            seconds: 2.0,
            ..Measured::default()
        };
        let quantiles = [0.0, 0.5, 0.99, 1.0].map(|share| measured.quantile_ms(share));
        assert_eq!(quantiles, [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(measured.rate(), 50.0);
        assert_eq!(Measured::default().quantile_ms(0.99), 0.0);
    }

    #[test]
    fn two_runs_add_up() {
        let run = |latencies: &[u32]| Measured {
            latencies_us: latencies.to_vec(),
            seconds: 1.0,
            ..Measured::default()
        };
        let both = run(&[1, 5]).and(run(&[2]));
        assert_eq!((both.latencies_us.as_slice(), both.seconds), (&[1, 2, 5][..], 2.0));
    }

    #[test]
    fn a_call_is_a_whole_request() {
        let mut request = Vec::new();
        Call::add("counter", "k").render(([127, 0, 0, 1], 7777).into(), 3, 0, &mut request);
        let text = String::from_utf8(request).unwrap();
        assert!(text.starts_with("POST /v1/grains/counter/k3/add HTTP/1.1\r\nhost: 127.0.0.1:7777\r\n"));
        assert!(text.ends_with("content-length: 3\r\n\r\n[1]"), "{text}");
    }
}
