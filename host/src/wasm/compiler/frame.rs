//! What goes to a child and what comes back: a few lengths, a hash, bytes.
//!
//! A child has read what a stranger wrote, so its answer is read like any input: bounded, and whole or not at all.

use std::io::{self, Read, Write};

use serde::Deserialize;

use super::Task;
use crate::wasm::config::WasmConfig;
use crate::wasm::module::ModuleError;

/// The largest configuration in bytes that a child reads.
const CONFIG_LIMIT: usize = 64 << 10;
/// The longest text of a refusal in bytes.
const TEXT_LIMIT: usize = 16 << 10;
/// What an answer begins with.
const MAGIC: &[u8; 8] = b"granary\x02";
/// Each tag's answer: bytes, or a text that says why there are none.
const DONE: u8 = 0;
const NOT_COMPILED: u8 = 1;
const NOT_DESCRIBED: u8 = 2;
const HOST_FAILED: u8 = 3;

/// A task with all that it needs.
pub(super) struct Request<'a> {
    pub(super) task: Task,
    pub(super) config: &'a WasmConfig,
    pub(super) wasm: &'a [u8],
    pub(super) code: &'a [u8],
}

/// The same, read.
pub(super) struct Received {
    pub(super) task: Task,
    pub(super) config: WasmConfig,
    pub(super) wasm: Vec<u8>,
    pub(super) code: Vec<u8>,
}

impl Request<'_> {
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let head = serde_json::to_vec(&(self.task, self.config)).map_err(io::Error::other)?;
        for part in [&head, self.wasm, self.code] {
            out.write_all(&(part.len() as u64).to_le_bytes())?;
            out.write_all(part)?;
        }
        out.flush()
    }
}

impl Received {
    pub(super) fn read(from: &mut impl Read) -> io::Result<Received> {
        let head = part(from, CONFIG_LIMIT)?;
        let (task, config) = <(Task, WasmConfig)>::deserialize(&mut serde_json::Deserializer::from_slice(&head))?;
        let wasm = part(from, usize::MAX)?;
        let code = part(from, usize::MAX)?;
        Ok(Received {
            task,
            config,
            wasm,
            code,
        })
    }
}

fn part(from: &mut impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > limit as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Writes the answer to a request.
pub(super) fn answer(result: &Result<Vec<u8>, ModuleError>, out: &mut impl Write) -> io::Result<()> {
    let text;
    let (tag, bytes) = match result {
        Ok(bytes) => (DONE, bytes.as_slice()),
        Err(error) => {
            let (tag, words) = match error {
                ModuleError::Compile(words) => (NOT_COMPILED, words.clone()),
                ModuleError::Describe(words) => (NOT_DESCRIBED, words.clone()),
                other => (HOST_FAILED, other.to_string()),
            };
            text = words;
            (tag, &text.as_bytes()[..text.floor_char_boundary(TEXT_LIMIT)])
        }
    };
    out.write_all(MAGIC)?;
    out.write_all(&[tag])?;
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(blake3::hash(bytes).as_bytes())?;
    out.write_all(bytes)?;
    out.flush()
}

/// Reads an answer; `None` when it's none, not whole, or longer than `limit`.
pub(super) fn read_answer(bytes: &[u8], limit: usize) -> Option<Result<Vec<u8>, ModuleError>> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let ([tag], rest) = rest.split_first_chunk::<1>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (hash, body) = rest.split_first_chunk::<{ blake3::OUT_LEN }>()?;
    let is_whole = u64::from_le_bytes(*length) == body.len() as u64 && blake3::hash(body) == *hash;
    if magic != MAGIC || !is_whole {
        return None;
    }
    let text = || String::from_utf8_lossy(body).into_owned();
    match *tag {
        DONE if body.len() <= limit => Some(Ok(body.to_vec())),
        NOT_COMPILED => Some(Err(ModuleError::Compile(text()))),
        NOT_DESCRIBED => Some(Err(ModuleError::Describe(text()))),
        HOST_FAILED => Some(Err(ModuleError::Host(text()))),
        _ => None,
    }
}

/// The longest answer to read: one that holds `limit` bytes, or a text.
pub(super) fn answer_limit(limit: usize) -> usize {
    MAGIC.len() + 1 + 8 + blake3::OUT_LEN + limit.max(TEXT_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(result: &Result<Vec<u8>, ModuleError>) -> Vec<u8> {
        let mut bytes = Vec::new();
        answer(result, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let good = sent(&Ok(vec![7; 300]));
        assert!(good.len() <= answer_limit(300));
        assert_eq!(read_answer(&good, 300).unwrap().unwrap(), [7; 300]);
        assert!(read_answer(&good, 299).is_none(), "longer than allowed");
        for len in 0..good.len() {
            assert!(read_answer(&good[..len], 300).is_none(), "cut at {len}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            assert!(
                !matches!(read_answer(&bad, 300), Some(Ok(bytes)) if bytes != [7; 300]),
                "byte {at}"
            );
        }
        assert!(read_answer(b"hello", 300).is_none());
    }

    #[test]
    fn refusals_keep_their_kind_and_words() {
        let words = |error: &ModuleError| error.to_string();
        for error in [
            ModuleError::Compile("too odd".to_owned()),
            ModuleError::Describe("it traps".to_owned()),
        ] {
            let back = read_answer(&sent(&Err(error.clone())), 10).unwrap().unwrap_err();
            assert_eq!(words(&back), words(&error));
        }
        let long = ModuleError::Compile("ü".repeat(TEXT_LIMIT));
        let back = read_answer(&sent(&Err(long)), 10).unwrap().unwrap_err();
        assert!(matches!(back, ModuleError::Compile(text) if text.len() <= TEXT_LIMIT && text.ends_with('ü')));
    }

    #[test]
    fn a_request_comes_back_as_it_was() {
        let config = WasmConfig::default();
        let request = Request {
            task: Task::Describe,
            config: &config,
            wasm: b"wasm",
            code: b"code",
        };
        let mut bytes = Vec::new();
        request.write(&mut bytes).unwrap();
        let back = Received::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(
            (back.task, back.wasm.as_slice(), back.code.as_slice()),
            (Task::Describe, &b"wasm"[..], &b"code"[..])
        );
        assert_eq!(back.config.memory_limit, config.memory_limit);
        assert!(Received::read(&mut &bytes[..bytes.len() - 1]).is_err());
    }
}
