//! Every run of a small chain: two attempts at one decree with a crash, or at two decrees in a row with other voters.
//!
//! The voters' and proposers' code is the real one ([`super::decree`]); a configuration is a number that stands for its voters. The
//! network is the set of all messages that were ever sent: one that isn't delivered is lost, one that is delivered twice is
//! doubled, and any order is possible. A crash ends a host's attempt and leaves what is durable.
//!
//! Checked: no two hosts ever know different configurations of a number, and no number has two that are decided. Two mutations
//! have to be caught, so that the check is known to see something.
//!
//! **Not here:** time-outs, and who proposes when: safety can't hang on those, so the model lets anybody propose at any time.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::decree::{Acceptor, Attempt, Choice};
use crate::id::{Ballot, HostId};

const HOSTS: u8 = 4;
/// The first configuration. A successor that host `p` proposes for configuration `c` is `4c + p + 1`: no two are the same.
const FIRST: u8 = 0;

fn voters(config: u8) -> Vec<HostId> {
    let voters: [u8; 3] = match config {
        FIRST => [0, 1, 2],
        _ if config % 2 == 1 => [0, 2, 3],
        _ => [1, 2, 3],
    };
    voters.map(host).to_vec()
}

fn host(n: u8) -> HostId {
    HostId([n; 16])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    None,
    /// A crash loses promises, as if they were answered before they are durable.
    ForgetPromise,
    /// A proposer proposes its own value whatever was accepted before.
    IgnoreAccepted,
}

struct Chain {
    mutation: Mutation,
    proposers: &'static [u8],
    attempts: u8,
    crashes: u8,
    /// How many configurations follow the first.
    length: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Host {
    /// Configurations that it knows, after the first.
    known: Vec<u8>,
    acceptor: Acceptor<u8>,
    attempt: Option<Attempt<u8>>,
    incarnation: u32,
}

impl Host {
    fn last(&self) -> u8 {
        self.known.last().copied().unwrap_or(FIRST)
    }

    fn learn(&mut self, config: u8) {
        self.known.push(config);
        self.acceptor = Acceptor::default();
        self.attempt = None;
    }
}

/// A message, with the length of the chain that it's about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Message {
    Prepare {
        of: usize,
        ballot: Ballot,
    },
    Promise {
        of: usize,
        ballot: Ballot,
        from: u8,
        accepted: Option<(Ballot, u8)>,
    },
    Accept {
        of: usize,
        ballot: Ballot,
        value: u8,
    },
    Accepted {
        of: usize,
        ballot: Ballot,
        from: u8,
        value: u8,
    },
    Decided {
        of: usize,
        value: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    hosts: Vec<Host>,
    /// Sorted.
    network: Vec<Message>,
    attempts: u8,
    crashes: u8,
}

impl State {
    fn send(&mut self, message: Message) {
        if let Err(place) = self.network.binary_search(&message) {
            self.network.insert(place, message);
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Start(u8),
    Deliver(Message, u8),
    Crash(u8),
}

impl Chain {
    fn start(&self, state: &mut State, at: u8) {
        state.attempts += 1;
        let me = &mut state.hosts[usize::from(at)];
        let ballot = Ballot {
            counter: me.acceptor.promised().map_or(1, |promised| promised.counter + 1),
            host: host(at),
            incarnation: me.incarnation,
        };
        me.attempt = Some(Attempt::new(ballot, voters(me.last())));
        let of = me.known.len();
        state.send(Message::Prepare { of, ballot });
    }

    fn deliver(&self, state: &mut State, message: &Message, at: u8) {
        let me = &mut state.hosts[usize::from(at)];
        let (of, last) = (me.known.len(), me.last());
        match *message {
            Message::Prepare { ballot, .. } => {
                if let Ok(accepted) = me.acceptor.promise(ballot) {
                    let from = at;
                    state.send(Message::Promise {
                        of,
                        ballot,
                        from,
                        accepted,
                    });
                }
            }
            Message::Promise {
                ballot, from, accepted, ..
            } => {
                let Some(attempt) = me.attempt.as_mut().filter(|attempt| attempt.ballot() == ballot) else {
                    return;
                };
                let own = 4 * last + at + 1;
                let value = match attempt.promised(host(from), accepted) {
                    None => return,
                    Some(Choice::Bound(value)) if self.mutation != Mutation::IgnoreAccepted => value,
                    Some(_) => own,
                };
                attempt.propose(value);
                state.send(Message::Accept { of, ballot, value });
            }
            Message::Accept { ballot, value, .. } => {
                if me.acceptor.accept(ballot, value).is_ok() {
                    let from = at;
                    state.send(Message::Accepted {
                        of,
                        ballot,
                        from,
                        value,
                    });
                }
                if of + 1 < self.length {
                    let decided = decided(state, of);
                    decided
                        .into_iter()
                        .for_each(|value| state.send(Message::Decided { of, value }));
                }
            }
            // Counted by the model itself: whoever counts them learns no more than that.
            Message::Accepted { .. } => {}
            Message::Decided { value, .. } => me.learn(value),
        }
    }

    fn crash(&self, state: &mut State, at: u8) {
        state.crashes += 1;
        let me = &mut state.hosts[usize::from(at)];
        me.incarnation += 1;
        me.attempt = None;
        if self.mutation == Mutation::ForgetPromise {
            let accepted = me.acceptor.accepted().copied();
            me.acceptor = Acceptor::default();
            if let Some((ballot, value)) = accepted {
                me.acceptor.accept(ballot, value).expect("nothing is promised yet");
            }
        }
    }
}

impl Message {
    /// Whether a host still has something to do with it. What would change nothing is left out, to keep the model small.
    fn concerns(&self, me: &Host, at: u8) -> bool {
        let known = me.known.len();
        let votes = |ballot: Ballot| me.acceptor.promised() <= Some(ballot) && voters(me.last()).contains(&host(at));
        let asked = |about: Ballot, from: u8| {
            let open = |attempt: &&Attempt<u8>| attempt.ballot() == about && attempt.value().is_none();
            let attempt = me.attempt.as_ref().filter(open);
            attempt.is_some_and(|attempt| attempt.missing().any(|voter| voter == host(from)))
        };
        match *self {
            Message::Prepare { of, ballot } | Message::Accept { of, ballot, .. } => of == known && votes(ballot),
            Message::Promise { of, ballot, from, .. } => of == known && asked(ballot, from),
            Message::Accepted { .. } => false,
            Message::Decided { of, .. } => of == known,
        }
    }
}

impl Model for Chain {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let hosts = vec![Host::default(); usize::from(HOSTS)];
        vec![State {
            hosts,
            network: Vec::new(),
            attempts: 0,
            crashes: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for at in 0..HOSTS {
            let me = &state.hosts[usize::from(at)];
            let may = self.proposers.contains(&at) && state.attempts < self.attempts && me.known.len() < self.length;
            if may {
                actions.push(Action::Start(at));
            }
            let concerned = state.network.iter().filter(|message| message.concerns(me, at));
            actions.extend(concerned.map(|message| Action::Deliver(message.clone(), at)));
            // A crash changes a host that attempts something; with the mutation any that has promised something.
            let forgets = self.mutation == Mutation::ForgetPromise && me.acceptor.promised().is_some();
            if state.crashes < self.crashes && (me.attempt.is_some() || forgets) {
                actions.push(Action::Crash(at));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Start(at) => self.start(&mut state, at),
            Action::Deliver(message, at) => self.deliver(&mut state, &message, at),
            Action::Crash(at) => self.crash(&mut state, at),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Chain>> {
        vec![
            Property::always("one successor for each configuration", |_, state: &State| {
                (0..2).all(|of| decided(state, of).len() <= 1)
            }),
            Property::always("hosts know the same chain", |_, state: &State| {
                let longest = state
                    .hosts
                    .iter()
                    .max_by_key(|me| me.known.len())
                    .expect("there are hosts");
                state.hosts.iter().all(|me| longest.known.starts_with(&me.known))
            }),
            Property::sometimes("the whole chain is decided", |chain, state: &State| {
                !decided(state, chain.length - 1).is_empty()
            }),
            Property::sometimes("a value is taken over", |_, state: &State| {
                let foreign = |ballot: &Ballot, value: u8| host((value - 1) % 4) != ballot.host;
                state
                    .network
                    .iter()
                    .any(|message| matches!(message, Message::Accept { ballot, value, .. } if foreign(ballot, *value)))
            }),
        ]
    }
}

/// Values of the configuration after `of` others that a majority of its voters has accepted under one ballot.
fn decided(state: &State, of: usize) -> BTreeSet<u8> {
    let accepted = state.network.iter().filter_map(|message| match *message {
        Message::Accepted {
            of: about,
            ballot,
            value,
            ..
        } if about == of => Some((ballot, value)),
        _ => None,
    });
    let all: Vec<(Ballot, u8)> = accepted.collect();
    all.iter()
        .filter(|one| all.iter().filter(|other| other == one).count() >= 2)
        .map(|(_, value)| *value)
        .collect()
}

/// Walks through all of it; returns what is violated.
fn violations(chain: Chain) -> Vec<&'static str> {
    let sound = chain.mutation == Mutation::None;
    let builder = chain.checker().threads(2);
    let checker = match sound {
        true => builder.spawn_dfs().join(),
        false => builder.finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join(),
    };
    let found = checker.discoveries();
    for name in SOMETIMES {
        assert!(!sound || found.contains_key(name), "never: {name}");
    }
    found.into_keys().filter(|name| !SOMETIMES.contains(name)).collect()
}

const SOMETIMES: [&str; 2] = ["the whole chain is decided", "a value is taken over"];
const NONE: [&str; 0] = [];

fn chain(mutation: Mutation, attempts: u8, crashes: u8, length: usize) -> Chain {
    Chain {
        mutation,
        proposers: &[0, 1],
        attempts,
        crashes,
        length,
    }
}

#[test]
fn competing_proposers_and_a_crash_leave_one_successor() {
    assert_eq!(violations(chain(Mutation::None, 2, 1, 1)), NONE);
}

#[test]
fn two_decrees_with_other_voters_make_one_chain() {
    assert_eq!(violations(chain(Mutation::None, 2, 0, 2)), NONE);
}

#[test]
fn voters_that_forget_their_promises_are_caught() {
    assert_ne!(violations(chain(Mutation::ForgetPromise, 2, 1, 1)), NONE);
}

#[test]
fn proposers_that_ignore_what_was_accepted_are_caught() {
    assert_ne!(violations(chain(Mutation::IgnoreAccepted, 2, 0, 1)), NONE);
}
