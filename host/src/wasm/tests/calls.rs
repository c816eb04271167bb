//! Calls from guests to other grains, logs, WASI.

use super::guest::*;
use crate::wasm::{Engine, GuestCallError, Instance, LogLevel, LogSource, TurnFailure, WasmConfig};

const INVOKE: &str = r#"
    (import "granary:grain/calls@0.1.0" "invoke" (func $invoke (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "granary:grain/calls@0.1.0" "invoke-all" (func $invoke_all (param i32 i32 i32)))
    (import "granary:grain/log@0.1.0" "write" (func $log (param i32 i32 i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))"#;

fn guest(call: &'static str) -> Guest {
    Guest {
        imports: INVOKE,
        call,
        ..Guest::default()
    }
}

/// Answers with the arguments in reverse; the method `fail` with an error, `refuse` with an error that has a value.
fn host() -> std::sync::Arc<TestHost> {
    TestHost::answering(|call| match call.method.as_str() {
        "fail" => Err(GuestCallError {
            code: "trap".to_owned(),
            message: "it broke".to_owned(),
            error: None,
        }),
        "refuse" => Err(GuestCallError {
            code: "guest_error".to_owned(),
            message: "no".to_owned(),
            error: Some(b"[7]".to_vec()),
        }),
        _ => Ok([
            call.args.into_iter().rev().collect::<Vec<u8>>(),
            call.kind.into_bytes(),
            call.key.into_bytes(),
        ]
        .concat()),
    })
}

/// Calls type `T`, key = its own, method = its own, with its arguments; returns the raw result record.
const CALL_ONE: &str = "
    (call $invoke (i32.const 66200) (i32.const 1) (local.get $kp) (local.get $kl) (local.get $mp) (local.get $ml)
      (local.get $ap) (local.get $al) (i32.const 66304))
    (call $ok (i32.const 66304) (i32.const 32))";

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// The text whose pointer and length stand at `at`.
fn text<'a>(memory: &'a [u8], record: &[u8], at: usize) -> &'a str {
    std::str::from_utf8(&memory[word(record, at)..][..word(record, at + 4)]).unwrap()
}

#[test]
fn a_call_suspends_the_turn_and_brings_the_value_back() {
    let engine = engine();
    let one = Guest {
        extra: "(data (i32.const 66200) \"T\") (data (i32.const 66100) \"{}\")",
        post: "",
        ..guest(CALL_ONE)
    };
    let mut instance = one.start(&engine);
    let mut turn = |method: &str| {
        run(instance.call(host(), "key", "request", method, b"abc"))
            .unwrap()
            .unwrap()
    };
    let (value, error, refusal) = (turn("get"), turn("fail"), turn("refuse"));
    let memory = instance.span().bytes;
    assert_eq!((value[0], text(memory, &value, 4)), (0, "cbaTkey"));
    assert_eq!(
        (error[0], text(memory, &error, 4), text(memory, &error, 12), error[20]),
        (1, "trap", "it broke", 0)
    );
    assert_eq!(
        (refusal[0], text(memory, &refusal, 4), refusal[20]),
        (1, "guest_error", 1)
    );
    assert_eq!(text(memory, &refusal, 24), "[7]");
}

#[test]
fn parallel_calls_answer_in_their_order() {
    // Three records at 67,000: arguments "a", "bc", and the method `fail`.
    let extra = r#"(data (i32.const 66100) "{}") (data (i32.const 66200) "Tkgetfailabc")
      (data (i32.const 67000)
        "\98\02\01\00\01\00\00\00\99\02\01\00\01\00\00\00\9a\02\01\00\03\00\00\00\a1\02\01\00\01\00\00\00"
        "\98\02\01\00\01\00\00\00\99\02\01\00\01\00\00\00\9a\02\01\00\03\00\00\00\a2\02\01\00\02\00\00\00"
        "\98\02\01\00\01\00\00\00\99\02\01\00\01\00\00\00\9d\02\01\00\04\00\00\00\a2\02\01\00\00\00\00\00")"#;
    let body = "(call $invoke_all (i32.const 67000) (i32.const 3) (i32.const 66400))
        (call $ok (i32.load (i32.const 66400)) (i32.mul (i32.load (i32.const 66404)) (i32.const 32)))";
    let engine = engine();
    let mut instance = Guest {
        extra,
        post: "",
        ..guest(body)
    }
    .start(&engine);
    let list = run(instance.call(host(), "key", "request", "m", b"")).unwrap().unwrap();
    let memory = instance.span().bytes;
    assert_eq!(list.len(), 96);
    assert_eq!((list[0], text(memory, &list, 4)), (0, "aTk"));
    assert_eq!((list[32], text(memory, &list[32..], 4)), (0, "cbTk"));
    assert_eq!((list[64], text(memory, &list[64..], 4)), (1, "trap"));
}

#[test]
fn too_many_parallel_calls_and_lists_outside_the_memory_end_the_turn() {
    let engine = engine();
    let turn = |body| call(&mut guest(body).start(&engine), b"").unwrap_err();
    let many = "(call $invoke_all (i32.const 67000) (i32.const 257) (i32.const 66400)) unreachable";
    assert!(matches!(turn(many), TurnFailure::TooLarge(what) if what.contains("257")));
    let outside = "(call $invoke_all (i32.const 131040) (i32.const 2) (i32.const 66400)) unreachable";
    assert!(matches!(turn(outside), TurnFailure::Abi(_)));
    let unaligned = "(call $invoke_all (i32.const 67001) (i32.const 2) (i32.const 66400)) unreachable";
    assert!(matches!(turn(unaligned), TurnFailure::Abi(_)));
    let nowhere = "(call $invoke_all (i32.const 67000) (i32.const 0) (i32.const 131070)) unreachable";
    assert!(matches!(turn(nowhere), TurnFailure::Abi(_)));
    let none =
        "(call $invoke_all (i32.const 0) (i32.const 0) (i32.const 66400)) (call $ok (i32.const 66404) (i32.const 4))";
    assert_eq!(call(&mut guest(none).start(&engine), b""), Ok(vec![0; 4]));
}

#[test]
fn a_turns_calls_are_bounded_in_number_and_bytes() {
    let engine = Engine::new(&WasmConfig {
        turn_calls: 10,
        reply_limit: 1_000,
        ..config()
    })
    .unwrap();
    let turn = |body| call(&mut guest(body).start(&engine), b"").unwrap_err();
    let endless = "(loop $more (call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 66304)) (br $more)) unreachable";
    let failure = turn(endless);
    assert!(
        matches!(&failure, TurnFailure::TooLarge(what) if what.contains("10 calls")),
        "{failure}"
    );
    let at_once = "(call $invoke_all (i32.const 67000) (i32.const 11) (i32.const 66400)) unreachable";
    assert!(matches!(turn(at_once), TurnFailure::TooLarge(what) if what.contains("10 calls")));
    // Each part is short enough, all of them together aren't.
    let long = "(call $invoke (i32.const 0) (i32.const 300) (i32.const 0) (i32.const 300) (i32.const 0) (i32.const 300)
        (i32.const 0) (i32.const 300) (i32.const 66304)) unreachable";
    assert!(matches!(turn(long), TurnFailure::TooLarge(what) if what.contains("1200 bytes")));
}

#[test]
fn all_guests_together_write_a_bounded_number_of_records() {
    let engine = Engine::new(&WasmConfig {
        log_rate: 5,
        ..config()
    })
    .unwrap();
    let body = "(loop $more (call $log (i32.const 2) (i32.const 0) (i32.const 1))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $more (i32.lt_u (local.get $i) (i32.const 900))))
        (call $ok (i32.const 0) (i32.const 0))";
    let module = guest(body).compile(&engine);
    let hosts: Vec<_> = (0..3).map(|_| TestHost::new()).collect();
    for host in &hosts {
        let mut instance = Instance::start(&engine, &module, &[]).unwrap();
        run(instance.call(host.clone(), "k", "r", "m", b"")).unwrap().unwrap();
    }
    let written: usize = hosts.iter().map(|host| host.texts().len()).sum();
    assert!((5..900).contains(&written), "{written}");
    assert_eq!(engine.dropped_log_records(), 2_700 - written as u64);
}

#[test]
fn replies_that_no_memory_could_hold_end_the_turn() {
    let engine = engine();
    let body = "(call $invoke_all (i32.const 67000) (i32.const 3) (i32.const 66400)) unreachable";
    let mut instance = guest(body).start(&engine);
    let host = TestHost::answering(|_| Ok(vec![0; 400_000]));
    let failure = run(instance.call(host, "key", "request", "m", b"")).unwrap_err();
    assert!(
        matches!(&failure, TurnFailure::TooLarge(what) if what.contains("1200000")),
        "{failure}"
    );
}

#[test]
fn log_records_carry_their_level_and_are_bounded() {
    let engine = engine();
    let body = "
        (loop $more
          (call $log (i32.rem_u (local.get $i) (i32.const 5)) (local.get $ap) (local.get $al))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $i) (i32.const 2000))))
        (call $ok (i32.const 0) (i32.const 0))";
    let mut instance = guest(body).start(&engine);
    let host = TestHost::new();
    run(instance.call(host.clone(), "k", "r", "m", "ü".repeat(10_000).as_bytes()))
        .unwrap()
        .unwrap();
    let records = host.records.lock().unwrap();
    assert_eq!(records.len(), 1001);
    assert_eq!((records[0].0, records[0].1), (LogLevel::Trace, LogSource::Log));
    assert_eq!(records[4].0, LogLevel::Error);
    assert_eq!(records[0].2, "ü".repeat(4096));
    assert!(records[1000].2.contains("1000 log records"));
    drop(records);
    let wrong = guest("(call $log (i32.const 5) (i32.const 0) (i32.const 0)) unreachable");
    assert!(matches!(call(&mut wrong.start(&engine), b""), Err(TurnFailure::Abi(_))));
}

#[test]
fn output_becomes_records_a_line_each_also_when_the_turn_traps() {
    let engine = engine();
    // Writes the arguments to stdout and stderr, tries to close stdout, and traps if told to.
    let body = "
        (i32.store (i32.const 66304) (local.get $ap))
        (i32.store (i32.const 66308) (local.get $al))
        (drop (call $fd_write (i32.const 1) (i32.const 66304) (i32.const 1) (i32.const 66312)))
        (drop (call $fd_write (i32.const 2) (i32.const 66304) (i32.const 1) (i32.const 66312)))
        (drop (call $fd_close (i32.const 1)))
        (if (i32.eq (i32.load8_u (local.get $ap)) (i32.const 33)) (then unreachable))
        (call $ok (i32.const 66312) (i32.const 4))";
    let mut instance = guest(body).start(&engine);
    for _ in 0..2 {
        let host = TestHost::new();
        let written = run(instance.call(host.clone(), "k", "r", "m", b"one\r\ntwo\n\nrest"))
            .unwrap()
            .unwrap();
        assert_eq!(written, 14u32.to_le_bytes());
        let records = host.records.lock().unwrap();
        let of = |source| {
            records
                .iter()
                .filter(|r| r.1 == source)
                .map(|r| r.2.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(LogSource::Stdout), ["one", "two", "", "rest"]);
        assert_eq!(of(LogSource::Stderr), ["one", "two", "", "rest"]);
    }
    let host = TestHost::new();
    let failure = run(instance.call(host.clone(), "k", "r", "m", b"!panicked")).unwrap_err();
    assert!(
        matches!(
            failure,
            TurnFailure::Trap {
                code: "unreachable",
                ..
            }
        ),
        "{failure:?}"
    );
    assert_eq!(host.texts(), ["!panicked", "!panicked"]);
}

#[test]
fn exit_is_a_failure_of_its_own() {
    let engine = engine();
    let mut instance = guest("(call $proc_exit (i32.const 3)) unreachable").start(&engine);
    assert_eq!(
        call(&mut instance, b""),
        Err(TurnFailure::Exit { code: 3, words: None })
    );
}

#[test]
fn random_numbers_differ_from_turn_to_turn() {
    let engine = engine();
    let body = "(drop (call $random_get (i32.const 66304) (i32.const 16))) (call $ok (i32.const 66304) (i32.const 16))";
    let mut instance = guest(body).start(&engine);
    assert_ne!(call(&mut instance, b""), call(&mut instance, b""));
}

#[test]
fn describe_gets_no_calls_and_its_output_tells_why_it_failed() {
    let engine = engine();
    let plain = Guest::default().compile(&engine);
    assert_eq!(run(engine.describe(&plain)).unwrap(), b"{}");
    let calling = Guest {
        describe: "(call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 66304)) unreachable",
        ..guest(ECHO)
    };
    let error = run(engine.describe(&calling.compile(&engine))).unwrap_err();
    assert!(error.to_string().contains("describe called another grain"), "{error}");
    let panicking = Guest {
        extra: "(data (i32.const 66100) \"{}\") (data (i32.const 66200) \"panicked at src/lib.rs\")",
        describe: "(call $log (i32.const 4) (i32.const 66200) (i32.const 22)) unreachable",
        ..guest(ECHO)
    };
    let error = run(engine.describe(&panicking.compile(&engine))).unwrap_err();
    assert!(
        error.to_string().ends_with("the guest trapped: panicked at src/lib.rs"),
        "{error}"
    );
}

#[test]
fn a_trap_tells_what_the_guest_said_before_it_and_in_which_of_its_functions_it_was() {
    let failure = |call: &'static str| {
        let guest = Guest {
            extra: r#"(data (i32.const 66100) "{}") (data (i32.const 66200) "panicked at src/lib.rs:9:5: no shelf")
                (data (i32.const 66300) "panic: no stock\n\ngoroutine 1 [running]:\n")
                (func $_ZN4core9panicking9panic_fmt17h0123456789abcdefE unreachable)
                (func $_ZN5shelf5Shelf4take17h0123456789abcdefE (call $log (i32.const 4) (i32.const 66200) (i32.const 36))
                  (call $_ZN4core9panicking9panic_fmt17h0123456789abcdefE))
                (func $write (i32.store (i32.const 66400) (i32.const 66300)) (i32.store (i32.const 66404) (i32.const 40))
                  (drop (call $fd_write (i32.const 2) (i32.const 66400) (i32.const 1) (i32.const 66408))))"#,
            ..guest(call)
        };
        self::call(&mut guest.start(&engine()), b"").unwrap_err().to_string()
    };
    assert_eq!(
        failure("(call $_ZN5shelf5Shelf4take17h0123456789abcdefE) unreachable"),
        "the guest trapped: panicked at src/lib.rs:9:5: no shelf, in shelf::Shelf::take < call"
    );
    assert_eq!(
        failure("(call $write) (call $proc_exit (i32.const 2)) unreachable"),
        "the guest called exit(2): a turn ends by returning; it had written: panic: no stock"
    );
    assert_eq!(
        failure("(call $write) (i32.store (i32.const -1) (i32.const 0)) unreachable"),
        "the guest trapped: wasm trap: out of bounds memory access, in call; it had written: panic: no stock"
    );
}
