//! What the reader has found: a text or a number, not yet handed to its type.

use serde::de::Visitor;

use crate::form::FormError;

pub(super) enum Text<'de> {
    Borrowed(&'de str),
    Owned(String),
    Char(char),
}

impl<'de> Text<'de> {
    pub(super) fn visit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        match self {
            Text::Borrowed(text) => visitor.visit_borrowed_str(text),
            Text::Owned(text) => visitor.visit_string(text),
            Text::Char(letter) => visitor.visit_char(letter),
        }
    }
}

pub(super) enum Number {
    Unsigned(u64),
    Signed(i64),
    LongUnsigned(u128),
    LongSigned(i128),
    Short(f32),
    Float(f64),
}

impl Number {
    pub(super) fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        match self {
            Number::Unsigned(number) => visitor.visit_u64(number),
            Number::Signed(number) => visitor.visit_i64(number),
            // What reads any value, as flattened fields do, often knows no longer ones.
            Number::LongUnsigned(number) => match u64::try_from(number) {
                Ok(short) => visitor.visit_u64(short),
                Err(_) => visitor.visit_u128(number),
            },
            Number::LongSigned(number) => match i64::try_from(number) {
                Ok(short) => visitor.visit_i64(short),
                Err(_) => visitor.visit_i128(number),
            },
            Number::Short(number) => visitor.visit_f32(number),
            Number::Float(number) => visitor.visit_f64(number),
        }
    }
}

/// Of integers: no float is a key that was written as text.
impl std::fmt::Display for Number {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Unsigned(number) => number.fmt(formatter),
            Number::Signed(number) => number.fmt(formatter),
            Number::LongUnsigned(number) => number.fmt(formatter),
            Number::LongSigned(number) => number.fmt(formatter),
            Number::Short(_) | Number::Float(_) => Ok(()),
        }
    }
}
