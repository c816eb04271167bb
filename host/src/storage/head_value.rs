//! What the snapshot store holds of a grain: its head, and its image and the one from before its last move, or where they are.

use granary_core::codec::{DecodeError, Reader, put_bytes, put_varint};
use granary_core::commit::{Delta, Head};
use granary_core::id::{Ballot, HostId, ModuleHash, Revision, Seq};
use granary_core::reply_table::ReplyTable;

use super::StoredHead;

/// The form's version, the first byte of a value.
const FORM: u8 = 1;
/// The form of a value with an image from before a move.
const FORM_MOVED: u8 = 2;
/// The second byte says where the image is, and in its upper half where the one from before a move is.
const NOWHERE: u8 = 0;
const INLINE: u8 = 1;
const IN_FILE: u8 = 2;
/// In the lower half: the image is of a vacancy.
const VACANT: u8 = 1 << 3;
const BEFORE_SHIFT: u32 = 4;

/// A grain's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadValue {
    pub(crate) head: Head,
    /// `None` when the head's commit deleted the grain.
    pub(crate) image: Option<ImagePlace>,
    /// Whether it did but for replies: those are in the image.
    pub(crate) vacant: bool,
    /// The state from before the head's commit, when that moved the grain to another module.
    pub(crate) before: Option<BeforeImage>,
}

/// A grain's state under the module that it was moved from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BeforeImage {
    pub(crate) module: ModuleHash,
    pub(crate) revision: Revision,
    /// Without replies: those stay with the grain.
    pub(crate) place: ImagePlace,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImagePlace {
    /// Here.
    Inline(PackedImage),
    /// In an image file.
    File(ImageRef),
}

/// A place in an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageRef {
    /// The file's number.
    pub(crate) file: u64,
    /// Where the entry starts.
    pub(crate) offset: u64,
    /// Bytes of the whole entry.
    pub(crate) entry_len: u64,
    /// blake3 of the packed image in it.
    pub(crate) hash: [u8; 32],
}

/// A grain's state and stored replies, compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedImage {
    /// Bytes before compression.
    pub(crate) raw_len: u64,
    /// LZ4 block.
    pub(crate) bytes: Vec<u8>,
}

/// LZ4 can't do better than this, so a longer claim is damage and must not reserve memory.
const BEST_RATIO: u64 = 256;

impl PackedImage {
    /// Compresses.
    pub(crate) fn pack(image: &Delta, replies: &ReplyTable) -> PackedImage {
        let mut raw = Vec::new();
        image.encode(&mut raw);
        replies.encode(&mut raw);
        PackedImage {
            raw_len: raw.len() as u64,
            bytes: lz4_flex::block::compress(&raw),
        }
    }

    /// Decompresses.
    pub(crate) fn unpack(&self) -> Result<(Delta, ReplyTable), DecodeError> {
        let wrong = |expected| DecodeError {
            expected,
            bytes_left: self.bytes.len(),
        };
        if self.raw_len > (self.bytes.len() as u64 + 1) * BEST_RATIO {
            return Err(wrong("a length that LZ4 can reach"));
        }
        let raw = lz4_flex::block::decompress(&self.bytes, self.raw_len as usize)
            .map_err(|_| wrong("an LZ4 block of the given length"))?;
        let mut reader = Reader::new(&raw);
        let image = Delta::decode(&mut reader)?;
        let replies = ReplyTable::decode(&mut reader)?;
        reader.finish()?;
        Ok((image, replies))
    }
}

impl ImagePlace {
    /// The place in an image file, if it is in one.
    pub(crate) fn in_file(&self) -> Option<ImageRef> {
        match self {
            ImagePlace::Inline(_) => None,
            ImagePlace::File(place) => Some(*place),
        }
    }

    fn tag(place: Option<&ImagePlace>) -> u8 {
        match place {
            None => NOWHERE,
            Some(ImagePlace::Inline(_)) => INLINE,
            Some(ImagePlace::File(_)) => IN_FILE,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ImagePlace::Inline(packed) => {
                put_varint(out, packed.raw_len);
                put_bytes(out, &packed.bytes);
            }
            ImagePlace::File(place) => {
                put_varint(out, place.file);
                put_varint(out, place.offset);
                put_varint(out, place.entry_len);
                out.extend_from_slice(&place.hash);
            }
        }
    }

    fn decode(tag: u8, reader: &mut Reader<'_>) -> Result<Option<ImagePlace>, DecodeError> {
        Ok(Some(match tag {
            NOWHERE => return Ok(None),
            INLINE => ImagePlace::Inline(PackedImage {
                raw_len: reader.varint()?,
                bytes: reader.bytes()?.to_vec(),
            }),
            IN_FILE => ImagePlace::File(ImageRef {
                file: reader.varint()?,
                offset: reader.varint()?,
                entry_len: reader.varint()?,
                hash: reader.array()?,
            }),
            _ => return Err(reader.error("0 to 2: where an image is")),
        }))
    }
}

impl HeadValue {
    /// Without the state.
    pub(crate) fn stored_head(&self) -> StoredHead {
        StoredHead {
            head: self.head.clone(),
            deleted: self.image.is_none(),
            vacant: self.vacant,
        }
    }

    /// Where the value's images are: its own, and the one from before a move.
    pub(crate) fn places(&self) -> impl Iterator<Item = &ImagePlace> {
        let before = self.before.as_ref().map(|before| &before.place);
        self.image.iter().chain(before)
    }

    /// The one of the value's images that is at a place in an image file.
    pub(crate) fn place_mut(&mut self, at: &ImageRef) -> Option<&mut ImagePlace> {
        let before = self.before.as_mut().map(|before| &mut before.place);
        let mut places = self.image.iter_mut().chain(before);
        places.find(|place| matches!(place, ImagePlace::File(place) if place == at))
    }

    /// Whether the stored form in `bytes` is of a grain that has state; a look at two bytes, for listings.
    pub(crate) fn exists(bytes: &[u8]) -> bool {
        let tag = bytes.get(1).map(|tags| split(*tags).0);
        tag.is_none_or(|tag| tag != NOWHERE && tag & VACANT == 0)
    }

    /// The stored form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let before = self.before.as_ref();
        let mut out = vec![if before.is_some() { FORM_MOVED } else { FORM }];
        let before_tag = ImagePlace::tag(before.map(|before| &before.place));
        let vacant = if self.vacant { VACANT } else { 0 };
        out.push(ImagePlace::tag(self.image.as_ref()) | vacant | before_tag << BEFORE_SHIFT);
        let head = &self.head;
        put_varint(&mut out, head.ballot.counter);
        out.extend_from_slice(&head.ballot.host.0);
        put_varint(&mut out, head.ballot.incarnation);
        put_varint(&mut out, head.seq.0);
        out.extend_from_slice(&head.hash);
        out.extend_from_slice(&head.module.0);
        put_varint(&mut out, head.revision.0);
        self.image.iter().for_each(|place| place.encode(&mut out));
        if let Some(before) = before {
            out.extend_from_slice(&before.module.0);
            put_varint(&mut out, before.revision.0);
            before.place.encode(&mut out);
        }
        out
    }

    /// Reads the stored form.
    pub(crate) fn decode(bytes: &[u8]) -> Result<HeadValue, DecodeError> {
        let mut reader = Reader::new(bytes);
        let form = reader.byte()?;
        if ![FORM, FORM_MOVED].contains(&form) {
            return Err(reader.error("a head of form 1 or 2"));
        }
        let (tag, before_tag) = split(reader.byte()?);
        if form == FORM && before_tag != NOWHERE {
            return Err(reader.error("nothing from before a move, in form 1"));
        }
        let head = Head {
            ballot: Ballot {
                counter: reader.varint()?,
                host: HostId(reader.array()?),
                incarnation: reader.varint()?,
            },
            seq: Seq(reader.varint()?),
            hash: reader.array()?,
            module: ModuleHash(reader.array()?),
            revision: Revision(reader.varint()?),
        };
        let vacant = tag & VACANT != 0;
        let image = ImagePlace::decode(tag & !VACANT, &mut reader)?;
        if vacant && image.is_none() {
            return Err(reader.error("where the replies of a vacancy are"));
        }
        let mut before = None;
        if form == FORM_MOVED {
            let (module, revision) = (ModuleHash(reader.array()?), Revision(reader.varint()?));
            let place = ImagePlace::decode(before_tag, &mut reader)?;
            let place = place.ok_or_else(|| reader.error("where the image from before a move is"))?;
            before = Some(BeforeImage {
                module,
                revision,
                place,
            });
        }
        reader.finish()?;
        Ok(HeadValue {
            head,
            image,
            vacant,
            before,
        })
    }
}

/// Where the image is, and where the one from before a move.
fn split(tags: u8) -> (u8, u8) {
    (tags & ((1 << BEFORE_SHIFT) - 1), tags >> BEFORE_SHIFT)
}

#[cfg(test)]
mod tests {
    use granary_core::page::{PAGE_SIZE, Patches};

    use super::*;

    fn value(image: Option<ImagePlace>) -> HeadValue {
        let head = Head {
            ballot: Ballot {
                counter: 3,
                host: HostId([1; 16]),
                incarnation: 400,
            },
            seq: Seq(70_000),
            hash: [2; 16],
            module: ModuleHash([3; 32]),
            revision: Revision(5),
        };
        HeadValue {
            head,
            image,
            vacant: false,
            before: None,
        }
    }

    #[test]
    fn values_are_read_back_and_cut_ones_are_errors() {
        let mut patches = Patches::new();
        patches.push_whole(2, &[7; PAGE_SIZE]);
        let image = Delta {
            memory_len: 1 << 17,
            globals: vec![1, u128::MAX],
            patches,
        };
        let packed = PackedImage::pack(&image, &ReplyTable::new());
        assert_eq!(packed.unpack(), Ok((image, ReplyTable::new())));
        assert!(packed.bytes.len() < 100, "a page of equal bytes compresses well");
        let place = ImageRef {
            file: 1,
            offset: 1 << 40,
            entry_len: 5000,
            hash: [9; 32],
        };
        let places = [ImagePlace::Inline(packed), ImagePlace::File(place)];
        let mut values = vec![value(None)];
        for image in &places {
            values.push(value(Some(image.clone())));
            values.push(HeadValue {
                vacant: true,
                ..value(Some(image.clone()))
            });
            values.extend(places.iter().map(|place| HeadValue {
                before: Some(BeforeImage {
                    module: ModuleHash([4; 32]),
                    revision: Revision(300),
                    place: place.clone(),
                }),
                ..value(Some(image.clone()))
            }));
        }
        for value in values {
            let bytes = value.encode();
            assert_eq!(HeadValue::decode(&bytes), Ok(value.clone()));
            assert_eq!(HeadValue::exists(&bytes), value.stored_head().exists());
            for len in 0..bytes.len() {
                assert!(HeadValue::decode(&bytes[..len]).is_err());
            }
        }
    }

    #[test]
    fn a_damaged_length_reserves_no_memory() {
        let packed = PackedImage {
            raw_len: u64::MAX,
            bytes: vec![0; 10],
        };
        assert!(packed.unpack().is_err());
    }
}
