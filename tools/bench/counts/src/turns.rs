//! The activation machine in a world that answers at once.

use std::sync::Arc;

use granary_core::activation::{Activation, Input, Limits, Loaded, Now, Output, TurnEnd};
use granary_core::api::Durability;
use granary_core::id::{CallId, Lsn, RequestId, Revision, Seq};
use granary_core::message::{Caller, Once, Request, Token, Work};
use granary_core::reply_table::Outcome;
use granary_core::time::Time;

/// Requests that wait for one sync.
const PIPELINE: u64 = 64;

/// One committed turn after the other: request, run, commit, sync, reply.
pub(crate) fn alone(rounds: u64) -> u64 {
    let mut world = World::default();
    for round in 0..rounds {
        world.arrive(round, None);
        world.sync();
    }
    world.steps
}

/// Many turns of a grain, one sync for all.
pub(crate) fn pipelined(rounds: u64) -> u64 {
    let mut world = World::default();
    for round in 0..rounds {
        (0..PIPELINE).for_each(|number| world.arrive(round * PIPELINE + number, None));
        world.sync();
    }
    world.steps
}

/// Each request comes twice under the same key: the second gets the stored reply.
pub(crate) fn repeated(rounds: u64) -> u64 {
    let mut world = World::default();
    for round in 0..rounds {
        let mut call = [0; 16];
        call[..8].copy_from_slice(&round.to_le_bytes());
        let once = Once {
            call: CallId(call),
            fingerprint: [7; 16],
            // More clients than one: each has a share of the table.
            client: round % 32,
        };
        for token in [2 * round, 2 * round + 1] {
            world.arrive(token, Some(once));
            world.sync();
        }
    }
    world.steps
}

/// The grain leaves memory after each turn.
pub(crate) fn reloaded(rounds: u64) -> u64 {
    let mut world = World::default();
    for round in 0..rounds {
        world.arrive(round, None);
        world.sync();
        world.input(Input::Evict);
        world.machine = Activation::new(Durability::Committed, Limits::default());
    }
    world.steps
}

struct World {
    machine: Activation,
    now: Now,
    appended: u64,
    seq: Seq,
    steps: u64,
    /// Kept, so that the world allocates nothing of its own.
    out: Vec<Output>,
    method: Arc<str>,
    chain: Arc<[granary_core::id::GrainId]>,
}

impl Default for World {
    fn default() -> World {
        World {
            machine: Activation::new(Durability::Committed, Limits::default()),
            now: Now {
                target: Revision(1),
                ..Now::default()
            },
            appended: 0,
            seq: Seq(0),
            steps: 0,
            out: Vec::new(),
            method: "add".into(),
            chain: Arc::new([]),
        }
    }
}

impl World {
    fn arrive(&mut self, token: u64, once: Option<Once>) {
        self.now.time = Time(self.now.time.0 + 1000);
        let request = Request {
            token: Token(token),
            id: RequestId([1; 16]),
            work: Work::Call {
                method: self.method.clone(),
                args: b"[1]".to_vec(),
                read: false,
                revision: Revision(1),
            },
            caller: Caller::Outside,
            deadline: Time(self.now.time.0 + 1_000_000),
            chain: self.chain.clone(),
            once,
        };
        self.input(Input::Arrive(request));
    }

    fn sync(&mut self) {
        self.now.durable = Lsn(self.appended);
        self.input(Input::Durable);
    }

    /// One input, and the answers to all that comes of it.
    fn input(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut out = std::mem::take(&mut self.out);
            self.machine.handle(self.now, input, &mut out);
            for output in out.drain(..) {
                self.steps += 1;
                if let Some(answer) = self.answer(&output) {
                    assert!(next.replace(answer).is_none(), "one thing is asked at a time");
                }
            }
            self.out = out;
        }
    }

    fn answer(&mut self, output: &Output) -> Option<Input> {
        match output {
            Output::Load => Some(Input::Loaded(Loaded {
                seq: self.seq,
                exists: self.seq > Seq(0),
                lsn: self.now.durable,
                revision: Revision(1),
                durability: Durability::Committed,
                ..Loaded::default()
            })),
            Output::Run(_) => Some(Input::Ended {
                end: TurnEnd::Done(Outcome::Value(b"5".to_vec())),
                seen: Lsn(0),
            }),
            Output::Commit(order) => {
                self.seq = order.seq;
                self.appended += 1;
                Some(Input::Appended {
                    lsn: Lsn(self.appended),
                    bytes: 150,
                })
            }
            Output::Answer { .. } | Output::Drop | Output::Gone => None,
            other => panic!("the script asks for nothing that ends in {other:?}"),
        }
    }
}
