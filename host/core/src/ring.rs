//! Which hosts each slot should have: evenly, by weight, over zones, and with as little moving as possible.
//!
//! The base is rendezvous hashing (Thaler, Ravishankar, *Using Name-Based Mappings to Increase Hit Rates*, 1998): each host has a
//! price for each slot, `-log2(blake3(slot, host)) / weight`, and the cheapest get it. Any two hosts' order for a slot hangs on those
//! two alone, so a third that comes or goes moves only what it gets or had. Pure rendezvous leaves hosts up to a fifth apart with
//! this many slots, so no host may get more than 1.05 times its fair share (the cap is from Mirrokni, Thorup, Zadimoghaddam,
//! *Consistent Hashing with Bounded Loads*, 2018).
//!
//! Beginning from the assignment before, in steps: hosts that are left keep what they had; gaps go to the cheapest host
//! with room, in a zone that the slot hasn't got yet if there is one; hosts far below their share pull slots from hosts above theirs;
//! hosts above the cap push. The same is done for the primaries, since load follows them.
//!
//! **Zones.** With as many zones as a slot has replicas, or more, no slot has two replicas in one: whoever names zones wants to lose one
//! and go on. A host's fair share is its share of what its zone takes then, so a zone of few hosts may take more a host. With fewer
//! zones they are spread as far as the cap allows.
//!
//! The result is proposed, agreed, and then read from the configuration: no two hosts need to compute the same.
//!
//! **Not here:** where data of a slot is taken from ([`crate::config_chain`]), load by what grains really do (placement).

mod primaries;
mod table;

use crate::config_chain::config::{Config, Member, Replicas};
use crate::id::HostId;
use crate::slot::{SLOTS, Slot};
use table::Table;

/// The replicas of every slot among `members`, with as few changes as possible against `before`.
///
/// # Panics
///
/// When there are no members.
pub fn assign(members: &[Member], before: Option<&[Replicas]>) -> Vec<Replicas> {
    assert!(!members.is_empty(), "somebody has to hold the slots");
    let hosts: Vec<HostId> = members.iter().map(|member| member.host).collect();
    let mut table = Table::new(members, Config::replicas_of(members.len()), prices(members));
    for (slot, replicas) in before.unwrap_or_default().iter().enumerate() {
        table.keep(
            slot,
            replicas
                .hosts()
                .iter()
                .filter_map(|host| hosts.iter().position(|other| other == host)),
        );
    }
    table.fill();
    table.spread();
    table.pull();
    table.push();
    let first = |slot: usize| before.map(|before| before[slot].hosts()[0]);
    let kept = |slot: usize| first(slot).and_then(|host| hosts.iter().position(|other| *other == host));
    let primaries = primaries::choose(&table, members, kept);
    let slots = primaries.into_iter().enumerate().map(|(slot, primary)| {
        let mut held = table.held(slot).to_vec();
        held.sort_by_key(|at| (*at != primary, table.price(slot, *at)));
        let held: Vec<HostId> = held.into_iter().map(|at| hosts[at]).collect();
        Replicas::new(&held).expect("a slot is given to each host once, and to no more than it has replicas")
    });
    slots.collect()
}

/// Every host's price for every slot: `hosts x SLOTS`, a host's in a row.
fn prices(members: &[Member]) -> Vec<u64> {
    let mut prices = Vec::with_capacity(members.len() * usize::from(SLOTS));
    for member in members {
        prices.extend(Slot::all().map(|slot| {
            let mut hash = blake3::Hasher::new();
            hash.update(&slot.number().to_le_bytes()).update(&member.host.0);
            let mut drawn = [0; 8];
            drawn.copy_from_slice(&hash.finalize().as_bytes()[..8]);
            (negative_log2(u64::from_le_bytes(drawn)) << 20) / u64::from(member.weight.max(1))
        }));
    }
    prices
}

/// `-log2(drawn / 2^64)` with 32 binary digits after the point. Whole numbers, so that each machine finds the same.
fn negative_log2(drawn: u64) -> u64 {
    let drawn = drawn | 1;
    let zeros = drawn.leading_zeros();
    // A number from 1 to 2, as 1.63 fixed point; each squaring gives one binary digit of its logarithm.
    let mut x = drawn << zeros;
    let mut fraction = 0u64;
    for _ in 0..32 {
        let square = u128::from(x) * u128::from(x);
        let carry = (square >> 127) as u32;
        fraction = fraction << 1 | u64::from(carry);
        x = (square >> (63 + carry)) as u64;
    }
    (u64::from(zeros + 1) << 32) - fraction
}

#[cfg(test)]
mod tests;
