//! The wall clock is read in one place: whoever waits by it waits for hours when it's set, so each use is one that docs/time.md lists.

use super::code::{strip, words};
use super::{Finding, Source};

/// Where it may be read.
const PLACE: &str = "host/src/clock.rs";
/// A type and its function, or the function alone, that reads it.
const READS: &[(&str, &str)] = &[
    ("SystemTime", "now"),
    ("UnixTime", "now"),
    ("OffsetDateTime", "now_utc"),
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let hosts = sources.iter().filter(|source| {
        let is_test = source.path.contains("/tests/") || source.path.ends_with("tests.rs");
        source.path.starts_with("host/src/") && source.path != PLACE && !is_test
    });
    let mut findings = Vec::new();
    for source in hosts {
        let stripped = strip(&source.text);
        let all: Vec<(usize, &str)> = words(&stripped).collect();
        for pair in all.windows(2) {
            let [(line, of), (_, reads)] = pair else { continue };
            if READS.contains(&(of, reads)) {
                findings.push(Finding::new(
                    format!("{}:{line}", source.path),
                    "the wall clock is read in host/src/clock.rs only, and docs/time.md says what for",
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        let (path, text) = (path.to_owned(), text.to_owned());
        check(&[Source { path, text }]).len()
    }

    #[test]
    fn the_wall_clock_is_read_in_one_place() {
        let reads = "let now = SystemTime::now();";
        assert_eq!(findings("host/src/audit.rs", reads), 1);
        assert_eq!(findings(PLACE, reads), 0);
        assert_eq!(findings("host/src/cluster/quic/tests.rs", reads), 0);
        assert_eq!(
            findings("host/src/audit.rs", "let now = Instant::now(); // SystemTime::now()"),
            0
        );
    }
}
