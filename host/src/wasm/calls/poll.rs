//! WASI's `poll_oneoff`: waiting for clocks and standard streams, in place of the WASI library's.
//!
//! The library waits for as long as a guest says, and makes a timer for each of however many subscriptions; here the turn's
//! deadline ends the wait, and the turn. Nothing is made for a subscription: the next clock to come decides how long to wait,
//! the streams are always ready. **Not here:** any other descriptor; a guest has none.

use std::time::Duration;

use wasmtime::{Caller, Linker};
use wasmtime_wasi::HostMonotonicClock;

use super::wasi::{BADF, FAULT, INVAL, MODULE, SUCCESS, SteadyClock};
use super::{GuestState, memory_and_state};
use crate::clock::since_1970;
use crate::wasm::failure::{TurnFailure, raise};

/// Bytes of a subscription: userdata @0, tag @8, then clock @16, timeout @24, flags @40 or the descriptor @16.
const SUBSCRIPTION: usize = 48;
/// Bytes of an event: userdata @0, error @8, type @10, the rest is for streams.
const EVENT: usize = 32;
/// Which clocks there are.
const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;
/// The flag of a timeout that is a time, not a duration.
const ABSOLUTE: u16 = 1;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "poll_oneoff",
        |mut caller: Caller<'_, GuestState>, (list, events, count, written): (u32, u32, u32, u32)| {
            Box::new(async move {
                let subscriptions = match read(&mut caller, list, count)? {
                    Ok(subscriptions) => subscriptions,
                    Err(errno) => return Ok(errno),
                };
                wait(&mut caller, &subscriptions).await?;
                write(&mut caller, &subscriptions, events, written)
            })
        },
    )?;
    Ok(())
}

/// What a guest waits for.
struct Subscription {
    userdata: u64,
    /// 0 for a clock, 1 to read, 2 to write.
    tag: u8,
    /// How the subscription is answered, whenever: a descriptor that doesn't exist is an event of its own.
    errno: u32,
    /// When it is ready, as seen by [`SteadyClock`].
    ready_at: u64,
}

/// The subscriptions, or an errno.
fn read(
    caller: &mut Caller<'_, GuestState>,
    list: u32,
    count: u32,
) -> wasmtime::Result<Result<Vec<Subscription>, u32>> {
    let (memory, state) = memory_and_state(caller)?;
    let most = state.config.subscriptions;
    if count > most {
        return Err(raise(TurnFailure::Trap {
            message: format!("poll_oneoff with {count} subscriptions, at most {most} are allowed"),
            code: "too_many_subscriptions",
        }));
    }
    let len = count as usize * SUBSCRIPTION;
    let Some(bytes) = memory.get(list as usize..).and_then(|rest| rest.get(..len)) else {
        return Ok(Err(FAULT));
    };
    if count == 0 {
        // To wait for nothing is to wait for ever.
        return Ok(Err(INVAL));
    }
    let now = SteadyClock.now();
    Ok(bytes.chunks_exact(SUBSCRIPTION).map(|bytes| one(bytes, now)).collect())
}

fn one(bytes: &[u8], now: u64) -> Result<Subscription, u32> {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let (tag, userdata) = (bytes[8], long(0));
    let mut subscription = Subscription {
        userdata,
        tag,
        errno: SUCCESS,
        ready_at: now,
    };
    match tag {
        0 => {
            let is_absolute = word(40) as u16 & ABSOLUTE != 0;
            subscription.ready_at = match (word(16), is_absolute) {
                (MONOTONIC, true) => long(24),
                (REALTIME, true) => now.saturating_add(long(24).saturating_sub(since_1970().as_nanos() as u64)),
                (REALTIME | MONOTONIC, false) => now.saturating_add(long(24)),
                _ => return Err(INVAL),
            };
        }
        1 | 2 => {
            let is_one = if tag == 1 {
                word(16) == 0
            } else {
                matches!(word(16), 1 | 2)
            };
            subscription.errno = if is_one { SUCCESS } else { BADF };
        }
        _ => return Err(INVAL),
    }
    Ok(subscription)
}

/// Waits for the first of them, at most until the turn's deadline, which ends the turn.
async fn wait(caller: &mut Caller<'_, GuestState>, subscriptions: &[Subscription]) -> wasmtime::Result<()> {
    let first = subscriptions.iter().map(|one| one.ready_at).min().unwrap_or_default();
    let wanted = Duration::from_nanos(first.saturating_sub(SteadyClock.now()));
    if wanted.is_zero() {
        return Ok(());
    }
    let left = caller.data_mut().turn()?.host.time_left();
    tokio::time::sleep(wanted.min(left)).await;
    if wanted >= left {
        return Err(raise(TurnFailure::Deadline));
    }
    Ok(())
}

/// Writes an event for each that is ready, and how many those are. Returns an errno.
fn write(
    caller: &mut Caller<'_, GuestState>,
    subscriptions: &[Subscription],
    events: u32,
    written: u32,
) -> wasmtime::Result<u32> {
    let (memory, _) = memory_and_state(caller)?;
    let now = SteadyClock.now();
    // A timer that rang a moment early has rung.
    let first = subscriptions.iter().map(|one| one.ready_at).min().unwrap_or_default();
    let ready: Vec<_> = subscriptions
        .iter()
        .filter(|one| one.ready_at <= now.max(first))
        .collect();
    let Some(places) = memory
        .get_mut(events as usize..)
        .and_then(|rest| rest.get_mut(..ready.len() * EVENT))
    else {
        return Ok(FAULT);
    };
    for (one, place) in ready.iter().zip(places.chunks_exact_mut(EVENT)) {
        place.fill(0);
        place[..8].copy_from_slice(&one.userdata.to_le_bytes());
        place[8] = one.errno as u8;
        place[10] = one.tag;
        // A stream takes or gives at least a byte.
        place[16] = u8::from(one.tag != 0);
    }
    let Some(place) = memory
        .get_mut(written as usize..)
        .and_then(|rest| rest.first_chunk_mut::<4>())
    else {
        return Ok(FAULT);
    };
    *place = (ready.len() as u32).to_le_bytes();
    Ok(SUCCESS)
}
