//! What the reader hands to a type piece by piece: elements, entries, the content of a variant.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::Reader;
use crate::form::FormError;

/// A tuple that takes fewer elements than there are is another type's.
pub(super) fn all_read<T>(count: usize, left: usize, value: T) -> Result<T, FormError> {
    match left {
        0 => Ok(value),
        _ => Err(FormError(format!(
            "it has {count} elements, and its type takes {}",
            count - left
        ))),
    }
}

/// The elements of a sequence, the entries of a map.
pub(super) struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl<'a, 'de> Items<'a, 'de> {
    pub(super) const fn new(reader: &'a mut Reader<'de>, left: usize) -> Self {
        Self { reader, left }
    }

    pub(super) const fn left(&self) -> usize {
        self.left
    }

    fn next(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Each takes a byte at least, whatever the header says.
    fn hint(&self) -> usize {
        self.left.min(self.reader.rest.len())
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = FormError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, FormError> {
        if !self.next() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = FormError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, FormError> {
        if !self.next() {
            return Ok(None);
        }
        self.reader.is_key = true;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, FormError> {
        self.reader.is_key = false;
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

/// Bytes as the sequence that they are.
pub(super) struct Packed<'de>(pub(super) &'de [u8]);

impl<'de> SeqAccess<'de> for Packed<'de> {
    type Error = FormError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, FormError> {
        let Some((byte, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        self.0 = rest;
        seed.deserialize(Byte(*byte)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// One of those.
struct Byte(u8);

impl<'de> Deserializer<'de> for Byte {
    type Error = FormError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        visitor.visit_u8(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, FormError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A variant as a map of one entry.
pub(super) struct Single<'a, 'de> {
    reader: &'a mut Reader<'de>,
    name: Option<&'de str>,
}

impl<'a, 'de> Single<'a, 'de> {
    pub(super) const fn new(reader: &'a mut Reader<'de>, name: &'de str) -> Self {
        let name = Some(name);
        Self { reader, name }
    }
}

impl<'de> MapAccess<'de> for Single<'_, 'de> {
    type Error = FormError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, FormError> {
        let Some(name) = self.name.take() else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, FormError> {
        seed.deserialize(&mut *self.reader)
    }
}

/// A variant that holds something.
pub(super) struct Variant<'a, 'de> {
    reader: &'a mut Reader<'de>,
    name: &'de str,
}

impl<'a, 'de> Variant<'a, 'de> {
    pub(super) const fn new(reader: &'a mut Reader<'de>, name: &'de str) -> Self {
        Self { reader, name }
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = FormError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), FormError> {
        let variant = seed.deserialize(BorrowedStrDeserializer::<FormError>::new(self.name))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = FormError;

    fn unit_variant(self) -> Result<(), FormError> {
        Deserialize::deserialize(self.reader)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, FormError> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, FormError> {
        self.reader.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, FormError> {
        self.reader.deserialize_map(visitor)
    }
}
