//! The simulator itself: it finds what is wrong with a small protocol, finds nothing when nothing is, and repeats itself.
//!
//! The protocol: the first host has all grains, the second a copy of its log. A commit is acknowledged when it's durable on both.

use std::collections::{BTreeMap, VecDeque};

use granary_core::id::{Ballot, GrainId, HostId};
use granary_core::time::Time;
use granary_sim::dice::Dice;
use granary_sim::guest::{Change, Counter, Turn};
use granary_sim::queue::MILLIS;
use granary_sim::subject::*;
use granary_sim::world::{Plan, Report, World};

/// A rule that the toy breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// The primary answers when the copy has it, whether or not its own disk does.
    EarlyReply,
    /// The copy answers before its disk does.
    EarlyAck,
    /// A read doesn't wait for what it saw.
    EarlyRead,
    /// The copy doesn't listen to a primary that has started again.
    Deaf,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    index: usize,
    start: u32,
    grain: GrainId,
    head: Head,
    change: Change,
}

#[derive(Clone, Debug)]
enum Message {
    Copy { start: u32, entries: Vec<Entry> },
    Ack { start: u32, length: usize },
}

struct Toy {
    me: HostId,
    start: u32,
    bug: Bug,
    log: Vec<Entry>,
    grains: BTreeMap<GrainId, (Head, Counter)>,
    written: u64,
    /// For each record that isn't durable: its number, and the log's length with it.
    writing: VecDeque<(u64, usize)>,
    durable: usize,
    copied: usize,
    /// Answers that wait for the log's length.
    waiting: VecDeque<(usize, Call, Outcome)>,
    resend_at: Option<Time>,
}

const PRIMARY: HostId = HostId([1; 16]);
const COPY: HostId = HostId([2; 16]);

#[derive(Clone)]
struct Fixed(Vec<Vec<HostId>>);

impl Authority for Fixed {
    type Order = ();
    type Report = ();
    fn found(hosts: &[HostId], _: &[GrainId]) -> Fixed {
        Fixed(vec![hosts.to_vec()])
    }
    fn order(&self) {}
    fn heard(&mut self, _: HostId, (): ()) {}
    fn adapt(&mut self, _: &Hosts, _: bool, _: &mut Dice) -> bool {
        false
    }
    fn may_lose(&self, _: &Hosts) -> bool {
        false
    }
    fn may_leave(&self, _: HostId) -> bool {
        false
    }
    fn groups(&self, _: GrainId) -> &[Vec<HostId>] {
        &self.0
    }
}

impl Toy {
    fn call(&mut self, now: Time, call: Call, out: &mut Outputs<Toy>) {
        if self.me != PRIMARY {
            return out.push(Output::Reply(
                call,
                Outcome::Failed {
                    why: "copy",
                    elsewhere: Some(PRIMARY),
                },
            ));
        }
        let (before, counter) = self.grains.entry(call.grain).or_default();
        let value = match counter.run(call.step, call.action) {
            Turn::Late => {
                return out.push(Output::Reply(
                    call,
                    Outcome::Failed {
                        why: "late",
                        elsewhere: None,
                    },
                ));
            }
            Turn::Saw(value) => value,
            Turn::Changed(change) => {
                let head = change.head(*before, u64::from(self.start));
                let Change { step, effect } = change;
                out.push(Output::Fact(Fact::Ran {
                    grain: call.grain,
                    before: *before,
                    after: head,
                    step,
                    effect,
                }));
                let entry = Entry {
                    index: self.log.len(),
                    start: self.start,
                    grain: call.grain,
                    head,
                    change,
                };
                counter.apply(change);
                *before = head;
                let value = counter.value;
                self.append(entry, out);
                value
            }
        };
        let head = self.grains[&call.grain].0;
        let outcome = Outcome::Done { head, value };
        if self.bug == Bug::EarlyRead && call.action == Action::Read {
            return out.push(Output::Reply(call, outcome));
        }
        self.waiting.push_back((self.log.len(), call, outcome));
        self.send(now, out);
        self.release(out);
    }

    fn append(&mut self, entry: Entry, out: &mut Outputs<Toy>) {
        self.written += 1;
        self.log.push(entry.clone());
        self.writing.push_back((self.written, self.log.len()));
        out.push(Output::Persist(entry));
    }

    fn send(&mut self, now: Time, out: &mut Outputs<Toy>) {
        if self.copied < self.log.len() {
            let entries = self.log[self.copied..].to_vec();
            out.push(Output::Send {
                to: COPY,
                message: Message::Copy {
                    start: self.start,
                    entries,
                },
            });
            self.resend_at = Some(now.plus_nanos(20 * MILLIS));
        } else {
            self.resend_at = None;
        }
    }

    fn release(&mut self, out: &mut Outputs<Toy>) {
        let safe = match self.bug {
            Bug::EarlyReply => self.copied,
            _ => self.copied.min(self.durable),
        };
        while let Some((_, call, outcome)) = self.waiting.pop_front_if(|(length, ..)| *length <= safe) {
            out.push(Output::Reply(call, outcome));
        }
    }

    fn copy(&mut self, start: u32, entries: Vec<Entry>, out: &mut Outputs<Toy>) {
        // What an earlier life of the primary sent is late.
        let is_deaf = self.bug == Bug::Deaf && start > self.start && self.start > 0;
        if start < self.start || is_deaf {
            return;
        }
        if start > self.start
            && let Some(last) = entries.last()
        {
            // What an earlier life of the primary sent beyond this, and then lost, never was.
            self.log.truncate(last.index + 1);
            self.durable = self.durable.min(self.log.len());
        }
        self.start = start;
        for entry in entries {
            if entry.index < self.log.len() && self.log[entry.index] != entry {
                self.log.truncate(entry.index);
                self.durable = self.durable.min(entry.index);
                self.writing.retain(|(_, length)| *length <= entry.index);
            }
            if entry.index == self.log.len() {
                self.append(entry, out);
            }
        }
        self.ack(out);
    }

    fn ack(&mut self, out: &mut Outputs<Toy>) {
        let length = if self.bug == Bug::EarlyAck {
            self.log.len()
        } else {
            self.durable
        };
        out.push(Output::Send {
            to: PRIMARY,
            message: Message::Ack {
                start: self.start,
                length,
            },
        });
    }
}

impl Subject for Toy {
    type Message = Message;
    type Record = Entry;
    type Setup = Bug;
    type Authority = Fixed;

    fn start(start: Start<'_, Entry, Bug>, _: &mut Outputs<Toy>) -> Toy {
        let mut log: Vec<Entry> = Vec::new();
        for entry in start.records {
            log.truncate(entry.index);
            log.push(entry.clone());
        }
        let mut grains: BTreeMap<GrainId, (Head, Counter)> = BTreeMap::new();
        for entry in &log {
            let (head, counter) = grains.entry(entry.grain).or_default();
            *head = entry.head;
            counter.apply(entry.change);
        }
        Toy {
            me: start.host,
            start: if start.host == PRIMARY {
                start.incarnation
            } else {
                log.last().map_or(0, |entry| entry.start)
            },
            bug: *start.setup,
            durable: log.len(),
            written: start.records.len() as u64,
            log,
            grains,
            writing: VecDeque::new(),
            copied: 0,
            waiting: VecDeque::new(),
            resend_at: Some(Time(1)).filter(|_| start.host == PRIMARY),
        }
    }

    fn handle(&mut self, now: Time, input: Input<Message, ()>, out: &mut Outputs<Toy>) {
        match input {
            Input::Call(call) => self.call(now, call, out),
            Input::Received {
                message: Message::Copy { start, entries },
                ..
            } => self.copy(start, entries, out),
            Input::Received {
                message: Message::Ack { start, length },
                ..
            } if start == self.start => {
                self.copied = self.copied.max(length);
                self.release(out);
            }
            Input::Persisted(count) => {
                while let Some((_, length)) = self.writing.pop_front_if(|(number, _)| *number <= count) {
                    self.durable = length;
                }
                match self.me == PRIMARY {
                    true => self.release(out),
                    false => self.ack(out),
                }
            }
            Input::Wake => self.send(now, out),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.resend_at
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Copy { .. } => "copy",
            Message::Ack { .. } => "ack",
        }
    }

    fn stored(entry: &Entry) -> Option<Stored> {
        let ballot = Ballot {
            counter: u64::from(entry.start),
            host: PRIMARY,
            incarnation: 1,
        };
        let (grain, head) = (entry.grain, entry.head);
        Some(Stored::Install {
            grain,
            promised: Some(ballot),
            head: Some(head),
        })
    }

    fn said(_: &Message) -> Option<Said> {
        None
    }
}

fn run(seed: u64, bug: Bug, outside_only: bool) -> Report {
    let plan = Plan {
        hosts: (2, 2),
        steps: 400,
        faults: 10,
        changes_members: false,
        outside_only,
        ..Plan::default()
    };
    World::<Toy>::run(seed, plan, bug)
}

fn first_found(bug: Bug, outside_only: bool) -> Option<(u64, &'static str)> {
    (0..200).find_map(|seed| {
        run(seed, bug, outside_only)
            .violation
            .map(|found| (seed, found.invariant))
    })
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    for seed in 0..40 {
        let report = run(seed, Bug::None, false);
        assert_eq!(report.violation, None, "seed {seed}");
        assert!(report.coverage.total("fault") >= 10, "{}", report.coverage.table());
    }
}

#[test]
fn a_seed_repeats_its_run() {
    assert_eq!(run(3, Bug::None, false).digest, run(3, Bug::None, false).digest);
    assert_ne!(run(3, Bug::None, false).digest, run(4, Bug::None, false).digest);
}

#[test]
fn an_answer_before_a_disks_is_found_inside_and_outside() {
    for bug in [Bug::EarlyReply, Bug::EarlyAck] {
        let found = first_found(bug, false).expect("looking into hosts finds it");
        assert_eq!(found.1, "committed before seen", "{bug:?}");
    }
    let (_, invariant) = first_found(Bug::EarlyReply, true).expect("clients notice it");
    assert!(["one history", "fresh reads"].contains(&invariant), "{invariant}");
}

#[test]
fn a_read_of_what_may_yet_be_lost_is_found_by_clients() {
    let (_, invariant) = first_found(Bug::EarlyRead, true).expect("clients notice it");
    assert!(["one history", "fresh reads"].contains(&invariant), "{invariant}");
}

#[test]
fn a_host_that_listens_no_more_is_found_when_all_is_mended() {
    let (_, invariant) = first_found(Bug::Deaf, false).expect("nothing goes on");
    assert_eq!(invariant, "liveness");
}
