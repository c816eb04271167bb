//! How a host stops: what it has begun it ends, its grains go to hosts that stay, and only then it's gone.
//!
//! ```text
//! HandingOver -> Parting -> Refusing -> over
//! ```
//!
//! - *Handing over*: callers of its own get their replies, grains that are called go to other hosts, others are let go. What other hosts send
//!   is served, or sent on to where the grain has gone.
//! - *Parting*: the others are told, so that none looks for a grain here any more. What comes all the same is served.
//! - *Refusing*: questions are sent back untouched, for their senders to ask elsewhere; those that were taken on are answered.
//!
//! All of it has one limit. When that's over the host still says good-bye, since others would wait for a silent one; what it leaves
//! undone it says at its end. A host that is alone, or sees nobody who could take anything, has nothing to hand over and nobody to tell.
//!
//! **Not here:** how a grain gets to another host, who gets it ([`crate::placement::heir`]).

use crate::time::Time;

/// The good-bye is said, and questions that were taken on are answered, for so long beyond the limit.
const LAST_NANOS: u64 = 1_000_000_000;
/// Grains that were called within this time are handed over: their next call finds them in memory. Others are let go, which costs nothing.
const CALLED_NANOS: u64 = 10_000_000_000;

/// What there is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Requests of this host's own callers that are open.
    pub requests: usize,
    /// Grains in memory, and those that have left it and whose last commit no quorum has accepted yet.
    pub grains: usize,
    /// Questions of other hosts that this one works on.
    pub questions: usize,
    /// In which company it stops.
    pub company: Company,
    /// The good-bye is said.
    pub has_parted: bool,
}

/// Who else is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Nobody, and nobody is needed: turns can end and commits get durable.
    Alone,
    /// Others that can take grains.
    Others,
    /// Others would be needed, and none answers: nothing that waits for them will end.
    Missing,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Let grains go that are at rest.
    LetGo,
    /// Give grains to other hosts, and let those go that nobody calls.
    HandOver,
    /// Say good-bye.
    Part,
    /// Send back what other hosts ask from now on.
    Refuse,
    /// Close everything.
    End(Report),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Nothing was left undone.
    pub is_peaceful: bool,
    /// Everything that other hosts' questions asked for is answered: what got no answer was never taken on.
    pub is_answered: bool,
    /// What was left.
    pub left: Sight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    HandingOver,
    Parting,
    Refusing,
    Over,
}

/// See the module's text.
#[derive(Debug)]
pub struct Stopping {
    phase: Phase,
    /// When everything should have ended,
    until: Time,
    /// and when it does, if nobody is there who is needed.
    missing_until: Time,
}

impl Stopping {
    /// A host that is told to stop. `limit_nanos` for everything; `missing_nanos` where others are missing.
    pub fn new(now: Time, limit_nanos: u64, missing_nanos: u64) -> Stopping {
        Stopping {
            phase: Phase::HandingOver,
            until: now.plus_nanos(limit_nanos),
            missing_until: now.plus_nanos(missing_nanos.min(limit_nanos)),
        }
    }

    /// Takes one look and appends what is to be done, in order.
    pub fn handle(&mut self, now: Time, sight: Sight, out: &mut Vec<Output>) {
        let limit = match sight.company {
            Company::Missing => self.missing_until,
            Company::Alone | Company::Others => self.until,
        };
        let is_late = now >= limit;
        let is_last = now >= limit.plus_nanos(LAST_NANOS);
        if self.phase == Phase::HandingOver {
            self.hand_over(&sight, is_late, out);
        }
        if self.phase == Phase::Parting {
            if sight.grains > 0 && !is_late {
                out.push(Output::HandOver);
            }
            if sight.has_parted && (sight.grains == 0 || is_late) {
                self.phase = Phase::Refusing;
                // What is under way is seen by the next look: it may be more than this one has seen.
                return out.push(Output::Refuse);
            }
        }
        if self.phase == Phase::Refusing {
            if sight.grains > 0 {
                out.push(Output::LetGo);
            }
            if sight.questions == 0 && (sight.grains == 0 || is_late) {
                return self.end(sight, out);
            }
        }
        if is_last && self.phase != Phase::Over {
            self.end(sight, out);
        }
    }

    fn hand_over(&mut self, sight: &Sight, is_late: bool, out: &mut Vec<Output>) {
        let is_done = sight.grains == 0 && sight.requests == 0;
        match sight.company {
            Company::Others => {
                if sight.grains > 0 && !is_late {
                    out.push(Output::HandOver);
                }
                if is_done || is_late {
                    self.phase = Phase::Parting;
                    out.push(Output::Part);
                }
            }
            Company::Alone | Company::Missing => {
                // Callers of its own would bring them back.
                if sight.grains > 0 && sight.requests == 0 {
                    out.push(Output::LetGo);
                }
                if is_done || is_late {
                    self.end(*sight, out);
                }
            }
        }
    }

    fn end(&mut self, left: Sight, out: &mut Vec<Output>) {
        self.phase = Phase::Over;
        out.push(Output::End(Report {
            is_peaceful: left.grains == 0 && left.requests == 0 && left.questions == 0,
            is_answered: left.questions == 0,
            left,
        }));
    }
}

/// Whether a grain is worth its way: it's at work, or was called lately.
pub fn is_wanted(idle_nanos: Option<u64>) -> bool {
    idle_nanos.is_none_or(|nanos| nanos < CALLED_NANOS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const QUIET: Sight = Sight {
        requests: 0,
        grains: 0,
        questions: 0,
        company: Company::Others,
        has_parted: false,
    };

    struct Host(Stopping);

    impl Host {
        fn new() -> Host {
            Host(Stopping::new(Time(0), 20 * SECOND, 2 * SECOND))
        }

        fn look(&mut self, seconds: u64, sight: Sight) -> Vec<Output> {
            let mut out = Vec::new();
            self.0.handle(Time(seconds * SECOND), sight, &mut out);
            out
        }
    }

    fn ends(out: &[Output]) -> Option<Report> {
        match out.last() {
            Some(Output::End(report)) => Some(*report),
            _ => None,
        }
    }

    #[test]
    fn good_bye_is_said_when_all_grains_have_gone_and_all_callers_are_answered() {
        let mut host = Host::new();
        let busy = Sight {
            grains: 2,
            requests: 1,
            ..QUIET
        };
        assert_eq!(host.look(1, busy), [Output::HandOver]);
        assert_eq!(host.look(2, Sight { requests: 1, ..QUIET }), []);
        assert_eq!(host.look(3, Sight { grains: 1, ..QUIET }), [Output::HandOver]);
        assert_eq!(host.look(4, QUIET), [Output::Part]);
    }

    #[test]
    fn questions_are_refused_once_the_others_know_and_those_that_were_taken_are_answered() {
        let mut host = Host::new();
        assert_eq!(host.look(1, QUIET), [Output::Part]);
        assert_eq!(host.look(2, Sight { questions: 3, ..QUIET }), []);
        let parted = Sight {
            has_parted: true,
            questions: 3,
            ..QUIET
        };
        assert_eq!(host.look(3, parted), [Output::Refuse]);
        assert_eq!(host.look(4, parted), []);
        let report = ends(&host.look(5, Sight { questions: 0, ..parted })).unwrap();
        assert!(report.is_peaceful && report.is_answered);
        assert_eq!(host.look(6, parted), [], "it's over");
    }

    #[test]
    fn a_question_that_came_with_the_refusal_is_seen_before_the_end() {
        let mut host = Host::new();
        host.look(1, QUIET);
        assert_eq!(
            host.look(
                2,
                Sight {
                    has_parted: true,
                    ..QUIET
                }
            ),
            [Output::Refuse]
        );
        let taken = Sight {
            has_parted: true,
            questions: 1,
            ..QUIET
        };
        assert_eq!(host.look(3, taken), []);
    }

    #[test]
    fn a_grain_that_a_late_request_has_brought_back_goes_again() {
        let mut host = Host::new();
        host.look(1, QUIET);
        let parted = Sight {
            has_parted: true,
            ..QUIET
        };
        assert_eq!(host.look(2, Sight { grains: 1, ..parted }), [Output::HandOver]);
        assert_eq!(host.look(3, parted), [Output::Refuse]);
        assert_eq!(host.look(4, Sight { grains: 1, ..parted }), [Output::LetGo]);
        assert!(ends(&host.look(5, parted)).unwrap().is_peaceful);
    }

    #[test]
    fn a_turn_without_end_holds_up_nobody_and_the_others_are_told_all_the_same() {
        let mut host = Host::new();
        let stuck = Sight {
            grains: 1,
            questions: 1,
            ..QUIET
        };
        assert_eq!(host.look(19, stuck), [Output::HandOver]);
        assert_eq!(host.look(20, stuck), [Output::Part]);
        assert_eq!(
            host.look(
                20,
                Sight {
                    has_parted: true,
                    ..stuck
                }
            ),
            [Output::Refuse]
        );
        assert_eq!(
            host.look(
                20,
                Sight {
                    has_parted: true,
                    ..stuck
                }
            ),
            [Output::LetGo]
        );
        let report = ends(&host.look(
            21,
            Sight {
                has_parted: true,
                ..stuck
            },
        ))
        .unwrap();
        assert!(!report.is_peaceful && !report.is_answered);
        assert_eq!((report.left.grains, report.left.questions), (1, 1));
    }

    #[test]
    fn a_good_bye_that_cannot_be_said_is_not_waited_for() {
        let mut host = Host::new();
        assert_eq!(host.look(1, QUIET), [Output::Part]);
        assert!(ends(&host.look(21, QUIET)).is_some());
    }

    #[test]
    fn a_host_alone_ends_its_turns_and_tells_nobody() {
        let mut host = Host::new();
        let alone = Sight {
            company: Company::Alone,
            ..QUIET
        };
        assert_eq!(
            host.look(
                1,
                Sight {
                    requests: 1,
                    grains: 1,
                    ..alone
                }
            ),
            []
        );
        assert_eq!(host.look(2, Sight { grains: 1, ..alone }), [Output::LetGo]);
        assert!(ends(&host.look(3, alone)).unwrap().is_peaceful);
    }

    #[test]
    fn a_host_whose_others_are_gone_does_not_wait_for_what_they_would_have_to_say() {
        let mut host = Host::new();
        let waits = Sight {
            company: Company::Missing,
            grains: 1,
            requests: 1,
            ..QUIET
        };
        assert_eq!(host.look(1, waits), []);
        assert!(!ends(&host.look(2, waits)).unwrap().is_peaceful);
    }

    #[test]
    fn a_grain_that_nobody_has_called_lately_is_let_go() {
        assert!(is_wanted(None) && is_wanted(Some(SECOND)));
        assert!(!is_wanted(Some(CALLED_NANOS)));
    }
}
