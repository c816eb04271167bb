//! What goes over the wire, counted by QUIC itself: datagrams of UDP with all that encryption and acknowledgement add.

use std::collections::HashMap;
use std::sync::Mutex;

use quinn::{Connection, VarInt};

/// Bytes since the start, connections that have ended included.
#[derive(Debug, Default)]
pub(super) struct Traffic(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    ended: Bytes,
    open: HashMap<usize, Connection>,
}

/// Both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// To other hosts.
    pub(crate) sent: u64,
    /// From them.
    pub(crate) received: u64,
}

impl Traffic {
    /// Counts a connection until it's said to have ended.
    pub(super) fn begin(&self, connection: &Connection) {
        let mut counts = self.0.lock().expect("no panic under this lock");
        counts.open.insert(connection.stable_id(), connection.clone());
    }

    /// The connection has ended.
    pub(super) fn end(&self, connection: &Connection) {
        let mut counts = self.0.lock().expect("no panic under this lock");
        if counts.open.remove(&connection.stable_id()).is_some() {
            counts.ended.add(connection);
        }
    }

    /// Connections that are counted now.
    pub(super) fn open(&self) -> usize {
        self.0.lock().expect("no panic under this lock").open.len()
    }

    /// Ends those of them.
    pub(super) fn close(&self, is_one: impl Fn(&Connection) -> bool, why: &[u8]) {
        let counts = self.0.lock().expect("no panic under this lock");
        let these = counts.open.values().filter(|connection| is_one(connection));
        these.for_each(|connection| connection.close(VarInt::from_u32(0), why));
    }

    pub(super) fn total(&self) -> Bytes {
        let counts = self.0.lock().expect("no panic under this lock");
        let mut total = counts.ended;
        counts.open.values().for_each(|connection| total.add(connection));
        total
    }
}

impl Bytes {
    fn add(&mut self, connection: &Connection) {
        let stats = connection.stats();
        self.sent += stats.udp_tx.bytes;
        self.received += stats.udp_rx.bytes;
    }
}
