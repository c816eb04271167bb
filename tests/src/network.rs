//! A network between hosts that can be made to lose what it carries: hosts advertise addresses of this process, which passes their
//! datagrams on, or doesn't.
//!
//! Like a translation of addresses: each host sees each other one behind a port of its own. Needs no privileges, unlike routes and
//! namespaces, and can cut one direction alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::seed::Random;

/// As large as a datagram can be.
const DATAGRAM_BYTES: usize = 65_536;
/// Between looks at whether it's over.
const ATTENTION: Duration = Duration::from_millis(200);

/// A host's place in the order in which they were attached.
pub type Place = usize;

/// See the file's text.
#[derive(Debug)]
pub struct Network {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    /// Of those that were attached: where they listen and where they're reached.
    hosts: Mutex<Vec<(SocketAddr, Arc<UdpSocket>)>>,
    /// By sender and receiver: the port behind which the receiver sees the sender.
    ports: Mutex<BTreeMap<(SocketAddr, Place), Arc<UdpSocket>>>,
    cut: Mutex<BTreeSet<(Place, Place)>>,
    /// Of a hundred datagrams so many are lost.
    loss_percent: AtomicU64,
    carried: AtomicU64,
    lost: AtomicU64,
}

impl Default for Network {
    fn default() -> Network {
        Network::new()
    }
}

impl Network {
    /// Carries all that it's given.
    pub fn new() -> Network {
        Network {
            shared: Arc::default(),
            threads: Mutex::default(),
        }
    }

    /// A host that listens at this address; where others shall look for it.
    pub fn attach(&self, listens: SocketAddr) -> SocketAddr {
        let socket = Arc::new(new_socket());
        let reached = socket.local_addr().unwrap();
        let mut hosts = self.shared.hosts.lock().unwrap();
        let to = hosts.len();
        hosts.push((listens, socket.clone()));
        let shared = self.shared.clone();
        let carry = move || shared.clone().carry_in(to, &socket);
        self.threads.lock().unwrap().push(std::thread::spawn(carry));
        reached
    }

    /// From now on nothing gets from `from` to `to`, until [`Network::heal`].
    pub fn cut(&self, from: Place, to: Place) {
        self.shared.cut.lock().unwrap().insert((from, to));
    }

    /// Cuts a host off from all others.
    pub fn isolate(&self, place: Place) {
        let hosts = self.shared.hosts.lock().unwrap().len();
        for other in (0..hosts).filter(|other| *other != place) {
            self.cut(place, other);
            self.cut(other, place);
        }
    }

    /// From now on so many of a hundred datagrams are lost.
    pub fn lose(&self, percent: u64) {
        self.shared.loss_percent.store(percent, Ordering::Relaxed);
    }

    /// Carries everything again.
    pub fn heal(&self) {
        self.shared.cut.lock().unwrap().clear();
        self.lose(0);
    }

    /// Datagrams so far that were carried, and that were lost.
    pub fn counts(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.shared.carried), of(&self.shared.lost))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.lock().unwrap().drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What others send to the address where a host is reached.
    fn carry_in(self: Arc<Shared>, to: Place, socket: &UdpSocket) {
        let mut bytes = vec![0; DATAGRAM_BYTES];
        let mut random = Random::new(to as u64);
        let mut outgoing = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok((length, sender)) = socket.recv_from(&mut bytes) else {
                continue;
            };
            if self.carries(self.place_of(sender), Some(to), &mut random) {
                let listens = self.hosts.lock().unwrap()[to].0;
                let port = self.port(sender, to, &mut outgoing);
                let _ = port.send_to(&bytes[..length], listens);
            }
        }
        outgoing
            .into_iter()
            .for_each(|thread: JoinHandle<()>| drop(thread.join()));
    }

    /// Answers of `to` to the port behind which it sees a sender.
    fn carry_back(&self, sender: SocketAddr, to: Place, port: &UdpSocket) {
        let mut bytes = vec![0; DATAGRAM_BYTES];
        let mut random = Random::new(u64::from(sender.port()));
        let reached = self.hosts.lock().unwrap()[to].1.clone();
        while !self.is_over.load(Ordering::Relaxed) {
            if let Ok(length) = port.recv(&mut bytes)
                && self.carries(Some(to), self.place_of(sender), &mut random)
            {
                let _ = reached.send_to(&bytes[..length], sender);
            }
        }
    }

    /// Nothing: a host that joins asks from a port of its own first.
    fn place_of(&self, sender: SocketAddr) -> Option<Place> {
        let hosts = self.hosts.lock().unwrap();
        hosts.iter().position(|(listens, _)| *listens == sender)
    }

    fn port(self: &Arc<Shared>, from: SocketAddr, to: Place, threads: &mut Vec<JoinHandle<()>>) -> Arc<UdpSocket> {
        let mut ports = self.ports.lock().unwrap();
        let new = || {
            let port = Arc::new(new_socket());
            let (shared, back) = (self.clone(), port.clone());
            threads.push(std::thread::spawn(move || shared.carry_back(from, to, &back)));
            port
        };
        ports.entry((from, to)).or_insert_with(new).clone()
    }

    fn carries(&self, from: Option<Place>, to: Option<Place>, random: &mut Random) -> bool {
        let is_cut = match (from, to) {
            (Some(from), Some(to)) => self.cut.lock().unwrap().contains(&(from, to)),
            _ => false,
        };
        let is_lost = is_cut || random.below(100) < self.loss_percent.load(Ordering::Relaxed);
        let count = if is_lost { &self.lost } else { &self.carried };
        count.fetch_add(1, Ordering::Relaxed);
        !is_lost
    }
}

fn new_socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(ATTENTION)).unwrap();
    socket
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    #[test]
    fn what_is_cut_is_lost_in_its_direction_alone() {
        let network = Network::new();
        let [a, b] = [0, 1].map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(wait::PATIENCE)).unwrap();
            socket
        });
        network.attach(a.local_addr().unwrap());
        let reach_b = network.attach(b.local_addr().unwrap());
        let mut bytes = [0; 16];
        a.send_to(b"one", reach_b).unwrap();
        let (length, seen) = b.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"one");
        b.send_to(b"back", seen).unwrap();
        assert_eq!(a.recv_from(&mut bytes).unwrap(), (4, reach_b));
        network.cut(0, 1);
        a.send_to(b"two", reach_b).unwrap();
        wait::until_equal("it's lost", 1, || network.counts().1);
        b.send_to(b"back", seen).unwrap();
        assert_eq!(a.recv_from(&mut bytes).unwrap(), (4, reach_b));
        network.heal();
        a.send_to(b"three", reach_b).unwrap();
        assert_eq!(b.recv_from(&mut bytes).unwrap(), (5, seen), "not what was lost");
        assert_eq!(network.counts(), (4, 1));
    }
}
