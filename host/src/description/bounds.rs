//! What a description may be, so that whoever follows its schemas comes to an end.
//!
//! A guest writes its own description: without bounds it could name a million methods, nest schemas until a reader's stack is gone,
//! or send readers to other machines and round in circles. **Not here:** the document's bytes, which the engine bounds, and the
//! depth of its JSON, which the parser bounds.

use std::collections::{HashMap, HashSet};
use std::ptr;

use serde_json::Value;

use super::{Description, Method};

/// The most methods of a type. Stops a table that every call looks into from filling the host's memory.
const METHODS: usize = 1_000;
/// The most parameters of a method.
const PARAMS: usize = 64;
/// The longest name of a method or parameter, in bytes: names stand in paths, logs and metrics.
const NAME_BYTES: usize = 128;
/// How deep a schema may nest. Stops readers that recurse from running out of stack.
const SCHEMA_DEPTH: usize = 64;
/// The longest chain of references and alternatives that speak of the same value. Stops references that go round in circles.
const REF_CHAIN: usize = 64;

/// Refuses what is out of bounds; the text names the method and what would have been right.
pub(super) fn check(description: &Description) -> Result<(), String> {
    let methods = description.methods.len();
    if methods > METHODS {
        return Err(format!("`describe` names {methods} methods: {METHODS} are the most"));
    }
    description.methods.iter().try_for_each(check_method)
}

fn check_method(method: &Method) -> Result<(), String> {
    let name = &method.name;
    check_name("method", name)?;
    let within = |what: &str| format!("method `{name}`, {what}");
    if method.params.len() > PARAMS {
        let found = method.params.len();
        return Err(within(&format!("{found} parameters: {PARAMS} are the most")));
    }
    for param in &method.params {
        check_name("parameter", &param.name).map_err(|why| within(&why))?;
        check_schema(&param.schema).map_err(|why| within(&format!("schema of `{}`: {why}", param.name)))?;
    }
    check_schema(&method.result).map_err(|why| within(&format!("schema of the result: {why}")))?;
    let error = method.error.as_ref().map_or(Ok(()), check_schema);
    error.map_err(|why| within(&format!("schema of the error: {why}")))
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME_BYTES || !name.chars().all(good) {
        let shown: String = name.chars().take(40).collect();
        return Err(format!(
            "the {what} name {shown:?} is none: 1 to {NAME_BYTES} bytes of letters, digits, `_`, `-` and `.`"
        ));
    }
    Ok(())
}

/// Where JSON Schema has schemas: one, a list of them, or one for each name. Elsewhere is data, whatever it looks like.
const ONE: [&str; 12] = [
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "additionalItems",
];
const LIST: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];
const NAMED: [&str; 5] = [
    "$defs",
    "definitions",
    "dependentSchemas",
    "patternProperties",
    "properties",
];
/// Those whose schemas speak of the same value as the one around them.
const SAME_VALUE: [&str; 8] = [
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
];

fn check_schema(root: &Value) -> Result<(), String> {
    if depth(root) > SCHEMA_DEPTH {
        return Err(format!("it nests deeper than {SCHEMA_DEPTH}"));
    }
    // A reference may lead to what isn't in a schema's place: that is one by being referred to.
    let (mut seen, mut found) = (HashSet::from([ptr::from_ref(root)]), vec![root]);
    let mut heights = HashMap::new();
    while let Some(schema) = found.pop() {
        height(root, schema, &mut heights, 0)?;
        let mut next = Vec::new();
        subschemas(schema, |_, part| next.push(part));
        next.extend(referred(root, schema)?);
        found.extend(next.into_iter().filter(|part| seen.insert(ptr::from_ref(*part))));
    }
    Ok(())
}

/// Levels below this value. Its reader stopped at 128.
fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    below.map_or(0, |levels| levels + 1)
}

/// Calls `each` with every schema that is part of this one, and the keyword that it stands under.
fn subschemas<'a>(schema: &'a Value, mut each: impl FnMut(&'a str, &'a Value)) {
    let Value::Object(fields) = schema else { return };
    for (word, value) in fields {
        match value {
            Value::Array(items) if LIST.contains(&word.as_str()) => items.iter().for_each(|item| each(word, item)),
            Value::Object(named) if NAMED.contains(&word.as_str()) => named.values().for_each(|one| each(word, one)),
            Value::Object(_) if ONE.contains(&word.as_str()) => each(word, value),
            _ => {}
        }
    }
}

/// What the schema's reference leads to, in the same document.
fn referred<'a>(root: &'a Value, schema: &Value) -> Result<Option<&'a Value>, String> {
    for word in ["$dynamicRef", "$recursiveRef"] {
        if schema.get(word).is_some() {
            return Err(format!("`{word}`: references are `$ref`"));
        }
    }
    let Some(place) = schema.get("$ref") else {
        return Ok(None);
    };
    let local = place
        .as_str()
        .and_then(|place| place.strip_prefix('#'))
        .filter(|pointer| pointer.is_empty() || pointer.starts_with('/'))
        .ok_or_else(|| format!("`$ref` to {place}: only places in the same schema are allowed, as `#/...`"))?;
    let target = decoded(local).and_then(|pointer| root.pointer(&pointer));
    match target {
        Some(target @ (Value::Object(_) | Value::Bool(_))) => Ok(Some(target)),
        _ => Err(format!("`$ref` to {place}, where the schema has none")),
    }
}

/// A fragment without its percent signs.
fn decoded(fragment: &str) -> Option<String> {
    let mut parts = fragment.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// How many steps, by references and alternatives, a reader takes from this schema without going on to a part of the value. A value
/// has an end; a circle of such steps has none.
fn height(
    root: &Value,
    schema: &Value,
    heights: &mut HashMap<*const Value, usize>,
    path: usize,
) -> Result<usize, String> {
    if let Some(known) = heights.get(&ptr::from_ref(schema)) {
        return Ok(*known);
    }
    let circles = || {
        Err(format!(
            "its `$ref`s go round in circles, or on for more than {REF_CHAIN} steps"
        ))
    };
    if path > REF_CHAIN {
        return circles();
    }
    let mut next: Vec<&Value> = Vec::new();
    subschemas(schema, |word, part| {
        if SAME_VALUE.contains(&word) {
            next.push(part);
        }
    });
    next.extend(referred(root, schema)?);
    let mut highest = 0;
    for part in next {
        highest = highest.max(height(root, part, heights, path + 1)? + 1);
    }
    if highest > REF_CHAIN {
        return circles();
    }
    heights.insert(ptr::from_ref(schema), highest);
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Contract;

    fn read(methods: Value) -> Result<(), String> {
        let document = json!({ "name": "t", "durability": "committed", "methods": methods });
        Contract::read(document.to_string().as_bytes()).map(|_| ())
    }

    fn result(schema: Value) -> Result<(), String> {
        read(json!([{ "name": "get", "kind": "read", "result": schema }]))
    }

    #[track_caller]
    fn refused(outcome: Result<(), String>, words: &str) {
        let why = outcome.expect_err("out of bounds");
        assert!(why.contains(words), "{why}");
    }

    #[test]
    fn a_reference_stays_within_its_schema() {
        refused(
            result(json!({ "$ref": "https://example.org/s" })),
            "method `get`, schema of the result",
        );
        refused(result(json!({ "$ref": "#/$defs/missing" })), "has none");
        refused(result(json!({ "items": { "$ref": 5 } })), "only places");
        refused(result(json!({ "items": { "$dynamicRef": "#x" } })), "are `$ref`");
        let circle =
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } });
        refused(result(circle), "circles");
        let tree = json!({ "type": "object", "properties": { "left": { "$ref": "#" }, "$ref": { "type": "null" } } });
        assert_eq!(result(tree), Ok(()), "a shape that contains itself is one");
        let encoded = json!({ "$ref": "#/$defs/a%20b~1%C3%BC", "$defs": { "a b/ü": {} } });
        assert_eq!(result(encoded), Ok(()));
        for bad in ["#/%", "#/%2", "#/%+1", "#/%zz", "#/%ff", "#/$defs/%ü"] {
            refused(result(json!({ "$ref": bad })), "has none");
        }
    }

    #[test]
    fn circles_that_consume_nothing_are_none() {
        for word in ["allOf", "anyOf", "oneOf"] {
            refused(
                result(json!({ word: [{ "type": "null" }, { "$ref": "#" }] })),
                "circles",
            );
        }
        for word in ["not", "if", "then", "else"] {
            refused(result(json!({ word: { "$ref": "#" } })), "circles");
        }
        refused(
            result(json!({ "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/a" }] } } })),
            "circles",
        );
        let list = json!({ "anyOf": [{ "type": "null" }, { "properties": { "next": { "$ref": "#" } } }] });
        assert_eq!(result(list), Ok(()), "each step goes on to a part");
        let chain = |steps: usize| {
            let mut places: serde_json::Map<_, _> = (0..steps)
                .map(|n| (n.to_string(), json!({ "$ref": format!("#/$defs/{}", n + 1) })))
                .collect();
            places.insert(steps.to_string(), json!({}));
            result(json!({ "$defs": places }))
        };
        assert_eq!(chain(64), Ok(()));
        refused(chain(65), "circles");
        refused(chain(10_000), "circles");
    }

    #[test]
    fn data_that_looks_like_a_reference_is_data() {
        let remote = json!({ "$ref": "https://example.org/s" });
        for word in ["const", "default", "x-note"] {
            assert_eq!(result(json!({ word: remote })), Ok(()), "{word}");
        }
        for word in ["enum", "examples"] {
            assert_eq!(result(json!({ word: [remote] })), Ok(()), "{word}");
        }
        // Unless a reference makes it a schema.
        refused(
            result(json!({ "const": remote, "items": { "$ref": "#/const" } })),
            "only places",
        );
    }

    #[test]
    fn a_schema_is_bounded_in_depth() {
        let nested = |depth| (0..depth).fold(json!({}), |inner, _| json!({ "items": inner }));
        assert_eq!(result(nested(64)), Ok(()));
        refused(result(nested(65)), "deeper than 64");
    }

    #[test]
    fn methods_and_parameters_are_bounded_in_number_and_name() {
        let methods = |count: usize| {
            (0..count)
                .map(|n| json!({ "name": format!("m{n}"), "kind": "read" }))
                .collect()
        };
        assert_eq!(read(methods(1_000)), Ok(()));
        refused(read(methods(1_001)), "1000 are the most");
        let params = |count: usize| {
            let params: Vec<_> = (0..count).map(|n| json!({ "name": format!("p{n}") })).collect();
            read(json!([{ "name": "set", "kind": "write", "params": params }]))
        };
        assert_eq!(params(64), Ok(()));
        refused(params(65), "method `set`, 65 parameters");
        refused(read(json!([{ "name": "a/b", "kind": "read" }])), "letters, digits");
        refused(read(json!([{ "name": "", "kind": "read" }])), "letters, digits");
    }
}
