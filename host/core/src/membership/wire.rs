//! What a gossip datagram looks like: a byte for kind and version, 4 bytes that tell clusters apart, then foca's header and updates.
//!
//! Written by hand, since every byte is sent some ten times for each change and a member should fit in 30 of them. The receiver of a
//! message knows its own address, so it is left out there.
//!
//! **Not here:** who may speak. The transport authenticates a peer; the membership machine compares that with the sender named here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};

use super::identity::Identity;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::id::HostId;

/// What stands for the address of a message's receiver.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// foca's codec for one cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    cluster: [u8; 4],
}

/// Why a part of a datagram can't be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireError {
    /// It doesn't fit the datagram any more.
    Full,
    /// It's damaged, or of a later version.
    Decode(DecodeError),
    /// It comes from another cluster.
    Foreign,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Full => write!(f, "the datagram is full"),
            WireError::Decode(error) => error.fmt(f),
            WireError::Foreign => write!(f, "the datagram is another cluster's"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<DecodeError> for WireError {
    fn from(error: DecodeError) -> WireError {
        WireError::Decode(error)
    }
}

/// What a datagram says about members: the sender, and everyone whom it tells of.
#[derive(Debug)]
pub(super) struct Told {
    /// The sender.
    pub(super) sender: Identity,
    /// Whom it believes to speak to. The address is left out.
    pub(super) receiver: Identity,
    /// Those whom it tells of.
    pub(super) members: Vec<Identity>,
}

impl Wire {
    /// foca's datagrams, in the first form.
    const SWIM: u8 = 1;
    /// The roll's ([`super::roll`]), in the first form.
    pub(super) const ROLL: u8 = 2;

    /// The codec of the cluster with this id.
    pub(super) fn new(cluster: &[u8]) -> Wire {
        let hash = blake3::derive_key("granary 2026 gossip cluster", cluster);
        Wire {
            cluster: [hash[0], hash[1], hash[2], hash[3]],
        }
    }

    /// Reads who is named in `datagram` without acting on it.
    pub(super) fn told(&self, datagram: &[u8]) -> Result<Told, WireError> {
        let mut reader = Reader::new(datagram);
        let header = self.read_header(&mut reader)?;
        let mut members = Vec::new();
        if reader.rest().len() >= 2 && header.message != Message::Broadcast {
            let count = u16::from_be_bytes(reader.array()?);
            for _ in 0..count {
                members.push(*read_member(&mut reader)?.id());
            }
        }
        Ok(Told {
            sender: header.src,
            receiver: header.dst,
            members,
        })
    }

    /// How each datagram begins.
    pub(super) fn head(&self, kind: u8) -> Vec<u8> {
        let mut out = vec![kind];
        out.extend_from_slice(&self.cluster);
        out
    }

    pub(super) fn read_head(&self, reader: &mut Reader<'_>, kind: u8) -> Result<(), WireError> {
        if reader.byte()? != kind {
            return Err(reader.error("a datagram of kind 1 or 2").into());
        }
        if reader.array::<4>()? != self.cluster {
            return Err(WireError::Foreign);
        }
        Ok(())
    }

    fn read_header(&self, reader: &mut Reader<'_>) -> Result<Header<Identity>, WireError> {
        self.read_head(reader, Wire::SWIM)?;
        let src = read_identity(reader)?;
        let src_incarnation = reader.varint()?;
        let dst = read_rank(reader, NOWHERE)?;
        let message = read_message(reader)?;
        Ok(Header {
            src,
            src_incarnation,
            dst,
            message,
        })
    }
}

impl foca::Codec<Identity> for Wire {
    type Error = WireError;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<(), WireError> {
        let mut out = self.head(Wire::SWIM);
        put_identity(&mut out, &header.src);
        put_varint(&mut out, header.src_incarnation);
        put_rank(&mut out, &header.dst);
        put_message(&mut out, &header.message);
        write(&out, buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, WireError> {
        let mut reader = Reader::new(buf.chunk());
        let header = self.read_header(&mut reader)?;
        let read = buf.chunk().len() - reader.rest().len();
        buf.advance(read);
        Ok(header)
    }

    fn encode_member(&mut self, member: &Member<Identity>, buf: impl BufMut) -> Result<(), WireError> {
        let mut out = Vec::with_capacity(32);
        put_identity(&mut out, member.id());
        put_varint(&mut out, member.incarnation());
        out.push(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        write(&out, buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, WireError> {
        let mut reader = Reader::new(buf.chunk());
        let member = read_member(&mut reader)?;
        let read = buf.chunk().len() - reader.rest().len();
        buf.advance(read);
        Ok(member)
    }
}

fn write(bytes: &[u8], mut buf: impl BufMut) -> Result<(), WireError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(WireError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

fn put_rank(out: &mut Vec<u8>, identity: &Identity) {
    out.extend_from_slice(&identity.host.0);
    put_varint(out, identity.incarnation);
    put_varint(out, u64::from(identity.renewal) << 1 | u64::from(identity.leaving));
}

fn read_rank(reader: &mut Reader<'_>, address: SocketAddr) -> Result<Identity, DecodeError> {
    let host = HostId(reader.array()?);
    let incarnation = reader.varint()?;
    let renewal: u64 = reader.varint()?;
    Ok(Identity {
        host,
        incarnation,
        leaving: renewal & 1 == 1,
        renewal: u32::try_from(renewal >> 1).map_err(|_| reader.error("a renewal of 32 bits"))?,
        address,
    })
}

pub(super) fn put_identity(out: &mut Vec<u8>, identity: &Identity) {
    put_rank(out, identity);
    match identity.address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&identity.address.port().to_le_bytes());
}

pub(super) fn read_identity(reader: &mut Reader<'_>) -> Result<Identity, DecodeError> {
    let nameless = read_rank(reader, NOWHERE)?;
    let ip = match reader.byte()? {
        4 => IpAddr::from(reader.array::<4>()?),
        6 => IpAddr::from(reader.array::<16>()?),
        _ => return Err(reader.error("an address of kind 4 or 6")),
    };
    let port = u16::from_le_bytes(reader.array()?);
    Ok(Identity {
        address: SocketAddr::new(ip, port),
        ..nameless
    })
}

pub(super) fn read_member(reader: &mut Reader<'_>) -> Result<Member<Identity>, DecodeError> {
    let id = read_identity(reader)?;
    let incarnation = reader.varint()?;
    let state = match reader.byte()? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return Err(reader.error("a member's state from 0 to 2")),
    };
    Ok(Member::new(id, incarnation, state))
}

fn put_message(out: &mut Vec<u8>, message: &Message<Identity>) {
    let third = |out: &mut Vec<u8>, tag: u8, number: u8, identity: &Identity| {
        out.extend_from_slice(&[tag, number]);
        put_identity(out, identity);
    };
    match message {
        Message::Ping(number) => out.extend_from_slice(&[0, *number]),
        Message::Ack(number) => out.extend_from_slice(&[1, *number]),
        Message::PingReq { target, probe_number } => third(out, 2, *probe_number, target),
        Message::IndirectPing { origin, probe_number } => third(out, 3, *probe_number, origin),
        Message::IndirectAck { target, probe_number } => third(out, 4, *probe_number, target),
        Message::ForwardedAck { origin, probe_number } => third(out, 5, *probe_number, origin),
        Message::Announce => out.push(6),
        Message::Feed => out.push(7),
        Message::Gossip => out.push(8),
        Message::Broadcast => out.push(9),
        Message::TurnUndead => out.push(10),
    }
}

fn read_message(reader: &mut Reader<'_>) -> Result<Message<Identity>, DecodeError> {
    let tag = reader.byte()?;
    let probe_number = if tag < 6 { reader.byte()? } else { 0 };
    Ok(match tag {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq {
            target: read_identity(reader)?,
            probe_number,
        },
        3 => Message::IndirectPing {
            origin: read_identity(reader)?,
            probe_number,
        },
        4 => Message::IndirectAck {
            target: read_identity(reader)?,
            probe_number,
        },
        5 => Message::ForwardedAck {
            origin: read_identity(reader)?,
            probe_number,
        },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        _ => return Err(reader.error("a message from 0 to 10")),
    })
}

#[cfg(test)]
mod tests {
    use foca::Codec;

    use super::*;

    fn identity(byte: u8, address: &str) -> Identity {
        Identity {
            renewal: 3,
            ..Identity::new(HostId([byte; 16]), 300, address.parse().unwrap())
        }
    }

    fn every_message() -> Vec<Message<Identity>> {
        let third = identity(3, "[::1]:9");
        vec![
            Message::Ping(1),
            Message::Ack(255),
            Message::PingReq {
                target: third,
                probe_number: 1,
            },
            Message::IndirectPing {
                origin: third,
                probe_number: 2,
            },
            Message::IndirectAck {
                target: third,
                probe_number: 3,
            },
            Message::ForwardedAck {
                origin: third,
                probe_number: 4,
            },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ]
    }

    #[test]
    fn every_message_is_read_back_and_every_cut_is_an_error() {
        let mut wire = Wire::new(b"one");
        for message in every_message() {
            let header = Header {
                src: identity(1, "10.0.0.1:7778"),
                src_incarnation: 500,
                dst: identity(2, "10.0.0.2:7778"),
                message,
            };
            let mut bytes = Vec::new();
            wire.encode_header(&header, &mut bytes).unwrap();
            let mut rest = &bytes[..];
            let read = wire.decode_header(&mut rest).unwrap();
            assert_eq!(read, header);
            assert_eq!(read.src.address, header.src.address);
            assert!(rest.is_empty());
            for cut in 0..bytes.len() {
                assert!(wire.decode_header(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_member_takes_thirty_bytes_and_is_read_back() {
        let mut wire = Wire::new(b"one");
        for state in [State::Alive, State::Suspect, State::Down] {
            let member = Member::new(identity(1, "10.0.0.1:7778"), 9, state);
            let mut bytes = Vec::new();
            wire.encode_member(&member, &mut bytes).unwrap();
            assert!(bytes.len() <= 30, "{}", bytes.len());
            assert_eq!(wire.decode_member(&bytes[..]).unwrap(), member);
        }
        let mut full = [0; 10];
        let member = Member::alive(identity(1, "10.0.0.1:7778"));
        assert_eq!(wire.encode_member(&member, &mut full[..]), Err(WireError::Full));
    }

    #[test]
    fn another_clusters_datagram_is_refused() {
        let header = Header {
            src: identity(1, "10.0.0.1:7778"),
            src_incarnation: 0,
            dst: identity(2, "10.0.0.2:7778"),
            message: Message::Announce,
        };
        let mut bytes = Vec::new();
        Wire::new(b"one").encode_header(&header, &mut bytes).unwrap();
        assert_eq!(
            Wire::new(b"two").decode_header(&bytes[..]).unwrap_err(),
            WireError::Foreign
        );
    }
}
