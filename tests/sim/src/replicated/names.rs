//! What messages and records are called in counts, and what they mean to the checkers.

use granary_core::replication::messages::{Answer, Ask, Handover, Message, Refusal};
use granary_core::replication::record::Record;
use granary_core::slot::Slot;

use crate::subject::{Said, Stored};

pub(crate) fn kind(message: &Message) -> &'static str {
    match message {
        Message::Ask { ask, .. } => match ask {
            Ask::Prepare { .. } => "prepare",
            Ask::Accept { .. } => "accept",
            Ask::Confirm { .. } => "confirm",
            Ask::Fetch { .. } => "fetch",
            Ask::Release { .. } => "release",
            Ask::Forget { .. } => "forget",
        },
        Message::Answer { answer, .. } => match answer {
            Answer::Promise { .. } => "promise",
            Answer::Busy { .. } => "busy",
            Answer::Acked { .. } => "acked",
            Answer::NeedSnap { .. } => "need-snap",
            Answer::Fetched { .. } => "fetched",
            Answer::Confirmed { .. } => "confirmed",
            Answer::Nack { .. } => "nack",
        },
        Message::Handover(handover) => match handover {
            Handover::Seal { .. } => "seal",
            Handover::Sealed { .. } => "sealed",
            Handover::Pull { .. } => "pull",
            Handover::Pulled { .. } => "pulled",
        },
    }
}

pub(super) fn refusal(message: &Message) -> Option<&'static str> {
    let Message::Answer { answer, .. } = message else {
        return None;
    };
    let refusal = match answer {
        Answer::Nack { refusal, .. } => refusal,
        Answer::Confirmed { refused, .. } => &refused.first()?.2,
        _ => return None,
    };
    Some(match refusal {
        Refusal::Promised(_) => "refused: promised",
        Refusal::BelowFloor(_) => "refused: below floor",
        Refusal::Sealed(_) => "refused: sealed",
        Refusal::Behind(_) => "refused: behind",
        Refusal::Installing => "refused: installing",
        Refusal::Absent => "refused: absent",
        Refusal::Full => "refused: full",
    })
}

pub(super) fn stored(slot: Slot, record: &Record) -> Option<Stored> {
    match record {
        Record::Promise { grain, ballot } => Some(Stored::Promise(*grain, *ballot)),
        Record::Accept {
            grain,
            ballot,
            proposal,
        } => Some(Stored::Accept {
            grain: *grain,
            ballot: *ballot,
            seq: proposal.seq.0,
            head: proposal.hash,
        }),
        Record::Install {
            grain,
            promised,
            accepted,
            ..
        } => Some(Stored::Install {
            grain: *grain,
            promised: *promised,
            head: accepted.map(|accepted| accepted.hash),
        }),
        Record::Seal { n } => Some(Stored::Seal {
            slot: slot.number(),
            n: n.0,
        }),
        Record::Discard => Some(Stored::Discard(slot.number())),
        Record::Ready { n, floor } => Some(Stored::Ready {
            slot: slot.number(),
            n: n.0,
            floor: *floor,
        }),
        Record::Forget { grain, floor } => Some(Stored::Forget(*grain, *floor)),
    }
}

pub(super) fn said(message: &Message) -> Option<Said> {
    let (n, answer) = match message {
        Message::Answer { n, answer } => (n, answer),
        Message::Ask {
            ask: Ask::Forget { grain, hash, .. },
            ..
        } => return Some(Said::Forgets(*grain, *hash)),
        _ => return None,
    };
    match answer {
        Answer::Promise { grain, ballot, .. } => Some(Said::Promises(*grain, *ballot)),
        Answer::Confirmed { slot, good, .. } if !good.is_empty() => Some(Said::Confirms {
            slot: slot.number(),
            n: n.0,
        }),
        _ => None,
    }
}
