//! A call's arguments from its body: a JSON object by name or array by position becomes one JSON array by position.
//!
//! Values are not read, only passed over: a value's text reaches the guest as the caller wrote it. When the body is an
//! array with a value for each parameter, it is the result as it stands.

use std::fmt;

use granary_core::api::{CallFailure, Code};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::depth;
use crate::description::{Method, Param};

/// Unknown arguments that an error names; the rest are only counted, since a body may hold a million of them.
const NAMED_LIMIT: usize = 8;
/// What some editors write at a file's beginning.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a body whose values are at most `depth_limit` levels deep, arguments included. Empty means no arguments.
pub(super) fn from_body(method: &Method, body: &[u8], depth_limit: usize) -> Result<Vec<u8>, CallFailure> {
    let text = std::str::from_utf8(body).map_err(|_| bad(method, "the body is not UTF-8"))?;
    if text.starts_with(BYTE_ORDER_MARK) {
        return Err(bad(
            method,
            "the body begins with a byte order mark, which JSON doesn't have: leave it out",
        ));
    }
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    depth::check(method, text, depth_limit)?;
    match text.as_bytes().first() {
        None => gather::<&str>(method, vec![None; method.params.len()], &Surplus::default()),
        Some(b'[') => by_position(method, text),
        Some(b'{') => by_name(method, text),
        Some(_) => Err(bad(
            method,
            "the body is neither a JSON object of arguments by name nor an array by position",
        )),
    }
}

fn by_position(method: &Method, text: &str) -> Result<Vec<u8>, CallFailure> {
    let mut json = serde_json::Deserializer::from_str(text);
    let given = json
        .deserialize_seq(Counted)
        .and_then(|count| json.end().map(|()| count))
        .map_err(|error| not_json(method, &error))?;
    let wanted = method.params.len();
    if given > wanted {
        return Err(bad(method, &format!("{given} arguments by position are too many")));
    }
    let absent = &method.params[given..];
    refuse_missing(
        method,
        absent.iter().filter(|param| param.required),
        &Surplus::default(),
    )?;
    let mut args = Vec::with_capacity(text.len() + 5 * absent.len());
    args.extend_from_slice(text.as_bytes());
    if !absent.is_empty() {
        args.pop();
        for index in given..wanted {
            args.extend_from_slice(if index == 0 { b"null" } else { b",null" });
        }
        args.push(b']');
    }
    Ok(args)
}

fn by_name(method: &Method, text: &str) -> Result<Vec<u8>, CallFailure> {
    let mut json = serde_json::Deserializer::from_str(text);
    let (values, surplus) = json
        .deserialize_map(Named(&method.params))
        .and_then(|found| json.end().map(|()| found))
        .map_err(|error| not_json(method, &error))?;
    gather(method, values, &surplus)
}

/// Puts values, one place for each parameter, into an array by position.
pub(super) fn gather<V: AsRef<str>>(
    method: &Method,
    values: Vec<Option<V>>,
    surplus: &Surplus,
) -> Result<Vec<u8>, CallFailure> {
    let absent = method
        .params
        .iter()
        .zip(&values)
        .filter(|(param, value)| param.required && value.is_none());
    refuse_missing(method, absent.map(|(param, _)| param), surplus)?;
    let length: usize = values.iter().flatten().map(|value| value.as_ref().len() + 1).sum();
    let mut args = Vec::with_capacity(length + 5 * values.len() + 2);
    args.push(b'[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            args.push(b',');
        }
        args.extend_from_slice(value.as_ref().map_or("null", AsRef::as_ref).as_bytes());
    }
    args.push(b']');
    Ok(args)
}

/// Arguments that the method doesn't have.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    names: Vec<String>,
    more: usize,
}

impl Surplus {
    pub(super) fn add(&mut self, name: &str) {
        if self.names.len() < NAMED_LIMIT {
            self.names.push(name.chars().take(64).collect());
        } else {
            self.more += 1;
        }
    }
}

fn refuse_missing<'a>(
    method: &Method,
    missing: impl Iterator<Item = &'a Param>,
    surplus: &Surplus,
) -> Result<(), CallFailure> {
    let missing: Vec<&str> = missing.map(|param| param.name.as_str()).collect();
    if missing.is_empty() && surplus.names.is_empty() {
        return Ok(());
    }
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("missing: {}", quoted(&missing)));
    }
    if !surplus.names.is_empty() {
        let more = if surplus.more > 0 {
            format!(" and {} more", surplus.more)
        } else {
            String::new()
        };
        parts.push(format!("unknown: {}{more}", quoted(&surplus.names)));
    }
    Err(bad(method, &parts.join("; ")))
}

/// A failure that ends by saying what the method takes.
pub(super) fn bad(method: &Method, what: &str) -> CallFailure {
    let takes: Vec<String> = method
        .params
        .iter()
        .map(|param| format!("`{}`{}", param.name, if param.required { "" } else { " (optional)" }))
        .collect();
    let takes = if takes.is_empty() {
        "no arguments".to_owned()
    } else {
        takes.join(", ")
    };
    let detail = format!("{what}. `{}` takes {takes}", method.name);
    CallFailure::before(Code::BadArguments, detail)
}

fn not_json(method: &Method, error: &serde_json::Error) -> CallFailure {
    bad(method, &format!("the JSON body can't be read: {error}"))
}

fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    names.join(", ")
}

struct Counted;

impl<'de> Visitor<'de> for Counted {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while values.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

struct Named<'a>(&'a [Param]);

impl<'de> Visitor<'de> for Named<'_> {
    type Value = (Vec<Option<Raw<'de>>>, Surplus);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of arguments")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.len()];
        let mut surplus = Surplus::default();
        while let Some(name) = entries.next_key_seed(Name(self.0))? {
            match name {
                Ok(index) => {
                    let value = Raw(entries.next_value::<&RawValue>()?);
                    if values[index].replace(value).is_some() {
                        let name = &self.0[index].name;
                        return Err(A::Error::custom(format_args!("`{name}` is given twice")));
                    }
                }
                Err(unknown) => {
                    entries.next_value::<IgnoredAny>()?;
                    surplus.add(&unknown);
                }
            }
        }
        Ok((values, surplus))
    }
}

#[derive(Clone, Copy, Debug)]
struct Raw<'a>(&'a RawValue);

impl AsRef<str> for Raw<'_> {
    fn as_ref(&self) -> &str {
        self.0.get()
    }
}

/// Finds a parameter by its name, so that known names are never copied.
struct Name<'a>(&'a [Param]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Result<usize, String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an argument's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let index = self.0.iter().position(|param| param.name == name);
        Ok(index.ok_or_else(|| name.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::MethodKind;

    fn method(params: &[(&str, bool)]) -> Method {
        let params = params
            .iter()
            .map(|(name, required)| Param {
                name: (*name).into(),
                schema: serde_json::Value::Null,
                required: *required,
            })
            .collect();
        Method {
            name: "add".into(),
            doc: String::new(),
            kind: MethodKind::Write,
            params,
            result: serde_json::Value::Null,
            error: None,
        }
    }

    const NONE: &[(&str, bool)] = &[];
    const ONE: &[(&str, bool)] = &[("n", true)];
    const TWO: &[(&str, bool)] = &[("to", true), ("n", true)];
    const OPTIONAL: &[(&str, bool)] = &[("n", true), ("note", false), ("tag", false)];

    #[track_caller]
    fn check(params: &[(&str, bool)], body: &str, expect: &str) {
        let got = from_body(&method(params), body.as_bytes(), 100);
        assert_eq!(
            got.map(|args| String::from_utf8(args).unwrap()),
            Ok(expect.to_owned()),
            "{body}"
        );
    }

    #[track_caller]
    fn refuse(params: &[(&str, bool)], body: impl AsRef<[u8]>, expect: &str) {
        let failure = from_body(&method(params), body.as_ref(), 100).unwrap_err();
        assert_eq!((failure.code, failure.detail.as_str()), (Code::BadArguments, expect));
    }

    #[test]
    fn an_array_with_every_argument_is_passed_on_as_it_stands() {
        check(NONE, "[]", "[]");
        check(ONE, "[1]", "[1]");
        check(ONE, " \n[ 1.50e3 ]\t", "[ 1.50e3 ]");
        check(ONE, r#"[{"b":1, "a":[ ]}]"#, r#"[{"b":1, "a":[ ]}]"#);
        check(TWO, r#"["x\u00fc",2]"#, r#"["x\u00fc",2]"#);
        check(ONE, "[null]", "[null]");
    }

    #[test]
    fn an_object_becomes_an_array_by_position_with_each_values_own_text() {
        check(ONE, r#"{"n": 5}"#, "[5]");
        check(
            ONE,
            r#"{ "n" : 123456789012345678901234567890.10 }"#,
            "[123456789012345678901234567890.10]",
        );
        check(TWO, r#"{"n":{"a": 1}, "to":"x"}"#, r#"["x",{"a": 1}]"#);
        check(TWO, "{\"\\u0074o\":1,\"n\":2}", "[1,2]");
        check(NONE, "{}", "[]");
    }

    #[test]
    fn what_may_be_absent_becomes_null() {
        check(OPTIONAL, r#"{"n":1}"#, "[1,null,null]");
        check(OPTIONAL, r#"{"tag":2,"n":1}"#, "[1,null,2]");
        check(OPTIONAL, "[1]", "[1,null,null]");
        check(OPTIONAL, "[1 , \"x\" ]", "[1 , \"x\" ,null]");
        check(&[("note", false)], "", "[null]");
        check(&[("note", false)], "[]", "[null]");
        check(&[("note", false)], "[ ]", "[ null]");
        check(&[("note", false)], "{}", "[null]");
        check(NONE, "", "[]");
        check(NONE, " \n", "[]");
    }

    #[test]
    fn missing_and_unknown_arguments_are_named_all_at_once() {
        refuse(ONE, "", "missing: `n`. `add` takes `n`");
        refuse(TWO, "{}", "missing: `to`, `n`. `add` takes `to`, `n`");
        refuse(TWO, "[1]", "missing: `n`. `add` takes `to`, `n`");
        refuse(
            OPTIONAL,
            r#"{"m":1,"N":2}"#,
            "missing: `n`; unknown: `m`, `N`. `add` takes `n`, `note` (optional), `tag` (optional)",
        );
        refuse(NONE, r#"{"x":1}"#, "unknown: `x`. `add` takes no arguments");
        refuse(ONE, "[1,2,3]", "3 arguments by position are too many. `add` takes `n`");
        refuse(
            NONE,
            "[null]",
            "1 arguments by position are too many. `add` takes no arguments",
        );
    }

    #[test]
    fn a_flood_of_unknown_arguments_is_counted_not_repeated() {
        let many: Vec<String> = (0..100).map(|i| format!("\"x{i}\":{i}")).collect();
        let failure = from_body(&method(NONE), format!("{{{}}}", many.join(",")).as_bytes(), 100).unwrap_err();
        assert!(failure.detail.contains("`x7` and 92 more"), "{}", failure.detail);
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        refuse(
            ONE,
            "5",
            "the body is neither a JSON object of arguments by name nor an array by position. `add` takes `n`",
        );
        refuse(
            ONE,
            "n=5",
            "the body is neither a JSON object of arguments by name nor an array by position. `add` takes `n`",
        );
        refuse(ONE, b"[\"\xff\"]", "the body is not UTF-8. `add` takes `n`");
        for body in [
            "[1",
            "[1,]",
            "[1] x",
            "[1][2]",
            "[01]",
            "[nan]",
            "{\"n\":1",
            "{\"n\"}",
            "{n:1}",
            "{\"n\":1,}",
            "{\"n\":1}{}",
            "['x']",
        ] {
            let failure = from_body(&method(ONE), body.as_bytes(), 100).unwrap_err();
            assert!(
                failure.detail.starts_with("the JSON body can't be read: "),
                "{body}: {}",
                failure.detail
            );
            assert!(
                failure.detail.contains(" at line 1 column "),
                "{body}: {}",
                failure.detail
            );
        }
    }

    #[test]
    fn an_argument_given_twice_is_refused() {
        for body in [r#"{"n":1,"n":1}"#, r#"{"n":1,"\u006e":2}"#] {
            let failure = from_body(&method(ONE), body.as_bytes(), 100).unwrap_err();
            assert!(failure.detail.contains("`n` is given twice"), "{}", failure.detail);
        }
    }

    #[test]
    fn a_byte_order_mark_is_named() {
        refuse(
            ONE,
            "\u{feff}[1]",
            "the body begins with a byte order mark, which JSON doesn't have: leave it out. `add` takes `n`",
        );
    }

    #[test]
    fn depth_has_a_limit_by_name_and_by_position() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        check(ONE, &deep(100), &deep(100));
        let by_name = |levels: usize| format!("{{\"n\":{}}}", deep(levels - 1));
        assert!(from_body(&method(ONE), by_name(100).as_bytes(), 100).is_ok());
        let what = "JSON is nested deeper than the limit of 100 levels. `add` takes `n`";
        refuse(ONE, deep(101), what);
        refuse(ONE, by_name(101), what);
        refuse(ONE, "[".repeat(8 << 20), what);
        refuse(ONE, "{\"n\":".repeat(1 << 20), what);
    }
}
