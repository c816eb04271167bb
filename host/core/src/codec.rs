//! The one binary form of what is stored: little-endian varints and length-prefixed bytes, read with every length checked.
//!
//! Written by hand rather than derived, since it is the hot path of every commit and has to stay readable by later
//! releases: a field's place is visible here, not in the order of a struct.

use std::fmt;

/// Bytes that do not decode: what was expected and at which offset. The input is damaged or made by a newer release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What should have been there.
    pub expected: &'static str,
    /// Bytes from the end of the input at which it was missed.
    pub bytes_left: usize,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} with {} bytes left", self.expected, self.bytes_left)
    }
}

impl std::error::Error for DecodeError {}

/// Appends `value` as a LEB128 varint: 1 byte up to 127, at most 19.
pub fn put_varint(out: &mut Vec<u8>, value: impl Into<u128>) {
    let mut value = value.into();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `bytes` behind their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the `put_` functions wrote. Never panics, whatever the input; a length is checked before it's believed.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes }
    }

    /// An error at this place.
    pub fn error(&self, expected: &'static str) -> DecodeError {
        DecodeError {
            expected,
            bytes_left: self.left.len(),
        }
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.left.split_first().ok_or(self.error("a byte"))?;
        self.left = rest;
        Ok(*first)
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.left.split_at_checked(len).ok_or(self.error("more bytes"))?;
        self.left = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// A varint of at most 128 bits.
    pub fn varint128(&mut self) -> Result<u128, DecodeError> {
        let mut value = 0u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                return Err(self.error("a varint of at most 128 bits"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("the end of a varint"))
    }

    /// A varint that fits `T`.
    pub fn varint<T: TryFrom<u128>>(&mut self) -> Result<T, DecodeError> {
        // Nearly every number on the hot path is below 128.
        if let Some((&first, rest)) = self.left.split_first()
            && first < 0x80
        {
            self.left = rest;
            return T::try_from(u128::from(first)).map_err(|_| self.error("a smaller number"));
        }
        let value = self.varint128()?;
        T::try_from(value).map_err(|_| self.error("a smaller number"))
    }

    /// Length-prefixed bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint()?;
        self.take(len)
    }

    /// Length-prefixed UTF-8.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.error("UTF-8"))
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// What is left to read.
    pub fn rest(&self) -> &'a [u8] {
        self.left
    }

    /// Succeeds when nothing is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(self.error("the end"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX as u128, u128::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint128(), Ok(value));
            assert!(reader.finish().is_ok());
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error() {
        let mut out = Vec::new();
        put_varint(&mut out, 300u64);
        assert!(Reader::new(&out).varint::<u8>().is_err());
        assert!(Reader::new(&[0xff; 18]).varint128().is_err());
        assert!(Reader::new(&[0xff; 30]).varint128().is_err());
    }

    #[test]
    fn a_length_beyond_the_input_is_an_error() {
        assert!(Reader::new(&[5, 1, 2]).bytes().is_err());
        assert!(Reader::new(&[]).byte().is_err());
        assert!(Reader::new(&[2, 0xff, 0xff]).text().is_err());
    }
}
