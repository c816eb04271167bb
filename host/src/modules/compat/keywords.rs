//! JSON Schema's keywords: what they are about, what they refer to, and schemas put together and taken apart by them.
//!
//! Nothing is compared here.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

/// References to references that are followed, at most.
const REFERENCE_LIMIT: usize = 64;

pub(super) const ALTERNATIVES: [&str; 2] = ["anyOf", "oneOf"];

/// Two schemas that both hold, as one; `None` when they speak of the same thing.
pub(super) fn merged<'s>(root: &'s Value, one: &Map<String, Value>, other: &'s Value) -> Option<Cow<'s, Value>> {
    if one.is_empty() {
        // As it stands: a reference that is followed later is recognised when it comes again.
        return Some(Cow::Borrowed(other));
    }
    let other = followed(root, other)?;
    let mut sum = one.clone();
    if is_any(other) {
        return Some(Cow::Owned(Value::Object(sum)));
    }
    for (keyword, value) in other.as_object()?.iter().filter(|(keyword, _)| !is_annotation(keyword)) {
        match sum.get_mut(keyword) {
            None => drop(sum.insert(keyword.clone(), value.clone())),
            Some(before) if before == value => {}
            Some(Value::Array(names)) if keyword == "required" => names.extend(value.as_array()?.iter().cloned()),
            Some(Value::Object(listed)) if keyword == "properties" => {
                for (name, schema) in value.as_object()? {
                    if listed
                        .insert(name.clone(), schema.clone())
                        .is_some_and(|before| before != *schema)
                    {
                        return None;
                    }
                }
            }
            Some(_) => return None,
        }
    }
    Some(Cow::Owned(Value::Object(sum)))
}

pub(super) fn all_merged(root: &Value, rest: Map<String, Value>, parts: &[Value]) -> Option<Value> {
    parts.iter().try_fold(Value::Object(rest), |sum, part| {
        merged(root, sum.as_object()?, part).map(Cow::into_owned)
    })
}

/// What says nothing about which values there are.
pub(super) fn is_annotation(keyword: &str) -> bool {
    matches!(
        keyword,
        "title"
            | "description"
            | "default"
            | "examples"
            | "deprecated"
            | "readOnly"
            | "writeOnly"
            | "$comment"
            | "$schema"
            | "$defs"
            | "definitions"
    )
}

/// Keywords that have rules of their own here.
pub(super) fn is_known(keyword: &str) -> bool {
    is_annotation(keyword)
        || matches!(
            keyword,
            "type"
                | "format"
                | "minimum"
                | "maximum"
                | "exclusiveMinimum"
                | "exclusiveMaximum"
                | "minLength"
                | "maxLength"
                | "minItems"
                | "maxItems"
                | "items"
                | "prefixItems"
                | "properties"
                | "required"
                | "additionalProperties"
        )
}

/// The types that a keyword without a rule speaks of; `None`: all.
pub(super) fn belongs_to(keyword: &str) -> Option<&'static [&'static str]> {
    Some(match keyword {
        "multipleOf" => &["integer", "number"],
        "pattern" | "contentEncoding" | "contentMediaType" | "contentSchema" => &["string"],
        "uniqueItems" | "contains" | "minContains" | "maxContains" | "unevaluatedItems" => &["array"],
        "patternProperties" | "propertyNames" | "minProperties" | "maxProperties" | "unevaluatedProperties" => {
            &["object"]
        }
        _ => return None,
    })
}

/// A schema that allows everything. An absent one is null in a description.
pub(super) fn is_any(schema: &Value) -> bool {
    match schema {
        Value::Bool(true) | Value::Null => true,
        Value::Object(keywords) => keywords.keys().all(|keyword| is_annotation(keyword)),
        _ => false,
    }
}

pub(super) fn has_type(schema: &Value, kind: Option<&str>) -> bool {
    let allows = |name: &Value| match (name.as_str(), kind) {
        (Some("number"), Some("integer")) => true,
        (name, kind) => name == kind,
    };
    match schema.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(allows),
        Some(name) => allows(name),
    }
}

/// A reference that stands alone, texts aside.
pub(super) fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref").and_then(Value::as_str)
}

/// The schema itself, or what it refers to within its document.
pub(super) fn followed<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s Value> {
    let mut schema = schema;
    for _ in 0..REFERENCE_LIMIT {
        let Some(to) = reference(schema) else {
            return Some(schema);
        };
        let alone = schema.as_object().is_some_and(|keywords| {
            keywords
                .keys()
                .all(|keyword| keyword == "$ref" || is_annotation(keyword))
        });
        schema = to
            .strip_prefix('#')
            .filter(|_| alone)
            .and_then(|pointer| root.pointer(pointer))?;
    }
    None
}

pub(super) fn without(schema: &Map<String, Value>, keyword: &str) -> Map<String, Value> {
    let rest = schema
        .iter()
        .filter(|(name, _)| *name != keyword && !is_annotation(name));
    rest.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The schema of one value, as far as types, bounds and properties go.
pub(super) fn as_type(value: &Value) -> Value {
    match value {
        Value::Null => json!({ "type": "null" }),
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(number) if number.is_f64() => json!({ "type": "number", "minimum": value, "maximum": value }),
        Value::Number(_) => json!({ "type": "integer", "minimum": value, "maximum": value }),
        Value::String(text) => {
            let length = text.chars().count();
            json!({ "type": "string", "minLength": length, "maxLength": length })
        }
        Value::Array(items) => {
            let each: Vec<Value> = items.iter().map(|item| json!({ "const": item })).collect();
            json!({ "type": "array", "prefixItems": each, "minItems": each.len(), "maxItems": each.len() })
        }
        Value::Object(fields) => {
            let names: Vec<&String> = fields.keys().collect();
            let each: Map<String, Value> = fields
                .iter()
                .map(|(name, value)| (name.clone(), json!({ "const": value })))
                .collect();
            json!({ "type": "object", "properties": each, "required": names, "additionalProperties": false })
        }
    }
}

/// What a schema says of numbers, for people.
pub(super) fn numeric(schema: &Value) -> Value {
    let keywords = ["format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
    let said = keywords
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), schema.get(*name)?.clone())));
    Value::Object(said.collect())
}
