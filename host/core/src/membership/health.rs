//! How far this host trusts its own clock and network.
//!
//! A host that is starved of CPU sees everybody fail its probes, and would have healthy members called dead. So a host first
//! suspects itself: each probe that fails raises a score, each direct answer lowers it, and the higher the score, the longer
//! a member that this host suspects has time to object. The idea is Lifeguard's (Dadgar, Phillips, Currey: "Lifeguard: local
//! health awareness for more accurate failure detection", 2018, section IV).
//!
//! **Not here:** that paper's shrinking suspicion and its buddy system.

/// The score: 0 is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Health {
    score: u8,
    most: u8,
}

impl Health {
    /// A healthy host whose score rises to `most` and no further.
    pub(super) fn new(most: u8) -> Health {
        Health { score: 0, most }
    }

    /// A probe failed, or this host was late itself.
    pub(super) fn worsen(&mut self) {
        self.score = self.most.min(self.score + 1);
    }

    /// A probe was answered.
    pub(super) fn improve(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// 0 to `most`.
    pub(super) fn score(self) -> u8 {
        self.score
    }

    /// What the score says about a suspicion that was raised when it was `then`. The failed probe behind the suspicion itself
    /// doesn't count, else every lone death would take twice as long to be seen.
    pub(super) fn since(self, then: u8) -> u8 {
        then.max(self.score.saturating_sub(1))
    }
}
