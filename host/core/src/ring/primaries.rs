//! Which of its hosts is a slot's primary: as even as the replicas, with as few changes.
//!
//! The directory and most activations of a slot are at its primary, so load follows primaries more than replicas.
//!
//! **Not here:** which hosts a slot has ([`super::table`]).

use super::table::{Share, Table};
use crate::config_chain::config::Member;
use crate::slot::SLOTS;

/// A primary for each slot, the one that it had (`kept`) when it still holds the slot and isn't above its share.
pub(super) fn choose(table: &Table, members: &[Member], kept: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
    let slots = usize::from(SLOTS);
    let shares = Share::divide(members, u64::from(SLOTS), u64::from(SLOTS));
    let mut counts = vec![0u64; members.len()];
    let mut chosen: Vec<Option<usize>> = (0..slots)
        .map(|slot| kept(slot).filter(|host| table.held(slot).contains(host)))
        .collect();
    chosen.iter().flatten().for_each(|host| counts[*host] += 1);
    for (slot, chosen) in chosen.iter_mut().enumerate().filter(|(_, chosen)| chosen.is_none()) {
        let level = |host: &usize| (counts[*host] * 1000 / shares[*host].fair, table.price(slot, *host));
        let host = table
            .held(slot)
            .iter()
            .copied()
            .min_by_key(level)
            .expect("every slot has hosts");
        counts[host] += 1;
        *chosen = Some(host);
    }
    let mut chosen: Vec<usize> = chosen.into_iter().flatten().collect();
    // Those far below their share take from those above theirs; then those above the cap give to whoever has room.
    for floor in [true, false] {
        for taker in 0..members.len() {
            if counts[taker] >= shares[taker].low {
                continue;
            }
            let mut open: Vec<usize> = (0..slots)
                .filter(|slot| chosen[*slot] != taker && table.held(*slot).contains(&taker))
                .collect();
            open.sort_by_key(|slot| table.price(*slot, taker));
            for slot in open {
                let giver = chosen[slot];
                let least = if floor { shares[giver].fair } else { shares[giver].low };
                if counts[taker] < shares[taker].fair && counts[giver] > least {
                    chosen[slot] = taker;
                    counts[taker] += 1;
                    counts[giver] -= 1;
                }
            }
        }
    }
    for (slot, primary) in chosen.iter_mut().enumerate() {
        let giver = *primary;
        if counts[giver] <= shares[giver].high {
            continue;
        }
        let room = table
            .held(slot)
            .iter()
            .copied()
            .filter(|host| counts[*host] < shares[*host].fair);
        if let Some(taker) = room.min_by_key(|host| table.price(slot, *host)) {
            *primary = taker;
            counts[taker] += 1;
            counts[giver] -= 1;
        }
    }
    chosen
}
