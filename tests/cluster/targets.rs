//! Where a workload's clients send their calls: to any of the hosts that run, until it's over.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use granary_tests::seed::Random;
use granary_tests::{Client, Cluster};

/// The hosts that may be called; the same for all clients of a workload.
#[derive(Debug)]
pub(crate) struct Targets {
    addresses: Mutex<Vec<SocketAddr>>,
    is_over: AtomicBool,
}

impl Targets {
    pub(crate) fn new(cluster: &Cluster) -> Targets {
        let targets = Targets {
            addresses: Mutex::default(),
            is_over: AtomicBool::new(false),
        };
        targets.take(cluster);
        targets
    }

    /// From now on calls go to the hosts that run now.
    pub(crate) fn take(&self, cluster: &Cluster) {
        *self.addresses.lock().unwrap() = cluster.running().map(|host| host.address()).collect();
    }

    /// From now on calls go to all hosts that run but this one.
    pub(crate) fn spare(&self, cluster: &Cluster, at: usize) {
        let spared = cluster.hosts[at].address();
        let all = cluster.running().map(|host| host.address());
        *self.addresses.lock().unwrap() = all.filter(|address| *address != spared).collect();
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// One client's connection, to one host after the other.
#[derive(Debug, Default)]
pub(crate) struct Line {
    open: Option<(SocketAddr, Client)>,
}

impl Line {
    /// To one of the targets.
    pub(crate) fn any(&mut self, targets: &Targets, random: &mut Random) -> &mut Client {
        let addresses = targets.addresses.lock().unwrap().clone();
        let address = addresses[random.below(addresses.len() as u64) as usize];
        let open = match self.open.take() {
            Some((open, client)) if open == address => client,
            _ => Client::new(address),
        };
        &mut self.open.insert((address, open)).1
    }

    pub(crate) fn close(&mut self) {
        self.open = None;
    }
}
