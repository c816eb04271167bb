//! Who holds how many connections: one address must not take them all.
//!
//! **Not here:** who may connect at all (`security`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Open connections by address. As many entries as connections at most, and those are limited.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    open: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    limit: usize,
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    peers: Peers,
    address: IpAddr,
}

impl Peers {
    /// At most `limit` connections of one address.
    pub(super) fn new(limit: usize) -> Peers {
        Peers {
            open: Arc::default(),
            limit,
        }
    }

    /// A place for a connection from `address`, if it has fewer than the limit.
    pub(super) fn seat(&self, address: IpAddr) -> Option<Seat> {
        let address = owner(address);
        let mut open = self.lock();
        let count = open.entry(address).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Seat {
            peers: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        // Counts are changed in one step: a panic elsewhere leaves them right.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.peers.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// One subscriber has a whole /64 of IPv6 addresses.
fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_gets_so_many_and_others_theirs() {
        let peers = Peers::new(2);
        let seat = |address: &str| peers.seat(address.parse().unwrap());
        let held = [seat("10.0.0.1"), seat("::ffff:10.0.0.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(seat("10.0.0.1").is_none());
        let others = [seat("10.0.0.2"), seat("2001:db8::1"), seat("2001:db8::2")];
        assert!(others.iter().all(Option::is_some));
        assert!(seat("2001:db8::ffff:3").is_none(), "the same /64");
        assert!(seat("2001:db8:0:1::3").is_some());
        drop(held);
        assert!(seat("10.0.0.1").is_some());
        drop(others);
        assert!(peers.lock().is_empty(), "nothing is kept of those who left");
    }
}
