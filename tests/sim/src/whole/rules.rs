//! Rules of a host's memory that are broken on purpose: each has to be found.

use granary_core::replication::mutation::{Mutation, Rules};

/// A rule that isn't kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The journal is written without regard to the log: a deletion's record, say, before its commit.
    JournalAhead,
    /// What the journal takes away goes out of the log first.
    TakenOutFirst,
    /// A start doesn't see deletions.
    UnreadDeletion,
    /// What depends on the state and commits nothing is answered without asking a quorum.
    UnaskedRead,
    /// A straggler is given what its activation's host has stored, however old.
    OldImage,
    /// A checkpoint takes an image for another one of the same number.
    SameNumber,
    /// A host that has lost a part of its memory votes on as if it hadn't.
    KeptIdentity,
}

impl Rule {
    /// All of them, by the names that the command line has for them.
    pub const ALL: [(&str, Rule); 7] = [
        ("journal-ahead", Rule::JournalAhead),
        ("taken-out-first", Rule::TakenOutFirst),
        ("unread-deletion", Rule::UnreadDeletion),
        ("unasked-read", Rule::UnaskedRead),
        ("old-image", Rule::OldImage),
        ("same-number", Rule::SameNumber),
        ("kept-identity", Rule::KeptIdentity),
    ];

    /// What of it is in the machine; the others are rules of files.
    pub(super) fn of_core(self) -> Rules {
        match self {
            Rule::JournalAhead => Rules::but(Mutation::JournalAhead),
            Rule::TakenOutFirst => Rules::but(Mutation::TakenOutFirst),
            Rule::UnreadDeletion => Rules::but(Mutation::UnreadDeletion),
            Rule::UnaskedRead => Rules::but(Mutation::UnaskedRead),
            Rule::OldImage => Rules::but(Mutation::OldImage),
            Rule::SameNumber | Rule::KeptIdentity => Rules::default(),
        }
    }
}
