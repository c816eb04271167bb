//! Reading one another the roll, so that what gossip has dropped comes right.
//!
//! News is sent a bounded number of times: in a large cluster, after losses, or when hundreds start at once, somebody misses some.
//! So each host asks a random member now and then whether both know the same: it sends a sum over all members that it sees
//! active. When the other's sum differs, that one answers with a page of its members, by host id, and the first asks on
//! from where the page ends. While all agree, that's two small datagrams; a cluster's size doesn't matter.
//!
//! **Not here:** what to do with the members: foca takes them in like any news.

use bytes::BufMut;
use foca::{Codec, Member};

use super::identity::Identity;
use super::wire::{Wire, WireError, put_identity, read_identity, read_member};
use crate::codec::Reader;
use crate::id::HostId;

/// A page of the roll, or the question for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roll {
    /// "Who comes after this host, if you don't know the same as I?"
    Ask {
        /// The last host of the page before; zeros for the first page.
        after: HostId,
        /// What the sender knows, in short. 0 when it wants the page in any case.
        sum: u64,
    },
    /// "These are next."
    Tell {
        /// By host id.
        members: Vec<Member<Identity>>,
        /// Whether there are more.
        more: bool,
    },
}

/// The first host of the roll comes after this.
pub(super) const START: HostId = HostId([0; 16]);

/// A member's part of the sum; the parts are added up.
pub(super) fn part(host: HostId, incarnation: u32, renewal: u32) -> u64 {
    let mut hash = blake3::Hasher::new();
    hash.update(&host.0);
    hash.update(&incarnation.to_le_bytes());
    hash.update(&renewal.to_le_bytes());
    let mut out = [0; 8];
    out.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    u64::from_le_bytes(out)
}

/// The datagram with a question.
pub(super) fn ask(wire: Wire, sender: &Identity, after: HostId, sum: u64) -> Vec<u8> {
    let mut out = head(wire, sender);
    out.push(0);
    out.extend_from_slice(&after.0);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// The datagram with as many of `members`, sorted by host, as fit into `most` bytes.
pub(super) fn tell(mut wire: Wire, sender: &Identity, members: &[Member<Identity>], most: usize) -> Vec<u8> {
    let mut out = head(wire, sender);
    out.push(1);
    let more_at = out.len();
    out.push(0);
    for member in members {
        let room = most.saturating_sub(out.len());
        if wire.encode_member(member, (&mut out).limit(room)).is_err() {
            out[more_at] = 1;
            break;
        }
    }
    out
}

/// Reads what the two above wrote: who sent it, and what.
pub(super) fn read(wire: Wire, datagram: &[u8]) -> Result<(Identity, Roll), WireError> {
    let mut reader = Reader::new(datagram);
    wire.read_head(&mut reader, Wire::ROLL)?;
    let sender = read_identity(&mut reader)?;
    let roll = match reader.byte()? {
        0 => Roll::Ask {
            after: HostId(reader.array()?),
            sum: u64::from_le_bytes(reader.array()?),
        },
        1 => {
            let more = reader.byte()? != 0;
            let mut members = Vec::new();
            while !reader.is_empty() {
                members.push(read_member(&mut reader)?);
            }
            Roll::Tell { members, more }
        }
        _ => return Err(reader.error("a question or a page").into()),
    };
    reader.finish()?;
    Ok((sender, roll))
}

/// Whether a datagram is of this kind rather than foca's.
pub(super) fn is_roll(datagram: &[u8]) -> bool {
    datagram.first() == Some(&Wire::ROLL)
}

fn head(wire: Wire, sender: &Identity) -> Vec<u8> {
    let mut out = wire.head(Wire::ROLL);
    put_identity(&mut out, sender);
    out
}

#[cfg(test)]
mod tests {
    use foca::State;

    use super::*;

    fn identity(byte: u8) -> Identity {
        Identity::new(HostId([byte; 16]), 3, "10.0.0.1:7778".parse().unwrap())
    }

    #[test]
    fn a_question_is_read_back_and_every_cut_is_an_error() {
        let wire = Wire::new(b"one");
        let datagram = ask(wire, &identity(1), HostId([2; 16]), 77);
        let (sender, roll) = read(wire, &datagram).unwrap();
        let after = HostId([2; 16]);
        assert_eq!((sender, roll), (identity(1), Roll::Ask { after, sum: 77 }));
        for cut in 0..datagram.len() {
            assert!(read(wire, &datagram[..cut]).is_err());
        }
        assert_eq!(read(Wire::new(b"two"), &datagram), Err(WireError::Foreign));
    }

    #[test]
    fn a_page_holds_what_fits_and_says_whether_there_is_more() {
        let wire = Wire::new(b"one");
        let members: Vec<_> = (1..=100)
            .map(|byte| Member::new(identity(byte), 4, State::Suspect))
            .collect();
        let datagram = tell(wire, &identity(9), &members, 1_200);
        assert!(datagram.len() <= 1_200);
        let (
            _,
            Roll::Tell {
                members: read_back,
                more,
            },
        ) = read(wire, &datagram).unwrap()
        else {
            panic!("no page");
        };
        assert!(more && read_back.len() >= 38, "{}", read_back.len());
        assert_eq!(read_back, members[..read_back.len()]);
        let (_, roll) = read(wire, &tell(wire, &identity(9), &members[..3], 1_200)).unwrap();
        assert_eq!(
            roll,
            Roll::Tell {
                members: members[..3].to_vec(),
                more: false
            }
        );
    }
}
