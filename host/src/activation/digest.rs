//! What a grain's stored state is, in one number: for comparing, before and after a move or on two hosts.
//!
//! **Not here:** what isn't committed yet; a `volatile` grain's digest is that of its last commit.

use granary_core::api::CallFailure;
use granary_core::id::GrainName;

use super::Catalog;
use crate::snapshot::digest;
use crate::storage::Stored;

impl Catalog {
    /// The digest of a grain's committed state in hexadecimal; `None` when it has none.
    pub(crate) async fn digest(&self, grain: &GrainName) -> Result<Option<String>, CallFailure> {
        let parts = &self.parts;
        let line = parts.modules.line(&grain.kind)?;
        // It reads a whole state, as a restore does, and shares its bound.
        let _one_of_few = parts.restores.acquire().await;
        let stored = parts.load(grain).await?;
        let Some(stored) = stored.filter(Stored::exists) else {
            return Ok(None);
        };
        let head = &stored.head;
        let deployment = parts.modules.revision(&line, head.revision, head.module).await?;
        let hash = tokio::task::spawn_blocking(move || digest(deployment.code().base(), &stored.parts)).await;
        Ok(Some(hash.expect("hashing doesn't panic").to_hex().to_string()))
    }
}
