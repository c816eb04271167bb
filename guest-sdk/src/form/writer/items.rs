//! A container's elements, as they are written one by one.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::{Done, HEADER_BYTES, Writer};
use crate::form::digest::hash;
use crate::form::{FormError, tag};

/// A container's elements.
pub(crate) struct Items<'w> {
    writer: &'w mut Writer,
    start: usize,
    tag: u8,
    count: u64,
    /// All elements so far are bare bytes.
    is_packed: bool,
    /// The digest depends on the elements' order.
    is_ordered: bool,
    sum: u64,
    /// Where the key of a map's entry begins whose value is to come.
    key_at: usize,
}

impl<'w> Items<'w> {
    pub(super) fn new(writer: &'w mut Writer, tag: u8) -> Self {
        Self {
            start: writer.out.len(),
            tag,
            count: 0,
            is_packed: tag == tag::SEQ && writer.fields.is_none(),
            is_ordered: false,
            sum: 0,
            key_at: 0,
            writer,
        }
    }

    /// The same, of a tuple.
    pub(super) fn ordered(mut self) -> Self {
        self.is_ordered = true;
        self
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        let at = self.writer.out.len();
        self.writer.run = self.is_packed.then_some(self.start);
        value.serialize(&mut *self.writer)?;
        let run = self.writer.run.take();
        self.is_packed &= run.is_some();
        self.added(at);
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
        let at = self.writer.out.len();
        self.writer.tag(tag::NAME);
        self.writer.name(name);
        value.serialize(&mut *self.writer)?;
        let hash = self.added(at);
        let writer = &mut *self.writer;
        if let (1, Some(fields)) = (writer.depth, &mut writer.fields) {
            fields.push((name, hash));
        }
        Ok(())
    }

    /// An element was written, from `at` on. In a digest it gives way to its hash.
    fn added(&mut self, at: usize) -> u64 {
        self.count += 1;
        if self.writer.fields.is_none() {
            return 0;
        }
        let seed = if self.is_ordered { self.sum } else { 0 };
        let hash = hash(seed, &self.writer.out[at..]);
        self.sum = if self.is_ordered {
            hash
        } else {
            self.sum.wrapping_add(hash)
        };
        self.writer.out.truncate(at);
        hash
    }

    fn finish(self) {
        let writer = self.writer;
        writer.depth -= 1;
        if writer.fields.is_some() {
            writer.out.extend_from_slice(&self.sum.to_le_bytes());
        }
        writer.reserve(HEADER_BYTES);
        let elements_end = writer.out.len();
        let is_packed = self.is_packed && self.count > 0;
        writer.out.push(if is_packed { tag::PACKED } else { self.tag });
        writer.varint(self.count);
        let header = writer.out.len() - elements_end;
        writer.out[self.start..].rotate_right(header);
    }
}

/// Sequences and tuples of all kinds.
macro_rules! sequence {
    ($($of:ident $add:ident),*) => {$(
        impl $of for Items<'_> {
            type Ok = ();
            type Error = FormError;

            fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                self.item(value)
            }

            fn end(self) -> Done {
                self.finish();
                Ok(())
            }
        }
    )*};
}

sequence! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
}

macro_rules! structure {
    ($($of:ident),*) => {$(
        impl $of for Items<'_> {
            type Ok = ();
            type Error = FormError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
                self.field(name, value)
            }

            fn end(self) -> Done {
                self.finish();
                Ok(())
            }
        }
    )*};
}

structure! { SerializeStruct, SerializeStructVariant }

impl SerializeMap for Items<'_> {
    type Ok = ();
    type Error = FormError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.key_at = self.writer.out.len();
        key.serialize(&mut *self.writer)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(&mut *self.writer)?;
        self.added(self.key_at);
        Ok(())
    }

    fn end(self) -> Done {
        self.finish();
        Ok(())
    }
}
