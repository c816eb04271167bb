//! The bytes between hosts: postcard's form of what core's machines say, several messages a frame.
//!
//! Postcard (varints, no names) is documented and stable; both sides of a connection have the same major version of it. A frame
//! that can't be read is dropped and counted: it's a peer of another release, or damage that TLS would have found.

use bytes::Bytes;
use granary_core::cluster::PeerMessage;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value in its form.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    // Memory is all that it could lack.
    postcard::to_allocvec(value).map_or_else(|_| Bytes::new(), Bytes::from)
}

/// Reads a value that takes all of the bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

/// What a question is about: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Topic {
    /// Calls to grains.
    Grains = 1,
    /// The types' revisions and modules.
    Revisions = 2,
    /// What is to be seen of grains and hosts.
    Views = 3,
    /// Who can let hosts in.
    Keys = 4,
}

/// A question on a topic.
pub(crate) fn question<T: Serialize>(topic: Topic, value: &T) -> Bytes {
    // As above.
    postcard::to_extend(value, vec![topic as u8]).map_or_else(|_| Bytes::new(), Bytes::from)
}

/// A question's topic and the rest; nothing when there's no such topic.
pub(crate) fn topic_of(question: &Bytes) -> Option<(Topic, Bytes)> {
    let topic = match question.first()? {
        1 => Topic::Grains,
        2 => Topic::Revisions,
        3 => Topic::Views,
        4 => Topic::Keys,
        _ => return None,
    };
    Some((topic, question.slice(1..)))
}

/// One frame of messages for one peer.
pub(super) fn frame(messages: &[PeerMessage]) -> Bytes {
    encode(&messages)
}

/// The messages of a frame.
pub(super) fn unframe(frame: &[u8]) -> Option<Vec<PeerMessage>> {
    decode(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use granary_core::config_chain::config::ConfigNumber;
    use granary_core::config_chain::event::Message;
    use granary_core::placement::Beat;

    #[test]
    fn frames_come_back_as_they_were_and_others_are_refused() {
        let known = ConfigNumber(7);
        let messages = vec![
            PeerMessage::Chain(Message::Fetch { known }),
            PeerMessage::Beat(Beat::default()),
        ];
        let bytes = frame(&messages);
        assert_eq!(unframe(&bytes), Some(messages));
        assert_eq!(unframe(&bytes[..bytes.len() - 1]), None);
        assert_eq!(unframe(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(unframe(&[0xff; 20]), None);
    }
}
