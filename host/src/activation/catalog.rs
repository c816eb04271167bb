//! All grains in memory here, by id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use granary_core::id::{GrainId, GrainKey, GrainName, GrainType};
use granary_core::message::Request;

use super::chase::FarCalls;
use super::departure::Departures;
use super::driver::Driver;
use super::{Parts, Sweeps, Waiter};
use crate::modules::Line;

/// Locks are taken for a look-up only; this many keep two threads from meeting often.
const SHARDS: usize = 64;

/// This host's activations.
#[derive(Debug)]
pub(crate) struct Catalog {
    shards: Vec<Mutex<HashMap<GrainId, Arc<Driver>>>>,
    /// Where the next search for a grain to evict begins.
    hand: AtomicUsize,
    /// Held by the one who evicts for room.
    pub(super) squeezing: Mutex<()>,
    pub(crate) parts: Arc<Parts>,
    /// Types whose grains are being moved.
    pub(super) sweeps: Sweeps,
    /// Grains that have gone to other hosts.
    pub(super) departures: Departures,
    /// Calls between this host and others.
    pub(super) far: FarCalls,
}

impl Catalog {
    pub(crate) fn new(parts: Arc<Parts>) -> Arc<Catalog> {
        Arc::new(Catalog {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hand: AtomicUsize::new(0),
            squeezing: Mutex::new(()),
            parts,
            sweeps: Sweeps::default(),
            departures: Departures::default(),
            far: FarCalls::default(),
        })
    }

    /// Hands a request to its grain's activation, which is made when there is none, and returns that.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        grain: &GrainName,
        line: &Arc<Line>,
        request: Request,
        waiter: Waiter,
    ) -> Arc<Driver> {
        let id = grain.id();
        let mut parcel = (request, waiter);
        loop {
            let driver = self.driver(id, grain, line);
            match driver.arrive(parcel.0, parcel.1) {
                None => return driver,
                // An activation that has just ended gives the request back; it leaves the catalog at once.
                Some(returned) => parcel = returned,
            }
            self.remove(&driver);
        }
    }

    /// The grain's activation, if it has one.
    pub(crate) fn find(&self, id: GrainId) -> Option<Arc<Driver>> {
        self.shard(id)
            .lock()
            .expect("no panic under this lock")
            .get(&id)
            .cloned()
    }

    /// Forgets an activation that has ended.
    pub(crate) fn remove(&self, driver: &Arc<Driver>) {
        let mut shard = self.shard(driver.id()).lock().expect("no panic under this lock");
        if shard.get(&driver.id()).is_some_and(|found| Arc::ptr_eq(found, driver)) {
            shard.remove(&driver.id());
            self.parts.metrics.activations.dec();
        }
    }

    /// `volatile` grains of a type that are in memory: storage may have heard of none of them.
    pub(crate) fn volatile_keys(&self, kind: &GrainType) -> Vec<GrainKey> {
        let all = (0..self.steps()).flat_map(|shard| self.some(shard));
        let of_kind = all.filter(|driver| driver.name().kind == *kind && driver.is_volatile());
        of_kind.map(|driver| driver.name().key.clone()).collect()
    }

    /// How many grains are in memory.
    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().expect("no panic under this lock").len())
            .sum()
    }

    /// The activations of one shard, for those who go through all of them bit by bit.
    pub(crate) fn some(&self, shard: usize) -> Vec<Arc<Driver>> {
        self.shards[shard % SHARDS]
            .lock()
            .expect("no panic under this lock")
            .values()
            .cloned()
            .collect()
    }

    /// How many steps [`Catalog::some`] takes to go through all.
    pub(crate) fn steps(&self) -> usize {
        SHARDS
    }

    /// Another shard each time.
    pub(crate) fn next_shard(&self) -> usize {
        self.hand.fetch_add(1, Ordering::Relaxed)
    }

    /// The next searches begin `count` shards later.
    pub(crate) fn skip_shards(&self, count: usize) {
        self.hand.fetch_add(count, Ordering::Relaxed);
    }

    fn driver(self: &Arc<Self>, id: GrainId, grain: &GrainName, line: &Arc<Line>) -> Arc<Driver> {
        let mut shard = self.shard(id).lock().expect("no panic under this lock");
        shard
            .entry(id)
            .or_insert_with(|| {
                self.parts.metrics.activations.inc();
                Driver::new(
                    id,
                    grain.clone(),
                    line.clone(),
                    Arc::downgrade(self),
                    self.parts.clone(),
                )
            })
            .clone()
    }

    fn shard(&self, id: GrainId) -> &Mutex<HashMap<GrainId, Arc<Driver>>> {
        &self.shards[id.0[0] as usize % SHARDS]
    }
}
