//! A grain's state on its way to another revision: written, and read back to see that nothing is lost.
//!
//! What was written isn't the state when the form can't say all of it (JSON has no NaN), or when a type reads something else
//! than it writes. Either would change values without a word, so then there is nothing to move: the grain stays where it is.
//!
//! **Not here:** which form the other revision reads (the host knows), the way in (`saved`).

use std::fmt::Display;

use crate::form::{self, Digest};
use crate::{Fault, Grain};

/// The state in the form that loses nothing.
///
/// # Errors
/// When the type doesn't read back what it writes.
pub(crate) fn form<G: Grain>(state: &G) -> Result<Vec<u8>, Fault> {
    let bytes = form::write(state).map_err(|error| unwritten::<G>("can't be written", &error))?;
    compare(state, form::read(&bytes), "what its type writes", "")?;
    Ok(bytes)
}

/// The state as JSON, for revisions that read nothing else.
///
/// # Errors
/// When JSON can't say all of it, or the type doesn't read back what it writes.
pub(crate) fn json<G: Grain>(state: &G) -> Result<Vec<u8>, Fault> {
    let json = serde_json::to_vec(state).map_err(|error| unwritten::<G>("has no JSON form", &error))?;
    compare(
        state,
        serde_json::from_slice(&json),
        "its JSON",
        "; JSON, which is all that the other revision reads, has no NaN, no infinity and no `Some(None)`",
    )?;
    Ok(json)
}

fn compare<G: Grain, E: Display>(state: &G, back: Result<G, E>, what: &str, advice: &str) -> Result<(), Fault> {
    let back = back.map_err(|error| unwritten::<G>(&format!("can't be read from {what}"), &error))?;
    let digest = |state: &G| form::digest(state).map_err(|error| unwritten::<G>("can't be compared", &error));
    let (before, after) = (digest(state)?, digest(&back)?);
    if before == after {
        return Ok(());
    }
    Err(changed::<G>(&before, &after, what, advice))
}

fn changed<G: Grain>(before: &Digest, after: &Digest, what: &str, advice: &str) -> Fault {
    let place = match before.difference(after) {
        Some(field) => format!("`{field}` in the state of `{}`", G::NAME),
        None => format!("the state of `{}`", G::NAME),
    };
    Fault::state(format!("{place} would be another when read from {what}{advice}"))
}

fn unwritten<G: Grain>(how: &str, error: &dyn Display) -> Fault {
    Fault::state(format!("the state of `{}` {how}: {error}", G::NAME))
}
