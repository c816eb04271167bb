//! A state with the values that are lost easily on the way to another revision, and one that is too long for a reply.

use std::collections::{BTreeMap, HashMap, HashSet};

use granary_sdk::prelude::*;

/// Values of many kinds.
#[derive(Default, Serialize, Deserialize)]
pub struct Values {
    one: Option<f64>,
    many: Vec<Option<f64>>,
    nested: Option<Option<i64>>,
    unit: Option<()>,
    short: f32,
    long: u128,
    negative: i128,
    by_pair: BTreeMap<(i32, bool), Vec<u8>>,
    by_hash: HashMap<u64, HashSet<String>>,
    bytes: Vec<u8>,
    /// It reads something else than it writes, unless it's whole.
    #[serde(deserialize_with = "whole")]
    amount: f64,
    touched: u32,
}

#[grain]
impl Values {
    /// Values that JSON has.
    pub fn put_plain(&mut self) {
        self.one = Some(0.1);
        self.many = vec![None, Some(-0.0), Some(f64::MIN_POSITIVE)];
        self.nested = Some(Some(i64::MIN));
        self.short = 0.3;
        self.long = u128::MAX;
        self.negative = i128::MIN;
        let names = ["a", "b", "c"].map(str::to_owned);
        self.by_hash = (0..20).map(|number| (number, names.clone().into())).collect();
        self.amount = 2.0;
    }

    /// Values that it doesn't have.
    pub fn put_odd(&mut self) {
        self.put_plain();
        self.one = Some(f64::from_bits(0x7ff8_0000_dead_beef));
        self.many.push(Some(f64::INFINITY));
        self.nested = Some(None);
        self.unit = Some(());
        self.short = f32::from_bits(0xffc0_1234);
        self.by_pair = [((-1, true), vec![0, 255]), ((2, false), vec![])].into();
    }

    /// So many bytes.
    pub fn put_bytes(&mut self, count: u32) {
        self.bytes = (0..count).map(byte).collect();
    }

    /// What `amount` is.
    pub fn put_amount(&mut self, amount: f64) {
        self.amount = amount;
    }

    /// Changes something else.
    pub fn touch(&mut self) {
        self.touched += 1;
    }

    /// Every bit of the state, but how often it was touched.
    #[read]
    pub fn look(&self) -> String {
        let many: Vec<Option<u64>> = self.many.iter().map(|float| float.map(f64::to_bits)).collect();
        let mut by_hash: Vec<(u64, Vec<String>)> = Vec::new();
        for (number, names) in &self.by_hash {
            let mut names: Vec<String> = names.iter().cloned().collect();
            names.sort();
            by_hash.push((*number, names));
        }
        by_hash.sort();
        format!(
            "{:x?} {many:x?} {:?} {:?} {:x} {} {} {:?} {by_hash:?} {}",
            self.one.map(f64::to_bits),
            self.nested,
            self.unit,
            self.short.to_bits(),
            self.long,
            self.negative,
            self.by_pair,
            self.amount,
        )
    }

    /// How many bytes there are, when each is the right one.
    #[read]
    pub fn bytes(&self) -> Option<usize> {
        let are_right = (0..).zip(&self.bytes).all(|(place, found)| byte(place) == *found);
        are_right.then_some(self.bytes.len())
    }
}

fn byte(place: u32) -> u8 {
    (place.wrapping_mul(2_654_435_761) >> 24) as u8
}

fn whole<'de, D: granary_sdk::serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(f64::deserialize(deserializer)?.trunc())
}

granary_sdk::export!(Values);
