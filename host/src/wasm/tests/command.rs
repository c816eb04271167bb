//! Modules that were linked as commands: every call would make the state anew. And those that look like them and aren't.

use super::guest::*;
use crate::wasm::ModuleError;

/// The world's exports, their parameters, and whether they have a result.
const EXPORTS: [(&str, usize, bool); 7] = [
    ("cabi_realloc", 4, true),
    ("granary:grain/handler@0.1.0#describe", 0, true),
    ("granary:grain/handler@0.1.0#call", 8, true),
    ("cabi_post_granary:grain/handler@0.1.0#call", 1, false),
    ("granary:grain/handler@0.1.0#save", 0, true),
    ("granary:grain/handler@0.1.0#load", 7, true),
    ("granary:grain/handler@0.1.0#check", 4, true),
];

/// Constructors as the linker writes them, one that does the work, and an end.
const LINKED: &str = "(func $ctors (call $construct)) (func $construct (i32.store (i32.const 66000) (i32.const 0))) \
     (func $dtors (call $end)) (func $end (i32.store (i32.const 66000) (i32.const 0)))";

/// The plain guest with each of these exports wrapped: `before`, the function itself, `after`.
fn wrapped(exports: &[(&str, usize, bool)], before: &str, after: &str, more: &str) -> Vec<u8> {
    let mut text = Guest::default().text();
    let mut wrappers = String::new();
    for (at, (name, params, has_result)) in exports.iter().enumerate() {
        let export = format!("(export \"{name}\")");
        assert!(text.contains(&export));
        // The first function of the text keeps its name, others have none to lose.
        text = match *name {
            "cabi_realloc" => text.replacen(&export, "", 1).replacen("$realloc", "$f0", 1),
            "granary:grain/handler@0.1.0#call" => text.replacen(&format!("$call {export}"), &format!("$f{at}"), 1),
            _ => text.replacen(&export, &format!("$f{at}"), 1),
        };
        let ty = format!(
            "(param {}) {}",
            "i32 ".repeat(*params),
            if *has_result { "(result i32)" } else { "" }
        );
        let arguments: String = (0..*params).map(|n| format!("local.get {n} ")).collect();
        wrappers += &format!("(func {export} {ty} {before} {arguments} call $f{at} {after})\n");
    }
    let end = text.trim_end().len() - 1;
    text.replace_range(end.., &format!("{more} {wrappers})"));
    wat::parse_str(text).unwrap()
}

fn checked(wasm: &[u8]) -> Result<(), ModuleError> {
    engine().check(wasm).map(drop)
}

#[track_caller]
fn refused(wasm: &[u8]) {
    for wasm in [wasm.to_vec(), stripped(wasm)] {
        let error = checked(&wasm).expect_err("its constructors would run with every call");
        assert!(matches!(error, ModuleError::CommandExports(_)), "{error}");
        assert!(error.to_string().contains("`-mexec-model=reactor`"), "{error}");
    }
}

#[track_caller]
fn taken(wasm: &[u8]) {
    for wasm in [wasm.to_vec(), stripped(wasm)] {
        assert_eq!(checked(&wasm), Ok(()));
    }
}

#[test]
fn exports_that_the_linker_wrapped_are_known_by_their_shape_and_by_their_names() {
    refused(&wrapped(&EXPORTS, "call $ctors", "call $dtors", LINKED));
    refused(&wrapped(&EXPORTS, "call $ctors", "", LINKED));
    refused(&wrapped(&EXPORTS, "", "call $dtors", LINKED));
    let guest = Guest {
        extra: "(data (i32.const 66100) \"{}\") (func $granary:grain/handler@0.1.0#call.command_export)",
        ..Guest::default()
    };
    let error = checked(&guest.wasm()).unwrap_err();
    assert!(matches!(error, ModuleError::CommandExports(_)), "{error}");
}

#[test]
fn an_optimizer_that_has_changed_some_or_all_of_it_hides_nothing() {
    // The wrapped functions are put into some of the wrappers.
    refused(&wrapped(&EXPORTS[2..5], "call $ctors", "call $dtors", LINKED));
    // All of them, and the constructors' own list is gone.
    refused(&wrapped(&EXPORTS, "call $construct (block)", "", LINKED));
}

#[test]
fn guests_that_look_like_it_are_no_commands() {
    taken(&Guest::default().wasm());
    // As wit-bindgen does it: each entry asks whether the constructors have run.
    let once = "(global $done (mut i32) (i32.const 0)) (func $ctors (call $construct)) (func $construct (nop))
        (func $once (if (i32.eqz (global.get $done)) (then (call $ctors) (global.set $done (i32.const 1)))))";
    taken(&wrapped(&EXPORTS, "call $once", "", once));
    // Of a libc that has nothing to end.
    taken(&wrapped(
        &EXPORTS,
        "",
        "call $dtors",
        "(func $dtors (call $dummy) (call $dummy)) (func $dummy)",
    ));
    // Exports that only pass on their parameters.
    taken(&wrapped(&EXPORTS, "", "", ""));
    // One that begins with a call of its own, another that ends with one.
    let own = "(func $begin (call $other)) (func $other (i32.store (i32.const 66008) (i32.const 1)))";
    taken(&wrapped(&EXPORTS[2..3], "call $begin", "", own));
    taken(&wrapped(&EXPORTS[2..5], "", "call $begin", own));
    // Some that begin with a function that does more than to call others.
    taken(&wrapped(&EXPORTS[1..], "call $other", "", own));
    // All, with one that does nothing that lasts.
    taken(&wrapped(&EXPORTS, "call $nothing", "", "(func $nothing (nop))"));
}

#[test]
fn constructors_that_only_a_start_runs_are_refused_as_nobody_would_run_them() {
    let start = |start: &str, more: &str| wrapped(&[], "", "", &format!("{start} {more} {LINKED}"));
    let command = "(func (export \"_start\") (call $thread) (call $ctors) (drop (call $main)) (call $dtors))
        (func $thread (i32.store (i32.const 66004) (i32.const 1))) (func $main (result i32) (i32.const 0))";
    for wasm in [start(command, ""), stripped(&start(command, ""))] {
        let error = checked(&wasm).unwrap_err();
        assert_eq!(error, ModuleError::CommandStart);
        assert!(error.to_string().contains("`-mexec-model=reactor`"), "{error}");
    }
    // With a reactor's start beside it, constructors that the module runs itself, that the host is shown, or that there are none of.
    taken(&start(command, "(func (export \"_initialize\") (call $ctors))"));
    taken(&start(command, "(func $once (call $ctors))"));
    taken(&start(command, "(export \"__wasm_call_ctors\" (func $ctors))"));
    let plain = "(func (export \"_start\") (call $nothing) (drop (call $main)) (call $dtors))
        (func $nothing) (func $main (result i32) (i32.const 0))";
    taken(&start(plain, ""));
}

#[test]
fn constructors_that_are_exported_run_once_though_a_start_that_nobody_calls_would_run_them_too() {
    let guest = Guest {
        extra: r#"(data (i32.const 66100) "{}") (func (export "_start") (call $ctors))
            (func $ctors (export "__wasm_call_ctors") (i64.store (i32.const 66000) (i64.const 40)))"#,
        ..Guest::default()
    };
    let mut instance = guest.start(&engine());
    assert_eq!(add(&mut instance, 1), 41);
    assert_eq!(add(&mut instance, 1), 42);
}
