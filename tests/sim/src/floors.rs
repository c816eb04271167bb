//! What enough seeds must have reached: below these a run has proven little.

/// From so many seeds on.
pub const SEEDS: u64 = 500;

/// Group, name, and how often at least: about a third of what is usual.
pub const FLOORS: &[(&str, &str, u64)] = &[
    ("disk", "torn", 400),
    ("disk", "unsynced-kept", 400),
    ("disk", "unsynced-lost", 400),
    ("failed", "held", 85_000),
    ("failed", "moving", 15_000),
    ("failed", "no quorum", 2_000),
    ("failed", "read refused", 650),
    ("fault", "crash", 2_000),
    ("fault", "isolation", 850),
    ("fault", "join", 400),
    ("fault", "leave", 250),
    ("fault", "lossy", 900),
    ("fault", "move", 1_000),
    ("fault", "one-way", 750),
    ("fault", "pair", 450),
    ("fault", "pause", 1_000),
    ("fault", "power-loss", 200),
    ("fault", "reshuffle", 1_000),
    ("fault", "skew", 550),
    ("fault", "slow-disk", 550),
    ("fault", "split", 450),
    ("fault", "wipe", 200),
    ("message", "accept", 1_000_000),
    ("message", "acked", 800_000),
    ("message", "busy", 250_000),
    ("message", "confirm", 300_000),
    ("message", "confirmed", 250_000),
    ("message", "fetch", 1_000),
    ("message", "fetched", 1_000),
    ("message", "forget", 15_000),
    ("message", "nack", 75_000),
    ("message", "need-snap", 100_000),
    ("message", "prepare", 400_000),
    ("message", "promise", 55_000),
    ("message", "pull", 6_500),
    ("message", "pulled", 6_500),
    ("message", "release", 250_000),
    ("message", "seal", 25_000),
    ("message", "sealed", 10_000),
    ("network", "doubled", 30_000),
    ("network", "lost", 250_000),
    ("outcome", "given-up", 4_500),
    ("outcome", "timeout", 45_000),
    ("outcome", "unknown", 950),
    ("reached", "active", 15_000),
    ("reached", "configuration", 2_000),
    ("reached", "draining", 7_500),
    ("reached", "fenced", 3_000),
    ("reached", "held", 90_000),
    ("reached", "image", 3_500),
    ("reached", "isolated", 2_000),
    ("reached", "left", 250),
    ("reached", "preempting", 2_500),
    ("reached", "preparing", 100_000),
    ("reached", "reachable", 1_000),
    ("reached", "refused: absent", 1_000),
    ("reached", "refused: behind", 2_500),
    ("reached", "refused: below floor", 3_500),
    ("reached", "refused: full", 25_000),
    ("reached", "refused: installing", 20_000),
    ("reached", "refused: promised", 30_000),
    ("reached", "refused: sealed", 2_000),
    ("reached", "released", 7_000),
    ("reached", "serving", 20_000),
    ("reached", "writing back", 2_000),
    ("step", "add", 100_000),
    ("step", "delete", 15_000),
    ("step", "read", 75_000),
    ("step", "transfer", 100_000),
];

/// With whole hosts: from so many seeds on.
pub const WHOLE_SEEDS: u64 = 12;

/// With whole hosts: the least commits and reads of a seed that clients were told of.
pub const WHOLE_OPERATIONS: u64 = 2_000;

/// With whole hosts: the least faults of a seed.
pub const WHOLE_FAULTS: u64 = 20;

/// The same, with whole hosts. Faults come by chance, and some kinds seldom.
pub const WHOLE: &[(&str, &str, u64)] = &[];
