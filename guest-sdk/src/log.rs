//! Log records of a grain: `log::info!("{n} added")`. The host adds type, key and request id.
//!
//! Nothing is filtered here. `println!` and `eprintln!` become records, too, a line each.

use std::fmt;

/// How much a record matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// What a developer looks for.
    Debug,
    /// What an operator wants to have on record.
    Info,
    /// Something is wrong but was dealt with.
    Warn,
    /// Something failed.
    Error,
}

/// Writes one record. The macros of this module are shorter.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(text) => outside::write_log(level, text),
        None => outside::write_log(level, &message.to_string()),
    }
}

#[cfg(target_arch = "wasm32")]
use crate::bindings as outside;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing as outside;

#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Trace, ::core::format_args!($($part)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Debug, ::core::format_args!($($part)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Info, ::core::format_args!($($part)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Warn, ::core::format_args!($($part)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Error, ::core::format_args!($($part)+))
    };
}

/// Writes a record of this level; takes what `format!` takes.
pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace, __log_warn as warn,
};
