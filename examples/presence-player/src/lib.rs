//! Players whose friends want to know where they are: what a session's heartbeats leave, one grain for each player.
//!
//! The type is `relaxed`: a heartbeat that a crash loses is made good by the next one.

use granary_sdk::prelude::*;

/// One player for each key.
#[derive(Default, Serialize, Deserialize)]
pub struct Player {
    presence: Option<Presence>,
    heartbeats: u64,
}

/// Where a player is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Presence {
    /// The session's key.
    pub session: String,
    /// The player's score there.
    pub score: u64,
}

#[grain(name = "presence-player", durability = "relaxed", placement = "prefer-local")]
impl Player {
    /// Takes what the session says of this player.
    pub fn seen(&mut self, session: String, score: u64) {
        self.heartbeats += 1;
        match &mut self.presence {
            // The usual case allocates nothing, so that the turn changes few pages.
            Some(presence) if presence.session == session => presence.score = score,
            presence => *presence = Some(Presence { session, score }),
        }
    }

    /// The player has left this session; nothing happens if it's in another one by now.
    pub fn left(&mut self, session: String) {
        self.presence.take_if(|presence| presence.session == session);
    }

    /// Where the player is; null when in no session.
    #[read]
    pub fn presence(&self) -> Option<Presence> {
        self.presence.clone()
    }

    /// How many heartbeats have named this player.
    #[read]
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats
    }
}

#[cfg(feature = "export")]
granary_sdk::export!(Player);

#[cfg(test)]
mod tests {
    use granary_sdk::testing::Host;

    use super::*;

    fn at(session: &str, score: u64) -> Option<Presence> {
        Some(Presence {
            session: session.into(),
            score,
        })
    }

    #[test]
    fn a_player_is_where_the_last_heartbeat_saw_it() {
        let host = Host::new().with::<Player>();
        let alice = host.grain::<Player>("alice");
        assert_eq!(alice.presence(), Ok(None));
        alice.seen("valhalla".into(), 10).unwrap();
        alice.seen("valhalla".into(), 20).unwrap();
        assert_eq!(alice.presence(), Ok(at("valhalla", 20)));
        alice.seen("zanzibar".into(), 0).unwrap();
        assert_eq!(alice.presence(), Ok(at("zanzibar", 0)));
        assert_eq!(alice.heartbeats(), Ok(3));
    }

    #[test]
    fn a_late_word_of_an_earlier_session_takes_nobody_out_of_this_one() {
        let host = Host::new().with::<Player>();
        let alice = host.grain::<Player>("alice");
        alice.seen("zanzibar".into(), 1).unwrap();
        alice.left("valhalla".into()).unwrap();
        assert_eq!(alice.presence(), Ok(at("zanzibar", 1)));
        alice.left("zanzibar".into()).unwrap();
        assert_eq!(alice.presence(), Ok(None));
    }
}
