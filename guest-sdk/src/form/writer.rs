//! Writes the form, or takes a digest of it.
//!
//! A container's header, which says how many elements follow, goes before them when they are all there. Elements that are `u8`
//! are written bare until one comes that isn't: then those before it get their tags.

mod items;

use serde::ser::{Serialize, Serializer};

use self::items::Items;
use super::digest::Digest;
use super::{FormError, MAX_DEPTH, tag};

/// From here on a form is long.
const LONG: usize = 1 << 20;

/// The longest header of a container: its tag and a count.
const HEADER_BYTES: usize = 11;

type Done = Result<(), FormError>;

pub(crate) struct Writer {
    out: Vec<u8>,
    /// The names so far, and where the next is looked for first: fields come in their order again and again.
    names: Vec<&'static str>,
    next: usize,
    depth: usize,
    /// Where the bare bytes of the innermost sequence begin, if its next element may be one.
    run: Option<usize>,
    /// A digest is taken: elements give way to their sum.
    fields: Option<Vec<(&'static str, u64)>>,
}

impl Writer {
    pub(crate) const fn new(out: Vec<u8>) -> Self {
        Self {
            out,
            names: Vec::new(),
            next: 0,
            depth: 0,
            run: None,
            fields: None,
        }
    }

    /// One that takes a digest.
    pub(super) fn of_digest() -> Self {
        let mut writer = Self::new(Vec::new());
        writer.fields = Some(Vec::new());
        writer
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn into_digest(self) -> Digest {
        Digest::new(self.out, self.fields.unwrap_or_default())
    }

    /// Room for so many bytes more. A long form grows by an eighth: twice itself is what its guest may not have.
    fn reserve(&mut self, bytes: usize) {
        let (len, capacity) = (self.out.len(), self.out.capacity());
        if capacity - len < bytes {
            let slack = if len < LONG { len.max(256) } else { len / 8 };
            self.out.reserve_exact(bytes.saturating_add(slack));
        }
    }

    fn tag(&mut self, tag: u8) {
        self.end_run();
        // What has a fixed length follows in it, too.
        self.reserve(32);
        self.out.push(tag);
    }

    /// What comes is no bare byte: those before it get their tags.
    fn end_run(&mut self) {
        let Some(start) = self.run.take() else { return };
        let bytes = self.out.split_off(start);
        self.out.extend(bytes.into_iter().flat_map(|byte| [tag::U8, byte]));
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }

    fn zigzag(&mut self, number: i64) {
        self.varint((number << 1 ^ number >> 63) as u64);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.reserve(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    fn name(&mut self, name: &'static str) {
        let known = self.names.len();
        let (before, after) = self.names.split_at(self.next.min(known));
        let is_it = |other: &&'static str| std::ptr::eq(*other, name);
        let place = match after.iter().position(is_it) {
            Some(place) => before.len() + place,
            None => before.iter().position(is_it).unwrap_or(known),
        };
        self.varint(place as u64);
        self.next = place + 1;
        if place == known {
            self.text(name.as_bytes());
            // In a digest elements vanish, and the names that they introduced with them.
            if self.fields.is_none() {
                self.names.push(name);
            }
        }
    }

    /// Begins a container whose header will have this tag.
    fn items(&mut self, tag: u8, len: Option<usize>) -> Result<Items<'_>, FormError> {
        self.end_run();
        if self.depth == MAX_DEPTH {
            return Err(FormError::too_deep());
        }
        self.depth += 1;
        if self.fields.is_none() {
            // An element takes a byte at least.
            self.reserve(len.unwrap_or(0).saturating_add(HEADER_BYTES));
        }
        Ok(Items::new(self, tag))
    }
}

impl<'w> Serializer for &'w mut Writer {
    type Ok = ();
    type Error = FormError;
    type SerializeSeq = Items<'w>;
    type SerializeTuple = Items<'w>;
    type SerializeTupleStruct = Items<'w>;
    type SerializeTupleVariant = Items<'w>;
    type SerializeMap = Items<'w>;
    type SerializeStruct = Items<'w>;
    type SerializeStructVariant = Items<'w>;

    /// Types look the same in both forms, so that a migration reads either.
    fn is_human_readable(&self) -> bool {
        true
    }

    fn serialize_bool(self, value: bool) -> Done {
        self.tag(if value { tag::TRUE } else { tag::FALSE });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Done {
        self.tag(tag::I8);
        self.zigzag(i64::from(value));
        Ok(())
    }

    fn serialize_i16(self, value: i16) -> Done {
        self.tag(tag::I16);
        self.zigzag(i64::from(value));
        Ok(())
    }

    fn serialize_i32(self, value: i32) -> Done {
        self.tag(tag::I32);
        self.zigzag(i64::from(value));
        Ok(())
    }

    fn serialize_i64(self, value: i64) -> Done {
        self.tag(tag::I64);
        self.zigzag(value);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Done {
        self.tag(tag::I128);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Done {
        if self.run.is_some() {
            self.reserve(1);
        } else {
            self.tag(tag::U8);
        }
        self.out.push(value);
        Ok(())
    }

    fn serialize_u16(self, value: u16) -> Done {
        self.tag(tag::U16);
        self.varint(u64::from(value));
        Ok(())
    }

    fn serialize_u32(self, value: u32) -> Done {
        self.tag(tag::U32);
        self.varint(u64::from(value));
        Ok(())
    }

    fn serialize_u64(self, value: u64) -> Done {
        self.tag(tag::U64);
        self.varint(value);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Done {
        self.tag(tag::U128);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Done {
        self.tag(tag::F32);
        self.out.extend_from_slice(&value.to_bits().to_le_bytes());
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Done {
        self.tag(tag::F64);
        self.out.extend_from_slice(&value.to_bits().to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Done {
        self.tag(tag::CHAR);
        self.varint(u64::from(u32::from(value)));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Done {
        self.tag(tag::STR);
        self.text(value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Done {
        self.tag(tag::BYTES);
        self.text(value);
        Ok(())
    }

    fn serialize_none(self) -> Done {
        self.tag(tag::NONE);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        self.tag(tag::SOME);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        self.tag(tag::UNIT);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Done {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Done {
        self.tag(tag::WORD);
        self.name(variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        self.tag(tag::VARIANT);
        self.name(variant);
        if self.depth == MAX_DEPTH {
            return Err(FormError::too_deep());
        }
        self.depth += 1;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Items<'w>, FormError> {
        self.items(tag::SEQ, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Items<'w>, FormError> {
        Ok(self.items(tag::SEQ, Some(len))?.ordered())
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Items<'w>, FormError> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'w>, FormError> {
        self.tag(tag::VARIANT);
        self.name(variant);
        self.serialize_tuple(len)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Items<'w>, FormError> {
        self.items(tag::MAP, len)
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Items<'w>, FormError> {
        self.items(tag::MAP, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'w>, FormError> {
        self.tag(tag::VARIANT);
        self.name(variant);
        self.items(tag::MAP, Some(len))
    }
}
