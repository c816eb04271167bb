//! What goes into the chain's machine and what comes out, as data.
//!
//! **Not here:** what happens on it ([`super::chain`]).

use serde::{Deserialize, Serialize};

use super::config::{ClusterId, Config, ConfigHash, ConfigNumber, Member};
use super::decree::Acceptor;
use crate::id::{Ballot, HostId};
use crate::slot::{Slot, SlotSet};

/// What is fixed for one run of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This host.
    pub me: HostId,
    /// Its n-th start. Never the same again: ballots hang on it.
    pub incarnation: u32,
    /// The only cluster whose messages and configurations are taken.
    pub cluster: ClusterId,
    /// For backing off and for picking whom to ask.
    pub seed: u64,
    /// How long things take before something is done about them.
    pub times: Times,
}

/// Times of the chain, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// A host that joins has to be there for so long: one that comes and goes would move its slots each time.
    pub join_nanos: u64,
    /// A host that is down for so long is given up, when more hosts than replicas are left.
    pub down_nanos: u64,
    /// The same for the other one of two hosts: without it nothing can be committed.
    pub pair_nanos: u64,
    /// How much longer each next voter, by host id, waits before it proposes: two at once would outbid one another.
    pub stagger_nanos: u64,
    /// A question that isn't answered is asked again.
    pub retry_nanos: u64,
    /// An attempt without a majority is given up.
    pub attempt_nanos: u64,
    /// What a voter has accepted is usually decided by then. If not, its proposer may be gone.
    pub finish_nanos: u64,
    /// How long what is served is collected before it's told or written into a configuration.
    pub report_nanos: u64,
    /// A hand-over that isn't done by then doesn't keep others from joining.
    pub settle_nanos: u64,
    /// Between two comparisons with some other host.
    pub compare_nanos: u64,
}

impl Default for Times {
    fn default() -> Times {
        let millis = |millis: u64| millis * 1_000_000;
        Times {
            join_nanos: millis(3_000),
            down_nanos: millis(60_000),
            pair_nanos: millis(2_000),
            stagger_nanos: millis(500),
            retry_nanos: millis(200),
            attempt_nanos: millis(2_000),
            finish_nanos: millis(2_000),
            report_nanos: millis(100),
            settle_nanos: millis(30_000),
            compare_nanos: millis(1_000),
        }
    }
}

/// What a host says of itself that decides which copies it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// How much it takes relative to the others.
    pub weight: u32,
    /// Hosts of one zone may fail together. Empty for none.
    pub zone: String,
}

impl Share {
    /// That of a host.
    pub fn of(member: &Member) -> Share {
        Share {
            weight: member.weight,
            zone: member.zone.clone(),
        }
    }
}

/// What membership says of a host. A hint: it triggers a proposal, it never decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It answers, or is only suspected. With what it would be as a member; nothing while that isn't known: then it isn't made one.
    Alive(Option<Share>),
    /// It's called dead.
    Down,
    /// It has said that it goes.
    Leaving,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// This host is a new cluster's first. Only for a data folder that never was in a cluster.
    Found(Member),
    /// All records are replayed: says again which configuration is in force, and begins to compare with others.
    Start,
    /// Membership has changed its mind about a host, this one included.
    Seen {
        /// Which.
        host: HostId,
        /// How it is.
        presence: Presence,
    },
    /// A slot is served here, durably, as configuration `n` gave it (its `since`). Told again after a restart.
    Serving {
        /// Which slot.
        slot: Slot,
        /// Since which configuration.
        n: ConfigNumber,
    },
    /// Somebody spoke of a configuration that this host doesn't know.
    Behind(HostId),
    /// A message from another host of the cluster.
    Received {
        /// From whom, as its certificate says.
        from: HostId,
        /// What.
        message: Message,
    },
    /// All records up to this ticket are durable.
    Persisted(u64),
    /// [`super::chain::Chain::deadline`] has passed.
    Wake,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this; never to this host itself.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: Message,
    },
    /// Write this; answer with [`Input::Persisted`].
    Persist {
        /// Rises by one with each record.
        ticket: u64,
        /// What to write.
        record: Record,
    },
    /// This configuration is in force, durably. Numbers rise, some may be left out. This host need not be a member.
    Installed(Config),
    /// Another host has a different configuration of the same number. Agreement is broken, by a bug or a copied data folder: a person has to
    /// look. Told once a host. What it says of decisions counts no more, until a newer configuration is known here.
    Forked {
        /// The number.
        n: ConfigNumber,
        /// Who has it.
        host: HostId,
        /// Most voters of this host's own configuration have others: it's this host that is odd, and it has to stop serving.
        is_odd: bool,
    },
}

/// What is written. Replayed in order; the last of each kind counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A configuration that was decided.
    Decided(Config),
    /// What this host has promised and accepted as a voter on the successor of configuration `of`.
    Vote {
        /// The configuration.
        of: ConfigNumber,
        /// The vote.
        acceptor: Acceptor<Config>,
    },
}

/// What hosts say to each other about the chain. `of` is the configuration whose successor it's about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// This is the newest that I know; 0 for none. Whoever knows a newer one sends it, whoever doesn't know it fetches it.
    Status {
        /// Its number.
        n: ConfigNumber,
        /// Its hash.
        hash: ConfigHash,
    },
    /// I know configurations up to this one: send the newest.
    Fetch {
        /// The number.
        known: ConfigNumber,
    },
    /// A configuration that was decided.
    Decided(Config),
    /// Proposer to voter: accept nothing below this ballot.
    Prepare {
        /// See above.
        of: ConfigNumber,
        /// The ballot.
        ballot: Ballot,
    },
    /// Voter to proposer: promised.
    Promise {
        /// See above.
        of: ConfigNumber,
        /// The ballot that is promised.
        ballot: Ballot,
        /// What was accepted before.
        accepted: Option<(Ballot, Config)>,
    },
    /// Proposer to voter: accept this.
    Accept {
        /// See above.
        of: ConfigNumber,
        /// The ballot.
        ballot: Ballot,
        /// The successor.
        config: Config,
    },
    /// Voter to proposer: accepted.
    Accepted {
        /// See above.
        of: ConfigNumber,
        /// The ballot.
        ballot: Ballot,
    },
    /// Voter to proposer: there's a higher promise.
    Outbid {
        /// See above.
        of: ConfigNumber,
        /// The ballot that is too low.
        ballot: Ballot,
        /// The promise.
        promised: Ballot,
    },
    /// Member to voter: these slots I serve as configuration `n` gives them. All of them, each time.
    Serving {
        /// The configuration.
        n: ConfigNumber,
        /// The slots.
        slots: SlotSet,
    },
}
