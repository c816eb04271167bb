//! A grain's state between revisions: saved, loaded, checked.

#![cfg(not(target_arch = "wasm32"))]

use granary_sdk::__private::Instance;
use granary_sdk::prelude::*;
use granary_sdk::testing::{self, Host};

#[derive(Debug, Serialize, Deserialize)]
pub struct Lamp {
    lit: bool,
    watts: u32,
}

#[grain(version = 2)]
impl Lamp {
    fn activate(_: &Context) -> Self {
        Self { lit: false, watts: 5 }
    }

    #[check]
    fn is_no_fire(&self) -> Result<(), String> {
        match self.watts {
            0..100 => Ok(()),
            watts => Err(format!("{watts} watts")),
        }
    }

    pub fn switch(&mut self) -> bool {
        self.lit = !self.lit;
        self.lit
    }
}

fn loaded(saved: &str) -> Result<Instance<Lamp>, String> {
    let mut lamp = Instance::new();
    let done = lamp
        .load(&Host::new().context("hall"), 1, saved.as_bytes())
        .and_then(|()| lamp.check())
        .map_err(|fault| fault.message);
    done.map(|()| lamp)
}

#[test]
fn what_is_saved_can_be_loaded() {
    let mut lamp = Instance::<Lamp>::new();
    assert_eq!(lamp.save(), Ok(Vec::new()), "never called");
    lamp.call(&Host::new().context("a"), "switch", b"[]").unwrap();
    let saved = String::from_utf8(lamp.save().unwrap()).unwrap();
    assert_eq!(saved, r#"{"lit":true,"watts":5}"#);
    assert_eq!(loaded(&saved).unwrap().save().unwrap(), saved.as_bytes());
    assert!(!loaded("").unwrap().is_made());
}

pub mod scale {
    use granary_sdk::prelude::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    pub struct Scale {
        grams: Vec<f64>,
    }

    #[grain]
    impl Scale {
        pub fn put(&mut self, grams: f64) {
            self.grams.push(grams);
        }
    }
}

fn load<G: Grain>(saved: Vec<u8>) -> Result<Instance<G>, String> {
    let mut instance = Instance::new();
    let loaded = instance.load(&Host::new().context("a"), 1, saved);
    loaded.map(|()| instance).map_err(|fault| fault.message)
}

#[test]
fn an_exactly_saved_state_is_loaded_by_the_names_of_its_fields() {
    let mut lamp = loaded(r#"{"lit":true,"watts":5}"#).unwrap();
    let saved = lamp.save_exactly().unwrap();
    assert_eq!(saved[0], 0xff, "no JSON begins so");
    assert_eq!(load::<Lamp>(saved.clone()).unwrap().save_exactly(), Ok(saved.clone()));
    lamp.load(&Host::new().context("a"), 1, b"".as_slice()).unwrap();
    assert_eq!(lamp.save_exactly(), Ok(Vec::new()), "never called");
    let refused = load::<scale::Scale>(saved).unwrap_err();
    assert!(refused.contains("can read: missing field `grams`"), "{refused}");
}

/// A state whose JSON is another's, and types that read something else than they write.
pub mod odd {
    use granary_sdk::prelude::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    pub struct Odd {
        pub float: f64,
        pub nested: Option<Option<u8>>,
        #[serde(default = "usual", skip_serializing_if = "is_left_out")]
        pub text: String,
        pub choice: Choice,
        #[serde(skip)]
        pub cache: u8,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    pub enum Choice {
        Small(u8),
        Large(u64),
    }

    impl Default for Choice {
        fn default() -> Self {
            Self::Large(1 << 40)
        }
    }

    fn usual() -> String {
        "usual".to_owned()
    }

    fn is_left_out(text: &str) -> bool {
        text == "left out"
    }

    #[grain]
    impl Odd {
        #[read]
        pub fn get(&self) -> u8 {
            self.cache
        }
    }
}

#[test]
fn what_would_be_another_state_when_it_is_read_back_is_refused() {
    use odd::{Choice, Odd};
    let (mut both, mut exact) = (Vec::new(), Vec::new());
    for state in [
        Odd::default(),
        Odd {
            cache: 1,
            ..Odd::default()
        },
        Odd {
            nested: Some(None),
            ..Odd::default()
        },
        Odd {
            float: f64::INFINITY,
            ..Odd::default()
        },
        Odd {
            text: "left out".to_owned(),
            ..Odd::default()
        },
        Odd {
            choice: Choice::Large(5),
            ..Odd::default()
        },
        Odd {
            choice: Choice::Small(5),
            ..Odd::default()
        },
    ] {
        let json = serde_json::to_string(&state).unwrap();
        let upgraded = testing::upgrade::<Odd, Odd>(&state).map(|state| serde_json::to_string(&state).unwrap());
        exact.push(message(upgraded.clone()));
        assert!(upgraded.is_err() || upgraded == Ok(json));
        let saved = std::panic::catch_unwind(|| testing::save(&state));
        both.push(saved.is_ok());
    }
    assert_eq!(both, [true, true, false, false, false, false, true]);
    let (text, choice) = (&exact[4], &exact[5]);
    assert!(
        choice.starts_with("`choice` in the state of `odd` would be another"),
        "{choice}"
    );
    assert!(text.starts_with("the state of `odd` would be another"), "{text}");
    let moved: Vec<bool> = exact.iter().map(String::is_empty).collect();
    assert_eq!(moved, [true, true, true, true, false, false, true]);
}

/// A deploy that changes nothing of the state leaves each bit of it.
#[test]
fn floats_are_saved_and_loaded_exactly() {
    let mut scale = Instance::<scale::Scale>::new();
    let mut bits = 1u64;
    for _ in 0..2000 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let grams = f64::from_bits(bits);
        if grams.is_finite() {
            let args = format!("[{grams:?}]");
            scale.call(&Host::new().context("a"), "put", args.as_bytes()).unwrap();
        }
    }
    let saved = scale.save().unwrap();
    let mut other = Instance::<scale::Scale>::new();
    other.load(&Host::new().context("a"), 1, saved.clone()).unwrap();
    assert!(other.save().unwrap() == saved);
}

#[test]
fn a_state_that_does_not_fit_is_refused_with_the_reason() {
    let message = loaded(r#"{"lit":true}"#).unwrap_err();
    assert!(
        message
            .starts_with("a state of version 1 is none that `lamp` (state version 2) can read: missing field `watts`"),
        "{message}"
    );
    assert_eq!(loaded(r#"{"lit":true,"watts":900}"#).unwrap_err(), "900 watts");
}

pub mod v1 {
    use granary_sdk::prelude::*;

    #[derive(Default, Serialize, Deserialize)]
    pub struct Counter {
        pub value: i64,
    }

    #[grain]
    impl Counter {
        #[read]
        pub fn get(&self) -> i64 {
            self.value
        }
    }
}

pub mod v2 {
    use granary_sdk::prelude::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    pub struct Counter {
        pub total: i64,
    }

    #[grain(version = 2, migrate = from_v1)]
    impl Counter {
        #[check]
        fn is_small(&self) -> Result<(), String> {
            match self.total {
                0..1000 => Ok(()),
                total => Err(format!("{total} is out of range")),
            }
        }

        #[read]
        pub fn get(&self) -> i64 {
            self.total
        }
    }

    fn from_v1(old: super::v1::Counter) -> Counter {
        Counter { total: old.value }
    }
}

pub mod v4 {
    use granary_sdk::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Counter {
        pub sum: i64,
        pub owner: String,
    }

    #[grain(version = 4, migrate(1 => Self::from_v1, 2 => from_v2, 9 => from_v9))]
    impl Counter {
        fn activate(ctx: &Context) -> Self {
            Self {
                sum: 0,
                owner: ctx.key().to_owned(),
            }
        }

        #[read]
        pub fn get(&self) -> i64 {
            self.sum
        }

        fn from_v1(old: SavedState) -> Result<Self, StateError> {
            Ok(Self {
                sum: old.decode::<super::v1::Counter>()?.value,
                owner: old.key().to_owned(),
            })
        }
    }

    fn from_v2(old: super::v2::Counter) -> Result<Counter, &'static str> {
        match old.total {
            13 => Err("an unlucky number"),
            sum => Ok(Counter {
                sum,
                owner: "v2".to_owned(),
            }),
        }
    }

    fn from_v9((sum, owner): (i64, String)) -> Counter {
        Counter { sum, owner }
    }
}

fn message<G>(result: Result<G, granary_sdk::Fault>) -> String {
    result.err().map(|fault| fault.message).unwrap_or_default()
}

#[test]
fn a_renamed_field_is_migrated_and_checked() {
    let upgraded = testing::upgrade::<v1::Counter, v2::Counter>(&v1::Counter { value: 5 });
    assert_eq!(upgraded, Ok(v2::Counter { total: 5 }));
    let refused = testing::upgrade::<v1::Counter, v2::Counter>(&v1::Counter { value: 5000 });
    assert_eq!(message(refused), "5000 is out of range");
}

#[test]
fn several_older_versions_have_a_migration_each() {
    let sum = |sum, owner: &str| {
        Ok(v4::Counter {
            sum,
            owner: owner.to_owned(),
        })
    };
    assert_eq!(testing::load(1, r#"{"value": 5}"#), sum(5, "test"));
    assert_eq!(testing::load(2, r#"{"total": 6}"#), sum(6, "v2"));
    assert_eq!(testing::load(4, r#"{"sum": 7, "owner": "me"}"#), sum(7, "me"));
    assert_eq!(
        testing::load(9, r#"[8, "later"]"#),
        sum(8, "later"),
        "a way back is named, too"
    );
    assert_eq!(
        message(testing::load::<v4::Counter>(2, r#"{"total": 13}"#)),
        "an unlucky number"
    );
    assert_eq!(
        message(testing::load::<v4::Counter>(1, r#"{"total": 5}"#)),
        "the state of version 1 can't be read: missing field `value` at line 1 column 12"
    );
}

#[test]
fn a_version_without_a_way_is_refused_and_named() {
    assert_eq!(
        message(testing::load::<v4::Counter>(3, r#"{"sum": 5, "owner": "me"}"#)),
        "`counter` (state version 4) has no migration from version 3, only from 1, 2, 9: add it to \
         `#[grain(version = 4, migrate(3 => ...))]`"
    );
    assert_eq!(
        message(testing::load::<v2::Counter>(0, r#"{"value": 5}"#)),
        "`counter` (state version 2) has no migration from version 0, only from 1: add it to \
         `#[grain(version = 2, migrate(0 => ...))]`",
        "a migration that takes a type is for the version before alone"
    );
}

#[test]
fn a_newer_version_is_read_as_far_as_it_is_understood() {
    let back = testing::load::<v2::Counter>(3, r#"{"total": 5, "colour": "red"}"#);
    assert_eq!(back, Ok(v2::Counter { total: 5 }));
    let refused = message(testing::load::<v1::Counter>(2, r#"{"total": 5}"#));
    assert!(
        refused.starts_with("a state of version 2 is none that `counter` (state version 1) can read: missing field")
            && refused.contains("this revision is older than the one that saved it")
            && refused.contains("serde(alias"),
        "{refused}"
    );
}

#[test]
fn added_fields_need_no_version() {
    #[derive(Debug, PartialEq, Default, Serialize, Deserialize)]
    struct Counter {
        value: i64,
        #[serde(default)]
        adds: u64,
    }
    #[grain]
    impl Counter {
        #[read]
        #[allow(unreachable_pub, reason = "a grain's methods are `pub`")]
        pub fn get(&self) -> i64 {
            self.value
        }
    }

    let upgraded = testing::upgrade::<v1::Counter, Counter>(&v1::Counter { value: 5 });
    assert_eq!(upgraded, Ok(Counter { value: 5, adds: 0 }));
    let refused = message(testing::load::<Counter>(1, r#"{"values": 5}"#));
    assert!(refused.contains("the shape of the type has changed"), "{refused}");
}

#[test]
fn what_was_never_called_has_no_state_to_look_at() {
    let refused = message(testing::load::<v1::Counter>(1, ""));
    assert_eq!(refused, "nothing was saved: the grain's state is made at its next call");
}
