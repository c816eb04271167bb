//! What guests ask of WASI: nothing that closes what the host needs, takes it longer than a turn may, or leaves the memory.

use std::time::Instant;

use super::guest::*;
use crate::wasm::{LogSource, TurnFailure};

/// A guest with these imports; `$errno` returns a number as four bytes.
fn guest(imports: &'static str, call: &'static str) -> Guest {
    Guest {
        imports,
        extra: r#"(data (i32.const 66100) "{}")
            (func $errno (param $errno i32) (result i32)
              (i32.store (i32.const 66500) (local.get $errno)) (call $ok (i32.const 66500) (i32.const 4)))"#,
        memory: "(memory (export \"memory\") 16)",
        ..Guest::calling(call)
    }
}

fn outcome(guest: &Guest) -> Result<u32, TurnFailure> {
    let bytes = call(&mut guest.start(&engine()), b"")?;
    Ok(u32::from_le_bytes(bytes.try_into().unwrap()))
}

#[track_caller]
fn traps(guest: &Guest, word: &str) {
    let failure = outcome(guest).unwrap_err();
    assert!(
        matches!(&failure, TurnFailure::Trap { message, .. } if message.contains(word)),
        "{failure:?}"
    );
}

const POLL: &str =
    r#"(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;

#[test]
fn a_sleep_ends_with_the_turns_deadline_and_ends_the_turn() {
    for body in [
        // An hour; for ever, by an absolute time; the later of two clocks doesn't count.
        "(i32.store (i32.const 66616) (i32.const 1)) (i64.store (i32.const 66624) (i64.const 3600000000000))
         (call $errno (call $poll (i32.const 66600) (i32.const 66800) (i32.const 1) (i32.const 67000)))",
        "(i32.store (i32.const 66616) (i32.const 0)) (i64.store (i32.const 66624) (i64.const -1))
         (i32.store16 (i32.const 66640) (i32.const 1))
         (call $errno (call $poll (i32.const 66600) (i32.const 66800) (i32.const 1) (i32.const 67000)))",
        "(i32.store (i32.const 66616) (i32.const 1)) (i64.store (i32.const 66624) (i64.const -1))
         (i32.store (i32.const 66664) (i32.const 1)) (i64.store (i32.const 66672) (i64.const 250000000))
         (call $errno (call $poll (i32.const 66600) (i32.const 66800) (i32.const 2) (i32.const 67000)))",
    ] {
        let began = Instant::now();
        assert_eq!(outcome(&guest(POLL, body)), Err(TurnFailure::Deadline));
        assert!(began.elapsed() >= TIME_LEFT);
    }
}

#[test]
fn a_poll_tells_what_is_ready_first() {
    // A clock in an hour with userdata 7, standard output with 8, a descriptor that isn't there with 9.
    let body = "(i64.store (i32.const 66600) (i64.const 7))
        (i32.store (i32.const 66616) (i32.const 1)) (i64.store (i32.const 66624) (i64.const 3600000000000))
        (i64.store (i32.const 66648) (i64.const 8)) (i32.store8 (i32.const 66656) (i32.const 2))
        (i32.store (i32.const 66664) (i32.const 1))
        (i64.store (i32.const 66696) (i64.const 9)) (i32.store8 (i32.const 66704) (i32.const 1))
        (i32.store (i32.const 66712) (i32.const 5))
        (if (call $poll (i32.const 66600) (i32.const 66800) (i32.const 3) (i32.const 66796)) (then unreachable))
        (call $ok (i32.const 66796) (i32.const 68))";
    let bytes = call(&mut guest(POLL, body).start(&engine()), b"").unwrap();
    assert_eq!(bytes[0], 2, "events");
    assert_eq!((bytes[4], bytes[12], bytes[14]), (8, 0, 2), "standard output");
    assert_eq!((bytes[36], bytes[44], bytes[46]), (9, 8, 1), "EBADF");
}

#[test]
fn subscriptions_are_bounded_in_number() {
    // All zeros: clocks that have rung.
    let most = "(call $errno (call $poll (i32.const 100000) (i32.const 300000) (i32.const 1024) (i32.const 67000)))";
    assert_eq!(outcome(&guest(POLL, most)), Ok(0));
    traps(
        &guest(
            POLL,
            "(call $errno (call $poll (i32.const 100000) (i32.const 300000) (i32.const 1025) (i32.const 67000)))",
        ),
        "at most 1024",
    );
    traps(
        &guest(
            POLL,
            "(call $errno (call $poll (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0)))",
        ),
        "at most 1024",
    );
    let none = "(call $errno (call $poll (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))";
    assert_eq!(outcome(&guest(POLL, none)), Ok(28), "EINVAL: for ever");
}

#[test]
fn standard_streams_can_be_neither_closed_nor_replaced() {
    let imports = r#"(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))"#;
    let body = "
        (loop $next
          (if (i32.ne (call $fd_close (local.get $i)) (i32.const 63)) (then unreachable))
          (if (i32.ne (call $fd_renumber (local.get $i) (i32.const 1)) (i32.const 63)) (then unreachable))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $i) (i32.const 3))))
        (if (i32.ne (call $fd_close (i32.const 3)) (i32.const 8)) (then unreachable))
        (if (i32.ne (call $fd_renumber (i32.const 1) (i32.const -1)) (i32.const 8)) (then unreachable))
        (i32.store (i32.const 66304) (local.get $ap)) (i32.store (i32.const 66308) (local.get $al))
        (call $errno (call $fd_write (i32.const 1) (i32.const 66304) (i32.const 1) (i32.const 66312)))";
    let host = TestHost::new();
    let mut instance = guest(imports, body).start(&engine());
    let answer = run(instance.call(host.clone(), "k", "r", "m", b"still here")).unwrap();
    assert_eq!(answer, Ok(vec![0; 4]));
    let records = host.records.lock().unwrap();
    assert_eq!((records[0].1, records[0].2.as_str()), (LogSource::Stdout, "still here"));
}

#[test]
fn output_is_a_terminals_to_libc_so_that_no_line_waits_in_the_grains_memory() {
    let imports = r#"(import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fdstat (param i32 i32) (result i32)))"#;
    let body = "(if (call $fdstat (i32.load8_u (local.get $ap)) (i32.const 66200)) (then unreachable))
        (call $ok (i32.const 66200) (i32.const 24))";
    let mut instance = guest(imports, body).start(&engine());
    for descriptor in [1, 2] {
        let stat = call(&mut instance, &[descriptor]).unwrap();
        let rights = u64::from_le_bytes(stat[8..16].try_into().unwrap());
        // What isatty asks of wasi-libc: a character device with no right to seek or tell.
        assert_eq!((stat[0], rights & (1 << 2 | 1 << 5)), (2, 0), "{descriptor}");
    }
    let stdin = call(&mut instance, &[0]).unwrap();
    assert_ne!(stdin[0], 2, "nobody types");
}

#[test]
fn a_line_that_a_turn_leaves_unfinished_is_a_record_of_that_turn() {
    let imports =
        r#"(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
    let body = "(i32.store (i32.const 66304) (local.get $ap)) (i32.store (i32.const 66308) (local.get $al))
        (call $errno (call $fd_write (i32.const 1) (i32.const 66304) (i32.const 1) (i32.const 66312)))";
    let mut instance = guest(imports, body).start(&engine());
    for line in ["half a li", "ne\nand more"] {
        let host = TestHost::new();
        run(instance.call(host.clone(), "k", "r", "m", line.as_bytes()))
            .unwrap()
            .unwrap();
        assert_eq!(host.texts(), line.split('\n').collect::<Vec<_>>());
    }
}

#[test]
fn exits_are_failures_with_any_code() {
    let imports = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
    assert_eq!(
        outcome(&guest(imports, "(call $exit (i32.const 0)) unreachable")),
        Err(TurnFailure::Exit { code: 0, words: None })
    );
    traps(&guest(imports, "(call $exit (i32.const -1)) unreachable"), "exit");
}

#[test]
fn the_host_makes_no_endless_randomness_and_reads_no_endless_lists() {
    let imports = r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
    traps(
        &guest(imports, "(call $errno (call $random (i32.const 0) (i32.const -1)))"),
        "limit",
    );
    traps(
        &guest(
            imports,
            "(call $errno (call $random (i32.const 0) (i32.const 1048577)))",
        ),
        "limit",
    );
    let bytes = "(call $errno (call $random (i32.const 100000) (i32.const 900000)))";
    assert_eq!(outcome(&guest(imports, bytes)), Ok(0));
    // Sixteen million empty buffers, if there were so many.
    let lists = "(call $errno (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0x1000000) (i32.const 66312)))";
    assert_eq!(outcome(&guest(imports, lists)), Ok(48), "ENOMEM");
}

/// Every function that takes pointers, with its parameters: `l` for 64 bits.
const POINTERS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("fd_fdstat_get", "ii"),
    ("fd_filestat_get", "ii"),
    ("fd_pread", "iiili"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_seek", "ilii"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("random_get", "ii"),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
];

#[test]
fn pointers_out_of_the_memory_are_errors_of_the_guest() {
    let engine = engine();
    for (name, parameters) in POINTERS {
        let long = |kind| if kind == 'l' { "i64" } else { "i32" };
        let types: Vec<_> = parameters.chars().map(long).collect();
        let imports = format!(
            r#"(import "wasi_snapshot_preview1" "{name}" (func $f (param {}) (result i32)))"#,
            types.join(" ")
        );
        // Everything out of reach; a descriptor or a clock that exists, then a small and a large count or length.
        for (first, rest) in [(-1, -1), (1, -1), (0, 0xf_fffc), (1, 0xf_fffc), (2, 0x10_0000)] {
            let arguments: Vec<_> = types
                .iter()
                .enumerate()
                .map(|(at, ty)| format!("({ty}.const {})", if at == 0 { first } else { rest }))
                .collect();
            let body = format!("(call $errno (call $f {}))", arguments.join(" "));
            let guest = guest(imports.clone().leak(), body.leak());
            let mut instance = guest.start(&engine);
            match call(&mut instance, b"") {
                Ok(errno) => assert!(errno[0] < 77, "{name}: {errno:?}"),
                Err(TurnFailure::Trap { .. }) => {}
                Err(other) => panic!("{name}({first}, {rest} ...): {other:?}"),
            }
        }
    }
}
