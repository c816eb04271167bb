//! The guest of every grain: a counter that remembers the last step of each client.
//!
//! It stands for what a host keeps with a grain's state: the table of stored replies, by which a retried request has its effect
//! once. Clients have one request on its way at a time, so the last one of each is enough. A deletion takes that memory with it.

use std::collections::BTreeMap;

use crate::subject::{Action, Effect, Head, StepId};

/// A grain's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// The value.
    pub value: i64,
    /// The last step of each client, and what it returned.
    last: BTreeMap<u16, (u32, i64)>,
}

/// What running a call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The state has changed.
    Changed(Change),
    /// Nothing changed; this is the answer.
    Saw(i64),
    /// A later step of the client has run: this one is given up.
    Late,
}

/// A turn's effect, as it's committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// For which step.
    pub step: StepId,
    /// What it did.
    pub effect: Effect,
}

impl Counter {
    /// What a call comes to; changes nothing yet.
    pub fn run(&self, step: StepId, action: Action) -> Turn {
        match (action, self.last.get(&step.client)) {
            (_, Some((number, _))) if *number > step.number => Turn::Late,
            (Action::Read, _) => Turn::Saw(self.value),
            (Action::Delete, _) if !self.exists() => Turn::Saw(self.value),
            (Action::Add(_), Some((number, value))) if *number == step.number => Turn::Saw(*value),
            (Action::Add(amount), _) => {
                let effect = Effect::Adds(amount);
                Turn::Changed(Change { step, effect })
            }
            (Action::Delete, _) => {
                let effect = Effect::Deletes;
                Turn::Changed(Change { step, effect })
            }
        }
    }

    /// Takes a change in.
    pub fn apply(&mut self, change: Change) {
        match change.effect {
            Effect::Adds(amount) => {
                self.value = self.value.wrapping_add(amount);
                self.last.insert(change.step.client, (change.step.number, self.value));
            }
            Effect::Deletes => *self = Counter::default(),
        }
    }

    /// Whether anything was done to it since it was new, or deleted.
    pub fn exists(&self) -> bool {
        !self.last.is_empty()
    }

    /// Its image.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.value.to_le_bytes().to_vec();
        for (client, (number, value)) in &self.last {
            bytes.extend(client.to_le_bytes());
            bytes.extend(number.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    /// Reads an image.
    ///
    /// # Panics
    ///
    /// When it isn't one: what arrives is what was sent.
    pub fn decode(bytes: &[u8]) -> Counter {
        let (value, rest) = bytes.split_at(8);
        let entry = |entry: &[u8]| {
            let client = u16::from_le_bytes(fixed(&entry[..2]));
            (
                client,
                (
                    u32::from_le_bytes(fixed(&entry[2..6])),
                    i64::from_le_bytes(fixed(&entry[6..])),
                ),
            )
        };
        Counter {
            value: i64::from_le_bytes(fixed(value)),
            last: rest.chunks(14).map(entry).collect(),
        }
    }
}

impl Change {
    /// Its stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.step.client.to_le_bytes().to_vec();
        bytes.extend(self.step.number.to_le_bytes());
        if let Effect::Adds(amount) = self.effect {
            bytes.extend(amount.to_le_bytes());
        }
        bytes
    }

    /// Reads it.
    ///
    /// # Panics
    ///
    /// When it isn't one.
    pub fn decode(bytes: &[u8]) -> Change {
        Change {
            step: StepId {
                client: u16::from_le_bytes(fixed(&bytes[..2])),
                number: u32::from_le_bytes(fixed(&bytes[2..6])),
            },
            effect: match &bytes[6..] {
                [] => Effect::Deletes,
                amount => Effect::Adds(i64::from_le_bytes(fixed(amount))),
            },
        }
    }

    /// The name of the state that this change makes of the one named `before`. `salt` names who ran it: the same turn run twice
    /// makes two states, as it does with real memory.
    pub fn head(&self, before: Head, salt: u64) -> Head {
        let mut hash = blake3::Hasher::new();
        hash.update(&before).update(&self.encode()).update(&salt.to_le_bytes());
        fixed(&hash.finalize().as_bytes()[..16])
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a form has fields of fixed length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_has_its_effect_once_and_a_late_one_none() {
        let step = |number| StepId { client: 3, number };
        let mut counter = Counter::default();
        let Turn::Changed(change) = counter.run(step(2), Action::Add(5)) else {
            panic!()
        };
        counter.apply(Change::decode(&change.encode()));
        assert_eq!(counter.run(step(2), Action::Add(5)), Turn::Saw(5));
        assert_eq!(counter.run(step(1), Action::Add(9)), Turn::Late);
        assert_eq!(Counter::decode(&counter.encode()), counter);
        assert_ne!(change.head([0; 16], 1), change.head([0; 16], 2));
    }

    #[test]
    fn a_deletion_leaves_nothing_and_is_done_once() {
        let step = |number| StepId { client: 3, number };
        let mut counter = Counter::default();
        assert_eq!(counter.run(step(1), Action::Delete), Turn::Saw(0));
        for action in [Action::Add(5), Action::Delete] {
            let Turn::Changed(change) = counter.run(step(2), action) else {
                panic!("{action:?}")
            };
            counter.apply(Change::decode(&change.encode()));
        }
        assert_eq!((counter.exists(), &counter), (false, &Counter::default()));
        assert_eq!(counter.run(step(2), Action::Delete), Turn::Saw(0));
    }
}
