//! What a slot's replica promises.
