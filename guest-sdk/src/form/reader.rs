//! Reads the form. What bytes say is believed only as far as they go: lengths allocate nothing before their elements are there.
//!
//! Where a type expects something else than what was written, it gets what JSON would give it: a value that wasn't optional is
//! `Some`, a variant without content may be read as a string, a key that is a number as its text.

mod found;
mod parts;

use serde::de::{Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor};

use self::found::{Number, Text};
use self::parts::{Items, Packed, Single, Variant, all_read};
use super::{FormError, MAX_DEPTH, tag};

pub(crate) struct Reader<'de> {
    rest: &'de [u8],
    names: Vec<&'de str>,
    depth: usize,
    /// What comes next is a map's key.
    is_key: bool,
}

impl<'de> Reader<'de> {
    pub(crate) const fn new(rest: &'de [u8]) -> Self {
        Self {
            rest,
            names: Vec::new(),
            depth: 0,
            is_key: false,
        }
    }

    /// Whether all was read.
    pub(crate) fn end(&self) -> Result<(), FormError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(FormError(format!("{left} bytes follow it"))),
        }
    }

    fn bytes(&mut self, len: usize) -> Result<&'de [u8], FormError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(ends_too_early)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(ends_too_early)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn byte(&mut self) -> Result<u8, FormError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn peek(&self) -> u8 {
        // An end is found when the value is read.
        self.rest.first().copied().unwrap_or(tag::UNIT)
    }

    fn varint(&mut self) -> Result<u64, FormError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(FormError("a number has too many digits".to_owned()))
    }

    fn zigzag(&mut self) -> Result<i64, FormError> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn length(&mut self) -> Result<usize, FormError> {
        usize::try_from(self.varint()?).map_err(|_| ends_too_early())
    }

    fn text(&mut self) -> Result<&'de str, FormError> {
        let len = self.length()?;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| FormError("a text isn't UTF-8".to_owned()))
    }

    fn name(&mut self) -> Result<&'de str, FormError> {
        let place = self.length()?;
        if place == self.names.len() {
            let name = self.text()?;
            self.names.push(name);
        }
        let name = self.names.get(place).copied();
        name.ok_or_else(|| FormError("a name was never introduced".to_owned()))
    }

    fn char(&mut self) -> Result<char, FormError> {
        let number = u32::try_from(self.varint()?).ok();
        let letter = number.and_then(char::from_u32);
        letter.ok_or_else(|| FormError("a letter is none of Unicode".to_owned()))
    }

    /// For types that aren't optional: `Some` of what they are is that.
    fn unwrap_some(&mut self) -> u8 {
        self.is_key = false;
        while let [tag::SOME, rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.peek()
    }

    /// The number that comes, if one does. A map's key may have been written as its text.
    fn number(&mut self) -> Result<Option<Number>, FormError> {
        if std::mem::take(&mut self.is_key) && matches!(self.peek(), tag::STR | tag::NAME) {
            let before = self.rest;
            if let Some(Text::Borrowed(text)) = self.text_value()? {
                let number = text.parse().map(Number::Unsigned);
                let number = number.or_else(|_| text.parse().map(Number::Signed));
                if number.is_err() {
                    self.rest = before;
                }
                return Ok(number.ok());
            }
        }
        let tag = self.unwrap_some();
        if !matches!(tag, tag::U8..=tag::F64) {
            return Ok(None);
        }
        self.byte()?;
        Ok(Some(match tag {
            tag::U8 => Number::Unsigned(u64::from(self.byte()?)),
            tag::U16 | tag::U32 | tag::U64 => Number::Unsigned(self.varint()?),
            tag::U128 => Number::LongUnsigned(u128::from_le_bytes(self.array()?)),
            tag::I8 | tag::I16 | tag::I32 | tag::I64 => Number::Signed(self.zigzag()?),
            tag::I128 => Number::LongSigned(i128::from_le_bytes(self.array()?)),
            tag::F32 => Number::Short(f32::from_bits(u32::from_le_bytes(self.array()?))),
            tag::F64 => Number::Float(f64::from_bits(u64::from_le_bytes(self.array()?))),
            other => return Err(unknown(other)),
        }))
    }

    /// The text that comes, if one does. A map's key may have been written as a number.
    fn text_hint(&mut self) -> Result<Option<Text<'de>>, FormError> {
        if std::mem::take(&mut self.is_key) && matches!(self.peek(), tag::U8..=tag::I128) {
            let number = self.number()?.map(|number| number.to_string());
            return Ok(number.map(Text::Owned));
        }
        self.unwrap_some();
        self.text_value()
    }

    fn text_value(&mut self) -> Result<Option<Text<'de>>, FormError> {
        let tag = self.peek();
        if !matches!(tag, tag::STR | tag::NAME | tag::WORD | tag::CHAR) {
            return Ok(None);
        }
        self.byte()?;
        Ok(Some(match tag {
            tag::STR => Text::Borrowed(self.text()?),
            tag::CHAR => Text::Char(self.char()?),
            _ => Text::Borrowed(self.name()?),
        }))
    }

    /// Bytes, however they were written.
    fn bytes_value(&mut self) -> Result<Option<&'de [u8]>, FormError> {
        if !matches!(self.peek(), tag::BYTES | tag::PACKED) {
            return Ok(None);
        }
        self.byte()?;
        let len = self.length()?;
        self.bytes(len).map(Some)
    }

    fn sequence<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, FormError> {
        if let Some(bytes) = self.bytes_value()? {
            let mut packed = Packed(bytes);
            let value = visitor.visit_seq(&mut packed)?;
            return all_read(bytes.len(), packed.0.len(), value);
        }
        if self.peek() != tag::SEQ {
            return Err(self.mismatch(&visitor));
        }
        let count = self.begin()?;
        let mut items = Items::new(self, count);
        let value = visitor.visit_seq(&mut items)?;
        let left = items.left();
        self.depth -= 1;
        all_read(count, left, value)
    }

    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, FormError> {
        match self.peek() {
            tag::MAP => {
                let count = self.begin()?;
                let mut items = Items::new(self, count);
                let value = visitor.visit_map(&mut items)?;
                let left = items.left();
                self.depth -= 1;
                all_read(count, left, value)
            }
            // For a type that reads any value, a variant is a map of one entry, as in JSON.
            tag::VARIANT => {
                let name = self.begin_variant()?;
                let value = visitor.visit_map(Single::new(self, name))?;
                self.depth -= 1;
                Ok(value)
            }
            _ => Err(self.mismatch(&visitor)),
        }
    }

    /// Goes past a container's header; whoever reads the elements goes up again.
    fn begin(&mut self) -> Result<usize, FormError> {
        self.byte()?;
        self.deeper()?;
        self.length()
    }

    fn begin_variant(&mut self) -> Result<&'de str, FormError> {
        self.byte()?;
        self.deeper()?;
        self.name()
    }

    fn deeper(&mut self) -> Result<(), FormError> {
        if self.depth == MAX_DEPTH {
            return Err(FormError::too_deep());
        }
        self.depth += 1;
        Ok(())
    }

    /// What comes is nothing that the type takes.
    fn mismatch(&mut self, expected: &dyn Expected) -> FormError {
        match self.unexpected() {
            Ok(found) => Error::invalid_type(found, expected),
            Err(error) => error,
        }
    }

    fn unexpected(&mut self) -> Result<Unexpected<'de>, FormError> {
        if let Some(number) = self.number()? {
            return Ok(match number {
                Number::Unsigned(number) => Unexpected::Unsigned(number),
                Number::Signed(number) => Unexpected::Signed(number),
                Number::LongUnsigned(_) | Number::LongSigned(_) => Unexpected::Other("a 128-bit integer"),
                Number::Short(number) => Unexpected::Float(f64::from(number)),
                Number::Float(number) => Unexpected::Float(number),
            });
        }
        Ok(match self.byte()? {
            tag::UNIT => Unexpected::Unit,
            tag::NONE | tag::SOME => Unexpected::Option,
            tag::FALSE => Unexpected::Bool(false),
            tag::TRUE => Unexpected::Bool(true),
            tag::CHAR => Unexpected::Char(self.char()?),
            tag::STR => Unexpected::Str(self.text()?),
            tag::NAME | tag::WORD => Unexpected::Str(self.name()?),
            tag::BYTES => Unexpected::Other("bytes"),
            tag::PACKED | tag::SEQ => Unexpected::Seq,
            tag::MAP => Unexpected::Map,
            tag::VARIANT => Unexpected::Enum,
            other => return Err(unknown(other)),
        })
    }

    /// Goes past one value, and learns the names in it.
    fn skip(&mut self) -> Result<(), FormError> {
        let mut left = 1_u64;
        while left > 0 {
            left -= 1;
            match self.byte()? {
                tag::UNIT | tag::NONE | tag::FALSE | tag::TRUE => {}
                tag::SOME => left += 1,
                tag::U8 => drop(self.byte()?),
                tag::U16 | tag::U32 | tag::U64 | tag::I8 | tag::I16 | tag::I32 | tag::I64 | tag::CHAR => {
                    self.varint()?;
                }
                tag::U128 | tag::I128 => drop(self.array::<16>()?),
                tag::F32 => drop(self.array::<4>()?),
                tag::F64 => drop(self.array::<8>()?),
                tag::STR | tag::BYTES | tag::PACKED => {
                    let len = self.length()?;
                    self.bytes(len)?;
                }
                tag::NAME | tag::WORD => drop(self.name()?),
                tag::VARIANT => {
                    self.name()?;
                    left += 1;
                }
                tag::SEQ => left = left.checked_add(self.varint()?).ok_or_else(ends_too_early)?,
                tag::MAP => {
                    let count = self.varint()?.checked_mul(2);
                    let more = count.and_then(|count| left.checked_add(count));
                    left = more.ok_or_else(ends_too_early)?;
                }
                other => return Err(unknown(other)),
            }
        }
        Ok(())
    }
}

fn ends_too_early() -> FormError {
    FormError("it ends too early".to_owned())
}

fn unknown(tag: u8) -> FormError {
    FormError(format!("nothing begins with {tag:#04x}"))
}

/// One of the reader's own ways to find what a type asks for, and what it is when it isn't there.
macro_rules! by {
    ($find:ident: $($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
            match self.$find()? {
                Some(found) => found.visit(visitor),
                None => Err(self.mismatch(&visitor)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = FormError;

    fn is_human_readable(&self) -> bool {
        true
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        self.is_key = false;
        match self.peek() {
            tag::UNIT => self.deserialize_unit(visitor),
            tag::NONE | tag::SOME => self.deserialize_option(visitor),
            tag::FALSE | tag::TRUE => self.deserialize_bool(visitor),
            tag::CHAR | tag::STR | tag::NAME | tag::WORD => self.deserialize_str(visitor),
            tag::BYTES => self.deserialize_bytes(visitor),
            tag::PACKED | tag::SEQ => self.sequence(visitor),
            tag::MAP | tag::VARIANT => self.map(visitor),
            _ => self.deserialize_u64(visitor),
        }
    }

    by! { number:
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    by! { text_hint: deserialize_char deserialize_str deserialize_string deserialize_identifier }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        let value = match self.unwrap_some() {
            tag::FALSE => false,
            tag::TRUE => true,
            _ => return Err(self.mismatch(&visitor)),
        };
        self.byte()?;
        visitor.visit_bool(value)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        if !matches!(self.unwrap_some(), tag::UNIT | tag::NONE) {
            return Err(self.mismatch(&visitor));
        }
        self.byte()?;
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        self.is_key = false;
        match self.peek() {
            // UNIT is what types write for nothing that read an option.
            tag::NONE | tag::UNIT => {
                self.byte()?;
                visitor.visit_none()
            }
            tag::SOME => {
                self.byte()?;
                visitor.visit_some(self)
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, FormError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FormError> {
        self.unwrap_some();
        if let Some(Text::Borrowed(word)) = self.text_value()? {
            return visitor.visit_enum(word.into_deserializer());
        }
        let name = match self.peek() {
            tag::VARIANT => self.begin_variant()?,
            tag::MAP => match (self.begin()?, self.text_value()?) {
                (1, Some(Text::Borrowed(name))) => name,
                _ => return Err(Error::invalid_type(Unexpected::Map, &"a map of one entry")),
            },
            _ => return Err(self.mismatch(&visitor)),
        };
        let value = visitor.visit_enum(Variant::new(self, name))?;
        self.depth -= 1;
        Ok(value)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        self.unwrap_some();
        if let Some(bytes) = self.bytes_value()? {
            return visitor.visit_borrowed_bytes(bytes);
        }
        match self.text_value()? {
            Some(text) => text.visit(visitor),
            None => self.sequence(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        self.unwrap_some();
        self.sequence(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, FormError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, FormError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        self.unwrap_some();
        self.map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FormError> {
        match self.unwrap_some() {
            tag::SEQ | tag::PACKED => self.sequence(visitor),
            _ => self.map(visitor),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, FormError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        self.is_key = false;
        self.skip()?;
        visitor.visit_unit()
    }
}
