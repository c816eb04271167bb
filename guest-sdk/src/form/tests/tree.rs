//! Values by chance, of every kind that a form can have.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers by chance, the same each time.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// Of any length in bits.
    pub(super) fn number(&mut self) -> u64 {
        self.bits() >> self.below(64)
    }

    pub(super) fn float(&mut self) -> f64 {
        match self.below(4) {
            0 => f64::NAN.copysign(if self.below(2) == 0 { 1.0 } else { -1.0 }),
            1 => f64::INFINITY,
            _ => f64::from_bits(self.bits()),
        }
    }

    pub(super) fn text(&mut self) -> String {
        (0..self.below(6))
            .map(|_| ['a', '"', '\0', 'ü', '\u{1F33E}'][self.below(5) as usize])
            .collect()
    }
}

/// Any value of serde's model that describes itself, numbers in their longest form.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Unit,
    None,
    Some(Box<Tree>),
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    LongUnsigned(u128),
    LongSigned(i128),
    Short(f32),
    Float(f64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Byte(u8),
    Seq(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
}

impl Tree {
    pub(super) fn by_chance(chance: &mut Chance, depth: u32) -> Self {
        let kinds = if depth == 0 { 12 } else { 16 };
        match chance.below(kinds) {
            0 => Tree::Unit,
            1 => Tree::None,
            2 => Tree::Bool(chance.below(2) == 0),
            3 => Tree::Unsigned(chance.number()),
            4 => Tree::Signed(chance.number() as i64 ^ -(chance.below(2) as i64)),
            5 => Tree::LongUnsigned(u128::MAX - u128::from(chance.number())),
            6 => Tree::LongSigned(i128::MIN + i128::from(chance.number())),
            7 => Tree::Short(f32::from_bits(chance.bits() as u32)),
            8 => Tree::Float(chance.float()),
            9 => Tree::Char(char::from_u32(chance.below(0xd800) as u32).unwrap()),
            10 => Tree::Text(chance.text()),
            11 => Tree::Bytes(chance.text().into_bytes()),
            12 => Tree::Some(Box::new(Tree::by_chance(chance, depth - 1))),
            13 => Tree::Seq((0..chance.below(5)).map(|_| Tree::Byte(chance.bits() as u8)).collect()),
            14 => Tree::Seq(
                (0..chance.below(5))
                    .map(|_| Tree::by_chance(chance, depth - 1))
                    .collect(),
            ),
            _ => {
                let mut entry = || (Tree::by_chance(chance, depth - 1), Tree::by_chance(chance, depth - 1));
                Tree::Map((0..3).map(|_| entry()).collect())
            }
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Unit => serializer.serialize_unit(),
            Tree::None => serializer.serialize_none(),
            Tree::Some(value) => serializer.serialize_some(value),
            Tree::Bool(value) => serializer.serialize_bool(*value),
            Tree::Unsigned(value) => serializer.serialize_u64(*value),
            Tree::Signed(value) => serializer.serialize_i64(*value),
            Tree::LongUnsigned(value) => serializer.serialize_u128(*value),
            Tree::LongSigned(value) => serializer.serialize_i128(*value),
            Tree::Short(value) => serializer.serialize_f32(*value),
            Tree::Float(value) => serializer.serialize_f64(*value),
            Tree::Char(value) => serializer.serialize_char(*value),
            Tree::Text(value) => serializer.serialize_str(value),
            Tree::Bytes(value) => serializer.serialize_bytes(value),
            Tree::Byte(value) => serializer.serialize_u8(*value),
            Tree::Seq(items) => serializer.collect_seq(items),
            Tree::Map(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyTree)
    }
}

struct AnyTree;

impl<'de> Visitor<'de> for AnyTree {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Unit)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Ok(Tree::Some(Box::new(Tree::deserialize(deserializer)?)))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u8<E>(self, value: u8) -> Result<Tree, E> {
        Ok(Tree::Byte(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Signed(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Tree, E> {
        Ok(Tree::LongUnsigned(value))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Tree, E> {
        Ok(Tree::LongSigned(value))
    }

    fn visit_f32<E>(self, value: f32) -> Result<Tree, E> {
        Ok(Tree::Short(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_char<E>(self, value: char) -> Result<Tree, E> {
        Ok(Tree::Char(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Bytes(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut seq = Vec::new();
        while let Some(item) = items.next_element()? {
            seq.push(item);
        }
        Ok(Tree::Seq(seq))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Tree::Map(map))
    }
}
