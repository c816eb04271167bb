//! Running games that consoles send heartbeats to: a session keeps the scores and tells each player's grain.
//!
//! Heartbeat -> session -> player: two calls. The type is `relaxed`, as the player's is.

use std::collections::BTreeMap;

use granary_sdk::prelude::*;
use presence_player::Player;

/// Stops a session from growing with every name that a console sends.
const PLAYERS_MOST: usize = 64;

/// One session for each key.
#[derive(Default, Serialize, Deserialize)]
pub struct Session {
    scores: BTreeMap<String, u64>,
    heartbeats: u64,
}

/// Why a session refuses.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, GrainError)]
pub enum SessionError {
    /// The session has as many players as it can hold.
    #[status(409)]
    Full,
    /// The player could not be told.
    #[from]
    Call(CallError),
}

#[grain(name = "presence-session", durability = "relaxed")]
impl Session {
    /// A console's word that this player is in the session, with its score. Returns how many players there are.
    pub fn heartbeat(&mut self, ctx: &Context, player: String, score: u64) -> Result<u64, SessionError> {
        if !self.scores.contains_key(&player) && self.scores.len() == PLAYERS_MOST {
            return Err(SessionError::Full);
        }
        ctx.grain::<Player>(&player).seen(ctx.key().to_owned(), score)?;
        self.heartbeats += 1;
        self.scores.insert(player, score);
        Ok(self.scores.len() as u64)
    }

    /// Ends the session for all its players.
    pub fn end(&mut self, ctx: &Context) -> Result<(), CallError> {
        let calls = self
            .scores
            .keys()
            .map(|player| ctx.prepare::<Player>(player).left(ctx.key().to_owned()));
        // All are told at once; the first that could not be is reported, and the session stays for another try.
        ctx.all(calls.collect::<Vec<_>>())
            .into_iter()
            .collect::<Result<Vec<()>, _>>()?;
        self.scores.clear();
        Ok(())
    }

    /// The players with their scores.
    #[read]
    pub fn scores(&self) -> BTreeMap<String, u64> {
        self.scores.clone()
    }

    /// How many heartbeats the session has taken.
    #[read]
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats
    }
}

granary_sdk::export!(Session);

#[cfg(test)]
mod tests {
    use granary_sdk::testing::Host;

    use super::*;

    fn host() -> Host {
        Host::new().with::<Session>().with::<Player>()
    }

    fn session_of(host: &Host, player: &str) -> Option<String> {
        host.grain::<Player>(player)
            .presence()
            .unwrap()
            .map(|presence| presence.session)
    }

    #[test]
    fn a_heartbeat_reaches_the_session_and_the_player() {
        let host = host();
        let session = host.grain::<Session>("valhalla");
        assert_eq!(session.heartbeat("alice".into(), 10), Ok(1));
        assert_eq!(session.heartbeat("bob".into(), 5), Ok(2));
        assert_eq!(session.heartbeat("alice".into(), 20), Ok(2));
        assert_eq!(
            session.scores(),
            Ok(BTreeMap::from([("alice".into(), 20), ("bob".into(), 5)]))
        );
        assert_eq!(session_of(&host, "alice").as_deref(), Some("valhalla"));
        assert_eq!(host.grain::<Player>("alice").heartbeats(), Ok(2));
    }

    #[test]
    fn a_player_that_could_not_be_told_is_not_in_the_session() {
        let host = host();
        host.fail_next::<Player>("alice", "overloaded");
        let failure = host
            .grain::<Session>("valhalla")
            .heartbeat("alice".into(), 1)
            .unwrap_err();
        assert_eq!(failure.code(), "overloaded");
        assert_eq!(host.grain::<Session>("valhalla").scores(), Ok(BTreeMap::new()));
        assert_eq!(host.grain::<Session>("valhalla").heartbeats(), Ok(0));
    }

    #[test]
    fn the_end_of_a_session_lets_its_players_go() {
        let host = host();
        let session = host.grain::<Session>("valhalla");
        session.heartbeat("alice".into(), 1).unwrap();
        session.heartbeat("bob".into(), 1).unwrap();
        host.grain::<Session>("zanzibar").heartbeat("bob".into(), 1).unwrap();
        session.end().unwrap();
        assert_eq!(session.scores(), Ok(BTreeMap::new()));
        assert_eq!(session_of(&host, "alice"), None);
        assert_eq!(session_of(&host, "bob").as_deref(), Some("zanzibar"));
    }

    #[test]
    fn a_session_has_a_limit() {
        let host = host();
        let session = host.grain::<Session>("valhalla");
        for number in 0..PLAYERS_MOST {
            session.heartbeat(format!("player-{number}"), 0).unwrap();
        }
        assert_eq!(
            session.heartbeat("late".into(), 0),
            Err(CallError::Guest(SessionError::Full))
        );
        assert_eq!(session.heartbeat("player-0".into(), 7), Ok(PLAYERS_MOST as u64));
        assert_eq!(session_of(&host, "late"), None);
    }
}
