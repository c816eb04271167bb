//! JSON of documents: descriptions, and errors of whatever type.
//!
//! These may hold any number, so they would bring the tables of the fast conversion of floats (17 KiB) into every guest, and each
//! resident grain has its guest's tables in its memory. Here floats are written by `core`, whose tables are small and there
//! anyway. A grain's own values go the fast way, and a grain whose values have floats has the tables.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// `value` as JSON without blanks.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut json = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut json, SmallTables))?;
    Ok(json)
}

struct SmallTables;

impl Formatter for SmallTables {
    fn write_f32<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        write!(writer, "{value:?}")
    }

    // The serializer writes what isn't finite as `null` by itself. `{:?}` gives the shortest digits that read back as the same float, and an
    // exponent where those would be long.
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        write!(writer, "{value:?}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_document_reads_back_as_what_it_was() {
        let floats = [
            0.0,
            -0.0,
            1.0,
            0.1,
            -2.5,
            1e16,
            1e300,
            5e-324,
            f64::MAX,
            f64::MIN_POSITIVE,
        ];
        let value =
            json!({"floats": floats, "text": "a\"b\n\u{1}ü", "whole": [u64::MAX, i64::MIN], "none": null, "yes": true});
        let written = write(&value).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), value);
        assert_eq!(write(&[1.5f32, f32::NAN]).unwrap(), b"[1.5,null]");
    }

    #[test]
    fn a_document_has_no_blanks() {
        let value = json!({"a": [1, {"b": 2}], "c": ""});
        assert_eq!(write(&value).unwrap(), serde_json::to_vec(&value).unwrap());
    }
}
