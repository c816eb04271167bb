//! The canonical ABI of the world, by hand: what the guest's bytes mean, with every pointer and length checked.
//!
//! A guest is free to pass anything. Nothing here panics, allocates by a length that hasn't been checked against the memory,
//! or reads outside of it. Layouts follow from the world: a record's fields at their alignment, a variant's payload behind its tag.
//!
//! ```text
//! list<u8>, string          ptr @0, len @4                                               8 bytes, aligned 4
//! fault                     kind @0, message @4, error? @12, status? @24, code? @28     40 bytes, aligned 4
//! result<list<u8>, fault>   tag @0, payload @4                                          44 bytes, aligned 4
//! call                      grain-type @0, key @8, method @16, args @24                 32 bytes, aligned 4
//! call-error                code @0, message @8, error? @16                             28 bytes, aligned 4
//! result<_, call-error>     tag @0, payload @4                                          32 bytes, aligned 4
//! ```

use super::calls::{GuestCall, GuestCallError};
use super::failure::{Fault, FaultKind, TurnFailure};

/// A guest's memory, read by rules of the ABI.
pub(super) struct View<'a> {
    bytes: &'a [u8],
}

type Lifted<T> = Result<T, TurnFailure>;

/// The bytes of one `result<list<u8>, call-error>`, and their alignment.
pub(super) const CALL_RESULT: usize = 32;

fn broken<T>(what: impl Into<String>) -> Lifted<T> {
    Err(TurnFailure::Abi(what.into()))
}

/// The place of `len` bytes from `ptr` on, if they lie inside a memory of `memory` bytes and `ptr` is aligned.
pub(super) fn place(memory: usize, ptr: u32, len: usize, align: u32, what: &str) -> Lifted<std::ops::Range<usize>> {
    if !ptr.is_multiple_of(align) {
        return broken(format!("{what} at {ptr:#x} is not aligned to {align}"));
    }
    let start = ptr as usize;
    match start.checked_add(len) {
        Some(end) if end <= memory => Ok(start..end),
        _ => broken(format!(
            "{what} at {ptr:#x} with {len} bytes leaves the memory of {memory} bytes"
        )),
    }
}

impl<'a> View<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> View<'a> {
        View { bytes }
    }

    /// A `list<u8>` of at most `limit` bytes, given by pointer and length.
    pub(super) fn list(&self, ptr: u32, len: u32, limit: usize, what: &str) -> Lifted<&'a [u8]> {
        let range = place(self.bytes.len(), ptr, len as usize, 1, what)?;
        if range.len() > limit {
            return Err(TurnFailure::TooLarge(format!(
                "{what} has {len} bytes, at most {limit} are allowed"
            )));
        }
        Ok(&self.bytes[range])
    }

    /// A `string`.
    pub(super) fn text(&self, ptr: u32, len: u32, limit: usize, what: &str) -> Lifted<&'a str> {
        match std::str::from_utf8(self.list(ptr, len, limit, what)?) {
            Ok(text) => Ok(text),
            Err(_) => broken(format!("{what} is not UTF-8")),
        }
    }

    /// `describe`'s result.
    pub(super) fn list_result(&self, ptr: u32, limit: usize) -> Lifted<Vec<u8>> {
        let record = self.record::<8>(ptr, "the result")?;
        Ok(self.list(record.word(0), record.word(4), limit, "the result")?.to_vec())
    }

    /// `result<list<u8>, fault>`, or `result<_, fault>` when there's no value.
    pub(super) fn result(&self, ptr: u32, has_value: bool, limit: usize) -> Lifted<Result<Vec<u8>, Fault>> {
        let record = self.record::<44>(ptr, "the result")?;
        match record.0[0] {
            0 if has_value => Ok(Ok(self
                .list(record.word(4), record.word(8), limit, "the result")?
                .to_vec())),
            0 => Ok(Ok(Vec::new())),
            1 => self.fault(&record, limit).map(Err),
            tag => broken(format!("a result with tag {tag}")),
        }
    }

    /// One call of `invoke`, given by its flattened fields.
    pub(super) fn call(&self, fields: [u32; 8], limit: usize) -> Lifted<GuestCall> {
        let text = |i: usize, what| self.text(fields[i], fields[i + 1], limit, what).map(str::to_owned);
        Ok(GuestCall {
            kind: text(0, "a call's grain type")?,
            key: text(2, "a call's key")?,
            method: text(4, "a call's method")?,
            args: self.list(fields[6], fields[7], limit, "a call's arguments")?.to_vec(),
        })
    }

    /// The calls of `invoke-all`; all of them together have at most `limit` bytes (they may share memory, copies don't).
    pub(super) fn calls(&self, ptr: u32, len: u32, most: usize, limit: usize) -> Lifted<Vec<GuestCall>> {
        if len as usize > most {
            return Err(TurnFailure::TooLarge(format!(
                "{len} calls at a time, at most {most} are allowed"
            )));
        }
        place(self.bytes.len(), ptr, len as usize * 32, 4, "the list of calls")?;
        let mut left = limit;
        (0..len)
            .map(|i| {
                let record = self.record::<32>(ptr + i * 32, "a call")?;
                let call = self.call(std::array::from_fn(|field| record.word(4 * field)), left)?;
                left = left.checked_sub(call.size()).ok_or_else(|| {
                    TurnFailure::TooLarge(format!("parallel calls with more than {limit} bytes together"))
                })?;
                Ok(call)
            })
            .collect()
    }

    fn fault(&self, record: &Record<44>, limit: usize) -> Lifted<Fault> {
        let kind = match record.0[4] {
            0 => FaultKind::BadArguments,
            1 => FaultKind::UnknownMethod,
            2 => FaultKind::GuestError,
            3 => FaultKind::CallFailed,
            tag => return broken(format!("a fault of kind {tag}")),
        };
        Ok(Fault {
            kind,
            message: self
                .text(record.word(8), record.word(12), limit, "a fault's message")?
                .to_owned(),
            error: match self.option(record.0[16])? {
                true => Some(
                    self.list(record.word(20), record.word(24), limit, "a fault's error")?
                        .to_vec(),
                ),
                false => None,
            },
            status: self
                .option(record.0[28])?
                .then(|| u16::from_le_bytes([record.0[30], record.0[31]])),
            code: match self.option(record.0[32])? {
                true => Some(
                    self.text(record.word(36), record.word(40), limit, "a fault's code")?
                        .to_owned(),
                ),
                false => None,
            },
        })
    }

    fn option(&self, tag: u8) -> Lifted<bool> {
        match tag {
            0 => Ok(false),
            1 => Ok(true),
            tag => broken(format!("an option with tag {tag}")),
        }
    }

    fn record<const N: usize>(&self, ptr: u32, what: &str) -> Lifted<Record<N>> {
        let range = place(self.bytes.len(), ptr, N, 4, what)?;
        let mut record = Record([0; N]);
        record.0.copy_from_slice(&self.bytes[range]);
        Ok(record)
    }
}

/// A record's bytes, copied out of the memory.
struct Record<const N: usize>([u8; N]);

impl<const N: usize> Record<N> {
    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

/// The buffers of one call's reply, in the order in which [`call_result`] uses them.
pub(super) fn reply_buffers(reply: Result<Vec<u8>, GuestCallError>) -> (Vec<Vec<u8>>, Shape) {
    match reply {
        Ok(value) => (vec![value], Shape::Value),
        Err(GuestCallError {
            code,
            message,
            error: None,
        }) => (vec![code.into_bytes(), message.into_bytes()], Shape::Error),
        Err(GuestCallError {
            code,
            message,
            error: Some(error),
        }) => (
            vec![code.into_bytes(), message.into_bytes(), error],
            Shape::ErrorWithValue,
        ),
    }
}

/// How many buffers a reply has and what they are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// The value.
    Value,
    /// Code, message.
    Error,
    /// Code, message, the callee's own error.
    ErrorWithValue,
}

/// A `result<list<u8>, call-error>` whose buffers (pointer, length) come from `buffers`.
pub(super) fn call_result(shape: Shape, buffers: &mut impl Iterator<Item = (u32, u32)>) -> [u8; CALL_RESULT] {
    let mut out = [0; CALL_RESULT];
    let mut list = |at: usize| {
        let (ptr, len) = buffers.next().expect("one for each of the shape's buffers");
        out[at..at + 4].copy_from_slice(&ptr.to_le_bytes());
        out[at + 4..at + 8].copy_from_slice(&len.to_le_bytes());
    };
    list(4);
    if let Shape::Error | Shape::ErrorWithValue = shape {
        list(12);
    }
    if let Shape::ErrorWithValue = shape {
        list(24);
    }
    if let Shape::Error | Shape::ErrorWithValue = shape {
        out[0] = 1;
        out[20] = matches!(shape, Shape::ErrorWithValue) as u8;
    }
    out
}
