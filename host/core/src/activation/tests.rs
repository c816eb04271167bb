//! The machine against a tiny world: a log that becomes durable when the test says so.

mod departing;
mod exactly_once;
mod moving;
mod ousting;
mod recalling;
mod repeats;
mod resting;

use super::*;
use crate::api::Code;
use crate::id::{CallId, RequestId};
use crate::reply_table::Outcome;

struct World {
    machine: Activation,
    now: Now,
    appended: u64,
    /// Turns that wait to be ended, oldest first: at most one.
    running: Option<Request>,
    log: Vec<String>,
    committed: Vec<Seq>,
    /// What the grain's last commit was made by.
    revision: Revision,
    durability: Durability,
    /// What the answers rest on.
    rests_on: Vec<RestsOn>,
}

impl World {
    fn new(durability: Durability) -> World {
        World::with_limits(durability, Limits::default())
    }

    fn with_limits(durability: Durability, limits: Limits) -> World {
        World {
            machine: Activation::new(durability, limits),
            now: Now::default(),
            appended: 0,
            running: None,
            log: Vec::new(),
            committed: Vec::new(),
            revision: Revision(1),
            durability,
            rests_on: Vec::new(),
        }
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        for output in out {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Load => {
                self.log.push("load".into());
                let seq = self.committed.last().copied().unwrap_or_default();
                let loaded = Loaded {
                    seq,
                    exists: seq > Seq(0),
                    revision: self.revision,
                    durability: self.durability,
                    ..Loaded::default()
                };
                self.input(Input::Loaded(loaded));
            }
            Output::Run(request) => {
                self.log.push(format!("run {}", request.token.0));
                assert!(self.running.replace(request).is_none(), "one turn at a time");
            }
            Output::Commit(order) => {
                self.log.push(format!("commit {}", order.seq.0));
                assert_eq!(order.seq, self.committed.last().copied().unwrap_or_default().next());
                self.committed.push(order.seq);
                self.appended += 1;
                self.input(Input::Appended {
                    lsn: Lsn(self.appended),
                    bytes: 100,
                });
            }
            Output::Answer { token, reply, .. } => {
                self.rests_on.push(reply.rests_on);
                let word = match reply.result {
                    Ok(value) => String::from_utf8(value).unwrap(),
                    Err(failure) => format!("{} {}", failure.code, failure.committed.as_str()),
                };
                self.log.push(format!("answer {} {word}", token.0));
            }
            Output::Move => self.log.push("move".into()),
            Output::Keep => self.log.push("keep".into()),
            Output::Drop => self.log.push("drop".into()),
            Output::Return(request) => self.log.push(format!("return {}", request.token.0)),
            Output::Gone => self.log.push("gone".into()),
        }
    }

    fn call(&mut self, token: u64) {
        self.input(Input::Arrive(request(token)));
    }

    fn end(&mut self, end: TurnEnd) {
        self.running.take().expect("a turn runs");
        self.input(Input::Ended { end, seen: Lsn(0) });
    }

    fn end_well(&mut self) {
        self.end(TurnEnd::Done(Outcome::Value(b"ok".to_vec())));
    }

    fn durable(&mut self, upto: u64) {
        self.now.durable = Lsn(upto);
        self.input(Input::Durable);
    }

    fn expect(&mut self, log: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log), log);
    }
}

fn request(token: u64) -> Request {
    Request {
        token: Token(token),
        id: RequestId([0; 16]),
        work: Work::Call {
            method: "add".into(),
            args: b"[1]".to_vec(),
            read: false,
            revision: Revision(1),
        },
        caller: Caller::Outside,
        deadline: Time(1000),
        chain: Arc::new([]),
        once: None,
    }
}

fn read(token: u64) -> Request {
    Request {
        work: Work::Call {
            method: "get".into(),
            args: b"[]".to_vec(),
            read: true,
            revision: Revision(1),
        },
        ..request(token)
    }
}

fn once(token: u64, call: u8, fingerprint: u8) -> Request {
    let once = Once {
        call: CallId([call; 16]),
        fingerprint: [fingerprint; 16],
        client: 1,
    };
    Request {
        once: Some(once),
        ..request(token)
    }
}

/// The method passes on the failure of a call that it has made.
fn passed_on() -> TurnEnd {
    TurnEnd::Done(Outcome::PassedOn {
        code: Code::Trap,
        message: String::new(),
        error: None,
        status: None,
    })
}

#[test]
fn a_reply_leaves_when_its_commit_is_durable_and_turns_go_on_meanwhile() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.call(2);
    world.end_well();
    world.expect(&["load", "run 1", "commit 1", "run 2"]);
    world.end_well();
    world.expect(&["commit 2"]);
    world.durable(1);
    world.expect(&["answer 1 ok"]);
    world.durable(2);
    world.expect(&["answer 2 ok"]);
}

#[test]
fn a_read_waits_for_the_commits_that_it_could_see() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.end_well();
    world.input(Input::Arrive(read(2)));
    world.end_well();
    world.expect(&["load", "run 1", "commit 1", "run 2"]);
    world.durable(1);
    world.expect(&["answer 1 ok", "answer 2 ok"]);
    world.input(Input::Arrive(read(3)));
    world.end_well();
    world.expect(&["run 3", "answer 3 ok"]);
}

#[test]
fn a_reply_waits_for_commits_of_other_grains_that_its_turn_has_seen() {
    let mut world = World::new(Durability::Volatile);
    world.call(1);
    world.running = None;
    world.input(Input::Ended {
        end: TurnEnd::Done(Outcome::Value(b"ok".to_vec())),
        seen: Lsn(7),
    });
    world.expect(&["load", "run 1", "keep"]);
    // The state may hold what was seen: a later reply waits, too.
    world.input(Input::Arrive(read(2)));
    world.end_well();
    world.expect(&["run 2"]);
    world.durable(7);
    world.expect(&["answer 1 ok", "answer 2 ok"]);
}

#[test]
fn a_grain_on_the_same_host_is_answered_at_once_with_the_horizon() {
    let mut world = World::new(Durability::Committed);
    let mut out = Vec::new();
    world.input(Input::Arrive(Request {
        caller: Caller::Grain,
        ..request(1)
    }));
    world.running = None;
    let end = TurnEnd::Done(Outcome::Value(b"ok".to_vec()));
    world
        .machine
        .handle(world.now, Input::Ended { end, seen: Lsn(0) }, &mut out);
    world
        .machine
        .handle(world.now, Input::Appended { lsn: Lsn(9), bytes: 1 }, &mut out);
    assert!(
        matches!(
            out.last(),
            Some(Output::Answer {
                token: Token(1),
                horizon: Lsn(9),
                ..
            })
        ),
        "{out:?}"
    );
}

#[test]
fn the_sixth_of_ten_turns_in_flight_traps_and_hurts_no_other() {
    let mut world = World::new(Durability::Committed);
    for token in 1..=10 {
        world.call(token);
    }
    for _ in 1..=5 {
        world.end_well();
    }
    world.log.clear();
    world.end(TurnEnd::Failed(CallFailure::before(Code::Trap, "unreachable")));
    // Its answer waits for the five before it, too: what they did may show in it.
    world.expect(&["drop", "load", "run 7"]);
    for _ in 7..=10 {
        world.end_well();
    }
    world.expect(&[
        "commit 6", "run 8", "commit 7", "run 9", "commit 8", "run 10", "commit 9",
    ]);
    world.durable(5);
    world.expect(&[
        "answer 1 ok",
        "answer 2 ok",
        "answer 3 ok",
        "answer 4 ok",
        "answer 5 ok",
        "answer 6 trap no",
    ]);
    world.durable(9);
    world.expect(&["answer 7 ok", "answer 8 ok", "answer 9 ok", "answer 10 ok"]);
}

#[test]
fn turns_stop_when_too_many_commits_wait_for_the_disk() {
    let limits = Limits {
        pipeline_turns: 2,
        ..Limits::default()
    };
    let mut world = World::with_limits(Durability::Committed, limits);
    for token in 1..=4 {
        world.call(token);
    }
    world.end_well();
    world.end_well();
    world.expect(&["load", "run 1", "commit 1", "run 2", "commit 2"]);
    world.durable(1);
    world.expect(&["answer 1 ok", "run 3"]);
}

#[test]
fn relaxed_replies_at_once_but_does_not_run_ahead_without_bound() {
    let limits = Limits {
        pipeline_turns: 2,
        ..Limits::default()
    };
    let mut world = World::with_limits(Durability::Relaxed, limits);
    for token in 1..=3 {
        world.call(token);
    }
    world.end_well();
    world.end_well();
    world.expect(&[
        "load",
        "run 1",
        "commit 1",
        "answer 1 ok",
        "run 2",
        "commit 2",
        "answer 2 ok",
    ]);
    world.durable(2);
    world.expect(&["run 3"]);
}

#[test]
fn a_volatile_grain_is_written_when_it_leaves_and_only_then() {
    let mut world = World::new(Durability::Volatile);
    world.call(1);
    world.end_well();
    world.expect(&["load", "run 1", "keep", "answer 1 ok"]);
    world.input(Input::Evict);
    world.expect(&["commit 1", "drop", "gone"]);
}

#[test]
fn a_full_mailbox_refuses() {
    let limits = Limits {
        mailbox_messages: 2,
        ..Limits::default()
    };
    let mut world = World::with_limits(Durability::Committed, limits);
    for token in 1..=4 {
        world.call(token);
    }
    world.expect(&["load", "run 1", "answer 4 mailbox_full no"]);
}

#[test]
fn a_withdrawn_request_says_whether_it_may_have_run() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.call(2);
    world.input(Input::Withdraw(Token(2)));
    world.input(Input::Withdraw(Token(1)));
    world.expect(&["load", "run 1", "answer 2 deadline no", "answer 1 deadline unknown"]);
    // The turn goes on and commits; nobody hears of it.
    world.end_well();
    world.durable(1);
    world.expect(&["commit 1"]);
}

#[test]
fn a_request_past_its_deadline_is_not_started() {
    let mut world = World::new(Durability::Committed);
    world.now.time = Time(1000);
    world.call(1);
    world.expect(&["load", "answer 1 deadline no"]);
}

#[test]
fn delete_goes_through_the_mailbox_and_is_repeatable() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.input(Input::Arrive(Request {
        work: Work::Delete,
        ..request(2)
    }));
    world.end_well();
    world.expect(&["load", "run 1", "commit 1", "commit 2", "drop"]);
    world.durable(2);
    world.expect(&["answer 1 ok", "answer 2 null"]);
    assert!(!world.machine.exists());
}

#[test]
fn eviction_waits_until_nothing_is_going_on() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.input(Input::Evict);
    world.end_well();
    world.input(Input::Evict);
    world.expect(&["load", "run 1", "commit 1"]);
    world.durable(1);
    world.input(Input::Evict);
    world.call(2);
    world.expect(&["answer 1 ok", "drop", "gone", "return 2"]);
}

#[test]
fn a_refused_or_reading_turn_commits_nothing() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.end(TurnEnd::Refused(CallFailure::before(Code::BadArguments, "")));
    world.input(Input::Arrive(read(2)));
    world.end(TurnEnd::Done(Outcome::GuestError {
        error: None,
        message: "no".into(),
        status: None,
    }));
    world.expect(&[
        "load",
        "run 1",
        "answer 1 bad_arguments no",
        "run 2",
        "answer 2 guest_error no",
    ]);
}

#[test]
fn a_failed_load_answers_all_that_wait_and_is_tried_again() {
    let mut machine = Activation::new(Durability::Committed, Limits::default());
    let mut out = Vec::new();
    machine.handle(Now::default(), Input::Arrive(request(1)), &mut out);
    machine.handle(Now::default(), Input::Arrive(request(2)), &mut out);
    let failure = CallFailure::before(Code::Overloaded, "no slot");
    machine.handle(Now::default(), Input::LoadFailed(failure), &mut out);
    assert_eq!(
        out.iter()
            .filter(|output| matches!(output, Output::Answer { .. }))
            .count(),
        2
    );
    out.clear();
    machine.handle(Now::default(), Input::Arrive(request(3)), &mut out);
    assert!(matches!(out[..], [Output::Load]));
}

/// Time passes to the machine's deadline.
fn wake(world: &mut World) {
    world.now.time = world.machine.deadline().expect("the grain rests");
    world.input(Input::Wake);
}

#[test]
fn a_grain_that_fails_again_and_again_rests_before_it_is_rebuilt() {
    let limits = Limits {
        backoff_first_nanos: 10,
        backoff_most_nanos: 40,
        ..Limits::default()
    };
    let mut world = World::with_limits(Durability::Committed, limits);
    for token in 1..=7 {
        world.call(token);
    }
    let trap = || TurnEnd::Failed(CallFailure::before(Code::Trap, "unreachable"));
    world.expect(&["load", "run 1"]);
    world.end(trap());
    world.expect(&["drop", "answer 1 trap no", "load", "run 2"]);
    world.end(trap());
    world.expect(&["drop", "answer 2 trap no", "load", "run 3"]);
    // The third failure in a row: nothing is loaded until the rest is over.
    world.end(trap());
    world.expect(&["drop", "answer 3 trap no"]);
    assert_eq!(world.machine.deadline(), Some(Time(10)));
    world.input(Input::Wake);
    world.expect(&[]);
    wake(&mut world);
    world.expect(&["load", "run 4"]);
    // The next rests are longer, up to the bound.
    for (token, rest) in [(4, 20), (5, 40), (6, 40)] {
        let now = world.now.time;
        world.end(trap());
        assert_eq!(world.machine.deadline(), Some(now.plus_nanos(rest)), "after {token}");
        wake(&mut world);
    }
    assert_eq!(world.machine.failures(), 6);
    world.end_well();
    assert_eq!((world.machine.failures(), world.machine.deadline()), (0, None));
}

#[test]
fn a_request_may_leave_while_its_grain_rests_and_then_nobody_needs_to_be_woken() {
    let mut world = World::new(Durability::Committed);
    for token in 1..=4 {
        world.call(token);
    }
    for _ in 0..3 {
        world.end(TurnEnd::Failed(CallFailure::before(Code::Trap, "unreachable")));
    }
    world.log.clear();
    assert!(world.machine.deadline().is_some());
    world.input(Input::Withdraw(Token(4)));
    world.expect(&["answer 4 deadline no"]);
    assert_eq!(world.machine.deadline(), None);
}

/// A guest may have changed something before it says that it did nothing. That's no reason to let the grain rest.
#[test]
fn a_turn_that_says_it_did_nothing_is_undone() {
    let mut world = World::new(Durability::Committed);
    for token in 1..=5 {
        world.call(token);
        world.end(TurnEnd::Undone(CallFailure::before(Code::BadArguments, "")));
        let refused = [
            "load".to_owned(),
            format!("run {token}"),
            "drop".to_owned(),
            format!("answer {token} bad_arguments no"),
        ];
        world.expect(&refused.each_ref().map(String::as_str));
    }
}

#[test]
fn a_refused_call_is_no_good_turn_and_no_failed_one() {
    let limits = Limits {
        backoff_first_nanos: 10,
        ..Limits::default()
    };
    let mut world = World::with_limits(Durability::Committed, limits);
    for token in 1..=3 {
        world.call(token);
        world.end(TurnEnd::Failed(CallFailure::before(Code::Trap, "unreachable")));
    }
    world.call(4);
    wake(&mut world);
    world.end(TurnEnd::Refused(CallFailure::before(Code::BadArguments, "no")));
    assert_eq!(world.machine.failures(), 3);
}

#[test]
fn long_replies_that_wait_for_the_disk_hold_later_turns_back() {
    let limits = Limits {
        pipeline_bytes: 1000,
        ..Limits::default()
    };
    let mut world = World::with_limits(Durability::Committed, limits);
    world.call(1);
    world.end(TurnEnd::Done(Outcome::Value(vec![b'x'; 2000])));
    world.log.clear();
    world.call(2);
    world.expect(&[]);
    world.durable(1);
    assert_eq!(world.log.last().map(String::as_str), Some("run 2"));
}
