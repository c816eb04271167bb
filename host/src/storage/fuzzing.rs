//! What the snapshot store and the image files hold, from any bytes. For fuzz targets.

use granary_core::codec::Reader;

use super::head_value::{HeadValue, ImagePlace, PackedImage};
use super::image_files::EntryHeader;
pub use super::log::fuzzing::log_replay;

/// Reads a grain's value in the snapshot store, and the image in it.
///
/// # Panics
///
/// When a value that can be read isn't the same after being written and read again.
#[doc(hidden)]
pub fn head_value(bytes: &[u8]) {
    let Ok(value) = HeadValue::decode(bytes) else { return };
    assert_eq!(HeadValue::exists(bytes), value.stored_head().exists());
    let written = value.encode();
    assert!(written.len() <= bytes.len(), "what is written is the shortest form");
    assert_eq!(HeadValue::decode(&written), Ok(value.clone()));
    if let Some(ImagePlace::Inline(packed)) = &value.image {
        unpack(packed);
    }
}

/// Reads an entry of an image file, and the image in it.
///
/// # Panics
///
/// When lengths that are believed don't add up, or an image isn't the same after being packed and unpacked again.
#[doc(hidden)]
pub fn image_file(bytes: &[u8]) {
    if let Some(header) = EntryHeader::decode(bytes) {
        let parts = header.key_len as u64 + header.image_len as u64;
        assert!(header.entry_len() > parts && header.entry_len() % 8 == 0);
    }
    let mut reader = Reader::new(bytes);
    if let Ok(raw_len) = reader.varint() {
        let bytes = reader.rest().to_vec();
        unpack(&PackedImage { raw_len, bytes });
    }
}

fn unpack(packed: &PackedImage) {
    let Ok((image, replies)) = packed.unpack() else { return };
    let again = PackedImage::pack(&image, &replies).unpack();
    assert_eq!(again, Ok((image, replies)));
}
