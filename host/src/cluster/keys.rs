//! Which hosts can let others in, and how the cluster goes over to another authority.
//!
//! The cluster's authority is with the voters: each that lacks it asks the others for it. A host that isn't a voter has a certificate for
//! itself only, and has a voter make a join token when its owner wants one.
//!
//! Going over to a new authority (`granary authority rotate`), driven by one host that has the present one:
//!
//! 1. every member believes the new one, too, and shows the public half of its key;
//! 2. every member gets the new one's certificate for that key, and shows it from now on;
//! 3. every member stops believing all others, and parts from hosts that aren't members.
//!
//! Until 3 members with either certificate understand each other, so that no call fails. When a member doesn't answer in 1, nothing has
//! changed; when one doesn't later, it's named, and another rotation brings it along, as long as two in a row don't miss it. A host that was
//! left behind starts once with a join token.
//!
//! **Not here:** what a certificate says (`quic`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use granary_core::config_chain::config::Config;
use granary_core::id::{HostId, Lsn};
use granary_core::membership::Life;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::handle::Handle;
use super::link::{CallError, Link};
use super::quic::{Authority, Quic};
use super::wire::{Topic, decode, encode, question};

/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether this host should have the authority and hasn't.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
enum Ask {
    /// The authority, for a voter.
    Authority,
    /// A join token, for a member whose owner wants one.
    Token { valid_ms: u64 },
    /// Believe this authority, too.
    Believe { root: Vec<u8> },
    /// Show its certificate from now on.
    Adopt { root: Vec<u8>, certificate: Vec<u8> },
    /// Believe the one only whose certificate is shown.
    BelieveOne,
    /// This process of a host lacks what that host has acknowledged, which was durable up to there.
    Rewound { host: HostId, life: Life, durable: Lsn },
}

#[derive(Serialize, Deserialize)]
enum Told {
    Authority(Authority),
    Token(String),
    PublicKey(Vec<u8>),
    Done,
    Refused(String),
}

/// What a host knows to answer and ask with.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) quic: Arc<Quic>,
    pub(super) office: Handle,
}

impl Keys {
    /// Answers another host; nothing when the question can't be read.
    pub(super) fn answer(&self, from: HostId, asked: &Bytes) -> Option<Bytes> {
        let ask: Ask = decode(asked)?;
        let told = self.office.config().map_or_else(
            || Told::Refused("no configuration is known".to_owned()),
            |config| self.tell(&config, from, ask).unwrap_or_else(Told::Refused),
        );
        Some(encode(&told))
    }

    fn tell(&self, config: &Config, from: HostId, ask: Ask) -> Result<Told, String> {
        let quic = &self.quic;
        if config.member(from).is_none() {
            return Err("only members may ask that".to_owned());
        }
        if !matches!(ask, Ask::Token { .. } | Ask::Rewound { .. }) && !config.is_voter(from) {
            return Err("only voters may ask that".to_owned());
        }
        match ask {
            Ask::Token { valid_ms } => {
                let token = quic.token(Duration::from_millis(valid_ms)).map_err(failed)?;
                Ok(Told::Token(token.ok_or("it has no authority")?.to_string()))
            }
            Ask::Rewound { host, life, durable } => {
                tracing::warn!(%host, by = %from, "a process on an old copy of a host's data folder was found out");
                quic.warn(host, life, durable);
                Ok(Told::Done)
            }
            Ask::Authority => Ok(Told::Authority(quic.authority().ok_or("it has no authority")?)),
            Ask::Believe { root } => {
                let shown = quic.change_identity(|identity| {
                    identity.believe(root);
                    identity.public_key()
                });
                shown.map(Told::PublicKey).map_err(failed)
            }
            Ask::Adopt { root, certificate } => {
                let adopted = quic.change_identity(|identity| identity.adopt(root, certificate));
                adopted.map(|()| Told::Done).map_err(failed)
            }
            Ask::BelieveOne => self.believe_one(config).map(|()| Told::Done),
        }
    }

    /// Ends a rotation here.
    fn believe_one(&self, config: &Config) -> Result<(), String> {
        let changed = self.quic.change_identity(|identity| {
            identity.believe_one();
            Ok(())
        });
        changed.map_err(failed)?;
        self.quic.part_from(|host| config.member(host).is_none());
        tracing::info!("this host believes the cluster's new authority only");
        Ok(())
    }

    /// Gets hold of the authority whenever this host should have it.
    pub(super) async fn keep_up(self, me: HostId) {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(config) = self.office.config().filter(|config| config.is_voter(me)) else {
                continue;
            };
            if self.quic.authority().is_some() {
                continue;
            }
            for voter in config.voters.iter().filter(|voter| **voter != me) {
                match self.fetch(*voter).await {
                    Ok(()) => {
                        tracing::info!(from = %voter, "this host can let others in: it's a voter, and has the authority");
                        break;
                    }
                    Err(why) => tracing::debug!(from = %voter, why, "no authority from there"),
                }
            }
        }
    }

    async fn fetch(&self, from: HostId) -> Result<(), String> {
        let Told::Authority(authority) = self.ask(from, &Ask::Authority).await? else {
            return Err("no answer to that".to_owned());
        };
        self.quic.take_authority(authority).map_err(failed)
    }

    /// A join token: this host's own, or one that a voter makes.
    pub(super) async fn token(&self, valid: Duration) -> Result<String, String> {
        let own = self.quic.token(valid).map_err(failed)?;
        if let Some(own) = own {
            return Ok(own.to_string());
        }
        let valid_ms = u64::try_from(valid.as_millis()).unwrap_or(u64::MAX);
        let mut why = "no configuration is known yet".to_owned();
        for voter in self.office.config().iter().flat_map(|config| &config.voters) {
            match self.ask(*voter, &Ask::Token { valid_ms }).await {
                Ok(Told::Token(token)) => return Ok(token),
                Ok(_) => why = format!("host {voter} answers something else"),
                Err(error) => why = format!("host {voter}: {error}"),
            }
        }
        Err(format!("only the voters can let hosts in, and none does: {why}"))
    }

    /// Goes over to a new authority. How many hosts have.
    pub(super) async fn rotate(&self, me: HostId) -> Result<usize, String> {
        if self.quic.authority().is_none() {
            return Err("this host hasn't the authority: ask a voter, one of the cluster's oldest hosts".to_owned());
        }
        let config = self.office.config();
        let members = config.iter().flat_map(|config| &config.members);
        let others: Vec<HostId> = members.map(|member| member.host).filter(|host| *host != me).collect();
        let next = Authority::found(self.quic.identity().cluster).map_err(failed)?;
        let keys = self.introduce(&next, &others).await?;
        self.take_over(me, &next)?;
        let mut behind = Vec::new();
        for (host, key) in keys {
            let adopt = Ask::Adopt {
                root: next.certificate().to_vec(),
                certificate: next.admit(host, &key).map_err(failed)?,
            };
            if let Err(why) = self.ask(host, &adopt).await {
                behind.push(format!("{host} ({why})"));
            }
        }
        if !behind.is_empty() {
            return Err(format!(
                "hosts that don't show the new authority's certificate yet: {}. Both authorities are believed; rotate again",
                behind.join(", ")
            ));
        }
        for host in &others {
            if let Err(why) = self.ask(*host, &Ask::BelieveOne).await {
                behind.push(format!("{host} ({why})"));
            }
        }
        if let Some(config) = config {
            self.believe_one(&config)?;
        }
        if behind.is_empty() {
            return Ok(others.len() + 1);
        }
        Err(format!(
            "hosts that still believe the old authority: {}; rotate again",
            behind.join(", ")
        ))
    }

    /// Step 1: all others believe a new authority, too. Their keys' public halves.
    async fn introduce(&self, next: &Authority, others: &[HostId]) -> Result<Vec<(HostId, Vec<u8>)>, String> {
        let mut keys = Vec::new();
        for host in others {
            let root = next.certificate().to_vec();
            match self.ask(*host, &Ask::Believe { root }).await {
                Ok(Told::PublicKey(key)) => keys.push((*host, key)),
                Ok(_) => return Err(format!("nothing has changed: host {host} is of another release")),
                Err(why) => {
                    return Err(format!(
                        "nothing has changed: host {host} has to answer, since it would be shut out ({why}); start it, or wait until it's \
                         out of the configuration"
                    ));
                }
            }
        }
        Ok(keys)
    }

    /// Step 2 for this host, which lets others in by the new authority from now on.
    fn take_over(&self, me: HostId, next: &Authority) -> Result<(), String> {
        let own = self.quic.identity().public_key().map_err(failed)?;
        let certificate = next.admit(me, &own).map_err(failed)?;
        let root = next.certificate().to_vec();
        let adopted = self.quic.change_identity(|identity| identity.adopt(root, certificate));
        adopted.map_err(failed)?;
        self.quic.take_authority(next.clone()).map_err(failed)
    }

    /// Tells the other members of a process that lacks what its host has acknowledged.
    pub(super) async fn warn(self, me: HostId, host: HostId, life: Life, durable: Lsn) {
        let Some(config) = self.office.config() else { return };
        let others = config.members.iter().map(|member| member.host);
        let asked = others.filter(|other| *other != me && *other != host).map(|other| {
            let keys = self.clone();
            async move { keys.ask(other, &Ask::Rewound { host, life, durable }).await }
        });
        // Who doesn't answer isn't there to take it for the host either.
        let _ = asked.collect::<JoinSet<_>>().join_all().await;
    }

    async fn ask(&self, host: HostId, ask: &Ask) -> Result<Told, String> {
        let answer = self.quic.call(host, question(Topic::Keys, ask), PATIENCE).await;
        let answer = answer.map_err(|error| match error {
            CallError::NotSent(why) | CallError::Unknown(why) => why,
        })?;
        match decode(&answer) {
            Some(Told::Refused(why)) => Err(why),
            Some(told) => Ok(told),
            None => Err("it answers something that can't be read".to_owned()),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> String {
    error.to_string()
}
