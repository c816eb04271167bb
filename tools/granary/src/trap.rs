//! What people are told of a trap: the panic's message and place, which are a log record, and the functions by the names that their
//! authors gave them.

use rustc_demangle::try_demangle;
use serde_json::Value;

use crate::Failure;
use crate::address::{Address, segment};
use crate::client::{Answer, Client};
use crate::logs::shown;

/// Lines of a guest that writes its last words to stderr.
const LINES: usize = 4;
/// Where functions of the language, its libraries and the SDK come from. That a panic ran through them says nothing.
const RUNTIME: [&str; 12] = [
    "std::",
    "core::",
    "alloc::",
    "granary_sdk::",
    "wit_bindgen::",
    "granary:",
    "dlmalloc::",
    "compiler_builtins::",
    "rust_",
    "__rust",
    "__wasi",
    "abort",
];

/// What to tell of a call that was refused: of a trap also what the guest said in it.
pub(crate) fn refusal(client: &Client, grain: &Address, answer: &Answer) -> Failure {
    let failure = answer.refusal();
    let Ok(problem) = answer.value() else { return failure };
    let (Failure::Refused(said), Value::String(id)) = (&failure, &problem["request_id"]) else {
        return failure;
    };
    if problem["code"] != "trap" {
        return failure;
    }
    let (kind, key) = grain.parts();
    let path = format!("/v1/logs?type={}&key={}&limit=100", segment(kind), segment(key));
    // Who may call need not be allowed to read logs.
    let Ok(page) = client.value(&path) else { return failure };
    let lines = last_words(&page["records"], id);
    let new = lines.iter().filter(|line| !said.contains(line.as_str()));
    let lines: Vec<String> = new.map(|line| format!("\n  {line}")).collect();
    let (first, rest) = said.split_at(said.find('\n').unwrap_or(said.len()));
    Failure::Refused(format!("{first}{}{rest}", lines.concat()))
}

/// A panic's record of this request, else what the guest wrote to stderr.
fn last_words(records: &Value, request: &str) -> Vec<String> {
    let records = records.as_array().map_or(&[][..], Vec::as_slice);
    let of_request = records.iter().filter(|record| record["request_id"] == request);
    let text = |record: &Value| record["message"].as_str().map(shown);
    let is_panic = |record: &&Value| {
        let message = record["message"].as_str().unwrap_or_default();
        record["level"] == "error" && message.starts_with("panicked")
    };
    if let Some(panic) = of_request.clone().rfind(is_panic) {
        return text(panic).into_iter().collect();
    }
    let written = of_request.filter(|record| record["source"] == "stderr");
    written.filter_map(text).take(LINES).collect()
}

/// A trap's text with functions by their authors' names and without the language's own.
pub(crate) fn readable(detail: &str) -> String {
    let Some((what, functions)) = detail.rsplit_once(", in ") else {
        return detail.to_owned();
    };
    let functions: Vec<&str> = functions.split(" < ").collect();
    if !functions.iter().any(|name| try_demangle(name).is_ok()) {
        return detail.to_owned();
    }
    let names = functions.iter().map(|name| match try_demangle(name) {
        Ok(name) => format!("{name:#}"),
        Err(_) => (*name).to_owned(),
    });
    let own: Vec<String> = names.filter(|name| !is_runtime(name)).collect();
    if own.is_empty() {
        what.to_owned()
    } else {
        format!("{what}, in {}", own.join(" < "))
    }
}

fn is_runtime(function: &str) -> bool {
    let function = function.trim_start_matches(['<', '&']);
    RUNTIME.iter().any(|prefix| function.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn functions_have_their_authors_names_and_the_languages_own_are_left_out() {
        let mangled = "the guest trapped: wasm trap: wasm `unreachable` instruction executed, in \
                       _ZN4core9panicking9panic_fmt17h0123456789abcdefE < rust_panic < \
                       _ZN5shelf5Shelf8drop_all17h0123456789abcdefE < granary:grain/handler@0.1.0#call";
        assert_eq!(
            readable(mangled),
            "the guest trapped: wasm trap: wasm `unreachable` instruction executed, in shelf::Shelf::drop_all"
        );
        let runtime_only = "it trapped, in _ZN4core9panicking9panic_fmt17h0123456789abcdefE";
        assert_eq!(readable(runtime_only), "it trapped");
        for other in ["it trapped, in main < malloc", "3 < 4, in all", ""] {
            assert_eq!(readable(other), other);
        }
    }

    #[test]
    fn a_panic_is_found_by_its_request() {
        let record = |id: &str, level: &str, source: &str, message: &str| json!({ "request_id": id, "level": level, "source": source, "message": message });
        let records = json!([
            record("a", "error", "log", "panicked at src/lib.rs:1:1: another request's"),
            record("b", "error", "log", "something failed"),
            record("b", "error", "log", "panicked at src/lib.rs:9:5: two\nlines"),
            record("c", "info", "stdout", "5 added"),
            record("c", "warn", "stderr", "panic: of another language"),
        ]);
        assert_eq!(last_words(&records, "b"), ["panicked at src/lib.rs:9:5: two\\nlines"]);
        assert_eq!(last_words(&records, "c"), ["panic: of another language"]);
        assert_eq!(last_words(&records, "d"), [""; 0]);
        assert_eq!(last_words(&Value::Null, "a"), [""; 0]);
    }
}
