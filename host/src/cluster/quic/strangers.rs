//! Connections of which it isn't known yet whose they are: counted apart from peers', so that strangers take no peer's place.
//!
//! When some dozens are half open, an address has to prove that it's the sender's before a handshake is begun for it (a retry, RFC 9000,
//! section 8.1.2): made-up addresses cost no more than a packet each from then on. One address may have a part of the places only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

/// Connections at a time. Each holds a handshake's state and less than [`super::tls::STRANGERS_WINDOW`] of what it has sent.
const MOST: usize = 256;
/// Of one address: hosts behind one share it, and are through within milliseconds.
const OF_ONE_MOST: usize = 64;
/// From so many on, addresses have to be proved.
const PROVED_FROM: usize = 32;

/// See the file's text.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// What becomes of a connection that somebody wants to make.
#[derive(Debug)]
pub(super) enum Admission {
    /// A handshake may begin.
    Greet(Stranger),
    /// The address has to be proved first.
    Prove,
    /// There are too many.
    Refuse,
}

/// A place among them, given back when it's known who it is, or when it's over.
#[derive(Debug)]
pub(super) struct Stranger {
    all: Strangers,
    address: IpAddr,
}

impl Strangers {
    pub(super) fn admit(&self, address: IpAddr, is_proved: bool) -> Admission {
        let mut all = self.lock();
        let count: usize = all.values().sum();
        if count >= PROVED_FROM && !is_proved {
            return Admission::Prove;
        }
        let of_this = all.entry(address).or_default();
        if count >= MOST || *of_this >= OF_ONE_MOST {
            if *of_this == 0 {
                all.remove(&address);
            }
            return Admission::Refuse;
        }
        *of_this += 1;
        Admission::Greet(Stranger {
            all: self.clone(),
            address,
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> IpAddr {
        IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8])
    }

    #[test]
    fn many_have_to_prove_their_addresses_and_no_address_takes_all_places() {
        let strangers = Strangers::default();
        let mut greeted = Vec::new();
        for n in 0..PROVED_FROM {
            match strangers.admit(address(n), false) {
                Admission::Greet(stranger) => greeted.push(stranger),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(strangers.admit(address(999), false), Admission::Prove));
        for _ in 0..OF_ONE_MOST {
            match strangers.admit(address(1000), true) {
                Admission::Greet(stranger) => greeted.push(stranger),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(strangers.admit(address(1000), true), Admission::Refuse));
        let more = (2000..).map_while(|n| match strangers.admit(address(n), true) {
            Admission::Greet(stranger) => Some(stranger),
            _ => None,
        });
        greeted.extend(more);
        assert_eq!((greeted.len(), strangers.count()), (MOST, MOST));
        greeted.clear();
        assert_eq!(strangers.count(), 0);
        assert!(strangers.lock().is_empty(), "nothing is left of who has gone");
        assert!(matches!(strangers.admit(address(1000), false), Admission::Greet(_)));
    }
}
