//! A host for a grain crate's own tests: `cargo test`, natively, without a Granary host.
//!
//! ```
//! # use granary_sdk::prelude::*;
//! # #[derive(Default, Serialize, Deserialize)]
//! # pub struct Counter { value: i64 }
//! # #[grain]
//! # impl Counter {
//! #     pub fn add(&mut self, n: i64) -> i64 { self.value += n; self.value }
//! # }
//! let host = granary_sdk::testing::Host::new().with::<Counter>();
//! assert_eq!(host.grain::<Counter>("alice").add(5), Ok(5));
//! host.fail_next::<Counter>("alice", "deadline");
//! assert!(host.grain::<Counter>("alice").add(5).is_err());
//! ```
//!
//! As on a real host, arguments and replies travel as JSON, a grain's state is made at its first call, a grain that
//! waits for itself gets `deadlock`, and a panic leaves no trace in its grain. There are no limits, no deadlines and no
//! durability here, and calls of `ctx.all` run one after the other.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::call::Failure;
use crate::instance::Instance;
use crate::{Context, Fault, FaultKind, Grain, RawCall, form, records, saving};
use log::Level;

/// A host with the grain types that a test has given it.
#[derive(Debug)]
pub struct Host {
    outside: Context,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A host without grain types.
    pub fn new() -> Self {
        records::start();
        Self {
            outside: Context::new("outside".to_owned(), "test".to_owned(), Link(Rc::default())),
        }
    }

    /// Adds a grain type.
    #[must_use]
    pub fn with<G: Grain>(self) -> Self {
        self.grains().types.borrow_mut().insert(G::NAME, make_instance::<G>);
        self
    }

    /// The client of a grain, as [`Context::grain`] hands it out.
    pub fn grain<G: Grain>(&self, key: impl Into<String>) -> G::Client<'_> {
        self.outside.grain::<G>(key)
    }

    /// A context with this key, for calling a method of a state at hand: `counter.mirror(&host.context("a"), ...)`.
    pub fn context(&self, key: impl Into<String>) -> Context {
        Context::new(
            key.into(),
            self.outside.request_id().to_owned(),
            self.outside.link().clone(),
        )
    }

    /// The context that the host's own clients use: for `ctx.all`, `ctx.run` and `ctx.call_raw` in a test.
    pub fn outside(&self) -> &Context {
        &self.outside
    }

    /// Looks at a grain's state; `None` when it has never been called.
    ///
    /// # Panics
    /// When the grain is in the middle of a turn.
    pub fn state<G: Grain, R>(&self, key: &str, look: impl FnOnce(&G) -> R) -> Option<R> {
        let instance = self.grains().existing(G::NAME, key)?;
        let instance = instance.borrow();
        let instance: &dyn Any = &**instance;
        let instance: &Instance<G> = instance.downcast_ref()?;
        instance.state().map(look)
    }

    /// The next call of this grain does not reach it and fails with `code`, for example `deadline` or `mailbox_full`.
    pub fn fail_next<G: Grain>(&self, key: &str, code: &str) {
        self.grains()
            .failures
            .borrow_mut()
            .insert((G::NAME.to_owned(), key.to_owned()), code.to_owned());
    }

    fn grains(&self) -> &Grains {
        &self.outside.link().0
    }
}

thread_local! {
    static LOG: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// The records that this thread's grains have logged since the last time; a test runs on a thread of its own.
pub fn take_logs() -> Vec<(Level, String)> {
    LOG.take()
}

pub(crate) fn write_log(level: Level, message: &str) {
    LOG.with_borrow_mut(|log| log.push((level, message.to_owned())));
}

/// The state as JSON, as it passes to a revision that reads nothing else: one that was built with an older SDK.
///
/// # Panics
/// When JSON can't say all of it, as such a grain wouldn't move.
pub fn save<G: Grain>(state: &G) -> String {
    let json = saving::json(state).unwrap_or_else(|fault| panic!("{}", fault.message));
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// A grain's state made of what a revision with this state version saved: migrated and checked, as a host does when it
/// moves the grain to this code.
///
/// ```
/// # use granary_sdk::prelude::*;
/// # #[derive(Default, Serialize, Deserialize)]
/// # pub struct Counter { #[serde(alias = "value")] total: i64 }
/// # #[grain]
/// # impl Counter {
/// #     #[read] pub fn get(&self) -> i64 { self.total }
/// # }
/// let counter: Counter = granary_sdk::testing::load(1, r#"{"value": 5}"#).unwrap();
/// assert_eq!(counter.get(), 5);
/// ```
///
/// # Errors
/// Why the grain would stay on its old revision.
pub fn load<G: Grain>(version: u32, saved: &str) -> Result<G, Fault> {
    load_bytes(version, saved.as_bytes().to_owned())
}

fn load_bytes<G: Grain>(version: u32, saved: Vec<u8>) -> Result<G, Fault> {
    let ctx = Context::new("test".to_owned(), "test".to_owned(), Link(Rc::default()));
    let mut instance = Instance::<G>::new();
    instance.load(&ctx, version, saved)?;
    instance.check()?;
    instance
        .into_state()
        .ok_or_else(|| Fault::state("nothing was saved: the grain's state is made at its next call".to_owned()))
}

/// Moves a state from one type to the other, as a host moves a grain between revisions: `Old` saves, `New` loads and
/// checks. The two stand for two revisions of one type; they may be two modules of a test.
///
/// # Errors
/// Why the grain would stay on its old revision.
pub fn upgrade<Old: Grain, New: Grain>(old: &Old) -> Result<New, Fault> {
    load_bytes(Old::VERSION, saving::form(old)?)
}

/// A context's way to the host.
#[derive(Debug, Clone)]
pub(crate) struct Link(Rc<Grains>);

impl Link {
    pub(crate) fn invoke(&self, request_id: &str, call: RawCall) -> Result<Vec<u8>, Failure> {
        self.0.turn(self, request_id, call)
    }

    pub(crate) fn invoke_all(&self, request_id: &str, calls: Vec<RawCall>) -> Vec<Result<Vec<u8>, Failure>> {
        calls.into_iter().map(|call| self.invoke(request_id, call)).collect()
    }
}

type Id = (String, String);
type Make = fn() -> Shared;
type Shared = Rc<RefCell<Box<dyn AnyInstance>>>;

#[derive(Default)]
pub(crate) struct Grains {
    types: RefCell<BTreeMap<&'static str, Make>>,
    instances: RefCell<BTreeMap<Id, Shared>>,
    failures: RefCell<BTreeMap<Id, String>>,
}

impl fmt::Debug for Grains {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Grains")
            .field("types", &self.types.borrow().keys())
            .field("instances", &self.instances.borrow().keys())
            .finish_non_exhaustive()
    }
}

impl Grains {
    fn turn(&self, link: &Link, request_id: &str, call: RawCall) -> Result<Vec<u8>, Failure> {
        let id = (call.grain_type.clone(), call.key.clone());
        if let Some(code) = self.failures.borrow_mut().remove(&id) {
            return Err(failure(&code, "the test wanted this call to fail"));
        }
        if !(1..=1024).contains(&call.key.len()) {
            return Err(failure("bad_arguments", "a key has 1 to 1,024 bytes"));
        }
        let instance = self.instance(&call)?;
        let Ok(mut instance) = instance.try_borrow_mut() else {
            return Err(failure(
                "deadlock",
                &format!("{}/{} waits for this very call", call.grain_type, call.key),
            ));
        };
        let ctx = Context::new(call.key, request_id.to_owned(), link.clone());
        let before = instance.save().map_err(call_error)?;
        let ended = catch_unwind(AssertUnwindSafe(|| instance.call(&ctx, &call.method, &call.args)));
        match ended {
            Ok(reply) => reply.map_err(call_error),
            Err(panic) => {
                // A turn that traps leaves no trace in its grain.
                instance.load(&ctx, &before).map_err(call_error)?;
                Err(failure("trap", &panic_text(panic.as_ref())))
            }
        }
    }

    fn instance(&self, call: &RawCall) -> Result<Shared, Failure> {
        if let Some(instance) = self.existing(&call.grain_type, &call.key) {
            return Ok(instance);
        }
        let Some(make) = self.types.borrow().get(call.grain_type.as_str()).copied() else {
            return Err(failure(
                "unknown_type",
                &format!(
                    "this test's host has no grain type `{}`: give it one by `.with::<...>()`",
                    call.grain_type
                ),
            ));
        };
        let instance = make();
        self.instances
            .borrow_mut()
            .insert((call.grain_type.clone(), call.key.clone()), Rc::clone(&instance));
        Ok(instance)
    }

    fn existing(&self, grain_type: &str, key: &str) -> Option<Shared> {
        let id = (grain_type.to_owned(), key.to_owned());
        self.instances.borrow().get(&id).cloned()
    }
}

trait AnyInstance: Any {
    fn call(&mut self, ctx: &Context, method: &str, args: &[u8]) -> Result<Vec<u8>, Fault>;
    fn save(&self) -> Result<Vec<u8>, Fault>;
    fn load(&mut self, ctx: &Context, saved: &[u8]) -> Result<(), Fault>;
}

impl<G: Grain> AnyInstance for Instance<G> {
    fn call(&mut self, ctx: &Context, method: &str, args: &[u8]) -> Result<Vec<u8>, Fault> {
        Self::call(self, ctx, method, args)
    }

    fn save(&self) -> Result<Vec<u8>, Fault> {
        // Nothing moves here: what a type reads back is its own affair.
        let state = self.state().map_or(Ok(Vec::new()), form::write);
        state.map_err(|error| Fault::state(format!("the state of `{}` can't be written: {error}", G::NAME)))
    }

    fn load(&mut self, ctx: &Context, saved: &[u8]) -> Result<(), Fault> {
        Self::load(self, ctx, G::VERSION, saved)
    }
}

fn make_instance<G: Grain>() -> Shared {
    Rc::new(RefCell::new(Box::new(Instance::<G>::new())))
}

/// A fault as a caller gets it.
fn call_error(fault: Fault) -> Failure {
    let code = match fault.kind {
        FaultKind::BadArguments => "bad_arguments",
        FaultKind::UnknownMethod => "unknown_method",
        FaultKind::GuestError => "guest_error",
        FaultKind::CallFailed => fault.code.as_deref().unwrap_or("guest_error"),
    };
    Failure {
        code: code.to_owned(),
        message: fault.message,
        error: fault.error,
    }
}

fn failure(code: &str, message: &str) -> Failure {
    Failure {
        code: code.to_owned(),
        message: message.to_owned(),
        error: None,
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
