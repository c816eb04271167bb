//! Where a guest was when it trapped: its author's own functions, by the names that they were given there.
//!
//! A panic runs through a dozen functions of the language before it traps. That it did says nothing; who called them does.

use std::fmt::{self, Write};

use wasmtime::WasmBacktrace;

/// The most functions to name.
const FUNCTIONS: usize = 6;
/// The longest name, in characters. A module may give its functions names of megabytes.
const NAME: usize = 200;
/// Where functions of languages, their libraries and the SDK come from.
const RUNTIME: [&str; 14] = [
    "std::",
    "core::",
    "alloc::",
    "granary_sdk::",
    "wit_bindgen::",
    "granary:",
    "cabi_",
    "dlmalloc::",
    "compiler_builtins::",
    "rust_",
    "__rust",
    "__rdl_",
    "__rg_",
    "__wasi",
];
/// Those of C's library that end a program.
const ENDINGS: [&str; 4] = ["abort", "_Exit", "exit", "__assert_fail"];

/// The innermost functions that are the author's own, for the end of a sentence; empty when there is nothing to name.
pub(super) fn place(error: &wasmtime::Error) -> String {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else {
        return String::new();
    };
    named(trace.frames().iter().filter_map(|frame| frame.func_name()))
}

/// The same of the names in a module's name section, innermost first.
fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(readable).collect();
    let mut own: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !is_runtime(name))
        .collect();
    if own.is_empty() {
        // Of a guest that is all runtime, to the one who reads this, something is better than nothing.
        own = names.iter().map(String::as_str).collect();
    }
    own.dedup();
    own.truncate(FUNCTIONS);
    if own.is_empty() {
        String::new()
    } else {
        format!(", in {}", own.join(" < "))
    }
}

/// A name as its author wrote it, on one line.
fn readable(name: &str) -> String {
    let mut start = Start(String::new());
    // It refuses what is longer than anybody reads: a short mangled name may stand for a megabyte.
    let _ = match rustc_demangle::try_demangle(name) {
        Ok(name) => write!(start, "{name:#}"),
        Err(_) => start.write_str(name),
    };
    escaped(&start.0, NAME)
}

/// Takes the start of a text, enough for [`NAME`] characters and to see that there are more.
struct Start(String);

impl Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (4 * (NAME + 1)).saturating_sub(self.0.len());
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The first `most` characters of a text, those escaped that would break a line or a terminal.
pub(super) fn escaped(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for letter in text.chars().take(most) {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    if text.chars().nth(most).is_some() {
        shown.push_str("...");
    }
    shown
}

fn is_runtime(function: &str) -> bool {
    // `<shelf::_::Exports as granary_sdk::...>::call`, which `export!` writes, is nobody's own either.
    let path = function.trim_start_matches(['<', '&']);
    RUNTIME.iter().any(|prefix| path.starts_with(prefix))
        || ENDINGS.contains(&function)
        || function.contains("granary_sdk::bindings")
        || function.contains("::_::")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> String {
        named(names.iter().copied())
    }

    #[test]
    fn functions_have_their_authors_names_and_the_languages_own_are_left_out() {
        let panic = [
            "rust_panic",
            "_ZN3std9panicking20rust_panic_with_hook17h0123456789abcdefE",
            "_ZN3std9panicking19begin_panic_handler28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
            "_ZN3std3sys9backtrace26__rust_end_short_backtrace17h0123456789abcdefE",
            "rust_begin_unwind",
            "_ZN4core9panicking9panic_fmt17h0123456789abcdefE",
            "_ZN4core6option13expect_failed17h0123456789abcdefE",
            "_ZN5shelf5Shelf4take17h0123456789abcdefE",
            "_ZN5shelf5Shelf8drop_all17h0123456789abcdefE",
            "_ZN11granary_sdk8bindings4call17h0123456789abcdefE",
            "granary:grain/handler@0.1.0#call",
        ];
        assert_eq!(of(&panic), ", in shelf::Shelf::take < shelf::Shelf::drop_all");
        assert_eq!(of(&["_RNvNtCs1234_7mycrate3foo3bar"]), ", in mycrate::foo::bar");
        assert_eq!(
            of(&["abort", "__assert_fail", "take", "granary:grain/handler@0.1.0#call"]),
            ", in take"
        );
        assert_eq!(of(&["abort_order", "exit_shop"]), ", in abort_order < exit_shop");
    }

    #[test]
    fn a_trace_without_a_function_of_the_authors_own_is_shown_as_it_is() {
        assert_eq!(
            of(&["abort", "granary:grain/handler@0.1.0#call"]),
            ", in abort < granary:grain/handler@0.1.0#call"
        );
        assert_eq!(of(&[]), "");
    }

    #[test]
    fn a_recursion_is_named_once_and_a_trace_is_bounded() {
        assert_eq!(of(&["deep", "deep", "deep", "start"]), ", in deep < start");
        assert_eq!(of(&["a", "b", "c", "d", "e", "f", "g"]), ", in a < b < c < d < e < f");
        let long = "x".repeat(1 << 20);
        assert!(of(&[&long, "two\nlines"]).len() < 300);
        assert!(of(&["two\nlines"]).ends_with("two\\nlines"));
    }
}
