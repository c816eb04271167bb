//! A join token: what a new host has to know, as one word to copy.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use granary_core::config_chain::config::ClusterId;
use serde::{Deserialize, Serialize};

use super::super::wire;

/// What a token begins with, so that one knows it when one sees it.
const PREFIX: &str = "granary-join-";
/// Bytes of the checksum that tells a token that was copied in part.
const CHECK: usize = 4;

/// Lets one host join. Good once, and not for long.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinToken {
    /// Where the host that made it listens; only that host takes it.
    pub(crate) address: SocketAddr,
    pub(crate) cluster: ClusterId,
    /// blake3 of the authority's certificate: the new host talks to no other.
    pub(crate) fingerprint: [u8; 32],
    pub(crate) secret: [u8; 16],
    /// Milliseconds since 1970.
    pub(crate) expires: u64,
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoToken(&'static str);

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NoToken {}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = wire::encode(self);
        f.write_str(PREFIX)?;
        for byte in bytes.iter().chain(&blake3::hash(&bytes).as_bytes()[..CHECK]) {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for JoinToken {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<JoinToken, NoToken> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(NoToken(
            "no join token: one begins with `granary-join-`; `granary token` prints one",
        ))?;
        let partial = NoToken("a part of the join token is missing or changed: copy all of it");
        if digits.len() % 2 != 0 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(partial);
        }
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or(0);
        let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
        let (bytes, check) = bytes.split_last_chunk::<CHECK>().ok_or(partial)?;
        if check != &blake3::hash(bytes).as_bytes()[..CHECK] {
            return Err(partial);
        }
        wire::decode(bytes).ok_or(NoToken("this join token is of another release"))
    }
}

impl fmt::Debug for JoinToken {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("address", &self.address)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            address: "10.0.0.1:7700".parse().unwrap(),
            cluster: ClusterId([3; 16]),
            fingerprint: [4; 32],
            secret: [5; 16],
            expires: 1_800_000_000_000,
        }
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        assert_eq!(token().to_string().parse(), Ok(token()));
        assert!(!format!("{:?}", token()).contains("0505"));
    }

    #[test]
    fn each_digit_that_is_changed_or_missing_is_noticed() {
        let text = token().to_string();
        for at in PREFIX.len()..text.len() {
            let digit = if &text[at..=at] == "0" { "1" } else { "0" };
            let changed = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
            assert!(changed.parse::<JoinToken>().is_err(), "{at}");
            assert!(text[..at].parse::<JoinToken>().is_err(), "{at}");
        }
        assert!(
            "".parse::<JoinToken>()
                .unwrap_err()
                .to_string()
                .contains("granary token")
        );
    }
}
