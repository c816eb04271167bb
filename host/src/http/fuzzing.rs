//! Arguments, queries and paths from any bytes, with what has to hold of all that is accepted.
//!
//! For fuzz targets, and for this folder's own tests, which feed it seeded nonsense.

use serde_json::value::RawValue;

use super::config::HttpConfig;
use super::path::{self, Target};
use super::{args, depth, query};
use crate::description::{Method, MethodKind, Param};

/// Descriptions longer than this are as good as shorter ones.
const DESCRIPTION_LIMIT: usize = 4096;

/// Reads bytes as a method's description, a line end, and what a caller sends: as a body, as a query and as a path.
/// Where the first line is no description, all of it is what the caller sends, to a method with parameters of each kind.
///
/// # Panics
///
/// When a promise is broken: what is accepted is a JSON array with a value for each parameter, of bounded depth; a key
/// that is accepted is the same after being written into a path again.
#[doc(hidden)]
pub fn http_arguments(bytes: &[u8]) {
    let (method, sent) = split(bytes);
    let limit = HttpConfig::default().depth_limit;
    if let Ok(args) = args::from_body(&method, sent, limit) {
        check(&method, &args, limit);
    }
    let Ok(text) = std::str::from_utf8(sent) else { return };
    if let Ok(args) = query::from_query(&method, text, limit) {
        check(&method, &args, limit);
    }
    if let Ok(Target::Grain(name) | Target::Method(name, _)) = path::parse(text) {
        let key = name.key.as_str();
        assert!((1..=1024).contains(&key.len()), "a key has 1 to 1,024 bytes: {key:?}");
        let written: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let written = format!("{}/{written}", name.kind);
        let again = path::parse(&written).expect("an encoded key is a path");
        assert_eq!(again, Target::Grain(name), "a key has one meaning");
    }
}

fn split(bytes: &[u8]) -> (Method, &[u8]) {
    let end = bytes.iter().take(DESCRIPTION_LIMIT).position(|byte| *byte == b'\n');
    if let Some(end) = end
        && let Ok(method) = serde_json::from_slice(&bytes[..end])
    {
        return (method, &bytes[end + 1..]);
    }
    (plain(), bytes)
}

/// A method with parameters of each kind.
fn plain() -> Method {
    let param = |name: &str, kind: &str, required| Param {
        name: name.into(),
        schema: serde_json::json!({ "type": kind }),
        required,
    };
    Method {
        name: "m".into(),
        doc: String::new(),
        kind: MethodKind::Read,
        params: vec![
            param("a", "integer", true),
            param("b", "string", false),
            param("c", "array", false),
        ],
        result: serde_json::Value::Null,
        error: None,
    }
}

fn check(method: &Method, args: &[u8], limit: usize) {
    let values: Vec<&RawValue> = serde_json::from_slice(args).expect("arguments are a JSON array");
    assert_eq!(values.len(), method.params.len(), "each parameter has its value");
    assert!(depth::of(args) <= limit, "depth is bounded");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// splitmix64: the same seed makes the same choices.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % limit as u64) as usize
        }
    }

    const SEEDS: u64 = 4000;

    /// What forms are made of, so that nonsense is nearly right.
    const PIECES: &[&[u8]] = &[
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b"\"",
        b"\"a\"",
        b"\"b\"",
        b"\"c\"",
        b"\"x\"",
        b"\\u",
        b"\\\"",
        b"d800",
        b"1",
        b"-0",
        b"1e400",
        b"0.5",
        b"NaN",
        b"null",
        b"true",
        b" ",
        b"\n",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"a=",
        b"b=",
        b"c=",
        b"&",
        b"+",
        b"%",
        b"%2F",
        b"%00",
        b"%zz",
        b"%c3%bc",
        b"/",
        b"counter/",
        b"k",
        b"\xc3\xbc",
        b"[[[[[[[[[[",
        b"]]]]]]]]]]",
        b"{\"a\":",
        b"{\"name\":\"m\",\"kind\":\"write\",\"params\":[{\"name\":\"a\"}]}\n",
    ];

    #[test]
    fn nonsense_is_never_more_than_refused() {
        for seed in 0..SEEDS {
            let mut random = Random(seed);
            let count = random.below(40);
            let bytes: Vec<u8> = (0..count)
                .flat_map(|_| PIECES[random.below(PIECES.len())])
                .copied()
                .collect();
            http_arguments(&bytes);
        }
    }

    /// JSON of a shape that the seed chooses.
    fn value(random: &mut Random, depth: usize) -> String {
        const PLAIN: &[&str] = &[
            "null",
            "1",
            "-0",
            "1e400",
            "123456789012345678901234567890",
            "\"x\"",
            "\"\\ud800\"",
            "\"[{\"",
            "[]",
        ];
        match random.below(if depth == 0 { 1 } else { 3 }) {
            0 => PLAIN[random.below(PLAIN.len())].to_owned(),
            1 => {
                let items: Vec<String> = (0..random.below(4)).map(|_| value(random, depth - 1)).collect();
                format!("[{}]", items.join(" , "))
            }
            _ => {
                let items: Vec<String> = (0..random.below(4))
                    .map(|n| format!("\"k{n}\":{}", value(random, depth - 1)))
                    .collect();
                format!("{{{}}}", items.join(","))
            }
        }
    }

    #[test]
    fn arguments_by_name_and_by_position_are_the_same() {
        let method = plain();
        for seed in 0..SEEDS {
            let mut random = Random(seed);
            let [a, b, c] = [(); 3].map(|()| value(&mut random, 4));
            let position = args::from_body(&method, format!("[{a},{b},{c}]").as_bytes(), 100).unwrap();
            let name = args::from_body(&method, format!("{{\"c\":{c},\"a\":{a},\"b\":{b}}}").as_bytes(), 100).unwrap();
            assert_eq!(position, name, "seed {seed}");
            check(&method, &name, 100);
        }
    }

    #[test]
    #[should_panic(expected = "each parameter has its value")]
    fn a_broken_promise_is_seen() {
        check(&plain(), b"[1]", 100);
    }
}
