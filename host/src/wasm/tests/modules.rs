//! What may not be deployed, each with the error that says why.

use super::guest::*;
use crate::wasm::{Engine, ModuleError, WasmConfig};

fn refusal(wasm: &[u8]) -> ModuleError {
    Engine::new(&config()).unwrap().check(wasm).unwrap_err()
}

fn refused(guest: Guest) -> ModuleError {
    refusal(&guest.wasm())
}

/// The guest with a part of its text replaced.
fn edited(from: &str, to: &str) -> ModuleError {
    let text = Guest::default().text();
    assert!(text.contains(from));
    refusal(&wat::parse_str(text.replacen(from, to, 1)).unwrap())
}

fn extra(extra: &'static str) -> Guest {
    Guest {
        extra,
        ..Guest::default()
    }
}

#[test]
fn what_is_no_module() {
    assert_eq!(refusal(b""), ModuleError::NotWasm);
    assert_eq!(refusal(b"#!/bin/sh"), ModuleError::NotWasm);
    assert_eq!(refusal(&[0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0]), ModuleError::Component);
    let whole = Guest::default().wasm();
    assert!(matches!(refusal(&whole[..whole.len() - 7]), ModuleError::Invalid(_)));
    let mut damaged = whole.clone();
    let end = damaged.len() - 200;
    damaged[end] ^= 0x55;
    // Whatever the damage means, it's an error and no panic, or a module that is as good.
    let _ = Engine::new(&config()).unwrap().check(&damaged);
}

#[test]
fn no_input_makes_the_check_panic() {
    let engine = engine();
    let whole = Guest::default().wasm();
    let mut seed = 7u64;
    for _ in 0..3_000 {
        let mut wasm = whole.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (seed >> 33) as usize % wasm.len();
            wasm[at] = (seed >> 20) as u8;
        }
        let _ = engine.check(&wasm);
    }
}

#[test]
fn without_the_world() {
    let error = refusal(&wat::parse_str("(module (memory 1) (func (export \"cabi_realloc\")))").unwrap());
    // The first thing that is wrong: an export of the right name and another type.
    assert!(
        error.to_string().contains("cabi_realloc") || error.to_string().contains("handler"),
        "{error}"
    );
    let error = refusal(&wat::parse_str("(module (memory 1))").unwrap());
    let ModuleError::NoWorld { missing } = &error else {
        panic!("{error}")
    };
    assert_eq!(missing.len(), 6);
    assert!(error.to_string().contains("granary:grain/handler@0.1.0#call"));
    let error = edited("#check\") (param i32 i32 i32 i32)", "#check\") (param i64 i32 i32 i32)");
    let ModuleError::ExportType { name, expected, found } = &error else {
        panic!("{error}")
    };
    assert_eq!(name, "granary:grain/handler@0.1.0#check");
    assert_eq!(
        (expected.as_str(), found.as_str()),
        ("(i32 i32 i32 i32) -> (i32)", "(i64 i32 i32 i32) -> (i32)")
    );
    assert!(
        matches!(edited("#save", "#store"), ModuleError::NoWorld { missing } if missing == ["granary:grain/handler@0.1.0#save"])
    );
}

#[test]
fn imports_that_no_host_has() {
    let imports = |imports| {
        refused(Guest {
            imports,
            ..Guest::default()
        })
    };
    let unknown = |module: &str, name: &str| ModuleError::UnknownImport {
        module: module.into(),
        name: name.into(),
    };
    assert_eq!(imports("(import \"env\" \"abort\" (func))"), unknown("env", "abort"));
    assert_eq!(
        imports("(import \"wasi_snapshot_preview1\" \"fork\" (func))"),
        unknown("wasi_snapshot_preview1", "fork")
    );
    assert_eq!(
        imports("(import \"granary:host\" \"put\" (func (param i32)))"),
        unknown("granary:host", "put")
    );
    assert_eq!(imports("(import \"env\" \"t\" (table 1 funcref))"), unknown("env", "t"));
    assert_eq!(
        imports("(import \"env\" \"g\" (global (mut i32)))"),
        unknown("env", "g")
    );
    let error = imports("(import \"granary:grain/log@0.1.0\" \"write\" (func (param i32)))");
    assert!(
        matches!(&error, ModuleError::ImportType { import, .. } if import.contains("write")),
        "{error}"
    );
    // The linker knows the types of WASI.
    let engine = engine();
    let guest = Guest {
        imports: "(import \"wasi_snapshot_preview1\" \"fd_close\" (func (param i64)))",
        ..Guest::default()
    };
    let error = engine
        .compile(granary_core::id::ModuleHash([0; 32]), &guest.wasm())
        .unwrap_err();
    assert!(
        matches!(&error, ModuleError::ImportType { expected, .. } if expected.contains("fd_close")),
        "{error}"
    );
}

#[test]
fn memories_that_cannot_be_saved() {
    let memory = |memory| {
        refused(Guest {
            memory,
            ..Guest::default()
        })
    };
    assert_eq!(memory("(memory 2) (memory 1)"), ModuleError::Memories(2));
    assert_eq!(
        memory("(import \"env\" \"memory\" (memory 2))"),
        ModuleError::ImportedMemory
    );
    assert_eq!(memory("(memory 2 2 shared)"), ModuleError::SharedMemory);
    assert_eq!(
        memory("(memory 17)"),
        ModuleError::MemoryMinimum {
            bytes: 17 << 16,
            limit: 1 << 20
        }
    );
    let none = "(module (func (export \"f\")))";
    assert_eq!(refusal(&wat::parse_str(none).unwrap()), ModuleError::Memories(0));
    let wide = "(module (memory i64 1))";
    assert_eq!(refusal(&wat::parse_str(wide).unwrap()), ModuleError::Memory64);
    let odd = "(module (memory 1 (pagesize 1)))";
    assert_eq!(refusal(&wat::parse_str(odd).unwrap()), ModuleError::PageSize);
}

#[test]
fn instructions_that_change_what_is_not_saved() {
    let in_function = |name: &'static str, body: &str, fields: &str| {
        let text = format!(
            "(module (memory 1) (table $t 4 funcref) (elem $e func $bad) (data $d \"x\") {fields} (func $bad {body}))"
        );
        let expected = ModuleError::Instruction {
            name,
            function: "`bad`".to_owned(),
        };
        // A module without the world: what can't be saved must be named even then, but exports come first. Give it both.
        let text = text.replacen(
            "(module",
            &Guest::default()
                .text()
                .replace("(memory (export \"memory\") 2)", "(memory 2)")
                .trim_end()
                .trim_end_matches(')')
                .replace("(memory 2)", ""),
            1,
        );
        assert_eq!(refusal(&wat::parse_str(text).unwrap()), expected);
    };
    in_function("table.set", "(table.set $t (i32.const 0) (ref.null func))", "");
    in_function("table.grow", "(drop (table.grow $t (ref.null func) (i32.const 1)))", "");
    in_function(
        "table.fill",
        "(table.fill $t (i32.const 0) (ref.null func) (i32.const 1))",
        "",
    );
    in_function(
        "table.copy",
        "(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1))",
        "",
    );
    in_function(
        "table.init",
        "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))",
        "",
    );
    in_function("elem.drop", "(elem.drop $e)", "");
    in_function(
        "memory.init",
        "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))",
        "",
    );
    in_function("data.drop", "(data.drop $d)", "");
}

#[test]
fn segments_and_globals() {
    assert_eq!(
        refused(extra("(data (i32.const 0) \"a\") (data \"x\")")),
        ModuleError::PassiveSegment(1)
    );
    assert_eq!(
        refused(extra("(data (offset (i32.add (i32.const 1) (i32.const 1))) \"x\")")),
        ModuleError::SegmentOffset(0)
    );
    assert_eq!(
        refused(extra("(data (i32.const 131071) \"xy\")")),
        ModuleError::SegmentBounds {
            segment: 0,
            end: 131_073,
            memory: 131_072
        }
    );
    assert!(matches!(
        refused(extra("(data (i32.const -1) \"xy\")")),
        ModuleError::SegmentBounds { .. }
    ));
    assert_eq!(
        refused(extra("(global $handle (mut externref) (ref.null extern))")),
        ModuleError::ReferenceGlobal("`handle`".to_owned())
    );
    assert_eq!(
        refused(extra("(func (export \"granary:host/call\"))")),
        ModuleError::ReservedExport("granary:host/call".to_owned())
    );
}

#[test]
fn limits_name_what_is_too_large() {
    let mut config = config();
    config.module.bytes = 3_000;
    config.module.functions = 12;
    config.module.body_bytes = 500;
    config.module.table_entries = 10;
    config.module.globals = 3;
    config.module.base_bytes = 8 << 10;
    let engine = Engine::new(&config).unwrap();
    let too_large = |extra: &'static str| match engine
        .check(
            &Guest {
                extra,
                ..Guest::default()
            }
            .wasm(),
        )
        .unwrap_err()
    {
        ModuleError::TooLarge { what, found, limit, .. } => (what, found, limit),
        error => panic!("{error}"),
    };
    assert_eq!(
        too_large("(func) (func) (func) (func) (func)"),
        ("functions".to_owned(), 14, 12)
    );
    assert_eq!(
        too_large("(table 6 funcref) (table 5 externref)"),
        ("entries in tables".to_owned(), 11, 10)
    );
    assert_eq!(
        too_large("(global (mut i64) (i64.const 0)) (global (mut v128) (v128.const i64x2 0 0))").0,
        "mutable globals"
    );
    let body: &'static str =
        Box::leak(format!("(func $long {})", "(drop (i32.const 1000000))".repeat(200)).into_boxed_str());
    assert_eq!(too_large(body).0, "bytes in the body of function `long`");
    let told = engine.check(&extra(body).wasm()).unwrap_err().to_string();
    assert!(
        told.contains("at most 500 are allowed") && told.contains("`--function-limit`"),
        "{told}"
    );
    let data: &'static str = Box::leak(format!("(data (i32.const 0) \"{}\")", "x".repeat(3000)).into_boxed_str());
    assert_eq!(too_large(data).0, "bytes in the module");
    let told = |wasm: &[u8]| engine.check(wasm).unwrap_err().to_string();
    let whole = extra(data).wasm();
    assert!(told(&whole).contains("`--http-module-limit`"), "{}", told(&whole));
    let debug = wat::parse_str(format!("(module (@custom \".debug_info\" \"{}\"))", "x".repeat(4_000))).unwrap();
    assert!(told(&debug).contains("bytes are debug information"), "{}", told(&debug));
    // The guest's own segment lies in page 16; one that crosses into a third page is too much, and one that doesn't is not.
    let sparse = "(data (i32.const 4096) \"x\") (data (i32.const 12287) \"xy\")";
    let (what, found, limit) = too_large(sparse);
    assert!(what.contains("data segments"), "{what}");
    assert_eq!((found, limit), (12 << 10, 8 << 10));
}

#[test]
fn proposals_that_grains_do_not_have() {
    for text in [
        "(module (memory 1) (tag))",
        "(module (memory 1) (type (struct)))",
        "(module (memory 1) (func (param (ref func))))",
    ] {
        assert!(
            matches!(refusal(&wat::parse_str(text).unwrap()), ModuleError::Invalid(_)),
            "{text}"
        );
    }
}

#[test]
fn every_error_says_something_of_its_own() {
    let errors = [
        ModuleError::NotWasm,
        ModuleError::Component,
        ModuleError::Memories(0),
        ModuleError::Memories(2),
        ModuleError::ImportedMemory,
        ModuleError::SharedMemory,
        ModuleError::Memory64,
        ModuleError::PageSize,
        ModuleError::PassiveSegment(1),
        ModuleError::SegmentOffset(1),
        ModuleError::Compile("c".to_owned()),
        ModuleError::Host("h".to_owned()),
    ];
    let texts: std::collections::HashSet<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), errors.len());
}

#[test]
fn a_configuration_that_cannot_be_is_refused() {
    let odd = WasmConfig {
        memory_limit: 100_000,
        ..config()
    };
    assert!(Engine::new(&odd).err().unwrap().to_string().contains("64 KiB"));
    assert!(
        Engine::new(&WasmConfig {
            max_instances: 0,
            ..config()
        })
        .is_err()
    );
}

#[test]
fn elements_outside_of_their_table() {
    let error = refused(extra("(table 1 funcref) (func $f) (elem (i32.const 1) $f)"));
    assert!(error.to_string().contains("element segment 0"), "{error}");
    let error = refused(extra("(table 1 funcref) (func $f) (elem (i32.const -1) $f $f)"));
    assert!(error.to_string().contains("element segment 0"), "{error}");
}
