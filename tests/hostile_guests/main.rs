//! Guests that mean harm, one each. A turn or an upload that attacks the host gets its error; the attacked grain goes on with
//! its last good value; a neighbour that is called throughout gets right values, in good time as soak measures it; and afterwards the
//! host has given back what the attack took.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails; what it prints is shown then"
)]

mod footprint;
mod neighbour;
mod raw;

use std::time::Duration;

use granary_tests::{Client, Host, Request, soak};

use footprint::Footprint;
use neighbour::Neighbour;
use raw::Raw;

/// Quiet and attacked rounds of the neighbour; their medians are compared.
const ROUNDS: usize = 3;
/// Without a measurement one round shows what it has to.
const ROUNDS_UNMEASURED: usize = 1;
/// How much longer the neighbour's p99 may be beside an attack.
const SLOWDOWN: u32 = 10;
/// A quiet p99 below this counts as this: two cores that others use, too, delay any call by some milliseconds now and then.
const QUIET_FLOOR: Duration = Duration::from_millis(10);
/// Attackers at the same time, and
const ATTACKERS: usize = 2;
/// the grains that each attacks in a round, one after the other. Every attack has a grain of its own: one that traps again
/// and again is slowed down, which is another matter.
const GRAINS: usize = 4;

/// What the refusal of a module names that takes too long to compile.
const NAMES_COMPILING: &[&str] = &["compil"];

/// What an upload gets that can't be hosted.
const BAD_MODULE: (u16, &str) = (422, "bad_module");

/// Grains leave memory soon, so that what they took has to come back; a turn may not compute for long.
const FLAGS: &[&str] = &["--idle-timeout", "200ms", "--turn-limit", "300ms"];

/// A turn that attacks.
struct Turn {
    guest: Guest,
    method: &'static str,
    args: &'static str,
    /// The value of `granary-timeout`.
    timeout: &'static str,
    /// What the caller gets: a status, and a problem's code unless it is 200.
    status: u16,
    code: &'static str,
    /// What `get` gives then; before, it gives 3.
    value: i64,
}

enum Guest {
    /// The probe of tests/guests.
    Probe,
    /// Wasm text.
    Raw(Raw),
}

impl Turn {
    fn of_probe(method: &'static str, args: &'static str, status: u16, code: &'static str) -> Turn {
        Turn {
            guest: Guest::Probe,
            method,
            args,
            timeout: "10s",
            status,
            code,
            value: 3,
        }
    }

    fn of_raw(attack: &'static str, status: u16, code: &'static str) -> Turn {
        let raw = Raw {
            attack,
            ..Raw::default()
        };
        Turn {
            guest: Guest::Raw(raw),
            // Raw guests write a 7 before they attack.
            value: if status == 200 { 7 } else { 3 },
            ..Turn::of_probe("attack", "", status, code)
        }
    }

    fn harms_nobody_else(&self) {
        let host = Host::start_with(FLAGS);
        let kind = match &self.guest {
            Guest::Probe => "probe",
            Guest::Raw(raw) => {
                host.client().deploy("raw", &raw.wasm()).expect(201);
                "raw"
            }
        };
        if kind == "probe" {
            host.deploy(kind);
        }
        endure(&host, &|round| {
            std::thread::scope(|scope| {
                for attacker in 0..ATTACKERS {
                    let mut client = host.client();
                    scope.spawn(move || {
                        for grain in 0..GRAINS {
                            self.attack(&mut client, &format!("{kind}/{round}-{attacker}-{grain}"));
                        }
                    });
                }
            });
        });
    }

    fn attack(&self, client: &mut Client, grain: &str) {
        let add = if self.method == "attack" { "" } else { "[1]" };
        for value in 1..=3 {
            assert_eq!(client.call(&format!("{grain}/add"), add).integer(), value);
        }
        let request = Request::new("POST", format!("/v1/grains/{grain}/{}", self.method))
            .header("granary-timeout", self.timeout)
            .body(self.args);
        let reply = client.send(&request);
        match self.status {
            200 => drop(reply.expect(200)),
            status => drop(reply.problem(status, self.code)),
        }
        let value = client.fetch(&format!("/v1/grains/{grain}/get")).integer();
        assert_eq!(value, self.value, "the last good value");
        assert_eq!(client.call(&format!("{grain}/add"), add).integer(), self.value + 1);
    }
}

/// An upload that attacks: refused, in words that name what is wrong, and the revision before goes on.
fn upload_harms_nobody(wasm: &[u8], (status, code): (u16, &str), named: &[&str]) {
    let mut host = Host::prepared(FLAGS);
    // All but a bomb are compiled long before; what runs then, and doesn't end, is ended.
    let deadline = if named == NAMES_COMPILING { "2s" } else { "10s" };
    host.set_variable("GRANARY_COMPILE_DEADLINE", deadline);
    host.start_again();
    let mut client = host.client();
    client.deploy("raw", &Raw::default().wasm()).expect(201);
    assert_eq!(client.call("raw/a/add", "").integer(), 1);
    endure(&host, &|_| {
        let mut client = host.client();
        let problem = client.deploy("raw", wasm).problem(status, code);
        let detail = problem["detail"].as_str().unwrap();
        for name in named {
            assert!(detail.contains(name), "`{name}` is not named: {detail}");
        }
        assert_eq!(client.fetch("/v1/modules/raw").value()["revision"], 1);
        assert_eq!(client.fetch("/v1/grains/raw/a/get").integer(), 1);
    });
}

/// Rounds without and beside the attack, and what is left of it.
fn endure(host: &Host, attack: &(dyn Fn(usize) + Sync)) {
    let mut neighbour = Neighbour::settle(host);
    let before = Footprint::of(host.pid());
    let rounds: Vec<_> = (0..soak::or(ROUNDS_UNMEASURED, ROUNDS))
        .map(|round| (neighbour.quiet_round(), neighbour.round_beside(|| attack(round))))
        .collect();
    let quiet = median(rounds.iter().map(|round| round.0));
    let beside = median(rounds.iter().map(|round| round.1));
    soak::measured(
        &format!("the neighbour's p99 was {quiet:?} and is {beside:?} beside the attack: {rounds:?}"),
        beside <= quiet.max(QUIET_FLOOR) * SLOWDOWN,
    );
    before.await_return(host.pid());
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times[times.len() / 2]
}

/// One test for each turn, under its name.
macro_rules! hostile_turns {
    ($($name:ident: $turn:expr;)*) => {
        $(#[test]
        fn $name() {
            $turn.harms_nobody_else();
        })*
    };
}

/// One test for each upload, with what the refusal names.
macro_rules! hostile_uploads {
    ($($name:ident: $wasm:expr, $problem:expr, $named:expr;)*) => {
        $(#[test]
        fn $name() {
            upload_harms_nobody(&$wasm, $problem, &$named[..]);
        })*
    };
}

hostile_turns! {
    an_endless_loop: Turn::of_probe("spin", "", 500, "turn_timeout");
    an_endless_loop_after_a_write: Turn::of_probe("spin_after_write", "[5]", 500, "turn_timeout");
    a_memory_bomb: Turn::of_probe("allocate", "[134217728]", 500, "memory_limit");
    a_memory_bomb_page_by_page: Turn::of_raw(
        "(loop $more
           (local.set $i (memory.grow (i32.const 1)))
           (if (i32.gt_s (local.get $i) (i32.const 0)) (then
             (i32.store (i32.mul (local.get $i) (i32.const 65536)) (i32.const -1))
             (br $more))))
         unreachable",
        500, "memory_limit"
    );
    much_memory_that_is_allowed: Turn::of_probe("allocate", "[8000000]", 200, "");
    deep_recursion: Turn::of_probe("recurse", "[100000000]", 500, "trap");
    a_trap_in_the_middle_of_a_mutation: Turn::of_probe("trap_after_write", "[100]", 500, "trap");
    an_abort: Turn::of_probe("trap_now", "", 500, "trap");
    an_exit_that_claims_success: Turn::of_probe("exit", "[0]", 500, "trap");
    a_claim_that_an_argument_was_wrong_after_a_write: Turn::of_raw(
        "(memory.fill (i32.const 65536) (i32.const 0) (i32.const 64))
         (i32.store8 (i32.const 65536) (i32.const 1))
         (i32.store (i32.const 65544) (i32.const 1024))
         (i32.store (i32.const 65548) (i32.const 4))
         (i32.const 65536)",
        400, "bad_arguments"
    );
    a_claim_that_the_method_is_unknown_after_a_write: Turn::of_raw(
        "(memory.fill (i32.const 65536) (i32.const 0) (i32.const 64))
         (i32.store8 (i32.const 65536) (i32.const 1))
         (i32.store8 (i32.const 65540) (i32.const 1))
         (i32.store (i32.const 65544) (i32.const 1024))
         (i32.store (i32.const 65548) (i32.const 4))
         (i32.const 65536)",
        404, "unknown_method"
    );
    an_exit_that_claims_failure: Turn::of_probe("exit", "[1]", 500, "trap");
    a_huge_reply: Turn::of_raw(
        "(drop (memory.grow (i32.const 300))) (call $ok (i32.const 100000) (i32.const 16000000))", 413, "too_large"
    );
    a_reply_beyond_the_memory: Turn::of_raw("(call $ok (i32.const 80000) (i32.const 0x7fffffff))", 500, "trap");
    a_reply_of_negative_length: Turn::of_raw("(call $ok (i32.const 80000) (i32.const -1))", 500, "trap");
    bad_utf8_in_a_result: Turn::of_raw("(call $ok (i32.const 66100) (i32.const 4))", 500, "trap");
    a_result_that_is_no_json: Turn::of_raw("(call $ok (i32.const 66100) (i32.const 1))", 500, "trap");
    bad_utf8_in_a_log_message: Turn::of_raw(
        "(call $log (i32.const 2) (i32.const 66100) (i32.const 4)) unreachable", 500, "trap"
    );
    bad_utf8_on_standard_output: Turn::of_raw(
        "(i32.store (i32.const 66200) (i32.const 66100))
         (i32.store (i32.const 66204) (i32.const 4))
         (drop (call $fd_write (i32.const 1) (i32.const 66200) (i32.const 1) (i32.const 66300)))
         (call $value)",
        200, ""
    );
    bad_utf8_in_a_call: Turn::of_raw(
        "(call $invoke (i32.const 66100) (i32.const 4) (i32.const 66100) (i32.const 4) (i32.const 66100) (i32.const 4)
           (i32.const 0) (i32.const 0) (i32.const 66400))
         unreachable",
        500, "trap"
    );
    // A million brackets, half of them opening: whoever reads it by recursion would fall.
    deep_json_in_a_result: Turn::of_raw(
        "(drop (memory.grow (i32.const 16)))
         (memory.fill (i32.const 100000) (i32.const 91) (i32.const 500000))
         (memory.fill (i32.const 600000) (i32.const 93) (i32.const 500000))
         (call $ok (i32.const 100000) (i32.const 1000000))",
        413, "too_large"
    );
    a_log_flood: Turn::of_raw(
        "(loop $more
           (call $log (i32.const 2) (i32.const 1024) (i32.const 100))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $i) (i32.const 100000))))
         (call $value)",
        200, ""
    );
    a_log_flood_without_end: Turn::of_raw(
        "(loop $more (call $log (i32.const 4) (i32.const 1024) (i32.const 100)) (br $more)) unreachable",
        500, "turn_timeout"
    );
    a_flood_of_parallel_calls: Turn::of_raw(
        "(drop (memory.grow (i32.const 64)))
         (call $invoke_all (i32.const 100000) (i32.const 100000) (i32.const 66400))
         unreachable",
        413, "too_large"
    );
    // The caller passes the failure on as its own: what it had added stands.
    a_chain_without_end_that_is_passed_on: Turn {
        value: 8,
        args: r#"{"n": 5, "grain_type": "probe", "key": "deep", "method": "chain", "args": [40]}"#,
        ..Turn::of_probe("pass_on", "", 508, "chain_too_deep")
    };
    calls_without_end: Turn::of_probe("chain", "[1000]", 508, "chain_too_deep");
    sleep_beyond_the_deadline: Turn {
        timeout: "300ms",
        ..Turn::of_probe("sleep_ms", "[3600000]", 504, "deadline")
    };
    a_flood_of_subscriptions: Turn::of_raw(
        "(drop (memory.grow (i32.const 200)))
         (drop (call $poll (i32.const 100000) (i32.const 5000000) (i32.const 200000) (i32.const 200000)))
         unreachable",
        500, "trap"
    );
}

hostile_uploads! {
    a_module_that_compiles_for_minutes: raw::compile_bomb(), BAD_MODULE, NAMES_COMPILING;
    a_bomb_of_data_segments: raw::data_bomb(), (413, "too_large"), ["data"];
    a_describe_without_end: Raw { describe: "(loop $more (br $more)) unreachable", ..Raw::default() }.wasm(), BAD_MODULE, ["describe"];
    a_describe_that_recurses: Raw { describe: "(call $deep)", more: "(func $deep (result i32) (i32.add (call $deep) (i32.const 1)))".into(), ..Raw::default() }.wasm(), BAD_MODULE, ["describe"];
    a_describe_of_100_mib: Raw { describe: "(call $list (i32.const 1024) (i32.const 104857600))", ..Raw::default() }.wasm(), BAD_MODULE, ["describe"];
    a_describe_of_nearly_all_memory: Raw { pages: 1000, describe: "(call $list (i32.const 1024) (i32.const 65000000))", ..Raw::default() }.wasm(), BAD_MODULE, ["describe"];
    a_describe_that_takes_memory_without_end: Raw { describe: "(loop $more (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br_if $more (i32.gt_s (memory.grow (i32.const 1)) (i32.const 0)))) unreachable", ..Raw::default() }.wasm(), BAD_MODULE, ["describe"];
    a_describe_that_is_no_utf8: Raw { description: vec![0xff, 0xfe], ..Raw::default() }.wasm(), BAD_MODULE, ["describe"];
    a_describe_with_a_misspelt_field: Raw { description: br#"{"name":"raw","durability":"committed","durabilty":"relaxed","methods":[]}"#.to_vec(), ..Raw::default() }.wasm(), BAD_MODULE, ["describe", "durabilty"];
    a_describe_with_two_parameters_of_one_name: Raw { description: two_parameters(), ..Raw::default() }.wasm(), BAD_MODULE, ["`add`, parameter `n` is there twice"];
    a_describe_of_deep_json: Raw { description: deep_description(), ..Raw::default() }.wasm(), BAD_MODULE, ["describe"];
}

fn two_parameters() -> Vec<u8> {
    br#"{"name":"raw","durability":"committed","methods":[{"name":"add","kind":"write","params":[{"name":"n"},{"name":"n"}]}]}"#.to_vec()
}

/// A schema that is deeper than anybody means.
fn deep_description() -> Vec<u8> {
    let (open, close) = (r#"{"items":"#.repeat(5_000), "}".repeat(5_000));
    let start = r#"{"name":"raw","durability":"committed","methods":[{"name":"add","kind":"write","result":"#;
    format!("{start}{open}{{}}{close}}}]}}").into_bytes()
}
