//! Writes lines, one after the other and each whole, as far as what they are written to lets it.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use super::ring::Entry;

/// How long a descriptor rests that takes nothing now and doesn't wait by itself.
const PAUSE: Duration = Duration::from_millis(10);

/// See the file's text.
pub(super) struct LineWriter<W, N> {
    out: W,
    /// Says how many lines were dropped.
    notice: N,
    /// Lines that were dropped, and nobody has read so.
    untold: u64,
    /// The last line was cut short: the next one begins with a line's end.
    is_torn: bool,
}

impl<W: Write, N: Fn(u64) -> String> LineWriter<W, N> {
    pub(super) fn new(out: W, notice: N) -> LineWriter<W, N> {
        LineWriter {
            out,
            notice,
            untold: 0,
            is_torn: false,
        }
    }

    /// Writes what comes next, and before it what is missing. How many lines are dropped by that.
    pub(super) fn write(&mut self, entry: &Entry) -> u64 {
        match entry {
            Entry::Gap(missing) => {
                self.untold += missing;
                // What can't be told now is told with the next line.
                self.tell();
                0
            }
            Entry::Line(line) => {
                let is_written = self.tell() && self.whole(line).is_ok();
                let dropped = u64::from(!is_written);
                self.untold += dropped;
                dropped
            }
        }
    }

    /// Whether nothing is untold any more.
    fn tell(&mut self) -> bool {
        if self.untold > 0 && self.whole(&(self.notice)(self.untold)).is_ok() {
            self.untold = 0;
        }
        self.untold == 0
    }

    fn whole(&mut self, line: &str) -> io::Result<()> {
        let text = format!("{}{line}\n", if self.is_torn { "\n" } else { "" });
        let mut left = text.as_bytes();
        while !left.is_empty() {
            match self.out.write(left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    left = &left[taken..];
                    self.is_torn = !left.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A descriptor that doesn't wait was handed down to this process: the thread waits instead.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes bytes by a script: so many, or an error.
    struct Script(Vec<Result<usize, ErrorKind>>, Vec<u8>);

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = match self.0.is_empty() {
                true => bytes.len(),
                false => self.0.remove(0)?,
            };
            let taken = most.min(bytes.len());
            self.1.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(script: Vec<Result<usize, ErrorKind>>, lines: &[&str]) -> (String, u64) {
        let mut writer = LineWriter::new(Script(script, Vec::new()), |dropped| format!("{dropped} dropped"));
        let dropped = lines.iter().map(|line| writer.write(&Entry::Line((*line).to_owned())));
        let dropped = dropped.sum();
        (String::from_utf8(writer.out.1).unwrap(), dropped)
    }

    #[test]
    fn a_line_that_is_taken_in_pieces_is_whole() {
        let pieces = vec![Ok(2), Err(ErrorKind::Interrupted), Err(ErrorKind::WouldBlock), Ok(1)];
        assert_eq!(written(pieces, &["abcdef"]), ("abcdef\n".to_owned(), 0));
    }

    #[test]
    fn a_line_that_is_cut_short_runs_into_no_other() {
        let full = vec![Ok(2), Err(ErrorKind::StorageFull)];
        assert_eq!(
            written(full, &["abcdef", "ghi"]),
            ("ab\n1 dropped\nghi\n".to_owned(), 1)
        );
    }

    #[test]
    fn what_is_missing_is_told_once_and_all_of_it() {
        let broken = vec![Err(ErrorKind::BrokenPipe); 3];
        // The first fails, the next two fail at the notice before them.
        assert_eq!(
            written(broken, &["a", "b", "c", "d", "e"]),
            ("3 dropped\nd\ne\n".to_owned(), 3)
        );
    }
}
