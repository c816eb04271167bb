//! Slots and the hosts that hold them, while they are being assigned.
//!
//! Hosts are their places in the list of members here, slots their numbers. See [`super`] for the rules.
//!
//! **Not here:** which of a slot's hosts is its primary ([`super::primaries`]).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::config_chain::config::Member;
use crate::slot::SLOTS;

/// What a host should hold: `fair`, at least `low`, at most `high`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) fair: u64,
    pub(super) low: u64,
    pub(super) high: u64,
}

impl Share {
    /// Shares of `total` by weight, none above `most`: what a heavy host can't take is shared by the others.
    pub(super) fn divide(members: &[Member], total: u64, most: u64) -> Vec<Share> {
        let weights: Vec<u64> = members.iter().map(|member| u64::from(member.weight.max(1))).collect();
        Share::by_weights(&weights, total, most)
    }

    /// The same when no slot may have two replicas in one of `count` zones: first each zone's share, then its hosts' shares of that.
    fn divide_by_zones(members: &[Member], zones: &[usize], count: usize, total: u64, most: u64) -> Vec<Share> {
        let weight = |member: &Member| u64::from(member.weight.max(1));
        let in_zone = |zone: usize| (0..members.len()).filter(move |at| zones[*at] == zone);
        let of_zones: Vec<u64> = (0..count)
            .map(|zone| in_zone(zone).map(|at| weight(&members[at])).sum())
            .collect();
        let mut shares: Vec<Option<Share>> = vec![None; members.len()];
        for (zone, share) in Share::by_weights(&of_zones, total, most).into_iter().enumerate() {
            let weights: Vec<u64> = in_zone(zone).map(|at| weight(&members[at])).collect();
            let within = Share::by_weights(&weights, share.fair, most);
            in_zone(zone)
                .zip(within)
                .for_each(|(at, share)| shares[at] = Some(share));
        }
        shares.into_iter().flatten().collect()
    }

    fn by_weights(all: &[u64], total: u64, most: u64) -> Vec<Share> {
        let mut full = vec![false; all.len()];
        loop {
            let open = || all.iter().zip(&full).filter(|(_, full)| !**full);
            let weights: u64 = open().map(|(weight, _)| weight).sum();
            let left = total.saturating_sub(most * full.iter().filter(|full| **full).count() as u64);
            let shares: Vec<u64> = all
                .iter()
                .zip(&full)
                .map(|(weight, full)| match full {
                    true => most,
                    false => left * weight / weights.max(1),
                })
                .collect();
            let before = full.clone();
            full.iter_mut()
                .zip(&shares)
                .for_each(|(full, share)| *full |= *share >= most);
            if full == before {
                let share = |fair: u64| Share {
                    fair: fair.max(1),
                    low: fair * 95 / 100,
                    high: (fair * 105).div_ceil(100).max(1).min(most),
                };
                return shares.into_iter().map(share).collect();
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Table {
    r: usize,
    prices: Vec<u64>,
    zones: Vec<usize>,
    /// There are so many zones that no slot needs two replicas in one.
    is_apart: bool,
    shares: Vec<Share>,
    held: Vec<Vec<usize>>,
    loads: Vec<u64>,
}

impl Table {
    pub(super) fn new(members: &[Member], r: usize, prices: Vec<u64>) -> Table {
        let mut names = BTreeMap::new();
        let zones = members.iter().map(|member| {
            let next = names.len();
            *names.entry(&member.zone).or_insert(next)
        });
        let zones: Vec<usize> = zones.collect();
        let (total, most) = (r as u64 * u64::from(SLOTS), u64::from(SLOTS));
        let is_apart = names.len() >= r;
        Table {
            r,
            prices,
            is_apart,
            shares: match is_apart {
                true => Share::divide_by_zones(members, &zones, names.len(), total, most),
                false => Share::divide(members, total, most),
            },
            zones,
            held: vec![Vec::new(); usize::from(SLOTS)],
            loads: vec![0; members.len()],
        }
    }

    /// Lets hosts keep a slot.
    pub(super) fn keep(&mut self, slot: usize, hosts: impl Iterator<Item = usize>) {
        for host in hosts.take(self.r) {
            self.held[slot].push(host);
            self.loads[host] += 1;
        }
    }

    /// Gives each slot as many hosts as it needs.
    pub(super) fn fill(&mut self) {
        for slot in 0..self.held.len() {
            while self.held[slot].len() < self.r {
                let rank = |host: &usize| {
                    let (load, share) = (self.loads[*host], self.shares[*host]);
                    let doubled = self.held[slot]
                        .iter()
                        .any(|other| self.zones[*other] == self.zones[*host]);
                    let is_full = load >= share.high;
                    let worst = if self.is_apart {
                        (doubled, is_full)
                    } else {
                        (is_full, doubled)
                    };
                    (worst, load >= share.fair, self.price(slot, *host))
                };
                let others = (0..self.loads.len()).filter(|host| !self.held[slot].contains(host));
                let host = others.min_by_key(rank).expect("there are as many hosts as replicas");
                self.held[slot].push(host);
                self.loads[host] += 1;
            }
        }
    }

    /// Takes replicas out of zones that have two of a slot, when each can be in one of its own.
    pub(super) fn spread(&mut self) {
        for slot in 0..self.held.len() {
            while let Some((giver, taker)) = self.doubled(slot) {
                self.replace(slot, giver, taker);
            }
        }
    }

    /// A replica of a slot that has another one in its zone, and who takes it in a zone that the slot isn't in.
    fn doubled(&self, slot: usize) -> Option<(usize, usize)> {
        let held = &self.held[slot];
        let in_zone = |zone: usize| held.iter().filter(|host| self.zones[**host] == zone).count();
        let level = |host: &usize| self.loads[*host] * 1000 / self.shares[*host].fair;
        let givers = held.iter().copied().filter(|host| in_zone(self.zones[*host]) > 1);
        let giver = givers.filter(|_| self.is_apart).max_by_key(level)?;
        let takers = (0..self.loads.len()).filter(|host| in_zone(self.zones[*host]) == 0);
        let taker = takers.min_by_key(|host| (level(host), self.price(slot, *host)))?;
        Some((giver, taker))
    }

    /// The least that moving a replica may bring in zones: when each can be in one of its own, that stays so.
    fn least_gain(&self) -> isize {
        if self.is_apart { 0 } else { -3 }
    }

    /// Hosts below what they should have at least take from those above their share, up to their own.
    pub(super) fn pull(&mut self) {
        let mut takers: Vec<usize> = (0..self.loads.len())
            .filter(|host| self.loads[*host] < self.shares[*host].low)
            .collect();
        takers.sort_by_key(|host| self.loads[*host] * 1000 / self.shares[*host].fair);
        for taker in takers {
            let mut slots: Vec<usize> = (0..self.held.len())
                .filter(|slot| !self.held[*slot].contains(&taker))
                .collect();
            slots.sort_by_key(|slot| self.price(*slot, taker));
            // First where it brings the slot into another zone, then where it changes nothing, at last where it takes one away.
            for least_gain in [1, 0, self.least_gain()] {
                for slot in &slots {
                    if self.loads[taker] >= self.shares[taker].fair {
                        break;
                    }
                    if !self.held[*slot].contains(&taker) {
                        self.take(*slot, taker, least_gain);
                    }
                }
                if self.loads[taker] >= self.shares[taker].low && least_gain <= 0 {
                    break;
                }
            }
        }
    }

    /// Takes a slot from the one of its hosts that's furthest above its share.
    fn take(&mut self, slot: usize, taker: usize, least_gain: isize) {
        let above = |giver: &usize| {
            self.loads[*giver] > self.shares[*giver].fair && self.gain(slot, *giver, taker) >= least_gain
        };
        let givers = self.held[slot].iter().copied().filter(above);
        if let Some(giver) = givers.max_by_key(|giver| self.loads[*giver] * 1000 / self.shares[*giver].fair) {
            self.replace(slot, giver, taker);
        }
    }

    /// Hosts above the cap give to those below their share.
    pub(super) fn push(&mut self) {
        for giver in 0..self.loads.len() {
            if self.loads[giver] <= self.shares[giver].high {
                continue;
            }
            let mut slots: Vec<usize> = (0..self.held.len())
                .filter(|slot| self.held[*slot].contains(&giver))
                .collect();
            slots.sort_by_key(|slot| Reverse(self.price(*slot, giver)));
            for (least_gain, to_cap) in [(0, false), (0, true), (self.least_gain(), true)] {
                for slot in &slots {
                    if self.loads[giver] <= self.shares[giver].high {
                        break;
                    }
                    if self.held[*slot].contains(&giver) {
                        self.give(*slot, giver, least_gain, to_cap);
                    }
                }
            }
        }
    }

    fn give(&mut self, slot: usize, giver: usize, least_gain: isize, to_cap: bool) {
        let room = |host: &usize| {
            let share = self.shares[*host];
            let limit = if to_cap { share.high } else { share.fair };
            self.loads[*host] < limit && !self.held[slot].contains(host) && self.gain(slot, giver, *host) >= least_gain
        };
        let takers = (0..self.loads.len()).filter(room);
        if let Some(taker) = takers.min_by_key(|host| self.price(slot, *host)) {
            self.replace(slot, giver, taker);
        }
    }

    fn replace(&mut self, slot: usize, giver: usize, taker: usize) {
        let at = self.held[slot]
            .iter()
            .position(|host| *host == giver)
            .expect("a giver holds what it gives");
        self.held[slot][at] = taker;
        self.loads[giver] -= 1;
        self.loads[taker] += 1;
    }

    /// How many more zones a slot is in with `taker` in place of `giver`.
    fn gain(&self, slot: usize, giver: usize, taker: usize) -> isize {
        let others = || self.held[slot].iter().filter(|host| **host != giver);
        let adds = |host: usize| isize::from(others().all(|other| self.zones[*other] != self.zones[host]));
        adds(taker) - adds(giver)
    }

    pub(super) fn price(&self, slot: usize, host: usize) -> u64 {
        self.prices[host * usize::from(SLOTS) + slot]
    }

    pub(super) fn held(&self, slot: usize) -> &[usize] {
        &self.held[slot]
    }
}
