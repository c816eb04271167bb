//! A grain's state between revisions: saved, loaded, checked.

#![cfg(not(target_arch = "wasm32"))]

use granary_sdk::__private::Instance;
use granary_sdk::prelude::*;
use granary_sdk::testing::Host;

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
        .load(1, saved.as_bytes())
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
