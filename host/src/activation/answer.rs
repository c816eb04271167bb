//! Whether what a turn answers is what callers are promised: JSON, in UTF-8, of a depth that any reader can stand.
//!
//! Told in the turn, so that a broken answer fails it and leaves no trace, instead of reaching callers and other grains.
//!
//! **Not here:** whether it fits the method's schema: that's between a guest and its callers.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use granary_core::api::Code;

use crate::wasm::{Answer, Fault, TurnFailure};

/// The answer, if its value, or the value of its error, is sound.
pub(super) fn checked(answer: Answer) -> Result<Answer, TurnFailure> {
    let (what, json) = match &answer {
        Ok(value) => ("result", Some(value)),
        Err(fault) => ("error", fault.error.as_ref()),
    };
    if let Err(Fault { code: Some(code), .. }) = &answer
        && Code::from_word(code).is_none()
    {
        let shown: String = code.chars().take(40).collect();
        return Err(TurnFailure::Abi(format!(
            "a call's failure was passed on with the code {shown:?}, which no call fails with"
        )));
    }
    if let Some(json) = json
        && let Err(error) = serde_json::from_slice::<Sound>(json)
    {
        return Err(unsound(what, &error));
    }
    Ok(answer)
}

/// What a value that can't be read fails its turn with. One that nests too deep is JSON all the same.
fn unsound(what: &str, error: &serde_json::Error) -> TurnFailure {
    if error.to_string().starts_with("recursion limit exceeded") {
        TurnFailure::TooLarge(format!("the {what} nests deeper than {LEVELS} levels: flatten it"))
    } else {
        TurnFailure::Abi(format!("the {what} is no JSON: {error}"))
    }
}

/// What the reader of JSON can stand.
const LEVELS: usize = 127;

/// Any JSON, kept nowhere. Its reader stops at [`LEVELS`].
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sound, D::Error> {
        deserializer.deserialize_any(Sound)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Sound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_str<E>(self, _: &str) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Sound, A::Error> {
        while items.next_element::<Sound>()?.is_some() {}
        Ok(Sound)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Sound, A::Error> {
        while fields.next_entry::<Sound, Sound>()?.is_some() {}
        Ok(Sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::FaultKind;

    fn accepts(bytes: &[u8]) -> bool {
        checked(Ok(bytes.to_vec())).is_ok()
    }

    #[test]
    fn json_passes_and_nothing_else() {
        for json in [
            "null",
            " 5 ",
            "-1e3",
            "\"ü\"",
            "[]",
            "[1, {\"a\": [true, \"x\"]}]",
            "18446744073709551616",
        ] {
            assert!(accepts(json.as_bytes()), "{json}");
        }
        let others: [&[u8]; 7] = [b"", b"hello", b"\"\xff\xfe\"", b"[1", b"1 2", b"{1: 2}", b"\"\\ud800\""];
        for other in others {
            assert!(!accepts(other), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn a_failure_is_passed_on_with_a_code_that_there_is() {
        let passed_on = |code: Option<&str>| {
            checked(Err(Fault {
                kind: FaultKind::CallFailed,
                message: "so it was".to_owned(),
                error: None,
                status: None,
                code: code.map(str::to_owned),
            }))
        };
        for code in [None, Some("trap"), Some("deadline")] {
            assert!(matches!(passed_on(code), Ok(Err(_))), "{code:?}");
        }
        for code in ["", "ok", "Trap", &"x".repeat(1 << 20)] {
            let failure = passed_on(Some(code)).unwrap_err();
            assert!(failure.to_string().contains("which no call fails with"), "{failure}");
            assert!(failure.to_string().len() < 200);
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(accepts(nested(100).as_bytes()));
        assert!(accepts(nested(LEVELS).as_bytes()));
        for levels in [LEVELS + 1, 200, 1_000_000] {
            let failure = checked(Ok(nested(levels).into_bytes())).unwrap_err();
            assert!(
                matches!(&failure, TurnFailure::TooLarge(why) if why.contains("127 levels")),
                "{failure}"
            );
        }
        let unfinished = "[".repeat(100);
        assert!(matches!(checked(Ok(unfinished.into_bytes())), Err(TurnFailure::Abi(_))));
    }
}
