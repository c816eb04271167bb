//! The knobs of dirty tracking.

/// How changed pages are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Userfaultfd if the kernel has all of it, else comparing.
    #[default]
    Auto,
    /// Userfaultfd, or the host doesn't start.
    Userfaultfd,
    /// Comparing with copies: any kernel, more memory and time.
    Compare,
}

/// The knobs of [`Tracking`](super::Tracking).
#[derive(Clone, Debug)]
pub struct SnapshotConfig {
    /// How changed pages are found.
    pub choice: Choice,
    /// The most pages that are kept as copies, over all grains, in bytes. Beyond it a page that differs much from its base is protected
    /// after every turn, and saved whole when it changes.
    pub hot_bytes: usize,
    /// After how many commits in which a page did not change it's protected again.
    pub quiet_commits: u8,
}

impl Default for SnapshotConfig {
    fn default() -> SnapshotConfig {
        SnapshotConfig {
            choice: Choice::Auto,
            hot_bytes: 256 << 20,
            quiet_commits: 32,
        }
    }
}
