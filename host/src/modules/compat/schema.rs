//! Whether every value of one JSON Schema is one of another, as far as their structure shows it.
//!
//! For arguments the old schema's values have to be allowed by the new one, for results the new one's by the old. Both
//! are the same question, asked of `giver` (whose values come) and `taker` (which has to allow them). Alternatives on the giver's
//! side must all fit, on the taker's side one has to. What isn't understood has to be the same on both sides, else it's a
//! finding: so there may be findings too many, never too few. Two readings are those of serde rather than of JSON Schema:
//! an object has the properties that its schema lists, others don't come; and those that an argument's schema no longer lists
//! are lost, although nobody refuses them.
//!
//! References are followed within a document, and a pair of schemas that is being compared already is taken for fitting, which
//! makes recursive types end. Depth and steps are bounded: a guest writes these documents.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::keywords::{
    ALTERNATIVES, all_merged, as_type, belongs_to, followed, has_type, is_any, is_known, merged, numeric, reference,
    without,
};
use super::{range, shown};

/// How deep schemas may be nested, references included.
const DEPTH_LIMIT: usize = 64;
/// How many pairs of schemas are looked at: alternatives of alternatives multiply.
const STEP_LIMIT: usize = 20_000;
/// Steps times the values in both documents: a step may copy a part of them. About a second.
const WORK_LIMIT: usize = 2_000_000;

/// Which way the values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// From callers of the old revision to the new one.
    Argument,
    /// From the new revision to callers that know the old one.
    Result,
}

/// Something that fits no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// A JSON pointer: into the old schema for arguments, into the new one for results.
    pub(super) pointer: String,
    pub(super) what: String,
}

/// What callers lose.
pub(super) fn compare(old: &Value, new: &Value, side: Side) -> Vec<Finding> {
    if old == new {
        return Vec::new();
    }
    let (giver_root, taker_root) = match side {
        Side::Argument => (old, new),
        Side::Result => (new, old),
    };
    let mut comparison = Comparison {
        giver_root,
        taker_root,
        side,
        found: Vec::new(),
        assumed: Vec::new(),
        lasting: BTreeSet::new(),
        steps_left: STEP_LIMIT.min(WORK_LIMIT / (size(old) + size(new))),
    };
    note_addresses(old, &mut comparison.lasting);
    note_addresses(new, &mut comparison.lasting);
    comparison.fits(giver_root, taker_root, "", 0);
    comparison.found
}

struct Comparison<'a> {
    giver_root: &'a Value,
    taker_root: &'a Value,
    side: Side,
    found: Vec<Finding>,
    /// Pairs of referred schemas that are being compared, by their addresses in the two documents.
    assumed: Vec<(usize, usize)>,
    /// Addresses of the two documents' own schemas. Others are put together for one comparison and gone after it.
    lasting: BTreeSet<usize>,
    steps_left: usize,
}

impl Comparison<'_> {
    fn fits(&mut self, giver: &Value, taker: &Value, at: &str, depth: usize) {
        if depth > DEPTH_LIMIT || self.steps_left == 0 {
            return self.find(at, "the schema is too deep or too large to be compared");
        }
        self.steps_left -= 1;
        if reference(giver).is_some() || reference(taker).is_some() {
            return self.referred(giver, taker, at, depth);
        }
        if is_any(taker) || *giver == Value::Bool(false) {
            return;
        }
        if is_any(giver) {
            return self.changed(at, "the schema", Some(&Value::Bool(true)), Some(taker));
        }
        let (Some(given), Some(taken)) = (giver.as_object(), taker.as_object()) else {
            return self.changed(at, "the schema", Some(giver), Some(taker));
        };
        if self.split_giver(given, taker, at, depth) || self.split_taker(giver, taken, at, depth) {
            return;
        }
        self.plain(giver, taker, at, depth);
    }

    /// Follows references on both sides, within their documents.
    fn referred(&mut self, giver: &Value, taker: &Value, at: &str, depth: usize) {
        let (giver_root, taker_root) = (self.giver_root, self.taker_root);
        let Some(to) = followed(giver_root, giver) else {
            return self.find(at, "a reference can't be followed");
        };
        let Some(taken) = followed(taker_root, taker) else {
            return self.find(at, "a reference of the other revision's schema can't be followed");
        };
        let pair = (address(to), address(taken));
        if self.lasting.contains(&pair.0) && self.lasting.contains(&pair.1) {
            if self.assumed.contains(&pair) {
                return;
            }
            self.assumed.push(pair);
        }
        let at = reference(giver).map_or(at, |to| to.trim_start_matches('#'));
        self.fits(to, taken, at, depth + 1);
    }

    /// All of the giver's alternatives have to fit. False when it has none.
    fn split_giver(&mut self, giver: &Map<String, Value>, taker: &Value, at: &str, depth: usize) -> bool {
        for keyword in ALTERNATIVES {
            let Some(parts) = giver.get(keyword).and_then(Value::as_array) else {
                continue;
            };
            let rest = without(giver, keyword);
            for (number, part) in parts.iter().enumerate() {
                let at = format!("{at}/{keyword}/{number}");
                match merged(self.giver_root, &rest, part) {
                    Some(whole) => self.fits(&whole, taker, &at, depth + 1),
                    None => self.find(
                        &at,
                        "an alternative that overlaps with what stands beside it can't be compared",
                    ),
                }
            }
            return true;
        }
        if let Some(parts) = giver.get("allOf").and_then(Value::as_array) {
            match all_merged(self.giver_root, without(giver, "allOf"), parts) {
                Some(whole) => self.fits(&whole, taker, at, depth + 1),
                None => self.find(at, "`allOf` with parts that overlap can't be compared"),
            }
            return true;
        }
        let (keyword, one, values) = match (giver.get("enum"), giver.get("type")) {
            (Some(Value::Array(values)), _) => ("enum", "const", values),
            (_, Some(Value::Array(types))) => ("type", "type", types),
            _ => return false,
        };
        for value in values {
            let mut only = without(giver, keyword);
            only.insert(one.to_owned(), value.clone());
            self.fits(&Value::Object(only), taker, at, depth + 1);
        }
        true
    }

    /// One of the taker's alternatives has to take the giver. False when it has none.
    fn split_taker(&mut self, giver: &Value, taker: &Map<String, Value>, at: &str, depth: usize) -> bool {
        for keyword in ALTERNATIVES {
            let Some(parts) = taker.get(keyword).and_then(Value::as_array) else {
                continue;
            };
            let rest = without(taker, keyword);
            let takes = parts.iter().any(|part| match merged(self.taker_root, &rest, part) {
                Some(whole) => self.would_fit(giver, &whole, at, depth + 1),
                None => {
                    let rest = Value::Object(rest.clone());
                    self.would_fit(giver, &rest, at, depth + 1) && self.would_fit(giver, part, at, depth + 1)
                }
            });
            if !takes {
                let what = match self.side {
                    Side::Argument => format!("{} is no longer taken", shown(Some(giver))),
                    Side::Result => format!("{} is new", shown(Some(giver))),
                };
                self.find(at, &what);
            }
            return true;
        }
        let Some(parts) = taker.get("allOf").and_then(Value::as_array) else {
            return false;
        };
        let rest = without(taker, "allOf");
        match all_merged(self.taker_root, rest.clone(), parts) {
            Some(whole) => self.fits(giver, &whole, at, depth + 1),
            None => {
                self.fits(giver, &Value::Object(rest), at, depth + 1);
                parts.iter().for_each(|part| self.fits(giver, part, at, depth + 1));
            }
        }
        true
    }

    /// The same question without findings.
    fn would_fit(&mut self, giver: &Value, taker: &Value, at: &str, depth: usize) -> bool {
        let (found, assumed) = (self.found.len(), self.assumed.len());
        self.fits(giver, taker, at, depth);
        let fits = self.found.len() == found;
        if !fits {
            self.found.truncate(found);
            self.assumed.truncate(assumed);
        }
        fits
    }

    /// Neither side has alternatives any more.
    fn plain(&mut self, giver: &Value, taker: &Value, at: &str, depth: usize) {
        if let Some(value) = giver.get("const") {
            let allowed = match (taker.get("const"), taker.get("enum")) {
                (Some(only), _) => only == value,
                (None, Some(Value::Array(all))) => all.contains(value),
                _ => return self.fits(&as_type(value), taker, at, depth + 1),
            };
            if !allowed {
                let other = taker.get("const").or(taker.get("enum"));
                self.changed(at, "the value", Some(value), other);
            }
            return;
        }
        if let Some(values) = taker.get("const").or(taker.get("enum")) {
            return self.changed(at, "the type", Some(giver), Some(values));
        }
        let kind = giver["type"].as_str();
        if !has_type(taker, kind) {
            return self.changed(at, "`type`", giver.get("type"), taker.get("type"));
        }
        for (keyword, wanted) in taker.as_object().into_iter().flatten() {
            if is_known(keyword) || belongs_to(keyword).is_some_and(|of| kind.is_some_and(|kind| !of.contains(&kind))) {
                continue;
            }
            if giver.get(keyword) != Some(wanted) {
                self.changed(at, &format!("`{keyword}`"), giver.get(keyword), Some(wanted));
            }
        }
        let is = |name: &str| kind.is_none_or(|kind| kind == name);
        if is("integer") || is("number") {
            self.numbers(giver, taker, at, kind == Some("integer"));
        }
        if is("string") {
            self.lengths(giver, taker, at, ["minLength", "maxLength"]);
            if taker.get("format").is_some() && giver.get("format") != taker.get("format") {
                self.changed(at, "`format`", giver.get("format"), taker.get("format"));
            }
        }
        if is("array") {
            self.lengths(giver, taker, at, ["minItems", "maxItems"]);
            self.items(giver, taker, at, depth);
        }
        if is("object") {
            self.properties(giver, taker, at, depth);
        }
    }

    fn numbers(&mut self, giver: &Value, taker: &Value, at: &str, whole: bool) {
        let fits = if whole {
            let (given, taken) = (range::of_integers(giver), range::of_integers(taker));
            taken.0 <= given.0 && given.1 <= taken.1
        } else {
            let (given, taken) = (range::of_numbers(giver), range::of_numbers(taker));
            let exclusive = ["exclusiveMinimum", "exclusiveMaximum"];
            taken.0 <= given.0
                && given.1 <= taken.1
                && exclusive
                    .iter()
                    .all(|name| taker.get(*name).is_none() || giver.get(*name) == taker.get(*name))
        };
        if !fits {
            return self.changed(at, "the range", Some(&numeric(giver)), Some(&numeric(taker)));
        }
        let Some(format) = taker["format"].as_str() else {
            return;
        };
        // Integer formats are ranges, and any number has the form of a double.
        let is_range = whole && range::integer_format(format).is_some();
        if !is_range && format != "double" && giver["format"].as_str() != Some(format) {
            self.changed(at, "`format`", giver.get("format"), taker.get("format"));
        }
    }

    fn lengths(&mut self, giver: &Value, taker: &Value, at: &str, [least, most]: [&str; 2]) {
        let limit = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64);
        if limit(taker, least).unwrap_or(0) > limit(giver, least).unwrap_or(0) {
            self.changed(at, &format!("`{least}`"), giver.get(least), taker.get(least));
        }
        if limit(taker, most).unwrap_or(u64::MAX) < limit(giver, most).unwrap_or(u64::MAX) {
            self.changed(at, &format!("`{most}`"), giver.get(most), taker.get(most));
        }
    }

    fn items(&mut self, giver: &Value, taker: &Value, at: &str, depth: usize) {
        let any = Value::Bool(true);
        let prefix = |of: &Value| of["prefixItems"].as_array().cloned().unwrap_or_default();
        let (first, firsts) = (prefix(giver), prefix(taker));
        let (rest, rests) = (giver.get("items").unwrap_or(&any), taker.get("items").unwrap_or(&any));
        let most = giver["maxItems"].as_u64().unwrap_or(u64::MAX);
        for number in 0..first.len().max(firsts.len()) {
            if number as u64 >= most {
                return;
            }
            let at = format!("{at}/prefixItems/{number}");
            let (one, other) = (first.get(number).unwrap_or(rest), firsts.get(number).unwrap_or(rests));
            self.fits(one, other, &at, depth + 1);
        }
        if most > first.len().max(firsts.len()) as u64 {
            self.fits(rest, rests, &format!("{at}/items"), depth + 1);
        }
    }

    fn properties(&mut self, giver: &Value, taker: &Value, at: &str, depth: usize) {
        let listed = |of: &Value| of["properties"].as_object().cloned().unwrap_or_default();
        let (given, taken) = (listed(giver), listed(taker));
        let (more, takes_more) = (giver.get("additionalProperties"), taker.get("additionalProperties"));
        for (name, schema) in &given {
            let at = format!("{at}/properties/{}", name.replace('~', "~0").replace('/', "~1"));
            match (taken.get(name), takes_more) {
                (Some(other), _) => self.fits(schema, other, &at, depth + 1),
                (None, Some(other)) if *other != Value::Bool(false) => self.fits(schema, other, &at, depth + 1),
                (None, None) if self.side == Side::Result || taken.is_empty() => {}
                _ if self.side == Side::Argument => self.find(&at, &format!("property `{name}` is gone")),
                _ => self.find(&at, &format!("property `{name}` is new, and no others were to come")),
            }
        }
        let needed = |of: &Value| of["required"].as_array().cloned().unwrap_or_default();
        let always = needed(giver);
        for name in needed(taker).iter().filter(|name| !always.contains(name)) {
            let name = name.as_str().unwrap_or_default();
            let what = match self.side {
                Side::Argument => format!("property `{name}` is required now"),
                Side::Result if given.contains_key(name) => format!("property `{name}` may be missing now"),
                Side::Result => format!("property `{name}` is gone"),
            };
            self.find(at, &what);
        }
        // A map's values have no names: they have to fit wherever the other side has some.
        let is_open = given.is_empty() && more.is_none();
        match more.filter(|more| **more != Value::Bool(false)) {
            Some(more) => {
                let at = format!("{at}/additionalProperties");
                let unnamed = taken.iter().filter(|(name, _)| !given.contains_key(*name));
                unnamed.for_each(|(_, other)| self.fits(more, other, &at, depth + 1));
                match takes_more {
                    Some(other) => self.fits(more, other, &at, depth + 1),
                    None if self.side == Side::Argument && !taken.is_empty() => {
                        self.find(&at, "properties of any name are no longer taken");
                    }
                    None => {}
                }
            }
            None if is_open && takes_more.is_some_and(|other| !is_any(other)) => {
                self.changed(at, "`additionalProperties`", more, takes_more);
            }
            None => {}
        }
    }

    fn changed(&mut self, at: &str, what: &str, giver: Option<&Value>, taker: Option<&Value>) {
        let (old, new) = match self.side {
            Side::Argument => (giver, taker),
            Side::Result => (taker, giver),
        };
        self.find(at, &format!("{what} was {} and is {}", shown(old), shown(new)));
    }

    fn find(&mut self, at: &str, what: &str) {
        self.found.push(Finding {
            pointer: at.to_owned(),
            what: what.to_owned(),
        });
    }
}

/// How many values a document has.
fn size(document: &Value) -> usize {
    match document {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

fn note_addresses(document: &Value, all: &mut BTreeSet<usize>) {
    match document {
        Value::Array(items) => items.iter().for_each(|item| note_addresses(item, all)),
        Value::Object(fields) => {
            all.insert(address(document));
            fields.values().for_each(|field| note_addresses(field, all));
        }
        _ => {}
    }
}

fn address(schema: &Value) -> usize {
    std::ptr::from_ref(schema).addr()
}
