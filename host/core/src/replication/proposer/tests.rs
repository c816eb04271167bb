//! What a grain's proposer promises.
