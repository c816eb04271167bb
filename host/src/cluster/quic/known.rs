//! Which life of each host this one is connected with, and what becomes of this host when others doubt it.
//!
//! Both sides of a connection look at the other's certificate. Whoever doubts the other closes the connection and says why, so that a process
//! on a copied folder ends instead of trying for ever.
//!
//! **Not here:** the rules (`granary_core::membership::Lives`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use granary_core::id::{HostId, Lsn};
use granary_core::membership::{Doubt, Life, Lives};
use quinn::{Connection, ConnectionError, VarInt};

use super::endpoint::Quic;
use super::tls::life_of;

/// Why a connection is closed: another process is this host and answers.
const RIVAL: VarInt = VarInt::from_u32(2);
/// This process will never be believed to be its host.
const OVER: VarInt = VarInt::from_u32(3);
/// No life in the certificate.
const NAMELESS: VarInt = VarInt::from_u32(4);
/// A host that starts again somewhere else is taken for a rival of its earlier process, until connections of that are over. For longer
/// than this it's one.
const RIVAL_PATIENCE: Duration = Duration::from_secs(10);

/// How long the others may take to hear of a process that lacks what its host has acknowledged.
const TELLING: Duration = Duration::from_secs(1);

/// This host's own life, and those of others.
pub(super) struct Known {
    /// This process'.
    pub(super) mine: Life,
    /// Up to where this host's log is durable.
    durable: Box<dyn Fn() -> Lsn + Send + Sync>,
    others: Mutex<Lives>,
    /// Who takes another process for this host, and since when.
    doubts: Mutex<HashMap<HostId, Instant>>,
}

/// A connection with a life that is believed. Dropped when it has ended.
pub(super) struct Met {
    known: Arc<Known>,
    host: HostId,
    life: Life,
}

/// What another host said of this one when it closed a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Another process is this host. That can change: the other one may have died a moment ago.
    Rival(String),
    /// This process isn't its host any more.
    Over(String),
}

impl Known {
    pub(super) fn new(incarnation: u32, draw: u64, durable: Box<dyn Fn() -> Lsn + Send + Sync>) -> Known {
        Known {
            mine: Life {
                incarnation,
                draw,
                began: durable(),
            },
            durable,
            others: Mutex::default(),
            doubts: Mutex::default(),
        }
    }

    /// Up to where this host's log is durable now: goes along with each frame, so that the other side knows what it may count on.
    pub(super) fn durable(&self) -> Lsn {
        (self.durable)()
    }

    fn lives(&self) -> MutexGuard<'_, Lives> {
        self.others.lock().expect("no panic under this lock")
    }
}

impl Quic {
    /// Whether the host at the other end of a new connection is believed to be who it says. If it isn't, the connection is closed.
    pub(super) fn meet(&self, host: HostId, address: SocketAddr, connection: &Connection) -> Result<Met, String> {
        let known = self.known();
        let Some(life) = life_of(connection, self.cluster()) else {
            let why = "its certificate doesn't say which start it is: another release";
            connection.close(NAMELESS, why.as_bytes());
            return Err(why.to_owned());
        };
        let met = known.lives().meet(host, life, address);
        met.map(|()| Met {
            known: known.clone(),
            host,
            life,
        })
        .map_err(|doubt| {
            let why = doubt.to_string();
            let code = if doubt.is_final() { OVER } else { RIVAL };
            match doubt {
                // The others hear of it first: when this process has ended, the host itself may start at once.
                Doubt::Rewound(durable, _) => {
                    let told = self.events().rewound(host, life, durable);
                    let (connection, why) = (connection.clone(), why.clone());
                    self.spawn(async move {
                        let _ = tokio::time::timeout(TELLING, told).await;
                        connection.close(code, why.as_bytes());
                    });
                }
                Doubt::Rival(_) | Doubt::Superseded(_) => connection.close(code, why.as_bytes()),
            }
            self.refused(&address, &format!("it says that it's host {host}: {why}"));
            why
        })
    }

    /// A connection with another host has ended: whether that one takes this process for the host that it is.
    pub(super) fn judged(&self, by: HostId, end: &ConnectionError) {
        let mut doubts = self.known().doubts.lock().expect("no panic under this lock");
        match verdict_of(end) {
            None => drop(doubts.remove(&by)),
            Some(Verdict::Rival(why)) => {
                let since = *doubts.entry(by).or_insert_with(Instant::now);
                tracing::error!(%by, why, "another host takes another process for this host");
                if since.elapsed() >= RIVAL_PATIENCE {
                    self.events().disowned(by, &why);
                }
            }
            Some(Verdict::Over(why)) => self.events().disowned(by, &why),
        }
    }
}

impl Quic {
    /// Another host has found out that a process lacks what its host has acknowledged.
    pub(crate) fn warn(&self, host: HostId, rewound: Life, durable: Lsn) {
        self.known().lives().warn(host, rewound, durable);
    }
}

impl Met {
    /// A message has come. False when another life of the host is believed by now.
    pub(super) fn hear(&self, durable: Lsn) -> bool {
        self.known.lives().hear(self.host, self.life, durable)
    }
}

impl Drop for Met {
    fn drop(&mut self) {
        self.known.lives().part(self.host, self.life);
    }
}

/// What a connection's end says about this host.
fn verdict_of(end: &ConnectionError) -> Option<Verdict> {
    let ConnectionError::ApplicationClosed(close) = end else {
        return None;
    };
    let why = String::from_utf8_lossy(&close.reason).into_owned();
    match close.error_code {
        RIVAL => Some(Verdict::Rival(why)),
        OVER => Some(Verdict::Over(why)),
        _ => None,
    }
}
