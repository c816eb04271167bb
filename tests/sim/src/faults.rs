//! What goes wrong, how long for, and how often.
//!
//! **Not here:** how it's done to a host or the network ([`crate::world`]).

use crate::dice::Dice;
use crate::queue::{MILLIS, Nanos, SECONDS};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A host's process ends, and what wasn't synced may be lost. It starts again.
    Crash,
    /// All of them at once: the power fails.
    PowerLoss,
    /// A host stands still, and goes on later.
    Pause,
    /// One host can't reach another, which can reach it.
    OneWay,
    /// Two hosts can't reach each other.
    Pair,
    /// A host reaches nobody.
    Isolation,
    /// The hosts fall into two groups.
    Split,
    /// Messages are lost, doubled and late.
    Lossy,
    /// A host's disk takes long.
    SlowDisk,
    /// A host's clock runs at another rate.
    Skew,
    /// A new host.
    Join,
    /// A host goes for good, in order.
    Leave,
    /// A host's disk is lost; it comes back as another host.
    Wipe,
    /// Slots get other replicas for no reason.
    Reshuffle,
    /// A grain is moved to another host.
    Move,
}

impl Fault {
    /// All kinds, with how often each comes relative to the others.
    pub const ALL: [(Fault, u64); 15] = [
        (Fault::Crash, 20),
        (Fault::PowerLoss, 2),
        (Fault::Pause, 12),
        (Fault::OneWay, 10),
        (Fault::Pair, 6),
        (Fault::Isolation, 8),
        (Fault::Split, 5),
        (Fault::Lossy, 8),
        (Fault::SlowDisk, 5),
        (Fault::Skew, 5),
        (Fault::Join, 4),
        (Fault::Leave, 3),
        (Fault::Wipe, 3),
        (Fault::Reshuffle, 10),
        (Fault::Move, 10),
    ];

    /// One of them.
    pub fn roll(dice: &mut Dice) -> Fault {
        let total = Fault::ALL.iter().map(|(_, weight)| weight).sum();
        let mut at = dice.below(total);
        for (fault, weight) in Fault::ALL {
            match at.checked_sub(weight) {
                None => return fault,
                Some(rest) => at = rest,
            }
        }
        Fault::Crash
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Crash => "crash",
            Fault::PowerLoss => "power-loss",
            Fault::Pause => "pause",
            Fault::OneWay => "one-way",
            Fault::Pair => "pair",
            Fault::Isolation => "isolation",
            Fault::Split => "split",
            Fault::Lossy => "lossy",
            Fault::SlowDisk => "slow-disk",
            Fault::Skew => "skew",
            Fault::Join => "join",
            Fault::Leave => "leave",
            Fault::Wipe => "wipe",
            Fault::Reshuffle => "reshuffle",
            Fault::Move => "move",
        }
    }

    /// How long it lasts: mostly shorter than it takes to be noticed, sometimes longer.
    pub fn lasts(dice: &mut Dice) -> Nanos {
        match dice.percent(60) {
            true => dice.between(20 * MILLIS, 1500 * MILLIS),
            false => dice.between(1500 * MILLIS, 8 * SECONDS),
        }
    }

    /// Until the next one.
    pub fn pause(dice: &mut Dice) -> Nanos {
        dice.between(50 * MILLIS, 2 * SECONDS)
    }
}
