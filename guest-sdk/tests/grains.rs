//! Grain types with everything that `#[grain]` knows, called through the test host: JSON in, JSON out.

#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeMap;

use granary_sdk::log::Level;
use granary_sdk::prelude::*;
use granary_sdk::testing::{Host, take_logs};
use serde_json::Value;

/// A shelf of goods.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Shelf {
    owner: String,
    goods: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, GrainError)]
pub enum ShelfError {
    /// The shelf
    /// is empty.
    ///
    /// Nobody has put anything there.
    #[status(409)]
    Empty,
    TooMany(u32),
    /// The other shelf gave no answer.
    #[from]
    Call(CallError),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Goods {
    name: String,
    #[serde(default)]
    pieces: u32,
}

#[grain(name = "store-shelf", durability = "relaxed", placement = "balanced", version = 3)]
impl Shelf {
    fn activate(ctx: &Context) -> Result<Self, String> {
        if ctx.key() == "nobody" {
            return Err("a shelf wants an owner".to_owned());
        }
        Ok(Self {
            owner: ctx.key().to_owned(),
            goods: BTreeMap::new(),
        })
    }

    #[check]
    fn has_an_owner(&self) -> Result<(), &'static str> {
        if self.owner.is_empty() { Err("no owner") } else { Ok(()) }
    }

    /// Puts goods there.
    pub fn put(&mut self, goods: Goods, note: Option<String>) -> Result<u32, ShelfError> {
        if goods.pieces > 10 {
            return Err(ShelfError::TooMany(goods.pieces));
        }
        if let Some(note) = note {
            log::info!("{}: {note}", goods.name);
        }
        let pieces = self.pieces(&goods.name) + goods.pieces;
        self.goods.insert(goods.name, pieces);
        Ok(pieces)
    }

    /// Takes everything.
    pub fn clear(&mut self) -> Result<(), ShelfError> {
        if self.goods.is_empty() {
            return Err(ShelfError::Empty);
        }
        self.goods.clear();
        Ok(())
    }

    #[read]
    pub fn owner(&self) -> String {
        self.owner.clone()
    }

    pub fn take_from(&mut self, ctx: &Context, other: String) -> Result<(), ShelfError> {
        self.goods.insert("taken".to_owned(), 1);
        Ok(ctx.grain::<Self>(other).clear()?)
    }

    /// The same with another type of error.
    pub fn take_from_raw(&mut self, ctx: &Context, other: String) -> Result<(), CallError> {
        ctx.grain::<Self>(other).clear()?;
        Ok(())
    }

    pub fn drop_all(&mut self) {
        self.goods.clear();
        panic!("the shelf of {} broke", self.owner);
    }

    pub fn swap(&mut self, mut other: Self) -> Self {
        std::mem::swap(self, &mut other);
        other
    }

    /// Not a method of the grain.
    fn pieces(&self, name: &str) -> u32 {
        self.goods.get(name).copied().unwrap_or(0)
    }
}

granary_sdk::export!(Shelf);

fn host() -> Host {
    Host::new().with::<Shelf>()
}

fn goods(name: &str, pieces: u32) -> Goods {
    Goods {
        name: name.to_owned(),
        pieces,
    }
}

fn raw(host: &Host, method: &str, args: &str) -> Result<String, CallError> {
    let reply = host.outside().call_raw("store-shelf", "a", method, args.as_bytes());
    reply.map(|json| String::from_utf8_lossy(&json).into_owned())
}

#[test]
fn the_first_call_activates_and_a_failed_activation_leaves_nothing() {
    let host = host();
    assert_eq!(host.grain::<Shelf>("alice").owner(), Ok("alice".to_owned()));
    let failure = host.grain::<Shelf>("nobody").owner().unwrap_err();
    assert_eq!(failure.to_string(), "a shelf wants an owner");
    assert_eq!(host.state("nobody", |_: &Shelf| ()), None);
}

#[test]
fn arguments_are_an_array_by_position() {
    let host = host();
    assert_eq!(raw(&host, "put", r#"[{"name":"tea","pieces":2}]"#), Ok("2".into()));
    assert_eq!(raw(&host, "put", r#"[{"name":"tea"},null]"#), Ok("2".into()));
    assert_eq!(
        raw(&host, "put", r#"[{"name":"tea","pieces":1},"green"]"#),
        Ok("3".into())
    );
    assert_eq!(take_logs(), [(Level::Info, "tea: green".to_owned())]);
    assert_eq!(raw(&host, "clear", "[]"), Ok("null".into()));
    let failure = raw(&host, "put", r#"[{"pieces":1}]"#).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "bad_arguments: argument `goods` of `put`: missing field `name`"
    );
}

#[test]
fn what_a_library_logs_is_a_record_of_the_grain_s() {
    let _host = host();
    // A library names the crate itself, and a grain may do so beside the prelude.
    ::log::warn!("the shelf creaks");
    log::info!("{} heard it", "alice");
    assert_eq!(
        take_logs(),
        [
            (Level::Warn, "the shelf creaks".to_owned()),
            (Level::Info, "alice heard it".to_owned())
        ]
    );
}

#[test]
fn a_private_function_is_no_method() {
    let failure = raw(&host(), "pieces", "[\"tea\"]").unwrap_err();
    assert_eq!(
        failure.to_string(),
        "unknown_method: `store-shelf` has no method `pieces`; \
         it has: put, clear, owner, take_from, take_from_raw, drop_all, swap"
    );
}

#[test]
fn an_error_of_the_grain_arrives_as_its_own_type() {
    let host = host();
    let shelf = host.grain::<Shelf>("a");
    let failure = shelf.put(goods("tea", 11), None).unwrap_err();
    assert_eq!(failure, CallError::Guest(ShelfError::TooMany(11)));
    assert_eq!(failure.to_string(), "too many");
    let failure = shelf.clear().unwrap_err();
    assert_eq!(failure.to_string(), "The shelf is empty.");
    assert_eq!(ShelfError::Empty.status(), Some(409));
    assert_eq!(ShelfError::TooMany(1).status(), None);
}

#[test]
fn what_a_method_changed_before_its_error_stands() {
    let host = host();
    let failure = host.grain::<Shelf>("a").take_from("b".into()).unwrap_err();
    assert_eq!(failure, CallError::Guest(ShelfError::Empty), "its own type by `?`");
    let taken = host.state("a", |shelf: &Shelf| shelf.goods.contains_key("taken"));
    assert_eq!(taken, Some(true));
}

#[test]
fn a_failed_call_keeps_its_code_when_it_is_passed_on() {
    let host = host();
    let shelf = host.grain::<Shelf>("a");
    assert_eq!(shelf.take_from("a".into()).unwrap_err().code(), "deadlock");
    assert_eq!(shelf.take_from_raw("a".into()).unwrap_err().code(), "deadlock");
    host.fail_next::<Shelf>("b", "mailbox_full");
    assert_eq!(shelf.take_from("b".into()).unwrap_err().code(), "mailbox_full");
    let passed_on = shelf.take_from_raw("b".into()).unwrap_err();
    let CallError::Guest(refusal) = passed_on else {
        panic!("{passed_on:?}");
    };
    assert_eq!(refusal.value, "Empty");
    assert_eq!(refusal.message, "The shelf is empty.");
}

#[test]
fn a_panic_leaves_no_trace_and_the_next_call_works() {
    let host = host();
    let shelf = host.grain::<Shelf>("a");
    shelf.put(goods("tea", 2), None).unwrap();
    let failure = shelf.drop_all().unwrap_err();
    assert_eq!(failure.to_string(), "trap: the shelf of a broke");
    assert_eq!(shelf.put(goods("tea", 1), None), Ok(3));
}

#[test]
fn self_in_a_signature_is_the_grain() {
    let host = host();
    let other = Shelf {
        owner: "x".to_owned(),
        goods: BTreeMap::new(),
    };
    let old = host.grain::<Shelf>("a").swap(other).unwrap();
    assert_eq!(old.owner, "a");
    assert_eq!(host.grain::<Shelf>("a").owner(), Ok("x".to_owned()));
}

#[test]
fn many_calls_at_once_reply_in_order_and_shape() {
    let host = host();
    let ctx = host.outside();
    let on = |key: &str| ctx.prepare::<Shelf>(key);
    let [a, b] = ctx.all([on("a").owner(), on("b").owner()]);
    assert_eq!((a.unwrap(), b.unwrap()), ("a".to_owned(), "b".to_owned()));
    let (put, owner) = ctx.all((on("a").put(goods("tea", 1), None), on("c").owner()));
    assert_eq!((put.unwrap(), owner.unwrap()), (1, "c".to_owned()));
    let keys: Vec<String> = (0..5).map(|n| format!("k{n}")).collect();
    let calls: Vec<_> = keys.iter().map(|key| on(key).owner()).collect();
    let owners: Result<Vec<String>, CallError> = ctx.all(calls).into_iter().collect();
    assert_eq!(owners, Ok(keys));
    let mixed = vec![on("a").clear().untyped(), on("a").owner().untyped()];
    let [cleared, owner] = &ctx.all(mixed)[..] else {
        panic!("two calls have two replies");
    };
    assert_eq!(cleared.as_ref().unwrap(), &Value::Null);
    assert_eq!(owner.as_ref().unwrap(), "a");
}

#[test]
fn a_call_that_cannot_be_written_fails_alone() {
    let host = host();
    let ctx = host.outside();
    let unwritable = BTreeMap::from([((1, 2), 3)]);
    let call = |args: &dyn Fn() -> Call<String>| args();
    let bad = call(&|| Call::new("store-shelf", "a", "owner", &[&unwritable]));
    let good = call(&|| Call::new("store-shelf", "a", "owner", &[(); 0]));
    let [bad, good] = ctx.all([bad, good]);
    assert_eq!(bad.unwrap_err().code(), "bad_arguments");
    assert_eq!(good, Ok("a".to_owned()));
}

#[test]
fn an_unknown_type_says_what_the_test_forgot() {
    let failure = Host::new().grain::<Shelf>("a").owner().unwrap_err();
    assert_eq!(failure.code(), "unknown_type");
}

#[test]
fn only_a_late_or_unreadable_reply_is_in_doubt() {
    let failed = |code: &str| CallError::<AnyError>::Failed {
        code: code.to_owned(),
        message: String::new(),
    };
    for code in ["deadline", "bad_reply", "a_code_of_the_future"] {
        assert!(failed(code).is_in_doubt(), "{code}");
    }
    for code in ["deadlock", "trap", "mailbox_full", "overloaded"] {
        assert!(!failed(code).is_in_doubt(), "{code}");
    }
    assert!(!CallError::Guest(ShelfError::Empty).is_in_doubt());
}

/// A golden file: `GRANARY_WRITE_GOLDEN=1 cargo test` writes it anew.
#[test]
fn the_description_is_the_documented_document() {
    let described = Shelf::describe().to_json();
    let described: Value = serde_json::from_slice(&described).unwrap();
    let described = format!("{described:#}\n");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/description.json");
    if std::env::var_os("GRANARY_WRITE_GOLDEN").is_some() {
        std::fs::write(golden, &described).unwrap();
    }
    assert_eq!(described, std::fs::read_to_string(golden).unwrap());
}
