//! `wit/` in the canonical ABI: imports as functions, exports by one macro. On wasm32 only.
//!
//! Converts between the generated records and the SDK's own types; it decides nothing.

#![allow(
    unsafe_code,
    reason = "the canonical ABI reads and writes linear memory; wit-bindgen generates that code"
)]
#![allow(
    unnameable_types,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated code follows its own style"
)]

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::thread::LocalKey;

use crate::call::Failure;
use crate::instance::Instance;
use crate::{Fault, FaultKind, Grain, RawCall};

mod generated {
    wit_bindgen::generate!({
        path: "../wit",
        world: "exact-grain",
        pub_export_macro: true,
        export_macro_name: "export_world",
        default_bindings_module: "granary_sdk::bindings",
        generate_all,
    });
}

use generated::granary::grain::{calls, log as host_log, types};

#[doc(hidden)]
pub use generated::*;

/// A grain's way to its host. Imports need no state, and the host knows the request.
#[derive(Debug)]
pub(crate) struct Link;

impl Link {
    pub(crate) fn invoke(&self, _: &str, call: RawCall) -> Result<Vec<u8>, Failure> {
        calls::invoke(&call.into()).map_err(Failure::from)
    }

    pub(crate) fn invoke_all(&self, _: &str, all: Vec<RawCall>) -> Vec<Result<Vec<u8>, Failure>> {
        let all: Vec<calls::Call> = all.into_iter().map(calls::Call::from).collect();
        calls::invoke_all(&all)
            .into_iter()
            .map(|reply| reply.map_err(Failure::from))
            .collect()
    }
}

pub(crate) fn write_log(level: log::Level, message: &str) {
    host_log::write(level.into(), message);
}

/// What the exported functions do, apart from having symbols. `instance` is the module's one grain.
type Cell<G> = &'static LocalKey<RefCell<Instance<G>>>;

#[doc(hidden)]
pub fn call<G: Grain>(
    instance: Cell<G>,
    context: types::Context,
    method: &str,
    args: &[u8],
) -> Result<Vec<u8>, types::Fault> {
    instance.with_borrow_mut(|instance| {
        if !instance.is_made() {
            begin();
        }
        Ok(instance.call(&context.into(), method, args)?)
    })
}

#[doc(hidden)]
pub fn save<G: Grain>(instance: Cell<G>) -> Result<Vec<u8>, types::Fault> {
    instance.with_borrow(|instance| Ok(instance.save()?))
}

#[doc(hidden)]
pub fn save_exactly<G: Grain>(instance: Cell<G>) -> Result<Vec<u8>, types::Fault> {
    instance.with_borrow(|instance| Ok(instance.save_exactly()?))
}

#[doc(hidden)]
pub fn load<G: Grain>(
    instance: Cell<G>,
    context: types::Context,
    version: u32,
    state: Vec<u8>,
) -> Result<(), types::Fault> {
    instance.with_borrow_mut(|instance| {
        begin();
        Ok(instance.load(&context.into(), version, state)?)
    })
}

#[doc(hidden)]
pub fn check<G: Grain>(instance: Cell<G>) -> Result<(), types::Fault> {
    instance.with_borrow(|instance| Ok(instance.check()?))
}

/// A text's bytes, of which there are `N`.
#[doc(hidden)]
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    match text.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => panic!("a text of another length"),
    }
}

/// What an instance does once.
fn begin() {
    crate::records::start();
    std::panic::set_hook(Box::new(log_panic));
}

/// A panic is one log record with its place; the trap follows.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let record = match panic.location() {
        Some(place) => format!("panicked at {place}: {message}"),
        None => format!("panicked: {message}"),
    };
    write_log(log::Level::Error, &record);
}

/// Makes the symbols. [`export!`](crate::export) is what people write.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($grain:ty) => {
        const _: () = {
            ::std::thread_local! {
                // There is one thread: this is a plain static in linear memory, part of the grain's image.
                static INSTANCE: ::std::cell::RefCell<$crate::__private::Instance<$grain>> =
                    const { ::std::cell::RefCell::new($crate::__private::Instance::new()) };
            }

            // For tools that want the type's name without running the module. A section of its own is in no grain's memory.
            #[used]
            // SAFETY: the section's name means nothing to the linker, and the host doesn't run what is in it.
            #[unsafe(link_section = "granary:grain/type")]
            static NAME: [u8; <$grain as $crate::Grain>::NAME.len()] =
                $crate::bindings::bytes(<$grain as $crate::Grain>::NAME);

            struct Exports;

            impl $crate::bindings::exports::granary::grain::handler::Guest for Exports {
                fn describe() -> ::std::vec::Vec<u8> {
                    <$grain as $crate::Grain>::describe().to_json()
                }

                fn call(
                    context: $crate::bindings::granary::grain::types::Context,
                    method: ::std::string::String,
                    args: ::std::vec::Vec<u8>,
                ) -> ::std::result::Result<::std::vec::Vec<u8>, $crate::bindings::granary::grain::types::Fault>
                {
                    $crate::bindings::call(&INSTANCE, context, &method, &args)
                }

                fn save() -> ::std::result::Result<::std::vec::Vec<u8>, $crate::bindings::granary::grain::types::Fault>
                {
                    $crate::bindings::save(&INSTANCE)
                }

                fn load(
                    context: $crate::bindings::granary::grain::types::Context,
                    version: u32,
                    state: ::std::vec::Vec<u8>,
                ) -> ::std::result::Result<(), $crate::bindings::granary::grain::types::Fault> {
                    $crate::bindings::load(&INSTANCE, context, version, state)
                }

                fn check(
                    _: $crate::bindings::granary::grain::types::Context,
                ) -> ::std::result::Result<(), $crate::bindings::granary::grain::types::Fault> {
                    $crate::bindings::check(&INSTANCE)
                }
            }

            impl $crate::bindings::exports::granary::grain::exact::Guest for Exports {
                fn save() -> ::std::result::Result<::std::vec::Vec<u8>, $crate::bindings::granary::grain::types::Fault>
                {
                    $crate::bindings::save_exactly(&INSTANCE)
                }
            }

    $crate::bindings::export_world!(Exports with_types_in $crate::bindings);
        };
    };
}

impl From<types::Context> for crate::Context {
    fn from(context: types::Context) -> Self {
        Self::new(context.key, context.request_id, Link)
    }
}

impl From<RawCall> for calls::Call {
    fn from(call: RawCall) -> Self {
        Self {
            grain_type: call.grain_type,
            key: call.key,
            method: call.method,
            args: call.args,
        }
    }
}

impl From<calls::CallError> for Failure {
    fn from(error: calls::CallError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            error: error.error,
        }
    }
}

impl From<Fault> for types::Fault {
    fn from(fault: Fault) -> Self {
        Self {
            kind: match fault.kind {
                FaultKind::BadArguments => types::FaultKind::BadArguments,
                FaultKind::UnknownMethod => types::FaultKind::UnknownMethod,
                FaultKind::GuestError => types::FaultKind::GuestError,
                FaultKind::CallFailed => types::FaultKind::CallFailed,
            },
            message: fault.message,
            error: fault.error,
            status: fault.status,
            code: fault.code,
        }
    }
}

impl From<log::Level> for host_log::Level {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Trace => Self::Trace,
            log::Level::Debug => Self::Debug,
            log::Level::Info => Self::Info,
            log::Level::Warn => Self::Warn,
            log::Level::Error => Self::Error,
        }
    }
}
