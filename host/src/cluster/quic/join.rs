//! How a new host gets in: it shows a token's secret and one half of its key, and gets the authority's certificate for that key and the other
//! hosts' addresses.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use granary_core::id::HostId;
use quinn::{Connection, Endpoint};
use serde::{Deserialize, Serialize};

use super::super::wire;
use super::authority::AuthorityError;
use super::endpoint::Quic;
use super::identity::{Applicant, Identity, Origin};
use super::tls::{cluster_name, first_contact};
use super::token::JoinToken;
use super::token_book::TokenBook;

/// The longest question and answer.
const MOST: usize = 64 << 10;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Guessing secrets takes at least this long each.
const PENALTY: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
struct Ask {
    host: HostId,
    secret: [u8; 16],
    public_key: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
enum Reply {
    Welcome(Welcome),
    Refused(String),
}

/// What a new host gets.
#[derive(Serialize, Deserialize)]
struct Welcome {
    /// For the key that it has shown.
    certificate: Vec<u8>,
    /// Whose that is.
    root: Vec<u8>,
    hosts: Vec<(HostId, SocketAddr)>,
}

/// Why a host doesn't get in.
#[derive(Debug)]
pub(crate) enum JoinError {
    /// The host that made the token doesn't answer, or isn't the one that the token names.
    Unreachable(SocketAddr, String),
    /// It answers and says no.
    Refused(String),
    /// Certificates can't be used here.
    Authority(AuthorityError),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Unreachable(address, why) => write!(
                f,
                "the host at {address} that made the join token can't be joined: {why}; make a token on a host that runs, with `granary token`"
            ),
            JoinError::Refused(why) => write!(f, "the cluster refuses the join token: {why}"),
            JoinError::Authority(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for JoinError {}

impl From<AuthorityError> for JoinError {
    fn from(error: AuthorityError) -> JoinError {
        JoinError::Authority(error)
    }
}

/// Joins with a token. Nothing is kept yet. Whether its time is over says the host that made it, by its own clock.
pub(crate) async fn join(token: &JoinToken, host: HostId) -> Result<Identity, JoinError> {
    let any = match token.address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let unreachable = |why: String| JoinError::Unreachable(token.address, why);
    let applicant = Applicant::new(host)?;
    let config = first_contact(token.fingerprint, token.cluster)?;
    let endpoint = Endpoint::client(any).map_err(|error| unreachable(error.to_string()))?;
    let asked = async {
        let name = cluster_name(token.cluster);
        let connecting = endpoint.connect_with(config, token.address, &name);
        let connection = connecting
            .map_err(|error| error.to_string())?
            .await
            .map_err(|error| error.to_string())?;
        let (mut send, mut receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
        let ask = wire::encode(&Ask {
            host,
            secret: token.secret,
            public_key: applicant.public_key().to_vec(),
        });
        send.write_chunk(ask).await.map_err(|error| error.to_string())?;
        send.finish().map_err(|error| error.to_string())?;
        let reply = receive.read_to_end(MOST).await.map_err(|error| error.to_string())?;
        connection.close(0u32.into(), b"");
        Ok(reply)
    };
    let late = Err("no answer".to_owned());
    let reply = tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or(late)
        .map_err(unreachable)?;
    endpoint.wait_idle().await;
    match wire::decode(&reply) {
        Some(Reply::Welcome(welcome)) if blake3::hash(&welcome.root) == token.fingerprint => {
            let Welcome {
                certificate,
                root,
                hosts,
            } = welcome;
            let admitted = applicant.admitted(token.cluster, Origin::Joined, root, certificate);
            let unlike =
                |_| JoinError::Unreachable(token.address, "its certificate isn't what was asked for".to_owned());
            let mut identity = admitted.map_err(unlike)?;
            identity.welcomed(token, hosts);
            Ok(identity)
        }
        Some(Reply::Refused(why)) => Err(JoinError::Refused(why)),
        _ => Err(JoinError::Unreachable(
            token.address,
            "it's of another release".to_owned(),
        )),
    }
}

/// Answers a host that wants to join.
pub(super) async fn welcome(quic: &Arc<Quic>, connection: Connection) {
    let remote = connection.remote_address();
    let answered = async {
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let ask: Ask = wire::decode(&receive.read_to_end(MOST).await.ok()?)?;
        let reply = judge(quic, remote, &ask).await;
        if matches!(reply, Reply::Refused(_)) {
            tokio::time::sleep(PENALTY).await;
        }
        send.write_chunk(wire::encode(&reply)).await.ok()?;
        send.finish().ok()?;
        // It closes when it has read.
        connection.closed().await;
        Some(())
    };
    if tokio::time::timeout(PATIENCE, answered).await.ok().flatten().is_none() {
        quic.refused(&remote, "it wanted to join and didn't say how");
        connection.close(0u32.into(), b"");
    }
}

async fn judge(quic: &Quic, remote: SocketAddr, ask: &Ask) -> Reply {
    let known = quic.events().hosts();
    if ask.host == quic.me() || known.iter().any(|(host, _)| *host == ask.host) {
        quic.refused(&remote, "it wants to join as a host that's there");
        let why = format!(
            "host {} is in the cluster and answers: a copied data folder? Join with an empty one",
            ask.host
        );
        return Reply::Refused(why);
    }
    let tokens: &TokenBook = quic.tokens();
    match tokens.take(&ask.secret, ask.host) {
        Ok(Ok(())) => {}
        Ok(Err(refused)) => {
            quic.refused(&remote, &format!("a join token isn't taken: {refused}"));
            return Reply::Refused(refused.to_string());
        }
        Err(error) => {
            tracing::error!(%error, "the book of join tokens can't be written");
            return Reply::Refused("the host can't write down that the token is used".to_owned());
        }
    }
    // From here on the token is good for the same host again.
    if let Err(why) = quic.events().joins(ask.host, remote).await {
        tracing::warn!(%remote, host = %ask.host, why, "a host can't join yet");
        return Reply::Refused(format!(
            "the host that made it isn't ready for others ({why}): try again"
        ));
    }
    let Some(authority) = quic.authority() else {
        return Reply::Refused("the host that made it can't let hosts in any more: make another token".to_owned());
    };
    match authority.admit(ask.host, &ask.public_key) {
        Ok(certificate) => {
            tracing::info!(%remote, host = %ask.host, "a host joins");
            let mut hosts = known;
            hosts.push((quic.me(), quic.advertised()));
            Reply::Welcome(Welcome {
                certificate,
                root: authority.certificate().to_vec(),
                hosts,
            })
        }
        Err(error) => {
            tracing::warn!(%remote, host = %ask.host, %error, "a host that wants to join shows no key");
            Reply::Refused("it shows no key that can be signed: another release?".to_owned())
        }
    }
}
