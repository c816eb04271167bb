//! [`Heads`] in memory that lose what wasn't flushed when the power goes: any prefix of the batches since then survives.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use super::StorageError;
use super::files::faulty::Power;
use super::heads::{HeadChange, Heads};
use super::noise::Noise;

pub(crate) struct ModelHeads {
    state: Mutex<State>,
    power: Arc<Power>,
    /// Held by whoever makes writes wait.
    stall: Mutex<()>,
}

#[derive(Clone, Default)]
struct State {
    visible: BTreeMap<Vec<u8>, Vec<u8>>,
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    unflushed: Vec<Vec<HeadChange>>,
    flushes: u64,
}

fn change(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: Vec<HeadChange>) {
    for (key, value) in batch {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

impl ModelHeads {
    pub(crate) fn new(power: Arc<Power>) -> Arc<ModelHeads> {
        Arc::new(ModelHeads {
            state: Mutex::default(),
            power,
            stall: Mutex::new(()),
        })
    }

    /// Lets writes wait until this is dropped.
    pub(crate) fn stall(&self) -> MutexGuard<'_, ()> {
        self.stall.lock().unwrap()
    }

    /// What `power` finds when it comes back.
    pub(crate) fn after_power_cut(&self, noise: &mut Noise, power: Arc<Power>) -> Arc<ModelHeads> {
        self.power.cut();
        let mut state = self.state.lock().unwrap().clone();
        let survivors = noise.below(state.unflushed.len() as u64 + 1) as usize;
        for batch in state.unflushed.drain(..).take(survivors) {
            change(&mut state.durable, batch);
        }
        state.visible = state.durable.clone();
        Arc::new(ModelHeads {
            state: Mutex::new(state),
            power,
            stall: Mutex::new(()),
        })
    }
}

impl Heads for ModelHeads {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.state.lock().unwrap().visible.get(key).cloned())
    }

    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StorageError> {
        self.apply(vec![(key, Some(value))])
    }

    fn apply(&self, changes: Vec<HeadChange>) -> Result<(), StorageError> {
        let _moving = self.stall.lock().unwrap();
        self.power.spend()?;
        let mut state = self.state.lock().unwrap();
        change(&mut state.visible, changes.clone());
        state.unflushed.push(changes);
        Ok(())
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.power.spend()?;
        let mut state = self.state.lock().unwrap();
        state.durable = state.visible.clone();
        state.unflushed.clear();
        state.flushes += 1;
        Ok(())
    }

    fn scan(&self, from: Bound<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        let visible = self.state.lock().unwrap().visible.clone();
        for (key, value) in visible.range::<[u8], _>((from, Bound::Unbounded)) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn syncs(&self) -> u64 {
        self.state.lock().unwrap().flushes
    }
}
