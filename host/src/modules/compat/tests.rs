//! Revisions in pairs, and what callers of the first lose with the second.

use serde_json::{Value, json};

use super::differences;
use crate::description::Contract;

fn contract(durability: &str, methods: Value) -> Contract {
    let document = json!({ "name": "thing", "durability": durability, "methods": methods });
    // Comparing has bounds of its own.
    Contract::of(serde_json::from_value(document).unwrap()).unwrap()
}

#[track_caller]
fn check(old: Value, new: Value, expect: &[&str]) {
    let found = differences(&contract("committed", old), &contract("committed", new));
    assert_eq!(found, expect);
}

fn taking(params: Value) -> Value {
    json!([{ "name": "do", "kind": "write", "params": params, "result": { "type": "null" } }])
}

fn param(name: &str) -> Value {
    json!({ "name": name, "schema": { "type": "integer" } })
}

fn optional(name: &str) -> Value {
    json!({ "name": name, "schema": { "type": ["integer", "null"] }, "required": false })
}

/// What becomes of an argument's schema, as far as callers lose something.
fn argument(old: &Value, new: &Value) -> Vec<String> {
    let of = |schema: &Value| taking(json!([{ "name": "a", "schema": schema }]));
    let found = differences(&contract("committed", of(old)), &contract("committed", of(new)));
    let stripped = found
        .iter()
        .map(|text| text.strip_prefix("`do`: parameter `a`: ").unwrap_or(text).to_owned());
    stripped.collect()
}

fn result(old: &Value, new: &Value) -> Vec<String> {
    let of = |schema: &Value| json!([{ "name": "do", "kind": "read", "result": schema }]);
    let found = differences(&contract("committed", of(old)), &contract("committed", of(new)));
    let stripped = found
        .iter()
        .map(|text| text.strip_prefix("`do`: the result: ").unwrap_or(text).to_owned());
    stripped.collect()
}

/// `narrow` has fewer values than `wide`: an argument may go from narrow to wide, a result from wide to narrow.
#[track_caller]
fn narrower(narrow: Value, wide: Value) {
    assert_eq!(argument(&narrow, &wide), [""; 0], "argument {narrow} to {wide}");
    assert_eq!(result(&wide, &narrow), [""; 0], "result {wide} to {narrow}");
    assert_ne!(argument(&wide, &narrow), [""; 0], "argument {wide} to {narrow}");
    assert_ne!(result(&narrow, &wide), [""; 0], "result {narrow} to {wide}");
}

/// Neither may become the other.
#[track_caller]
fn apart(one: Value, other: Value) {
    for (one, other) in [(&one, &other), (&other, &one)] {
        assert_ne!(argument(one, other), [""; 0], "argument {one} to {other}");
        assert_ne!(result(one, other), [""; 0], "result {one} to {other}");
    }
}

/// Callers see no difference.
#[track_caller]
fn alike(one: Value, other: Value) {
    for (one, other) in [(&one, &other), (&other, &one)] {
        assert_eq!(argument(one, other), [""; 0], "argument {one} to {other}");
        assert_eq!(result(one, other), [""; 0], "result {one} to {other}");
    }
}

#[test]
fn methods_are_gone_or_change_their_kind() {
    let method = |name: &str, kind: &str| json!({ "name": name, "kind": kind, "doc": "Old." });
    check(
        json!([method("a", "read")]),
        json!([method("b", "read")]),
        &["`a` is gone"],
    );
    check(
        json!([method("a", "read"), method("b", "write")]),
        json!([method("a", "write"), method("b", "read")]),
        &[
            "`a` was a `read` method and is a `write` one: GET no longer calls it",
            "`b` was a `write` method and is a `read` one: it commits nothing any more",
        ],
    );
    let new = json!([method("c", "read"), { "name": "a", "kind": "read", "doc": "New." }]);
    check(json!([method("a", "read")]), new, &[]);
}

#[test]
fn durability_is_never_weakened() {
    let of = |word: &str| contract(word, json!([]));
    for (old, new, weaker) in [
        ("committed", "committed", false),
        ("committed", "relaxed", true),
        ("committed", "volatile", true),
        ("relaxed", "volatile", true),
        ("volatile", "relaxed", false),
        ("relaxed", "committed", false),
    ] {
        let found = differences(&of(old), &of(new));
        let expect = weaker.then(|| format!("replies were `{old}` and are only `{new}`"));
        assert_eq!(found, Vec::from_iter(expect), "{old} to {new}");
    }
}

#[test]
fn parameters_keep_name_and_place() {
    let to = |old: &[&Value], new: &[&Value], expect: &[&str]| check(taking(json!(old)), taking(json!(new)), expect);
    let (a, b) = (param("a"), param("b"));
    to(&[&a], &[&a, &optional("b")], &[]);
    to(&[&a], &[&optional("a")], &[]);
    to(&[&a], &[&a, &b], &["`do`: parameter `b` is new and required"]);
    to(&[&a, &b], &[&a], &["`do`: parameter `b` is gone"]);
    to(&[&a], &[&b], &["`do`: parameter `a` is called `b` now"]);
    to(
        &[&optional("a")],
        &[&json!({ "name": "a", "schema": { "type": ["integer", "null"] } })],
        &["`do`: parameter `a` was optional and is required"],
    );
    to(
        &[&a, &b],
        &[&b, &a],
        &[
            "`do`: parameter `a` was number 1 and is number 2: arguments by position change their meaning",
            "`do`: parameter `b` was number 2 and is number 1: arguments by position change their meaning",
        ],
    );
    to(
        &[&a],
        &[&optional("b"), &a],
        &["`do`: parameter `a` was number 1 and is number 2: arguments by position change their meaning"],
    );
}

#[test]
fn a_difference_names_its_place() {
    let list = |kind: &str| json!({ "type": "object", "properties": { "a/b": { "type": "array", "items": { "type": kind } } } });
    assert_eq!(
        argument(&list("string"), &list("integer")),
        [r#"`type` was `"string"` and is `"integer"`, at `/properties/a~1b/items` of its schema"#]
    );
    assert_eq!(
        result(&list("string"), &list("integer")),
        [r#"`type` was `"string"` and is `"integer"`, at `/properties/a~1b/items` of its schema"#]
    );
    assert_eq!(
        argument(
            &json!({ "type": "integer", "maximum": 9 }),
            &json!({ "type": "integer", "maximum": 5 })
        ),
        [r#"the range was `{"maximum":9}` and is `{"maximum":5}`"#]
    );
}

#[test]
fn texts_are_no_difference() {
    alike(
        json!({ "type": "object", "title": "A", "properties": { "a": { "type": "string", "description": "x", "default": "" } } }),
        json!({ "type": "object", "description": "B", "properties": { "a": { "type": "string" } } }),
    );
    alike(json!({ "title": "any" }), json!(true));
    alike(json!(null), json!({}));
}

#[test]
fn types_and_ranges() {
    let integer = |format: &str| json!({ "type": "integer", "format": format });
    narrower(json!({ "type": "integer" }), json!({ "type": "number" }));
    narrower(integer("int32"), integer("int64"));
    narrower(integer("uint32"), integer("int64"));
    narrower(
        json!({ "type": "integer", "format": "uint8", "minimum": 0, "maximum": 255 }),
        integer("uint16"),
    );
    narrower(integer("int64"), json!({ "type": "number", "format": "double" }));
    narrower(
        json!({ "type": "number", "format": "float" }),
        json!({ "type": "number", "format": "double" }),
    );
    narrower(
        json!({ "type": "number", "minimum": 0.5 }),
        json!({ "type": "number", "minimum": 0 }),
    );
    narrower(
        json!({ "type": "integer", "exclusiveMinimum": 0 }),
        json!({ "type": "integer", "minimum": 0 }),
    );
    alike(
        json!({ "type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10 }),
        json!({ "type": "integer", "minimum": 1, "maximum": 9 }),
    );
    narrower(
        json!({ "type": "integer", "multipleOf": 2 }),
        json!({ "type": "integer" }),
    );
    narrower(json!({ "type": "string" }), json!({ "type": ["string", "null"] }));
    narrower(
        json!({ "type": "string", "format": "uuid" }),
        json!({ "type": "string" }),
    );
    narrower(
        json!({ "type": "string", "pattern": "^a" }),
        json!({ "type": "string" }),
    );
    narrower(
        json!({ "type": "string", "minLength": 1, "maxLength": 5 }),
        json!({ "type": "string", "maxLength": 9 }),
    );
    narrower(json!({ "type": "string" }), json!(true));
    apart(integer("int64"), integer("uint64"));
    apart(json!({ "type": "string" }), json!({ "type": "integer" }));
    apart(
        json!({ "type": "string", "pattern": "^a" }),
        json!({ "type": "string", "pattern": "^b" }),
    );
    apart(json!({ "type": "null" }), json!({ "type": "boolean" }));
}

#[test]
fn values_and_alternatives() {
    narrower(
        json!({ "type": "string", "enum": ["a", "b"] }),
        json!({ "type": "string", "enum": ["a", "b", "c"] }),
    );
    narrower(json!({ "const": "a" }), json!({ "enum": ["a", "b"] }));
    narrower(
        json!({ "enum": ["a", 1, null] }),
        json!({ "type": ["string", "integer", "null"] }),
    );
    narrower(
        json!({ "const": [1, "x"] }),
        json!({ "type": "array", "items": { "type": ["integer", "string"] } }),
    );
    narrower(
        json!({ "const": { "a": 1 } }),
        json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] }),
    );
    narrower(
        json!({ "type": "string" }),
        json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
    );
    narrower(
        json!({ "oneOf": [{ "const": "A", "type": "string" }] }),
        json!({ "oneOf": [{ "const": "A", "type": "string" }, { "const": "B", "type": "string" }] }),
    );
    alike(
        json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
        json!({ "type": ["null", "string"] }),
    );
    apart(json!({ "enum": ["a"] }), json!({ "enum": ["b"] }));
    let variant = |name: &str, of: &str| json!({ "type": "object", "properties": { name: { "type": of } }, "required": [name], "additionalProperties": false });
    narrower(
        json!({ "oneOf": [variant("A", "integer")] }),
        json!({ "oneOf": [variant("A", "integer"), variant("B", "string")] }),
    );
    narrower(
        json!({ "oneOf": [variant("A", "integer")] }),
        json!({ "oneOf": [variant("A", "number")] }),
    );
    let tagged = |name: &str| json!({ "properties": { "kind": { "const": name } }, "required": ["kind"] });
    let with_id = |parts: Vec<Value>| json!({ "type": "object", "properties": { "id": { "type": "string" } }, "required": ["id"], "oneOf": parts });
    narrower(with_id(vec![tagged("a")]), with_id(vec![tagged("a"), tagged("b")]));
    narrower(
        json!({ "allOf": [{ "type": "string" }, { "minLength": 2 }] }),
        json!({ "allOf": [{ "type": "string" }, { "minLength": 1 }] }),
    );
}

#[test]
fn lists_and_tuples() {
    let list = |of: &str| json!({ "type": "array", "items": { "type": of } });
    narrower(list("integer"), list("number"));
    narrower(list("integer"), json!({ "type": "array" }));
    narrower(
        json!({ "type": "array", "maxItems": 3 }),
        json!({ "type": "array", "maxItems": 4 }),
    );
    narrower(
        json!({ "type": "array", "uniqueItems": true }),
        json!({ "type": "array" }),
    );
    let tuple = |of: [&str; 2]| json!({ "type": "array", "prefixItems": of.map(|of| json!({ "type": of })), "minItems": 2, "maxItems": 2 });
    narrower(tuple(["string", "integer"]), tuple(["string", "number"]));
    narrower(tuple(["integer", "integer"]), list("integer"));
    apart(tuple(["string", "integer"]), tuple(["integer", "string"]));
}

#[test]
fn structs_gain_what_is_optional_and_lose_nothing() {
    let object = |properties: Value, required: Value| json!({ "type": "object", "properties": properties, "required": required });
    let number = || json!({ "type": "integer" });
    let small = object(json!({ "a": number() }), json!(["a"]));
    let more = object(json!({ "a": number(), "b": number() }), json!(["a"]));
    let all = object(json!({ "a": number(), "b": number() }), json!(["a", "b"]));
    assert_eq!(argument(&small, &more), [""; 0], "an optional property came");
    assert_eq!(argument(&small, &all), ["property `b` is required now"]);
    assert_eq!(argument(&more, &all), ["property `b` is required now"]);
    assert_eq!(
        argument(&more, &small),
        ["property `b` is gone, at `/properties/b` of its schema"]
    );
    assert_eq!(result(&small, &all), [""; 0], "results may gain");
    assert_eq!(result(&all, &more), ["property `b` may be missing now"]);
    assert_eq!(result(&all, &small), ["property `b` is gone"]);
    let mut closed = small.clone();
    closed["additionalProperties"] = json!(false);
    let mut closed_more = more.clone();
    closed_more["additionalProperties"] = json!(false);
    assert_eq!(
        result(&closed, &closed_more),
        ["property `b` is new, and no others were to come, at `/properties/b` of its schema"]
    );
    assert_eq!(argument(&closed, &closed_more), [""; 0]);
}

#[test]
fn maps_have_values_of_one_type() {
    let map = |of: &str| json!({ "type": "object", "additionalProperties": { "type": of } });
    narrower(map("integer"), map("number"));
    apart(map("integer"), map("string"));
    narrower(map("integer"), json!({ "type": "object" }));
    let object = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    assert_ne!(argument(&map("integer"), &object), [""; 0]);
    assert_ne!(result(&object, &map("integer")), [""; 0]);
}

#[test]
fn references_are_followed_and_circles_end() {
    let tree = |of: &str| {
        json!({
            "$ref": "#/$defs/Tree",
            "$defs": { "Tree": {
                "type": "object",
                "properties": {
                    "value": { "type": of },
                    "children": { "type": "array", "items": { "$ref": "#/$defs/Tree" } },
                },
                "required": ["value", "children"],
            } },
        })
    };
    alike(tree("integer"), {
        let mut other = tree("integer");
        other["title"] = json!("Tree");
        other
    });
    narrower(tree("integer"), tree("number"));
    let list = |of: &str| json!({ "type": "object", "properties": { "value": { "type": of }, "next": { "anyOf": [{ "$ref": "#" }, { "type": "null" }] } } });
    narrower(list("integer"), list("number"));
    apart(list("integer"), list("string"));
    let elsewhere = |to: &str| json!({ "type": "array", "items": { "$ref": to } });
    assert_eq!(
        argument(&elsewhere("https://example.com/a"), &elsewhere("https://example.com/b")),
        ["a reference can't be followed, at `/items` of its schema"]
    );
    let circle =
        json!({ "$ref": "#/$defs/A", "$defs": { "A": { "$ref": "#/$defs/B" }, "B": { "$ref": "#/$defs/A" } } });
    assert_ne!(argument(&circle, &json!({ "type": "string" })), [""; 0]);
}

#[test]
fn what_is_not_understood_has_to_stay() {
    let odd = |with: u32| json!({ "type": "string", "unheardOf": with });
    alike(odd(1), odd(1));
    apart(odd(1), odd(2));
    narrower(odd(1), json!({ "type": "string" }));
    apart(
        json!({ "not": { "type": "string" } }),
        json!({ "not": { "type": "integer" } }),
    );
}

#[test]
fn comparing_ends_however_large_the_schemas_are() {
    let mut deep = json!({ "type": "integer" });
    let mut deeper = json!({ "type": "number" });
    for _ in 0..100 {
        deep = json!({ "type": "array", "items": deep });
        deeper = json!({ "type": "array", "items": deeper });
    }
    let found = super::schema::compare(&deep, &deeper, super::schema::Side::Argument);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].what, "the schema is too deep or too large to be compared");
    let mut branching = json!({ "type": "string" });
    for level in 0..12 {
        branching = json!({ "anyOf": [{ "type": "array", "items": branching, "maxItems": level }, { "type": "array", "items": branching }] });
    }
    let other = json!({ "anyOf": [branching, { "type": "null" }] });
    super::schema::compare(&branching, &other, super::schema::Side::Argument);
    let many: Vec<Value> = (0..150)
        .map(|n| json!({ "name": format!("m{n}"), "kind": "read" }))
        .collect();
    let found = differences(&contract("committed", json!(many)), &contract("committed", json!([])));
    assert_eq!((found.len(), found[100].as_str()), (101, "and 50 more"));
}
