//! What `/metrics` shows of parts that count for themselves.

use crate::cluster::StationCounts;
use crate::storage::StorageStats;
use crate::telemetry::Figure;

/// What `/metrics` shows of this process' own log.
pub(super) const LOG_FIGURES: [Figure<u64>; 1] = [(
    "granary_log_records_dropped_total",
    "Records of the host's own log that were dropped: it couldn't be written, or its reader was too slow.",
    |dropped| *dropped,
)];

/// What `/metrics` shows of storage.
pub(super) const STORAGE_FIGURES: [Figure<StorageStats>; 11] = [
    (
        "granary_log_bytes",
        "Bytes of the commit log that aren't free.",
        |stats| stats.log_bytes,
    ),
    ("granary_log_appends_total", "Commits appended to the log.", |stats| {
        stats.appends
    }),
    (
        "granary_log_append_bytes_total",
        "Bytes of commits appended to the log.",
        |stats| stats.append_bytes,
    ),
    (
        "granary_log_groups_total",
        "Groups of commits written, one fdatasync each.",
        |stats| stats.groups,
    ),
    (
        "granary_checkpoints_total",
        "Checkpoints into the snapshot store.",
        |stats| stats.checkpoints,
    ),
    (
        "granary_dirty_grains",
        "Grains whose last commits are in the log only.",
        |stats| stats.dirty_grains,
    ),
    (
        "granary_snapshot_bytes",
        "Bytes of the snapshot store on disk.",
        |stats| stats.snapshot_bytes,
    ),
    ("granary_image_bytes", "Bytes of image files on disk.", |stats| {
        stats.image_bytes
    }),
    (
        "granary_snapshot_copies_total",
        "Times that the snapshot store was copied into a shorter one.",
        |stats| stats.snapshot_copies,
    ),
    (
        "granary_before_images",
        "Grains whose state from before a move to another module is kept.",
        |stats| stats.before_images,
    ),
    (
        "granary_snapshot_syncs_total",
        "Real syncs made for the snapshot store.",
        |stats| stats.snapshot_syncs,
    ),
];

/// What `/metrics` shows of grains that could not be moved.
pub(super) const UPGRADE_FIGURES: [Figure<u64>; 1] = [(
    "granary_upgrade_stuck_grains",
    "Grains that are known to be on an older revision because moving them failed.",
    |stuck| *stuck,
)];

/// What `/metrics` shows of the cluster.
pub(super) const CLUSTER_FIGURES: [Figure<StationCounts>; 11] = [
    (
        "granary_cluster_sent_bytes_total",
        "Bytes of UDP sent to other hosts.",
        |counts| counts.sent,
    ),
    (
        "granary_cluster_received_bytes_total",
        "Bytes of UDP received from other hosts.",
        |counts| counts.received,
    ),
    (
        "granary_cluster_refused_connections_total",
        "Connections of strangers, or of hosts that aren't who they say, that were refused.",
        |counts| counts.refused,
    ),
    (
        "granary_cluster_half_open_connections",
        "Connections of which it isn't known yet whose they are.",
        |counts| counts.half_open,
    ),
    (
        "granary_cluster_held_bytes",
        "Bytes of other hosts' frames, questions and answers that are in memory.",
        |counts| counts.held_bytes,
    ),
    (
        "granary_cluster_waiting_bytes",
        "Bytes of frames that wait to be sent to other hosts.",
        |counts| counts.waiting_bytes,
    ),
    (
        "granary_cluster_dropped_frames_total",
        "Frames to or from other hosts that were dropped since too many waited; they are asked for again.",
        |counts| counts.dropped_frames,
    ),
    (
        "granary_cluster_journal_waiting_bytes",
        "Bytes of promises and votes that aren't on the disk yet.",
        |counts| counts.journal_bytes,
    ),
    (
        "granary_cluster_busy_total",
        "Times that the thread which decides on this host's part in its cluster was busy for more than 100 ms.",
        |counts| counts.busy,
    ),
    ("granary_cluster_other_hosts", "Other hosts that answer.", |counts| {
        counts.others
    }),
    (
        "granary_cluster_configuration",
        "The number of the configuration in force.",
        |counts| counts.configuration,
    ),
];
