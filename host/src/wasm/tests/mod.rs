//! Guests against the engine. Modules in text, hostile ones, state over restarts.

mod bounds;
mod cache;
mod calls;
mod command;
mod guest;
mod hostile;
mod modules;
mod state;
mod wasi;
