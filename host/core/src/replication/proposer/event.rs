//! What goes into a proposer and what comes out: its only contact with the world.

use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, HostId, Seq};
use crate::replication::messages::{Accepted, Answer, CommitHash, Message, Proposal, State};
use crate::replication::replica_set::ReplicaSet;

/// How much a proposer holds and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Commits that are kept for stragglers.
    pub kept_commits: usize,
    /// Bytes of commits that are kept for stragglers. One that is further behind gets the whole state.
    pub kept_bytes: usize,
    /// Commits that are sent again at a time. Stops a slow replica from being buried.
    pub resent_commits: usize,
    /// Reads that wait for a quorum.
    pub reads: usize,
    /// Nanoseconds after which what isn't answered is sent again; doubles up to 16 times that.
    pub retry_nanos: u64,
    /// How often that is done for a replica that nobody waits for.
    pub retries: u32,
    /// Nanoseconds without a quorum after which no turn may start.
    pub lease_nanos: u64,
    /// Nanoseconds after which ballots are confirmed without a reason.
    pub renewal_nanos: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            kept_commits: 1024,
            kept_bytes: 1 << 20,
            resent_commits: 64,
            reads: 4096,
            retry_nanos: 100_000_000,
            retries: 8,
            lease_nanos: 3_000_000_000,
            renewal_nanos: 1_000_000_000,
        }
    }
}

/// What happens to a proposer.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The slot has got these replicas.
    Assigned(ReplicaSet),
    /// Become the activation of the grain.
    Activate {
        /// The state that is here already, by its hash.
        have: Option<CommitHash>,
        /// Fence a live holder: it's seen dead, or hands over.
        preempts: bool,
    },
    /// A replica answers.
    Received {
        /// Who.
        from: HostId,
        /// In which configuration.
        n: ConfigNumber,
        /// What.
        answer: Answer,
    },
    /// The next commit, in the order of their numbers. Only between [`Output::Active`] and the end; dropped otherwise.
    Propose(Proposal),
    /// Answers [`Output::NeedImage`].
    Image(State),
    /// A read has arrived: it must see all that was acknowledged before.
    Read {
        /// Names it.
        ticket: u64,
        /// The last commit that its reply depends on.
        sees: Seq,
    },
    /// End in peace: wait for the commits on their way, then let go.
    Release {
        /// Who will be next.
        to: Option<HostId>,
    },
    /// The deadline has passed.
    Wake,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this; also to this host itself.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: Message,
    },
    /// This host is the grain's activation, in this state.
    Active {
        /// Its ballot.
        ballot: Ballot,
        /// The last commit; `None` when there has never been one.
        head: Option<Accepted>,
        /// The state after it, unless it's what this host has or the grain is deleted.
        state: Option<State>,
    },
    /// Somebody else is the grain's activation and alive; this machine rests until it's asked again.
    Held {
        /// Who.
        holder: HostId,
        /// For how long, unless it shows life again.
        left_ms: u32,
    },
    /// A replica is far behind: answer with the whole state after one of the last commits.
    NeedImage,
    /// A quorum has all commits up to here: what waits for them may leave.
    Committed(Seq),
    /// The read sees all that was acknowledged before it arrived.
    ReadReady(u64),
    /// The read can't be served: the activation has ended, or too many wait.
    ReadRefused(u64),
    /// No quorum was heard for too long: start no turn.
    Isolated,
    /// A quorum is heard again.
    Reachable,
    /// Another activation has taken over: drop memory, replies and effects that wait.
    Fenced {
        /// Its ballot.
        by: Ballot,
    },
    /// It's over, in peace.
    Released,
    /// A replica knows this configuration, and this host doesn't: ask for it.
    Behind(ConfigNumber),
}
