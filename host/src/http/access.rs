//! Who gets in and what they may do.
//!
//! ```text
//!   security   which names, pages and tokens are let in
//!   tokens     the file of bearer tokens
//!   owner      the socket of the data folder's owner, who needs none
//!   rights     what a caller may do
//!   needs      what each path asks for
//!   trail      acts that the audit log has a line about
//! ```

mod needs;
mod owner;
mod rights;
mod security;
mod tokens;
mod trail;

pub(super) use needs::Need;
pub use owner::OwnerSocket;
pub(super) use rights::{Act, Rights};
pub use security::SecurityError;
pub(super) use security::{Principal, Purpose, Security};
pub use tokens::TokenFileError;
pub(super) use trail::{About, Trail};
