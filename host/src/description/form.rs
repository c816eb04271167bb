//! The form of a description that comes with a deploy: which fields there are, and what may be in each.
//!
//! Reading passes over fields that it doesn't know, so that what was deployed once can always be read. A deploy has somebody who can mend
//! what is wrong: a misspelt field would silently be the default, and a name that is none could never be called.

use std::collections::BTreeSet;

use granary_core::id::GrainType;
use serde_json::{Map, Value};

/// What may be in a field.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Version,
    Flag,
    List,
    Schema,
    /// A schema, or null for none.
    Error,
}

/// A field: its name, its form, and whether it has to be there.
type Field = (&'static str, Form, bool);

const TYPE: [Field; 6] = [
    ("name", Form::Text, true),
    ("doc", Form::Text, false),
    ("durability", Form::Text, true),
    ("placement", Form::Text, false),
    ("version", Form::Version, false),
    ("methods", Form::List, true),
];
const METHOD: [Field; 6] = [
    ("name", Form::Text, true),
    ("doc", Form::Text, false),
    ("kind", Form::Text, true),
    ("params", Form::List, false),
    ("result", Form::Schema, false),
    ("error", Form::Error, false),
];
const PARAM: [Field; 3] = [
    ("name", Form::Text, true),
    ("schema", Form::Schema, false),
    ("required", Form::Flag, false),
];

/// The longest part of a guest's text that an error repeats, in characters.
const SHOWN: usize = 60;

/// Refuses what isn't of the form; the text says where, and what would have been right.
pub(super) fn check(document: &Value) -> Result<(), String> {
    let fields = object(document, "`describe`", &TYPE)?;
    let name = text(fields, "name");
    GrainType::new(name).map_err(|_| {
        format!(
            "`describe`, field `name`: {} is no grain type: it starts with a letter a-z, followed by at most 62 of a-z, 0-9 and `-`",
            shown(&fields["name"])
        )
    })?;
    for (place, method) in named(fields, "methods", "method", "")? {
        let fields = object(method, &place, &METHOD)?;
        if !matches!(text(fields, "kind"), "read" | "write") {
            let kind = shown(&fields["kind"]);
            return Err(format!(
                "{place}, field `kind`: {kind} is neither \"read\" nor \"write\""
            ));
        }
        for (place, param) in named(fields, "params", "parameter", &place)? {
            object(param, &place, &PARAM)?;
        }
    }
    Ok(())
}

/// An object with these fields and no others.
fn object<'a>(value: &'a Value, place: &str, known: &[Field]) -> Result<&'a Map<String, Value>, String> {
    let Value::Object(fields) = value else {
        return Err(format!("{place} is {}: it is an object", shown(value)));
    };
    let list = || {
        let names: Vec<String> = known.iter().map(|(name, ..)| format!("`{name}`")).collect();
        names.join(", ")
    };
    if let Some(unknown) = fields.keys().find(|name| !known.iter().any(|field| field.0 == *name)) {
        let name = shown(&Value::String(unknown.clone()));
        return Err(format!(
            "{place} has a field {name}, which is none: the fields are {}",
            list()
        ));
    }
    for (name, form, is_required) in known {
        match fields.get(*name) {
            Some(value) if !form.fits(value) => {
                return Err(format!(
                    "{place}, field `{name}`: {} is not {}",
                    shown(value),
                    form.words()
                ));
            }
            None if *is_required => return Err(format!("{place} lacks the field `{name}`: it is {}", form.words())),
            _ => {}
        }
    }
    Ok(fields)
}

/// The things in a list of named ones, each with where it is; no name may be there twice.
fn named<'a>(
    fields: &'a Map<String, Value>,
    list: &str,
    what: &str,
    within: &str,
) -> Result<Vec<(String, &'a Value)>, String> {
    let within = if within.is_empty() {
        String::new()
    } else {
        format!("{within}, ")
    };
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    let items = fields
        .get(list)
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    for (at, item) in items.iter().enumerate() {
        let place = match item.get("name") {
            Some(name @ Value::String(text)) => {
                let place = format!("{within}{what} {}", shown(name).replace('"', "`"));
                if !names.insert(text) {
                    return Err(format!("{place} is there twice: names differ"));
                }
                place
            }
            _ => format!("{within}{what} number {}", at + 1),
        };
        found.push((place, item));
    }
    Ok(found)
}

/// A field that is known to be a text.
fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields[name].as_str().unwrap_or_default()
}

impl Form {
    fn fits(self, value: &Value) -> bool {
        match self {
            Form::Text => value.is_string(),
            Form::Version => value.as_u64().is_some_and(|version| version <= u64::from(u32::MAX)),
            Form::Flag => value.is_boolean(),
            Form::List => value.is_array(),
            Form::Schema => value.is_object() || value.is_boolean(),
            Form::Error => value.is_object() || value.is_boolean() || value.is_null(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Form::Text => "a text",
            Form::Version => "a number from 0 to 4294967295",
            Form::Flag => "`true` or `false`",
            Form::List => "a list",
            Form::Schema => {
                "a JSON Schema, which is an object, `true` or `false` (of a method that returns nothing `{\"type\": \"null\"}`)"
            }
            Form::Error => "a JSON Schema, which is an object, `true` or `false`, or null for none",
        }
    }
}

/// A value as JSON, short.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    let start: String = text.chars().take(SHOWN).collect();
    format!("{start}...")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Contract;

    fn deployed(document: &Value) -> Result<(), String> {
        Contract::read_new(document.to_string().as_bytes()).map(drop)
    }

    fn whole() -> Value {
        json!({
            "name": "bank", "doc": "", "durability": "committed", "placement": "primary", "version": 1,
            "methods": [{
                "name": "withdraw", "doc": "", "kind": "write",
                "params": [{ "name": "amount", "schema": { "type": "integer" }, "required": true }],
                "result": { "type": "null" },
                "error": null,
            }],
        })
    }

    /// The whole description with one value replaced.
    fn with(pointer: &str, value: Value) -> Value {
        let mut document = whole();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().insert(field.to_owned(), value);
        document
    }

    fn without(pointer: &str) -> Value {
        let mut document = whole();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        document
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(field);
        document
    }

    #[track_caller]
    fn refused(document: &Value, words: &str) {
        let why = deployed(document).expect_err("not of the form");
        assert!(why.contains(words), "{why}");
        assert!(why.len() < 600, "{why}");
    }

    #[test]
    fn what_the_documentation_shows_is_of_the_form() {
        assert_eq!(deployed(&whole()), Ok(()));
        for optional in [
            "/doc",
            "/placement",
            "/version",
            "/methods/0/params",
            "/methods/0/result",
            "/methods/0/error",
        ] {
            assert_eq!(deployed(&without(optional)), Ok(()), "{optional}");
        }
        for schema in [json!(true), json!(false), json!({})] {
            assert_eq!(deployed(&with("/methods/0/result", schema.clone())), Ok(()), "{schema}");
        }
    }

    #[test]
    fn a_name_is_one_of_a_grain_type() {
        for name in ["", "My Counter", "Bank", "7up", &"x".repeat(64)] {
            refused(&with("/name", json!(name)), "is no grain type");
        }
        refused(&with("/name", json!("ü".repeat(1 << 20))), "is no grain type");
        refused(&with("/name", json!(5)), "`describe`, field `name`: 5 is not a text");
    }

    #[test]
    fn a_field_that_is_none_is_named_with_those_that_there_are() {
        refused(
            &with("/durabilty", json!("relaxed")),
            "`describe` has a field \"durabilty\", which is none: the fields are `name`",
        );
        refused(
            &with("/methods/0/returns", json!({})),
            "method `withdraw` has a field \"returns\"",
        );
        refused(
            &with("/methods/0/params/0/type", json!("integer")),
            "method `withdraw`, parameter `amount` has a field \"type\", which is none: the fields are `name`, `schema`, `required`",
        );
    }

    #[test]
    fn a_schema_is_an_object_or_a_truth_value() {
        refused(
            &with("/methods/0/params/0/schema", json!("integer")),
            "method `withdraw`, parameter `amount`, field `schema`: \"integer\" is not a JSON Schema",
        );
        refused(
            &with("/methods/0/params/0/schema", Value::Null),
            "null is not a JSON Schema",
        );
        refused(
            &with("/methods/0/result", Value::Null),
            "method `withdraw`, field `result`: null is not a JSON Schema",
        );
        refused(
            &with("/methods/0/error", json!([])),
            "method `withdraw`, field `error`: [] is not",
        );
    }

    #[test]
    fn what_is_missing_or_something_else_is_said_with_its_place() {
        refused(&without("/methods/0/kind"), "method `withdraw` lacks the field `kind`");
        refused(
            &with("/methods/0/kind", json!("Read")),
            "method `withdraw`, field `kind`: \"Read\" is neither",
        );
        refused(&without("/methods/0/name"), "method number 1 lacks the field `name`");
        refused(
            &without("/methods/0/params/0/name"),
            "method `withdraw`, parameter number 1 lacks",
        );
        refused(
            &with("/methods/0/params", json!({})),
            "method `withdraw`, field `params`: {} is not a list",
        );
        refused(&with("/methods", json!([5])), "method number 1 is 5: it is an object");
        refused(&json!([]), "`describe` is []: it is an object");
        refused(&with("/version", json!(-1)), "field `version`: -1 is not a number");
        refused(&with("/methods/0/params/0/required", json!("yes")), "field `required`");
    }

    #[test]
    fn names_are_there_once() {
        let twice = |list: &str| {
            let mut document = whole();
            let items = document.pointer_mut(list).unwrap().as_array_mut().unwrap();
            items.push(items[0].clone());
            document
        };
        refused(
            &twice("/methods/0/params"),
            "method `withdraw`, parameter `amount` is there twice",
        );
        refused(&twice("/methods"), "method `withdraw` is there twice");
    }

    #[test]
    fn what_was_deployed_before_is_still_read() {
        for older in [
            with("/durabilty", json!("relaxed")),
            with("/name", json!("My Counter")),
            with("/methods/0/result", Value::Null),
        ] {
            Contract::read(older.to_string().as_bytes()).unwrap();
        }
    }
}
