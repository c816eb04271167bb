//! The form in which a state passes from one revision to another: serde's data model in bytes, with nothing lost.
//!
//! Like JSON it describes itself. Fields and variants go by name, so a revision may add, drop or reorder them. Unlike JSON it
//! tells `Some(None)` from `None`, keeps a float's bits, has keys of any type, and a `Vec<u8>` takes a byte for each element.
//!
//! ```text
//! state   = FF 01 value
//! value   = UNIT | NONE | FALSE | TRUE | SOME value
//!         | U8 byte | U16/U32/U64 varint | U128 16 bytes | I8/I16/I32/I64 zigzag varint | I128 16 bytes
//!         | F32 4 bytes | F64 8 bytes | CHAR varint | STR text | NAME name | BYTES varint bytes
//!         | PACKED varint bytes              a sequence or tuple, all of whose elements are U8
//!         | SEQ varint value*                a sequence or tuple
//!         | MAP varint (value value)*        a map, or a struct, whose keys are NAMEs
//!         | WORD name                        a unit variant
//!         | VARIANT name value               any other variant
//! name    = varint                           the n-th name that was met so far, or a new one, which follows as text
//! text    = varint bytes                     UTF-8
//! varint  = LEB128, at most 64 bits; numbers of a fixed length are little-endian
//! ```
//!
//! No JSON text begins with FF, so `load` knows which of the two it has. A newtype is what it holds; a unit struct is UNIT.
//!
//! **Not here:** who asks for which form (the host), what is done with a state that doesn't read back as it was (`saved`).

mod digest;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt::{self, Display};

use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::digest::{Digest, digest};
use self::reader::Reader;
use self::writer::Writer;

/// What a state begins with: the mark and the form's number.
const HEAD: [u8; 2] = [0xff, 1];

/// As deep as JSON may nest: deeper would take more stack than a guest has.
const MAX_DEPTH: usize = 128;

/// What a value begins with.
mod tag {
    pub(super) const UNIT: u8 = 0x00;
    pub(super) const NONE: u8 = 0x01;
    pub(super) const SOME: u8 = 0x02;
    pub(super) const FALSE: u8 = 0x03;
    pub(super) const TRUE: u8 = 0x04;
    pub(super) const U8: u8 = 0x10;
    pub(super) const U16: u8 = 0x11;
    pub(super) const U32: u8 = 0x12;
    pub(super) const U64: u8 = 0x13;
    pub(super) const U128: u8 = 0x14;
    pub(super) const I8: u8 = 0x18;
    pub(super) const I16: u8 = 0x19;
    pub(super) const I32: u8 = 0x1a;
    pub(super) const I64: u8 = 0x1b;
    pub(super) const I128: u8 = 0x1c;
    pub(super) const F32: u8 = 0x20;
    pub(super) const F64: u8 = 0x21;
    pub(super) const CHAR: u8 = 0x22;
    pub(super) const STR: u8 = 0x30;
    pub(super) const NAME: u8 = 0x31;
    pub(super) const BYTES: u8 = 0x32;
    pub(super) const PACKED: u8 = 0x33;
    pub(super) const SEQ: u8 = 0x40;
    pub(super) const MAP: u8 = 0x41;
    pub(super) const WORD: u8 = 0x42;
    pub(super) const VARIANT: u8 = 0x43;
}

/// Why a value has no form, or bytes are none of a value.
#[derive(Debug)]
pub(crate) struct FormError(String);

impl FormError {
    fn too_deep() -> Self {
        Self(format!("it nests deeper than {MAX_DEPTH} levels"))
    }
}

impl Display for FormError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for FormError {}

impl serde::ser::Error for FormError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl serde::de::Error for FormError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Whether these bytes are a state in this form, of whatever number.
pub(crate) fn is_form(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HEAD[0])
}

/// A state's bytes.
///
/// # Errors
/// The type's own, or when it nests too deep.
pub(crate) fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, FormError> {
    let mut writer = Writer::new(HEAD.to_vec());
    value.serialize(&mut writer)?;
    Ok(writer.into_bytes())
}

/// A state of its bytes.
///
/// # Errors
/// When they are none of a `T`.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormError> {
    let Some((head, rest)) = bytes.split_first_chunk() else {
        return Err(FormError("it ends too early".to_owned()));
    };
    if *head != HEAD {
        return Err(FormError(format!(
            "it's written in form {}, and this revision reads form {}",
            head[1], HEAD[1]
        )));
    }
    let mut reader = Reader::new(rest);
    let value = T::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}
