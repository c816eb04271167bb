//! Names and numbers: what a grain, a module, a request and a commit are called.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest grain key, in bytes. Longer keys would bloat every log record and every index entry.
pub const KEY_LIMIT: usize = 1024;
/// The longest grain type, in bytes: as long as a DNS label.
pub const TYPE_LIMIT: usize = 63;
/// The only namespace so far. It is part of every grain id, so that more can come without moving grains.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A grain type: `[a-z][a-z0-9-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrainType(Arc<str>);

/// A grain's key within its type: 1 to 1,024 bytes of UTF-8, any characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrainKey(Arc<str>);

/// Why a text is no grain type or key. Says what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The text isn't a grain type.
    Type(String),
    /// The key is empty.
    EmptyKey,
    /// The key is longer than [`KEY_LIMIT`]; holds its length.
    LongKey(usize),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Type(got) => write!(
                f,
                "`{got}` is not a grain type: it starts with a letter a-z, followed by at most 62 of a-z, 0-9 and `-`"
            ),
            NameError::EmptyKey => write!(f, "the key is empty: it has 1 to {KEY_LIMIT} bytes"),
            NameError::LongKey(n) => write!(f, "the key has {n} bytes: at most {KEY_LIMIT} are allowed"),
        }
    }
}

impl std::error::Error for NameError {}

impl GrainType {
    /// Checks and takes a type's name.
    pub fn new(name: &str) -> Result<GrainType, NameError> {
        let mut bytes = name.bytes();
        let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let tail = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if head && tail && name.len() <= TYPE_LIMIT {
            Ok(GrainType(name.into()))
        } else {
            Err(NameError::Type(name.chars().take(80).collect()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl GrainKey {
    /// Checks and takes a key.
    pub fn new(key: &str) -> Result<GrainKey, NameError> {
        match key.len() {
            0 => Err(NameError::EmptyKey),
            1..=KEY_LIMIT => Ok(GrainKey(key.into())),
            n => Err(NameError::LongKey(n)),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GrainType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for GrainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A grain's full name. Ordered by type, then key. Cloning copies two pointers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrainName {
    /// The grain's type.
    pub kind: GrainType,
    /// The grain's key.
    pub key: GrainKey,
}

impl GrainName {
    /// The name made of a type and a key.
    pub fn new(kind: GrainType, key: GrainKey) -> GrainName {
        GrainName { kind, key }
    }

    /// The grain's id: blake3 of namespace, type and key, each but the last ended by a zero byte (types hold none), cut to 16 bytes.
    pub fn id(&self) -> GrainId {
        let mut hash = blake3::Hasher::new();
        hash.update(DEFAULT_NAMESPACE.as_bytes()).update(&[0]);
        hash.update(self.kind.as_str().as_bytes()).update(&[0]);
        hash.update(self.key.as_str().as_bytes());
        GrainId(first_16(hash.finalize()))
    }
}

impl fmt::Display for GrainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.key)
    }
}

fn first_16(hash: blake3::Hash) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}

const HEX: &[u8; 16] = b"0123456789abcdef";

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // In one piece: ids are written with every request.
                let mut digits = [[0; 2]; $len];
                for (pair, byte) in digits.iter_mut().zip(self.0) {
                    *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                }
                f.write_str(std::str::from_utf8(digits.as_flattened()).expect("hex digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = HexError;
            /// Reads lower- or upper-case hex digits, two a byte.
            fn from_str(text: &str) -> Result<Self, HexError> {
                let mut out = [0; $len];
                if text.len() != 2 * $len || !text.is_ascii() {
                    return Err(HexError { digits: 2 * $len });
                }
                for (i, byte) in out.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| HexError { digits: 2 * $len })?;
                }
                Ok($name(out))
            }
        }
    };
}

/// A text is not the hex form of an id; says how many digits it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HexError {
    /// How many hex digits the id has.
    pub digits: usize,
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} hex digits", self.digits)
    }
}

impl std::error::Error for HexError {}

bytes_id!(
    /// A grain's id, see [`GrainName::id`].
    GrainId,
    16
);
bytes_id!(
    /// A host's identity: made once for each data folder.
    HostId,
    16
);
bytes_id!(
    /// blake3 of a module's bytes as uploaded.
    ModuleHash,
    32
);
bytes_id!(
    /// A request from outside; travels with every call that it causes.
    RequestId,
    16
);
bytes_id!(
    /// Names one call's effect on one grain, so that a repeat is recognised.
    CallId,
    16
);

/// What the call ids of a request are derived from: the same for a client's retry under the same idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRoot {
    /// blake3 of the key's scope and the idempotency key.
    pub seed: [u8; 16],
}

impl CallRoot {
    /// The root of requests that come under the same `key`; `scope`: among whose keys it counts.
    pub fn new(scope: &str, key: &str) -> CallRoot {
        let mut hash = blake3::Hasher::new_derive_key("granary 2026 idempotency root");
        hash.update(&(scope.len() as u64).to_le_bytes())
            .update(scope.as_bytes())
            .update(key.as_bytes());
        CallRoot {
            seed: first_16(hash.finalize()),
        }
    }

    /// The id of the request itself.
    pub fn call_id(&self) -> CallId {
        CallId(self.seed)
    }

    /// The root of the request when it's sent to this grain: the same key sent to another one is another call.
    pub fn sent_to(&self, callee: GrainId) -> CallRoot {
        let mut hash = blake3::Hasher::new_derive_key("granary 2026 idempotency child");
        hash.update(&self.seed).update(&callee.0).update(&0u32.to_le_bytes());
        CallRoot {
            seed: first_16(hash.finalize()),
        }
    }

    /// The root of a call that `caller` makes in its turn: the `nth` one, counted from 0, of those to this callee with this method and
    /// these arguments (`fingerprint`). In which order a turn makes calls that differ is of no importance, so that a guest may go
    /// through a hash table.
    pub fn child(&self, caller: GrainId, callee: GrainId, fingerprint: [u8; 16], nth: u32) -> CallRoot {
        let mut hash = blake3::Hasher::new_derive_key("granary 2026 idempotency call of a turn");
        hash.update(&self.seed)
            .update(&caller.0)
            .update(&callee.0)
            .update(&fingerprint)
            .update(&nth.to_le_bytes());
        CallRoot {
            seed: first_16(hash.finalize()),
        }
    }
}

/// The number of a grain's commit: 1 for the first. 0 means that nothing is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The number after this one.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

/// A place in a host's one prefix-durable order of commits: 1 for the first record ever appended. 0 comes before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

/// The n-th module of a type, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub u32);

/// Fences old activations of a grain: higher wins. Ordered by counter, then host, then incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Raised by every new activation that has to fence another.
    pub counter: u64,
    /// The host that made it.
    pub host: HostId,
    /// That host's n-th start.
    pub incarnation: u32,
}

impl Ballot {
    /// Below every ballot of an activation.
    pub const LEAST: Ballot = Ballot {
        counter: 0,
        host: HostId([0; 16]),
        incarnation: 0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked() {
        for good in ["a", "counter", "a-1", &"a".repeat(63)] {
            assert!(GrainType::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "-a", "a_b", "ä", &"a".repeat(64)] {
            assert!(GrainType::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_checked() {
        assert!(GrainKey::new("\0/ ü").is_ok());
        assert!(GrainKey::new(&"k".repeat(KEY_LIMIT)).is_ok());
        assert_eq!(GrainKey::new("").unwrap_err(), NameError::EmptyKey);
        assert_eq!(
            GrainKey::new(&"k".repeat(KEY_LIMIT + 1)).unwrap_err(),
            NameError::LongKey(KEY_LIMIT + 1)
        );
    }

    #[test]
    fn ids_differ_by_type_and_key_and_stay_the_same_between_releases() {
        let id = |kind, key| GrainName::new(GrainType::new(kind).unwrap(), GrainKey::new(key).unwrap()).id();
        assert_ne!(id("ab", "c"), id("a", "bc"));
        // Stored in every log and snapshot: may never change.
        assert_eq!(id("counter", "alice").to_string(), "f0b8427ca043f2ebc78cf9aca56b0d95");
    }

    #[test]
    fn calls_of_a_retry_have_the_same_ids_whatever_their_order() {
        let (first, again) = (CallRoot::new("c", "k"), CallRoot::new("c", "k"));
        let [caller, a, b] = [7, 8, 9].map(|n| GrainId([n; 16]));
        let id =
            |root: &CallRoot, callee, fingerprint, nth| root.child(caller, callee, [fingerprint; 16], nth).call_id();
        let calls = [(a, 1, 0), (a, 1, 1), (a, 2, 0), (b, 1, 0)];
        let ids = calls.map(|(callee, fingerprint, nth)| id(&first, callee, fingerprint, nth));
        let mut others = calls;
        others.reverse();
        let mut repeated = others.map(|(callee, fingerprint, nth)| id(&again, callee, fingerprint, nth));
        repeated.reverse();
        assert_eq!(ids, repeated);
        let different: std::collections::BTreeSet<CallId> = ids.into_iter().collect();
        assert_eq!(different.len(), calls.len());
        assert_ne!(id(&first.sent_to(a), a, 1, 0), id(&first.sent_to(b), a, 1, 0));
        assert_ne!(CallRoot::new("ck", "").call_id(), first.call_id());
    }

    #[test]
    fn hex_is_read_back() {
        let id = RequestId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("zz".parse::<RequestId>(), Err(HexError { digits: 32 }));
    }
}
