//! Bytes in arguments, results and states: base64 text in JSON, where a `Vec<u8>` would be a list of numbers.
//!
//! The standard alphabet with padding (RFC 4648, section 4), and nothing else: one value has one text.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// Bytes that travel as base64 text.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Deref for Bytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Bytes;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("bytes as base64 text with padding")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                let bytes = decode(text.as_bytes());
                bytes
                    .map(Bytes)
                    .ok_or_else(|| E::custom("not base64 text with padding"))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Bytes")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "contentEncoding": "base64" })
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            if place <= group.len() {
                let letter = bits >> (18 - 6 * place) & 63;
                text.push(char::from(ALPHABET[letter as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let letters = match text {
        [letters @ .., b'=', b'='] | [letters @ .., b'='] => letters,
        letters => letters,
    };
    if !text.len().is_multiple_of(4) || letters.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(letters.len() / 4 * 3 + 2);
    for group in letters.chunks(4) {
        let mut bits = 0;
        for place in 0..4 {
            let letter = group.get(place).map_or(Some(0), |letter| value(*letter))?;
            bits = bits << 6 | letter;
        }
        let [_, group_bytes @ ..] = u32::to_be_bytes(bits);
        let (kept, padding) = group_bytes.split_at(group.len() - 1);
        // Bits that stand for no byte are zero: one value has one text.
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

fn value(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc_hold() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text.as_bytes()), Some(bytes.as_bytes().to_vec()));
        }
    }

    #[test]
    fn every_byte_comes_back() {
        for length in 0..=256_usize {
            let bytes: Vec<u8> = (0..length).map(|place| (place * 7 % 256) as u8).collect();
            assert_eq!(decode(encode(&bytes).as_bytes()), Some(bytes));
        }
    }

    #[test]
    fn another_text_for_the_same_bytes_is_refused() {
        for text in [
            "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "=", "Zg==Zg==", "Zm 9", "Zm-_",
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn json_is_text() {
        let json = serde_json::to_string(&Bytes(b"foo".to_vec())).unwrap();
        assert_eq!(json, "\"Zm9v\"");
        assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap().as_slice(), b"foo");
        let error = serde_json::from_str::<Bytes>("[1]").unwrap_err().to_string();
        assert!(error.contains("expected bytes as base64 text"), "{error}");
    }
}
