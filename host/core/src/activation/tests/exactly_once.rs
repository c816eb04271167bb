//! Calls and deletions that come again and again, against kills, evictions, moves to other hosts and to other revisions, and clocks that begin
//! anew: within ten minutes each has one effect, and every repeat gets its reply.

use std::collections::BTreeMap;

use super::*;
use crate::id::{GrainKey, GrainName, GrainType};
use crate::reply_table::AGE_LIMIT_MS;
use crate::reply_table::absent::AbsentTables;
use crate::rng::Rng;

const SEEDS: u64 = 400;
const STEPS: u32 = 300;
/// Keys of calls; those from here on are of deletions.
const CALLS: u64 = 5;
const KEYS: u64 = 8;
const MINUTE: u64 = 60_000_000_000;
const WINDOW: u64 = AGE_LIMIT_MS * 1_000_000;

/// A commit in the log.
#[derive(Debug)]
struct Record {
    makes: Makes,
    replies: Vec<Arc<StoredReply>>,
    /// The key whose effect it is, and when that took place.
    effect: Option<(u64, u64)>,
}

struct World {
    rng: Rng,
    /// What an observer's watch shows, in nanoseconds. Hosts count from their starts.
    real: u64,
    started: u64,
    machine: Activation,
    absent: AbsentTables,
    log: Vec<Record>,
    durable: usize,
    revision: Revision,
    running: Option<Request>,
    /// Requests that nobody has answered: their keys, and the last effects that these had when they were sent.
    waiting: BTreeMap<Token, (u64, Option<u64>)>,
    tokens: u64,
    repeats: u32,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            rng: Rng::new(seed),
            real: MINUTE,
            started: 0,
            machine: Activation::new(Durability::Committed, Limits::default()),
            absent: AbsentTables::new(4),
            log: Vec::new(),
            durable: 0,
            revision: Revision(1),
            running: None,
            waiting: BTreeMap::new(),
            tokens: 0,
            repeats: 0,
        }
    }

    fn now(&self) -> Now {
        Now {
            time: Time(self.real - self.started),
            durable: Lsn(self.durable as u64),
            target: self.revision,
        }
    }

    /// Names a state as a commit's hash does.
    fn state(&self) -> [u8; 16] {
        let mut state = [0; 16];
        state[..8].copy_from_slice(&(self.log.len() as u64).to_le_bytes());
        state
    }

    fn table(&self) -> ReplyTable {
        let mut table = ReplyTable::new();
        for record in &self.log {
            if record.makes == Makes::Deletion {
                table = ReplyTable::new();
            }
            record.replies.iter().for_each(|reply| table.insert(reply.clone()));
        }
        table
    }

    fn exists(&self) -> bool {
        self.log.last().is_some_and(|last| last.makes == Makes::Changes)
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.now(), input, &mut out);
        out.into_iter().for_each(|output| self.output(output));
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Load => {
                let (replies, state, time) = (self.table(), self.state(), self.now().time);
                let loaded = Loaded {
                    seq: Seq(self.log.len() as u64),
                    exists: self.exists(),
                    lsn: Lsn(self.log.len() as u64),
                    revision: self.revision,
                    durability: Durability::Committed,
                    shown: self.absent.resume(&grain(), state, replies.newest(), time),
                    replies,
                };
                self.input(Input::Loaded(loaded));
            }
            Output::Run(request) => self.running = Some(request),
            Output::Move => {
                let moved = Moved {
                    revision: self.revision,
                    durability: Durability::Committed,
                };
                self.input(Input::Moved(match self.exists() {
                    true => MoveEnd::Done(moved),
                    false => MoveEnd::Unwritten(moved),
                }));
            }
            Output::Commit(order) => self.commit(order),
            Output::Answer { token, reply, horizon } => {
                assert!(
                    horizon.0 <= self.durable as u64,
                    "no reply before its commit is durable"
                );
                if let Some((key, before)) = self.waiting.remove(&token) {
                    self.check_reply(key, before, &reply.result);
                }
            }
            Output::Gone => self.leave(),
            Output::Drop | Output::Keep => {}
            Output::Return(_) => unreachable!("nothing is sent to one that is gone"),
        }
    }

    fn commit(&mut self, order: CommitOrder) {
        assert_eq!(order.seq.0, self.log.len() as u64 + 1);
        let added = order.replies.last().map(|reply| u64::from(reply.call.0[0]));
        let effect = added.map(|key| (key, self.real));
        if let Some((key, _)) = effect
            && let Some(earlier) = self.effects(key).last()
        {
            let age = self.real - earlier;
            assert!(
                age > WINDOW,
                "key {key} has had an effect {} s ago",
                age / 1_000_000_000
            );
        }
        self.log.push(Record {
            makes: order.makes,
            replies: order.replies,
            effect,
        });
        self.input(Input::Appended {
            lsn: Lsn(self.log.len() as u64),
            bytes: 1,
        });
    }

    /// When the effects of a key took place that the log has, oldest first.
    fn effects(&self, key: u64) -> impl Iterator<Item = u64> {
        let effects = self.log.iter().filter_map(|record| record.effect);
        effects.filter(move |(of, _)| *of == key).map(|(_, at)| at)
    }

    /// The reply is that of an effect which the log has: of the last one when the request was sent, or a later one.
    fn check_reply(&mut self, key: u64, before: Option<u64>, result: &Result<Vec<u8>, CallFailure>) {
        match result {
            Ok(value) => {
                let text = |effect: u64| match key < CALLS {
                    true => effect.to_string(),
                    false => "null".to_owned(),
                };
                let of = self
                    .effects(key)
                    .filter(|effect| Some(*effect) >= before)
                    .find(|effect| text(*effect).as_bytes() == value);
                let of = of.unwrap_or_else(|| panic!("{} of key {key} is no reply", String::from_utf8_lossy(value)));
                self.repeats += u32::from(of < self.real);
            }
            Err(failure) => assert!(
                [Code::InProgress, Code::Moved, Code::Trap].contains(&failure.code),
                "{failure}"
            ),
        }
    }

    fn leave(&mut self) {
        if let Some(clock) = self.machine.reply_clock(self.now().time) {
            let (state, is_vacant, time) = (self.state(), !self.machine.exists(), self.now().time);
            self.absent.leave(&grain(), state, clock, is_vacant, time);
        }
        self.machine = Activation::new(Durability::Committed, Limits::default());
    }

    fn send(&mut self, work: Work, key: Option<u64>) {
        self.tokens += 1;
        let token = Token(self.tokens);
        if let Some(key) = key {
            let before = self.effects(key).last();
            self.waiting.insert(token, (key, before));
        }
        let request = Request {
            work,
            once: key.map(|key| Once {
                call: CallId([key as u8; 16]),
                fingerprint: [key as u8; 16],
                client: 1,
            }),
            deadline: Time(u64::MAX),
            ..request(self.tokens)
        };
        self.input(Input::Arrive(request));
    }

    /// The turn that runs ends: with what an observer's watch shows as its value, or with a trap.
    fn end(&mut self) {
        if self.running.take().is_some() {
            let end = match self.rng.below(4) {
                0 => TurnEnd::Failed(CallFailure::before(Code::Trap, "")),
                _ => TurnEnd::Done(Outcome::Value(self.real.to_string().into_bytes())),
            };
            self.input(Input::Ended { end, seen: Lsn(0) });
        }
    }

    /// Everything that is only in memory is lost, and with it what this host knew of clocks.
    fn kill(&mut self) {
        self.log.truncate(self.durable);
        self.running = None;
        self.waiting.clear();
        self.start_elsewhere();
    }

    fn start_elsewhere(&mut self) {
        self.started = self.real - self.rng.below(MINUTE);
        self.absent = AbsentTables::new(4);
        self.machine = Activation::new(Durability::Committed, Limits::default());
    }

    /// The grain goes to another host, with all that it has committed.
    fn migrate(&mut self) {
        self.input(Input::Depart);
        self.end();
        self.sync();
        assert!(self.running.is_none() && self.waiting.is_empty());
        self.start_elsewhere();
    }

    fn sync(&mut self) {
        self.durable = self.log.len();
        self.input(Input::Durable);
    }

    /// What a host does about vacancies.
    fn end_vacancies(&mut self) {
        if self.absent.wants_search() && self.log.last().is_some_and(|last| last.makes == Makes::Vacancy) {
            let (state, time) = (self.state(), self.now().time);
            self.absent.find(&grain(), state, time);
        }
        if self.absent.due(self.now().time).is_some() {
            self.send(Work::Delete, None);
        }
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..6 => {
                let key = self.rng.below(CALLS);
                self.send(call(), Some(key));
            }
            6 | 7 => {
                let key = CALLS + self.rng.below(KEYS - CALLS);
                self.send(Work::Delete, Some(key));
            }
            8 => self.send(Work::Delete, None),
            9 => self.send(call(), None),
            10..12 => self.end(),
            12 | 13 => self.sync(),
            14 => self.real += self.rng.below(7 * MINUTE),
            15 | 16 => self.input(Input::Evict),
            17 => match self.rng.below(3) {
                0 => self.kill(),
                1 => self.migrate(),
                _ => self.revision.0 += 1,
            },
            _ => self.end_vacancies(),
        }
    }
}

fn grain() -> GrainName {
    GrainName::new(GrainType::new("t").unwrap(), GrainKey::new("k").unwrap())
}

fn call() -> Work {
    request(0).work
}

#[test]
fn within_the_window_each_call_and_each_deletion_has_one_effect_and_one_reply() {
    let mut repeats = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        repeats += world.repeats;
    }
    assert!(repeats > 1000, "{repeats} repeats got the reply of an earlier call");
}

/// However the grain was deleted, and whichever host knows of it.
#[test]
fn in_the_end_nothing_is_left_of_what_was_deleted() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        (0..STEPS / 4).for_each(|_| world.step());
        world.end();
        world.send(Work::Delete, Some(KEYS));
        for _ in 0..100 {
            world.end();
            world.sync();
            world.input(Input::Evict);
            world.end_vacancies();
            world.real += MINUTE;
        }
        assert!(world.table().is_empty(), "seed {seed}");
        assert_eq!(world.log.last().unwrap().makes, Makes::Deletion, "seed {seed}");
    }
}
