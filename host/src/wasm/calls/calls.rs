//! `granary:grain/calls`: calling other grains.
//!
//! The import suspends the turn until all replies are there. Then the wrapper that the rewrite put around it asks `need` for
//! each buffer, allocates it in wasm and gives it to `put`; when nothing is needed any more, the result is written.

use std::sync::Arc;

use wasmtime::{Caller, Linker};

use super::{GuestCall, GuestCallError, GuestState, TurnKind, memory_and_state};
use crate::wasm::abi::{CALL_RESULT, Shape, View, call_result, place, reply_buffers};
use crate::wasm::failure::{TurnFailure, raise};

const MODULE: &str = "granary:grain/calls@0.1.0";

/// Replies on their way into the guest's memory.
pub(super) struct Reply {
    /// Where the guest wants the result.
    result: u32,
    /// `invoke-all`: the result is a list, which needs a buffer, too.
    many: bool,
    shapes: Vec<Shape>,
    buffers: Vec<Vec<u8>>,
    /// Where the buffers that are done went, and the list behind them.
    placed: Vec<u32>,
}

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "invoke",
        |mut caller: Caller<'_, GuestState>,
         (a, b, c, d, e, f, g, h, result): (u32, u32, u32, u32, u32, u32, u32, u32, u32)| {
            Box::new(async move {
                let (memory, state) = memory_and_state(&mut caller)?;
                state.free_turn()?;
                let limit = state.config.reply_limit;
                let call = View::new(memory).call([a, b, c, d, e, f, g, h], limit).map_err(raise)?;
                let bytes = call.size();
                if bytes > limit {
                    let what = format!("a call with {bytes} bytes, at most {limit} are allowed");
                    return Err(raise(TurnFailure::TooLarge(what)));
                }
                invoke(&mut caller, vec![call], result, false).await
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "invoke-all",
        |mut caller: Caller<'_, GuestState>, (ptr, len, result): (u32, u32, u32)| {
            Box::new(async move {
                let (memory, state) = memory_and_state(&mut caller)?;
                state.free_turn()?;
                let (most, limit) = (state.config.parallel_calls, state.config.reply_limit);
                let calls = View::new(memory).calls(ptr, len, most, limit).map_err(raise)?;
                invoke(&mut caller, calls, result, true).await
            })
        },
    )?;
    Ok(())
}

async fn invoke(
    caller: &mut Caller<'_, GuestState>,
    calls: Vec<GuestCall>,
    result: u32,
    many: bool,
) -> wasmtime::Result<()> {
    let count = calls.len();
    let most = caller.data().config.turn_calls;
    let turn = caller.data_mut().free_turn()?;
    turn.calls += count;
    if turn.calls > most {
        let what = format!("more than {most} calls in one turn: give them to several");
        return Err(raise(TurnFailure::TooLarge(what)));
    }
    if turn.kind == TurnKind::Describe {
        return Err(raise(TurnFailure::Trap {
            message: "describe called another grain".to_owned(),
            code: "describe_import",
        }));
    }
    let host = Arc::clone(&turn.host);
    let replies = if count == 0 {
        Vec::new()
    } else {
        host.invoke(calls).await
    };
    assert_eq!(replies.len(), count, "TurnHost::invoke answers every call");
    let limit = caller.data().config.memory_limit;
    let bytes: usize = replies.iter().flatten().map(Vec::len).sum();
    if bytes > limit {
        let what = format!("the replies of {count} calls have {bytes} bytes, a grain's memory at most {limit}");
        return Err(raise(TurnFailure::TooLarge(what)));
    }
    caller.data_mut().turn()?.reply = Some(Reply::new(result, many, replies));
    Ok(())
}

/// The next buffer that the guest has to allocate, as alignment and length; negative when the reply is complete.
pub(super) fn need(caller: &mut Caller<'_, GuestState>) -> wasmtime::Result<i64> {
    let (memory, state) = memory_and_state(caller)?;
    let turn = state.turn()?;
    let reply = turn
        .reply
        .as_mut()
        .ok_or_else(|| raise(TurnFailure::Abi("no call is being answered".to_owned())))?;
    if let Some((align, len)) = reply.next() {
        return Ok(i64::from(align) << 32 | len as i64);
    }
    reply.finish(memory).map_err(raise)?;
    turn.reply = None;
    Ok(-1)
}

impl Reply {
    fn new(result: u32, many: bool, replies: Vec<Result<Vec<u8>, GuestCallError>>) -> Reply {
        let mut reply = Reply {
            result,
            many,
            shapes: Vec::new(),
            buffers: Vec::new(),
            placed: Vec::new(),
        };
        for one in replies {
            let (buffers, shape) = reply_buffers(one);
            reply.buffers.extend(buffers);
            reply.shapes.push(shape);
        }
        reply
    }

    /// Alignment and length of the next buffer: those of the replies, then the list of them.
    fn next(&self) -> Option<(u32, usize)> {
        match self.buffers.get(self.placed.len()) {
            Some(bytes) => Some((1, bytes.len())),
            None if self.many && self.placed.len() == self.buffers.len() => Some((4, self.shapes.len() * CALL_RESULT)),
            None => None,
        }
    }

    pub(super) fn put(&mut self, memory: &mut [u8], ptr: u32) -> Result<(), TurnFailure> {
        let Some((align, len)) = self.next() else {
            return Err(TurnFailure::Abi("a buffer that nobody asked for".to_owned()));
        };
        let range = place(memory.len(), ptr, len, align, "what cabi_realloc returned")?;
        match self.buffers.get(self.placed.len()) {
            Some(bytes) => memory[range].copy_from_slice(bytes),
            None => self.write_results(&mut memory[range]),
        }
        self.placed.push(ptr);
        Ok(())
    }

    /// Writes what the guest's result pointer is to point at.
    fn finish(&self, memory: &mut [u8]) -> Result<(), TurnFailure> {
        if !self.many {
            let range = place(memory.len(), self.result, CALL_RESULT, 4, "the result's place")?;
            self.write_results(&mut memory[range]);
            return Ok(());
        }
        let range = place(memory.len(), self.result, 8, 4, "the result's place")?;
        let list = *self.placed.last().expect("the list was placed last");
        let (ptr, len) = memory[range].split_at_mut(4);
        ptr.copy_from_slice(&list.to_le_bytes());
        len.copy_from_slice(&(self.shapes.len() as u32).to_le_bytes());
        Ok(())
    }

    fn write_results(&self, out: &mut [u8]) {
        let mut buffers = self
            .placed
            .iter()
            .zip(&self.buffers)
            .map(|(ptr, bytes)| (*ptr, bytes.len() as u32));
        for (shape, place) in self.shapes.iter().zip(out.chunks_exact_mut(CALL_RESULT)) {
            place.copy_from_slice(&call_result(*shape, &mut buffers));
        }
    }
}
