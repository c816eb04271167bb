//! The HTTP side over real sockets, with a script in place of the host behind it.

mod calls;
mod connections;
mod guard;
mod hostile;
mod logs;
mod others;
mod script;
mod upgrades;
mod wire;
