//! What a new revision takes away from a type's callers, compared with the revision before.
//!
//! Callers rely on methods, on what arguments they may send, on what values come back, and on how sure a reply is. Whatever of
//! that no longer holds is a difference, and so is what can't be decided. Texts, titles, new methods and new optional things
//! are none. Whether a deploy with differences goes on isn't decided here, nor does the shape of states matter: that's the
//! guest's `load`.

mod keywords;
mod range;
mod schema;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use granary_core::api::Durability;
use serde_json::Value;

use self::schema::{Finding, Side};
use crate::description::{Contract, Method, MethodKind};

/// The longest list of differences: a person reads it, and a new module may differ in everything.
const DIFFERENCE_LIMIT: usize = 100;

/// What callers of `old` lose with `new`, a sentence each; empty when they lose nothing.
pub(crate) fn differences(old: &Contract, new: &Contract) -> Vec<String> {
    let mut found = Vec::new();
    if strength(new.durability) < strength(old.durability) {
        found.push(format!(
            "replies were `{}` and are only `{}`",
            old.durability.as_str(),
            new.durability.as_str()
        ));
    }
    for method in &old.description.methods {
        match new.method(&method.name) {
            None => found.push(format!("`{}` is gone", method.name)),
            Some((_, now)) => of_method(method, now, &mut found),
        }
    }
    if found.len() > DIFFERENCE_LIMIT {
        let more = found.len() - DIFFERENCE_LIMIT;
        found.truncate(DIFFERENCE_LIMIT);
        found.push(format!("and {more} more"));
    }
    found
}

fn strength(durability: Durability) -> u8 {
    match durability {
        Durability::Volatile => 0,
        Durability::Relaxed => 1,
        Durability::Committed => 2,
    }
}

fn of_method(old: &Method, new: &Method, found: &mut Vec<String>) {
    let name = &old.name;
    match (old.kind, new.kind) {
        (MethodKind::Read, MethodKind::Write) => {
            found.push(format!(
                "`{name}` was a `read` method and is a `write` one: GET no longer calls it"
            ));
        }
        (MethodKind::Write, MethodKind::Read) => {
            found.push(format!(
                "`{name}` was a `write` method and is a `read` one: it commits nothing any more"
            ));
        }
        _ => {}
    }
    of_parameters(old, new, found);
    let results = schema::compare(&old.result, &new.result, Side::Result);
    found.extend(
        results
            .into_iter()
            .map(|finding| sentence(name, "the result", &finding)),
    );
    if let (Some(before), Some(now)) = (&old.error, &new.error) {
        let errors = schema::compare(before, now, Side::Result);
        found.extend(errors.into_iter().map(|finding| sentence(name, "the error", &finding)));
    }
}

/// Arguments go by name and by position: both have to mean what they meant.
fn of_parameters(old: &Method, new: &Method, found: &mut Vec<String>) {
    let method = &old.name;
    let place = |of: &Method, name: &str| of.params.iter().position(|param| param.name == name);
    let mut renamed = Vec::new();
    for (position, before) in old.params.iter().enumerate() {
        let name = &before.name;
        let Some(now_at) = place(new, name) else {
            match new
                .params
                .get(position)
                .filter(|param| place(old, &param.name).is_none())
            {
                Some(other) => {
                    renamed.push(position);
                    found.push(format!("`{method}`: parameter `{name}` is called `{}` now", other.name));
                }
                None => found.push(format!("`{method}`: parameter `{name}` is gone")),
            }
            continue;
        };
        let now = &new.params[now_at];
        if now_at != position {
            found.push(format!(
                "`{method}`: parameter `{name}` was number {} and is number {}: arguments by position change their meaning",
                position + 1,
                now_at + 1
            ));
        }
        if now.required && !before.required {
            found.push(format!("`{method}`: parameter `{name}` was optional and is required"));
        }
        let findings = schema::compare(&before.schema, &now.schema, Side::Argument);
        let what = format!("parameter `{name}`");
        found.extend(findings.into_iter().map(|finding| sentence(method, &what, &finding)));
    }
    for (position, now) in new.params.iter().enumerate() {
        let is_new = place(old, &now.name).is_none() && !renamed.contains(&position);
        if is_new && now.required {
            found.push(format!("`{method}`: parameter `{}` is new and required", now.name));
        }
    }
}

fn sentence(method: &str, what: &str, finding: &Finding) -> String {
    let mut sentence = format!("`{method}`: {what}: {}", finding.what);
    if !finding.pointer.is_empty() {
        // Writing to a String can't fail.
        let _ = write!(sentence, ", at `{}` of its schema", finding.pointer);
    }
    sentence
}

/// A value as it's shown in a sentence: a schema may be long.
fn shown(value: Option<&Value>) -> String {
    const LONGEST: usize = 60;
    let Some(value) = value else {
        return "not there".to_owned();
    };
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return format!("`{text}`");
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("`{start}...`")
}
