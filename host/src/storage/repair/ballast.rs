//! Space that is kept for the moment when the disk is full: a file that holds nothing.
//!
//! On a full disk neither a start nor a checkpoint gets through: the snapshot store needs room to open, and space in the log is
//! only freed after images were written. So a file of some size is kept, and removed when one of the two would find less
//! free than that. It's made again when there is plenty of room.
//!
//! **Not here:** the reserve below which commits are refused (`space`); it's what keeps the ballast from being needed, unless
//! somebody else fills the disk.

use std::io;
use std::sync::Arc;

use super::super::files::Files;

pub(crate) const BALLAST: &str = "ballast";

/// See the module.
pub(crate) struct Ballast {
    files: Arc<dyn Files>,
    bytes: u64,
}

impl Ballast {
    /// A ballast of `bytes`; none when that is 0.
    pub(crate) fn new(files: Arc<dyn Files>, bytes: u64) -> Ballast {
        Ballast { files, bytes }
    }

    /// Gives the space back if the disk has less than that free. Errors are for whoever needs the space to find out.
    pub(crate) fn relieve(&self) {
        let Ok(space) = self.files.space() else { return };
        if space.free >= self.bytes {
            return;
        }
        if self.files.remove(BALLAST).is_ok() {
            let free = space.free;
            tracing::warn!(
                free,
                ballast = self.bytes,
                "the disk is nearly full: the ballast file was removed"
            );
        }
    }

    /// Takes the space if there is plenty, or gives it back if there should be none.
    pub(crate) fn load(&self) {
        let is_there = self.files.open(BALLAST);
        let done = match is_there {
            Ok(_) if self.bytes == 0 => self.files.remove(BALLAST),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "no ballast file could be made");
        }
    }

    fn make(&self) -> io::Result<()> {
        // Thrice: taking the ballast must not be what fills the disk.
        if self.bytes == 0 || self.files.space()?.free < 3 * self.bytes {
            return Ok(());
        }
        self.files.allocate(BALLAST, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::faulty::{Faults, FaultyFiles, Power};

    #[test]
    fn the_ballast_is_taken_when_there_is_room_and_given_back_when_there_is_none() {
        let files = FaultyFiles::new(Power::steady());
        let free = |free| {
            files.set_faults(Faults {
                free: Some(free),
                ..Faults::default()
            });
        };
        let ballast = Ballast::new(Arc::new(files.clone()), 100);
        free(299);
        ballast.load();
        assert_eq!(files.list("").unwrap().len(), 0, "it would have filled the disk");
        free(300);
        ballast.load();
        assert_eq!(files.list("").unwrap(), [BALLAST]);
        assert_eq!(files.space().unwrap().free, 200);
        ballast.relieve();
        assert_eq!(files.list("").unwrap(), [BALLAST]);
        free(99);
        ballast.relieve();
        assert_eq!(files.list("").unwrap().len(), 0);
        assert_eq!(files.space().unwrap().free, 199);
    }
}
