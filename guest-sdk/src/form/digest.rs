//! A digest of a value, by which one is known to be another's equal without a copy of either.

use serde::Serialize;

use super::FormError;
use super::writer::Writer;

/// A digest of a value: equal values have equal ones, in whatever order a hash map or hash set gives its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest {
    whole: Vec<u8>,
    /// The outermost struct's fields.
    fields: Vec<(&'static str, u64)>,
}

impl Digest {
    pub(super) const fn new(whole: Vec<u8>, fields: Vec<(&'static str, u64)>) -> Self {
        Self { whole, fields }
    }

    /// Which field of the outermost struct differs, if one does.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        let differs = |(name, hash): &&(&str, u64)| other.fields.iter().any(|(own, its)| own == name && its != hash);
        self.fields.iter().find(differs).map(|(name, _)| *name)
    }
}

/// The digest of a value; it takes no memory that grows with the value's elements.
///
/// Elements of a sequence count without their order: hash sets have none, and what reads a form doesn't put others into another.
pub(crate) fn digest<T: Serialize + ?Sized>(value: &T) -> Result<Digest, FormError> {
    let mut writer = Writer::of_digest();
    value.serialize(&mut writer)?;
    Ok(writer.into_digest())
}

/// Of accidents one in 2^64 goes unseen, and nobody chooses his own state to deceive himself.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mix = |mut bits: u64| {
        // The finaliser of SplitMix64.
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    };
    let mut hash = mix(seed ^ (bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for chunk in bytes.chunks(8) {
        // Most elements are shorter than a call that copies them.
        let word = chunk
            .iter()
            .rev()
            .fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        hash = mix(hash ^ word);
    }
    hash
}
