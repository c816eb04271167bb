//! Rules that can be broken on purpose, so that tests show what each is for.
//!
//! A checker that finds nothing proves something only if it finds a broken rule. Model and simulator run with each of these
//! mutations and have to fail. In a host's build none can be chosen: the choice is compiled for this crate's tests and under
//! the feature `mutations` alone, and `Rules::breaks` is a constant `false`.

/// A rule that isn't kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// A replica accepts below its promise.
    NoFence,
    /// An activation goes on without having made its state the choice of a quorum.
    NoWriteBack,
    /// Within a ballot a replica takes an older commit over a newer one.
    ReorderedAccept,
    /// New replicas of a slot serve at once, and old ones go on: as if each host's own view picked the quorum.
    UnsealedView,
    /// A new replica takes over from one old one instead of a quorum that meets every other.
    InstallFromOne,
    /// A promise isn't durable when it is answered.
    ForgottenPromise,
    /// The journal is written without regard to the log.
    JournalAhead,
    /// What the journal takes away goes out of the log before the journal's record is durable.
    TakenOutFirst,
    /// A slot is this host's again while the log still has what was there before.
    TakenOverTooEarly,
    /// A copy of a state names the ballot of its author in the log, not the one under which it was accepted.
    AuthorsBallot,
    /// A start doesn't see deletions in the log.
    UnreadDeletion,
    /// A start leaves in the log what the journal has taken away.
    LeftInTheLog,
    /// An activation confirms reads without asking.
    UnaskedRead,
    /// A straggler is given what this host has stored, be it older than what the activation began with.
    OldImage,
}

impl Mutation {
    /// Those of replication.
    pub const ALL: [Mutation; 6] = [
        Mutation::NoFence,
        Mutation::NoWriteBack,
        Mutation::ReorderedAccept,
        Mutation::UnsealedView,
        Mutation::InstallFromOne,
        Mutation::ForgottenPromise,
    ];

    /// Those of a host's memory in two files.
    pub const FILES: [Mutation; 6] = [
        Mutation::JournalAhead,
        Mutation::TakenOutFirst,
        Mutation::TakenOverTooEarly,
        Mutation::AuthorsBallot,
        Mutation::UnreadDeletion,
        Mutation::LeftInTheLog,
    ];
}

/// Which rules hold: all, unless a test says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    #[cfg(any(test, feature = "mutations"))]
    broken: Option<Mutation>,
}

impl Rules {
    /// All but this one.
    #[cfg(any(test, feature = "mutations"))]
    pub fn but(broken: Mutation) -> Rules {
        Rules { broken: Some(broken) }
    }

    /// Whether this one is broken.
    #[cfg(any(test, feature = "mutations"))]
    pub(crate) fn breaks(self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    /// Whether this one is broken: never in a host's build.
    #[cfg(not(any(test, feature = "mutations")))]
    pub(crate) fn breaks(self, _: Mutation) -> bool {
        false
    }
}
