//! Lines that wait to be written: so many at most, and so many bytes.

use std::collections::VecDeque;

/// Lines that wait at most,
pub(super) const LINES_LIMIT: usize = 16_384;
/// and their bytes: 4 MiB. What a reader that stalls may cost the host.
const BYTES_LIMIT: usize = 4 << 20;

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Line(String),
    /// So many lines were dropped here.
    Gap(u64),
}

/// See the file's text.
#[derive(Debug, Default)]
pub(super) struct Ring {
    waiting: VecDeque<Entry>,
    bytes: usize,
    /// Lines that were dropped behind the last one that waits.
    missing: u64,
    /// Whether what was taken last is still being written.
    is_writing: bool,
}

impl Ring {
    /// Whether there was room. The newest lines are the ones that find none: the oldest say how it began.
    pub(super) fn push(&mut self, line: String) -> bool {
        if self.waiting.len() >= LINES_LIMIT || self.bytes + line.len() > BYTES_LIMIT {
            self.missing += 1;
            return false;
        }
        if self.missing > 0 {
            self.waiting.push_back(Entry::Gap(std::mem::take(&mut self.missing)));
        }
        self.bytes += line.len();
        self.waiting.push_back(Entry::Line(line));
        true
    }

    /// What comes next; what was taken before is written by now.
    pub(super) fn take(&mut self) -> Option<Entry> {
        let next = self.waiting.pop_front().or_else(|| {
            let missing = std::mem::take(&mut self.missing);
            (missing > 0).then_some(Entry::Gap(missing))
        });
        if let Some(Entry::Line(line)) = &next {
            self.bytes -= line.len();
        }
        self.is_writing = next.is_some();
        next
    }

    /// Whether all was written.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.missing == 0 && !self.is_writing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<Entry> {
        Some(Entry::Line(text.to_owned()))
    }

    #[test]
    fn a_gap_is_where_the_lines_were_dropped() {
        let mut ring = Ring::default();
        let long = "x".repeat(BYTES_LIMIT - 1);
        assert!(ring.push(long.clone()) && ring.push("a".to_owned()));
        assert!(!ring.push("b".to_owned()) && !ring.push("c".to_owned()));
        assert_eq!(ring.take(), line(&long));
        assert!(ring.push("d".to_owned()));
        assert_eq!(ring.take(), line("a"));
        assert_eq!(ring.take(), Some(Entry::Gap(2)));
        assert_eq!(ring.take(), line("d"));
        assert!(!ring.is_empty(), "it's being written");
        assert_eq!(ring.take(), None);
        assert!(ring.is_empty());
    }

    #[test]
    fn a_gap_is_told_without_a_line_behind_it() {
        let mut ring = Ring::default();
        for number in 0..=LINES_LIMIT {
            assert_eq!(ring.push("x".to_owned()), number < LINES_LIMIT);
        }
        for _ in 0..LINES_LIMIT {
            assert_eq!(ring.take(), line("x"));
        }
        assert_eq!((ring.take(), ring.take()), (Some(Entry::Gap(1)), None));
    }

    #[test]
    fn a_line_that_is_longer_than_all_may_be_is_dropped() {
        let mut ring = Ring::default();
        assert!(!ring.push("x".repeat(BYTES_LIMIT + 1)));
        assert_eq!(ring.take(), Some(Entry::Gap(1)));
    }
}
