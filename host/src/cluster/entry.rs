//! How a host gets its identity in a cluster: from its folder, from another host by a token, or by founding a cluster of its own.
//!
//! It's on the disk before the host says anything as one of the cluster. Which of these it was is in the same file: a host that crashes while it
//! joins never takes itself for a founder.

use std::path::Path;

use granary_core::config_chain::config::ClusterId;
use granary_core::id::HostId;

use super::config::ClusterConfig;
use super::handle::FOLDER;
use super::journal;
use super::members::read_book;
use super::quic::{Authority, AuthorityError, Identity, JoinToken, NoToken, Origin, join};
use super::station::StationError;
use crate::storage::{Storage, StorageError};

/// Who this host is in the cluster that it's in, or gets into now. On the disk when this returns.
pub(super) async fn enter(
    data: &Path,
    config: &ClusterConfig,
    storage: &dyn Storage,
) -> Result<Identity, StationError> {
    let (folder, me) = (data.join(FOLDER), storage.host());
    let token = config.join.as_deref().map(str::parse).transpose();
    let token: Option<JoinToken> = token.map_err(|error: NoToken| StationError::Token(error.to_string()))?;
    let identity = match (known(&folder, me)?, token) {
        (None, None) => found(&folder, me)?,
        (None, Some(token)) => join_with(&token, storage).await?,
        (Some(identity), None) => return Ok(identity),
        (Some(identity), Some(token)) if token.cluster == identity.cluster => {
            if identity.believes(&token.fingerprint) || identity.was_let_in_by(&token) {
                tracing::info!(cluster = %identity.cluster, "this host is in the cluster already: the join token isn't used");
                return Ok(identity);
            }
            tracing::info!(cluster = %identity.cluster, "the cluster has a new authority: this host is let in again");
            join(&token, me).await.map_err(StationError::Join)?
        }
        // It was started without a token before, and nobody has joined it.
        (Some(identity), Some(token)) if identity.origin == Origin::Founded && !was_in_one(data) => {
            join_with(&token, storage).await?
        }
        (Some(identity), Some(_)) => {
            tracing::warn!(cluster = %identity.cluster, "this host is in another cluster than the token's: the token isn't used");
            return Ok(identity);
        }
    };
    identity.keep(&folder)?;
    Ok(identity)
}

/// Who the folder says that this host is.
fn known(folder: &Path, me: HostId) -> Result<Option<Identity>, AuthorityError> {
    if let Some(identity) = Identity::open(folder, me)? {
        return Ok(Some(identity));
    }
    // Folders of earlier releases have the authority only, which lets this host in.
    let Some(authority) = Authority::open(folder)? else {
        return Ok(None);
    };
    let is_first = read_book(folder).is_empty();
    let origin = if is_first { Origin::Founded } else { Origin::Joined };
    let identity = Identity::of(&authority, me, origin)?;
    identity.keep(folder)?;
    Ok(Some(identity))
}

fn found(folder: &Path, me: HostId) -> Result<Identity, StationError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| {
        let error = std::io::Error::other(error.to_string());
        StationError::System("random bytes", error)
    })?;
    tracing::info!(cluster = %ClusterId(id), "a new cluster");
    let authority = Authority::found(ClusterId(id))?;
    authority.keep(folder)?;
    Ok(Identity::of(&authority, me, Origin::Founded)?)
}

async fn join_with(token: &JoinToken, storage: &dyn Storage) -> Result<Identity, StationError> {
    if has_state(storage)? {
        return Err(StationError::HasState);
    }
    join(token, storage.host()).await.map_err(StationError::Join)
}

fn has_state(storage: &dyn Storage) -> Result<bool, StorageError> {
    let mut found = !storage.revisions()?.is_empty();
    storage.each(&mut |_, head| found |= !head.deleted)?;
    Ok(found)
}

/// Whether a data folder is of a host that has taken part in a cluster.
pub(crate) fn was_in_one(data: &Path) -> bool {
    let folder = data.join(FOLDER);
    folder.join(journal::NAME).exists() || !read_book(&folder).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::members::keep_book;

    const ME: HostId = HostId([1; 16]);

    #[test]
    fn a_folder_of_an_earlier_release_has_the_authority_and_that_lets_its_host_in() {
        for (is_member, origin) in [(false, Origin::Founded), (true, Origin::Joined)] {
            let folder = tempfile::tempdir().unwrap();
            assert!(
                known(folder.path(), ME).unwrap().is_none(),
                "nothing is known of a new one"
            );
            let authority = Authority::found(ClusterId([7; 16])).unwrap();
            authority.keep(folder.path()).unwrap();
            if is_member {
                let other = (HostId([2; 16]), "10.0.0.2:7778".parse().unwrap());
                keep_book(folder.path(), [other].into_iter()).unwrap();
            }
            let identity = known(folder.path(), ME).unwrap().unwrap();
            assert_eq!((identity.cluster, identity.origin), (authority.cluster, origin));
            // From then on the file says it.
            std::fs::remove_file(folder.path().join("authority")).unwrap();
            assert_eq!(known(folder.path(), ME).unwrap().unwrap().origin, origin);
            let other = known(folder.path(), HostId([3; 16]));
            assert!(matches!(other, Err(AuthorityError::Foreign(ME))), "it's another host's");
        }
    }
}
