//! Query strings: a call's arguments by GET, read by their parameters' schemas, and the options of lists.
//!
//! A parameter that is a string takes the text as it is; a list repeats its name, once for each item; anything else is
//! JSON. What the schema says beyond that is the guest's to check.

use std::borrow::Cow;

use granary_core::api::{CallFailure, Code};
use serde_json::Value;
use serde_json::value::RawValue;

use super::args::{Surplus, bad, gather};
use super::{depth, percent};
use crate::description::Method;

/// How deep references between schemas are followed: a schema may refer to itself.
const REFERENCE_LIMIT: usize = 8;
/// How many schemas are looked at: alternatives of alternatives multiply.
const STEP_LIMIT: usize = 1_000;

/// The decoded `name=value` pairs of a query. A name without `=` has an empty value.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), CallFailure>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    })
}

fn decode(text: &str) -> Result<Cow<'_, str>, CallFailure> {
    let decoded = if text.contains('+') {
        percent::decode(&text.replace('+', " ")).map(|decoded| Cow::Owned(decoded.into_owned()))
    } else {
        percent::decode(text)
    };
    decoded.map_err(|wrong| CallFailure::before(Code::BadArguments, format!("the query {wrong}")))
}

/// The one option, true or false, that `path` takes in its query. What is misspelt is better refused than ignored.
pub(super) fn flag(query: &str, option: &str, path: &str) -> Result<bool, CallFailure> {
    let bad = |detail: String| CallFailure::before(Code::BadArguments, detail);
    let mut given = None;
    for pair in pairs(query) {
        let (name, value) = pair?;
        if name != option {
            let name: String = name.chars().take(64).collect();
            return Err(bad(format!("unknown: `{name}`. {path} takes `{option}`")));
        }
        let value = value
            .parse()
            .map_err(|_| bad(format!("`{option}` is `true` or `false`")))?;
        if given.replace(value).is_some() {
            return Err(bad(format!("`{option}` is given twice")));
        }
    }
    Ok(given.unwrap_or(false))
}

/// Reads a call's arguments; the result is a JSON array by position, at most `depth_limit` levels deep.
pub(super) fn from_query(method: &Method, query: &str, depth_limit: usize) -> Result<Vec<u8>, CallFailure> {
    let mut values: Vec<Option<Cow<'static, str>>> = vec![None; method.params.len()];
    let mut lists: Vec<Option<String>> = vec![None; method.params.len()];
    let mut surplus = Surplus::default();
    for pair in pairs(query) {
        let (name, text) = pair?;
        let Some(index) = method.params.iter().position(|param| param.name == name) else {
            surplus.add(&name);
            continue;
        };
        match reading(&method.params[index].schema) {
            Reading::List(items) => {
                let item = value(method, &name, &text, items, depth_limit.saturating_sub(2))?;
                let list = lists[index].get_or_insert_default();
                list.push(if list.is_empty() { '[' } else { ',' });
                list.push_str(&item);
            }
            Reading::One(form) => {
                let value = value(method, &name, &text, form, depth_limit.saturating_sub(1))?;
                if values[index].replace(value.into()).is_some() {
                    return Err(bad(method, &format!("`{name}` is given twice and is not a list")));
                }
            }
        }
    }
    for (place, list) in values.iter_mut().zip(lists) {
        if let Some(mut list) = list {
            list.push(']');
            *place = Some(list.into());
        }
    }
    gather(method, values, &surplus)
}

/// One value's JSON.
fn value(method: &Method, name: &str, text: &str, form: Form, depth_limit: usize) -> Result<String, CallFailure> {
    if form == Form::Text {
        return Ok(Value::from(text).to_string());
    }
    depth::check(method, text, depth_limit)?;
    match serde_json::from_str::<&RawValue>(text) {
        Ok(json) => Ok(json.get().to_owned()),
        Err(error) => Err(bad(method, &format!("`{name}` in the query is not JSON: {error}"))),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    One(Form),
    List(Form),
}

fn reading(schema: &Value) -> Reading {
    let mut kinds = Kinds::default();
    kinds.collect(schema, schema, 0);
    match kinds {
        Kinds { other: true, .. } => Reading::One(Form::Json),
        Kinds {
            text: true, list: None, ..
        } => Reading::One(Form::Text),
        Kinds {
            text: false,
            list: Some(items),
            ..
        } => Reading::List(items),
        _ => Reading::One(Form::Json),
    }
}

/// What a schema's alternatives allow, null aside.
#[derive(Debug, Default)]
struct Kinds {
    text: bool,
    list: Option<Form>,
    other: bool,
    steps: usize,
}

impl Kinds {
    fn collect(&mut self, root: &Value, schema: &Value, depth: usize) {
        self.steps += 1;
        if depth > REFERENCE_LIMIT || self.steps > STEP_LIMIT {
            self.other = true;
            return;
        }
        if let Some(to) = schema.get("$ref").and_then(Value::as_str) {
            let target = to.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
            return self.collect(root, target.unwrap_or(&Value::Null), depth + 1);
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(alternatives) = schema.get(word).and_then(Value::as_array) {
                return alternatives.iter().for_each(|one| self.collect(root, one, depth + 1));
            }
        }
        match (schema.get("type"), schema.get("const")) {
            (Some(Value::Array(kinds)), _) => kinds.iter().for_each(|kind| self.kind(root, schema, kind, depth)),
            (Some(kind), _) => self.kind(root, schema, kind, depth),
            (None, Some(Value::String(_))) => self.text = true,
            (None, Some(Value::Null)) => {}
            _ => self.other = true,
        }
    }

    fn kind(&mut self, root: &Value, schema: &Value, kind: &Value, depth: usize) {
        match kind.as_str() {
            Some("null") => {}
            Some("string") => self.text = true,
            Some("array") => {
                let mut items = Kinds {
                    steps: self.steps,
                    ..Kinds::default()
                };
                match schema.get("items") {
                    Some(schema) => items.collect(root, schema, depth + 1),
                    None => items.other = true,
                }
                self.steps = items.steps;
                let text = items.text && !items.other && items.list.is_none();
                self.list = Some(if text { Form::Text } else { Form::Json });
            }
            _ => self.other = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::description::{MethodKind, Param};

    fn method(params: &[(&str, Value)]) -> Method {
        let params = params
            .iter()
            .map(|(name, schema)| Param {
                name: (*name).into(),
                schema: schema.clone(),
                required: true,
            })
            .collect();
        Method {
            name: "find".into(),
            doc: String::new(),
            kind: MethodKind::Read,
            params,
            result: Value::Null,
            error: None,
        }
    }

    #[track_caller]
    fn check(schema: Value, query: &str, expect: &str) {
        let got = from_query(&method(&[("v", schema)]), query, 100).map(|args| String::from_utf8(args).unwrap());
        assert_eq!(got, Ok(expect.to_owned()), "{query}");
    }

    #[track_caller]
    fn refuse(schema: Value, query: &str, expect: &str) {
        let failure = from_query(&method(&[("v", schema)]), query, 100).unwrap_err();
        assert_eq!(failure.code, Code::BadArguments);
        assert!(failure.detail.starts_with(expect), "{}", failure.detail);
    }

    #[test]
    fn a_string_takes_the_text_as_it_is() {
        let text = json!({"type": "string"});
        check(text.clone(), "v=hello", r#"["hello"]"#);
        check(text.clone(), "v=5", r#"["5"]"#);
        check(text.clone(), "v=%22q%22%20+x", r#"["\"q\"  x"]"#);
        check(text.clone(), "v=a%2Bb", r#"["a+b"]"#);
        check(text.clone(), "v=", r#"[""]"#);
        check(text.clone(), "v", r#"[""]"#);
        check(text.clone(), "v=%00", "[\"\\u0000\"]");
        check(text.clone(), "v=a=b", r#"["a=b"]"#);
        check(text, "&v=null&", r#"["null"]"#);
        for schema in [
            json!({"type": ["string", "null"]}),
            json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
            json!({"oneOf": [{"const": "a", "type": "string"}, {"const": "b"}]}),
            json!({"$ref": "#/$defs/Name", "$defs": {"Name": {"type": "string"}}}),
            json!({"anyOf": [{"$ref": "#/$defs/Name"}, {"type": "null"}], "$defs": {"Name": {"type": "string", "enum": ["5"]}}}),
        ] {
            check(schema, "v=5", r#"["5"]"#);
        }
    }

    #[test]
    fn alternatives_of_alternatives_are_followed_for_a_while_only() {
        let many = |to: &str| json!({ "anyOf": vec![json!({ "$ref": to }); 1_000] });
        let bomb = json!({ "$ref": "#/$defs/a", "$defs": {
            "a": many("#/$defs/b"), "b": many("#/$defs/c"), "c": many("#/$defs/d"), "d": { "type": "string" } } });
        check(bomb, "v=5", "[5]");
    }

    #[test]
    fn others_are_json() {
        check(json!({"type": "integer"}), "v=5", "[5]");
        check(
            json!({"type": "integer"}),
            "v=123456789012345678901234567890",
            "[123456789012345678901234567890]",
        );
        check(json!({"type": "boolean"}), "v=true", "[true]");
        check(json!({"type": ["integer", "null"]}), "v=null", "[null]");
        check(json!({"type": "object"}), "v=%7B%22a%22:%201%7D", r#"[{"a": 1}]"#);
        check(json!({"type": ["string", "integer"]}), "v=5", "[5]");
        check(json!(true), "v=%22x%22", r#"["x"]"#);
        refuse(
            json!({"type": "integer"}),
            "v=x",
            "`v` in the query is not JSON: expected value",
        );
        refuse(json!({"type": "integer"}), "v=", "`v` in the query is not JSON");
        refuse(json!({"type": "integer"}), "v=1,2", "`v` in the query is not JSON");
        refuse(json!({"$ref": "#"}), "v=x", "`v` in the query is not JSON");
    }

    #[test]
    fn lists_repeat_the_name() {
        let numbers = json!({"type": "array", "items": {"type": "integer"}});
        check(numbers.clone(), "v=1", "[[1]]");
        check(numbers.clone(), "v=1&v=2&v=3", "[[1,2,3]]");
        check(
            json!({"type": "array", "items": {"type": "string"}}),
            "v=1&v=b,c",
            r#"[["1","b,c"]]"#,
        );
        check(
            json!({"type": ["array", "null"], "items": {"type": "string"}}),
            "v=x",
            r#"[["x"]]"#,
        );
        check(json!({"type": "array"}), "v=1&v=%22x%22", r#"[[1,"x"]]"#);
        refuse(numbers, "v=1&v=x", "`v` in the query is not JSON");
    }

    #[test]
    fn depth_has_a_limit() {
        let deep = |levels: usize| format!("v={}{}", "[".repeat(levels), "]".repeat(levels));
        let any = json!(true);
        assert!(from_query(&method(&[("v", any.clone())]), &deep(99), 100).is_ok());
        refuse(any, &deep(100), "JSON is nested deeper");
        let lists = json!({"type": "array"});
        assert!(from_query(&method(&[("v", lists.clone())]), &deep(98), 100).is_ok());
        refuse(lists, &deep(99), "JSON is nested deeper");
    }

    #[test]
    fn names_are_checked() {
        refuse(json!({"type": "string"}), "", "missing: `v`. `find` takes `v`");
        refuse(
            json!({"type": "string"}),
            "x=1&y",
            "missing: `v`; unknown: `x`, `y`. `find` takes `v`",
        );
        refuse(
            json!({"type": "string"}),
            "v=1&v=2",
            "`v` is given twice and is not a list",
        );
        refuse(json!({"type": "string"}), "v=%ff", "the query is not UTF-8");
        refuse(json!({"type": "string"}), "v=100%", "the query has a `%` without");
        check(json!({"type": "string"}), "%76=1", r#"["1"]"#);
        let two = method(&[("b", json!({"type": "integer"})), ("a", json!({"type": "string"}))]);
        assert_eq!(from_query(&two, "a=x&b=1", 100), Ok(br#"[1,"x"]"#.to_vec()));
    }
}
