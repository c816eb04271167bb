//! A guest stays inside its memory: there's no guard around it, only the checks that are compiled in.

use super::guest::*;
use crate::wasm::{Instance, TurnFailure};

/// Arguments: mode byte (0 load, 1 store, 2 grow), then an i32 address or number of pages. Loads and stores eight bytes there.
const PROBE: &str = "
    (local.set $i (i32.load offset=1 (local.get $ap)))
    (if (i32.eq (i32.load8_u (local.get $ap)) (i32.const 2))
      (then (i64.store (i32.const 66016) (i64.extend_i32_s (memory.grow (local.get $i)))))
      (else (if (i32.eq (i32.load8_u (local.get $ap)) (i32.const 1))
        (then (i64.store (local.get $i) (i64.const -1)))
        (else (i64.store (i32.const 66016) (i64.load (local.get $i)))))))
    (call $ok (i32.const 66016) (i32.const 8))";

const LOAD: u8 = 0;
const STORE: u8 = 1;
const GROW: u8 = 2;

fn probe(instance: &mut Instance, mode: u8, address: u32) -> Result<i64, TurnFailure> {
    let mut args = vec![mode];
    args.extend_from_slice(&address.to_le_bytes());
    call(instance, &args).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
}

fn out_of_bounds(result: Result<i64, TurnFailure>) -> bool {
    matches!(
        result,
        Err(TurnFailure::Trap {
            code: "memory_out_of_bounds",
            ..
        })
    )
}

const SLOT: u32 = 1 << 20;

#[test]
fn access_at_the_memorys_end_traps() {
    let engine = engine();
    let module = Guest::calling(PROBE).compile(&engine);
    let start = || Instance::start(&engine, &module, &[]).unwrap();
    // Neighbours on both sides, so that what is behind the slot's end is mapped and writable.
    let mut neighbours = [start(), start(), start()];
    let size = 131_072;
    assert_eq!(probe(&mut neighbours[1], LOAD, size - 8), Ok(0));
    assert_eq!(probe(&mut neighbours[1], STORE, size - 8), Ok(0));
    let bad = [
        size - 7,
        size - 1,
        size,
        size + 1,
        SLOT - 9,
        SLOT - 8,
        SLOT - 1,
        SLOT,
        SLOT + 1,
        2 * SLOT,
        u32::MAX - 7,
        u32::MAX,
    ];
    for address in bad {
        for mode in [LOAD, STORE] {
            assert!(out_of_bounds(probe(&mut start(), mode, address)), "{address:#x}");
        }
    }
    for neighbour in &mut neighbours {
        let bytes = neighbour.span().bytes;
        assert_eq!(bytes.len(), size as usize);
        assert!(bytes[100_000..size as usize - 8].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn access_after_growing_is_checked_against_the_new_length() {
    let engine = engine();
    let module = Guest::calling(PROBE).compile(&engine);
    let grown = |pages: u32| {
        let mut instance = Instance::start(&engine, &module, &[]).unwrap();
        assert_eq!(probe(&mut instance, GROW, pages), Ok(2));
        instance
    };
    let size = 5 << 16;
    let mut instance = grown(3);
    assert_eq!(probe(&mut instance, LOAD, size - 8), Ok(0));
    probe(&mut instance, STORE, size - 8).unwrap();
    assert_eq!(probe(&mut instance, LOAD, size - 8), Ok(-1));
    for address in [size - 7, size, size + 1, SLOT - 8, SLOT] {
        assert!(out_of_bounds(probe(&mut grown(3), STORE, address)), "{address:#x}");
    }
    // To the slot's end and not a page more.
    let mut full = grown(14);
    probe(&mut full, STORE, SLOT - 8).unwrap();
    assert_eq!(probe(&mut full, GROW, 1), Ok(-1));
    assert_eq!(probe(&mut full, GROW, 0), Ok(16));
    assert!(out_of_bounds(probe(&mut full, STORE, SLOT - 7)));
    assert!(out_of_bounds(probe(&mut grown(14), LOAD, SLOT)));
}

#[test]
fn a_reused_memory_is_zeroed_also_where_it_had_grown() {
    let engine = engine();
    let module = Guest::calling(PROBE).compile(&engine);
    let mut first = Instance::start(&engine, &module, &[]).unwrap();
    assert_eq!(probe(&mut first, GROW, 14), Ok(2));
    for address in [64, 100_000, 200_000, SLOT - 8] {
        probe(&mut first, STORE, address).unwrap();
    }
    let address = first.span().bytes.as_ptr();
    drop(first);
    let mut second = Instance::start(&engine, &module, &[]).unwrap();
    assert_eq!(second.span().bytes.as_ptr(), address);
    assert_eq!(probe(&mut second, GROW, 14), Ok(2));
    for address in [64, 100_000, 200_000, SLOT - 8] {
        assert_eq!(probe(&mut second, LOAD, address), Ok(0), "{address}");
    }
}

#[test]
fn bulk_operations_are_checked() {
    let engine = engine();
    for body in [
        "(memory.fill (i32.const 131070) (i32.const 1) (i32.const 3)) unreachable",
        "(memory.copy (i32.const 131070) (i32.const 0) (i32.const 3)) unreachable",
        "(memory.copy (i32.const 0) (i32.const 131070) (i32.const 3)) unreachable",
        "(v128.store (i32.const 131057) (v128.const i64x2 1 1)) unreachable",
        "(i32.store offset=4294967295 (i32.const 1) (i32.const 1)) unreachable",
    ] {
        let failure = call(&mut Guest::calling(body).start(&engine), b"").unwrap_err();
        assert!(
            matches!(
                failure,
                TurnFailure::Trap {
                    code: "memory_out_of_bounds",
                    ..
                }
            ),
            "{body}: {failure}"
        );
    }
}

#[test]
fn a_guest_that_is_refused_memory_and_traps_failed_for_memory() {
    let engine = engine();
    let greedy = "(if (i32.lt_s (memory.grow (i32.const 15)) (i32.const 0)) (then unreachable)) (call $ok (i32.const 0) (i32.const 0))";
    let failure = call(&mut Guest::calling(greedy).start(&engine), b"").unwrap_err();
    assert!(
        matches!(&failure, TurnFailure::MemoryLimit { limit: 0x10_0000, .. }),
        "{failure:?}"
    );
    // One that takes no for an answer goes on.
    let modest = "(drop (memory.grow (i32.const 15))) (call $ok (i32.const 0) (i32.const 0))";
    assert_eq!(call(&mut Guest::calling(modest).start(&engine), b""), Ok(Vec::new()));
    // Its own maximum counts, too.
    let memory = "(memory (export \"memory\") 2 3)";
    let own = Guest {
        memory,
        ..Guest::calling(
            "(i32.store (i32.const 66016) (memory.grow (i32.const 2))) (call $ok (i32.const 66016) (i32.const 4))",
        )
    };
    assert_eq!(call(&mut own.start(&engine), b""), Ok((-1i32).to_le_bytes().to_vec()));
}

/// Takes as many bytes of the stack as its arguments say and writes to the lowest of them.
const DEEP: &str = "
    (global.set $__stack_pointer (i32.sub (global.get $__stack_pointer) (i32.load (local.get $ap))))
    (i32.store (global.get $__stack_pointer) (i32.const 1))
    (global.set $__stack_pointer (i32.add (global.get $__stack_pointer) (i32.load (local.get $ap))))
    (call $ok (i32.const 0) (i32.const 0))";

#[test]
fn a_stack_that_is_used_up_is_named_with_its_length_and_the_way_to_a_longer_one() {
    let engine = engine();
    let wasm = Guest::calling(DEEP).wasm();
    for wasm in [wasm.clone(), stripped(&wasm)] {
        let module = compile(&engine, &wasm);
        let take = |bytes: u32| {
            let mut instance = Instance::start(&engine, &module, &[]).unwrap();
            call(&mut instance, &bytes.to_le_bytes())
        };
        assert_eq!(take(65_536), Ok(Vec::new()), "all of it");
        let failure = take(65_540).unwrap_err();
        assert!(matches!(failure, TurnFailure::Stack { .. }), "{failure:?}");
        let said = failure.to_string();
        assert!(
            said.starts_with("the guest's stack of 65536 bytes is used up"),
            "{said}"
        );
        assert!(said.contains("-zstack-size=131072"), "{said}");
    }
    // Where the stack isn't known to be first, nobody knows its length.
    let guest = Guest {
        extra: "(data (i32.const 66100) \"{}\") (data (i32.const 0) \"x\")",
        ..Guest::calling(DEEP)
    };
    let failure = call(&mut guest.start(&engine), &65_540u32.to_le_bytes()).unwrap_err();
    assert!(
        failure.to_string().starts_with("the guest's stack is used up"),
        "{failure}"
    );
}

#[test]
fn a_pointer_that_the_host_gets_from_a_stack_that_is_used_up_is_no_fault_of_the_guests_bindings() {
    let guest = Guest {
        imports: "(import \"granary:grain/log@0.1.0\" \"write\" (func $log (param i32 i32 i32)))",
        ..Guest::calling(
            "(global.set $__stack_pointer (i32.const -64))
             (call $log (i32.const 0) (global.get $__stack_pointer) (i32.const 8)) unreachable",
        )
    };
    let failure = call(&mut guest.start(&engine()), b"").unwrap_err();
    assert!(matches!(failure, TurnFailure::Stack { .. }), "{failure:?}");
}
