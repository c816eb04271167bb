//! What verbs write: all of it goes through here, by [`out!`], [`out_part!`] and [`note!`].
//!
//! A reader that has seen enough (`granary ls counter | head -1`) ends a verb without a word, as it ends any other program in a pipe.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// What a shell says of a program that a closed pipe ended: 128 and the number of SIGPIPE.
const PIPE_CLOSED: i32 = 141;

/// Writes a line to stdout; takes what `format!` takes.
macro_rules! out {
    ($($part:tt)+) => {
        $crate::output::line(format_args!($($part)+))
    };
}

/// Writes to stdout without an end of line, and at once.
macro_rules! out_part {
    ($($part:tt)+) => {
        $crate::output::part(format_args!($($part)+))
    };
}

/// Writes a line to stderr.
macro_rules! note {
    ($($part:tt)+) => {
        $crate::output::aside(format_args!($($part)+))
    };
}

pub(crate) use {note, out, out_part};

pub(crate) fn line(text: Arguments<'_>) {
    end_unless(write(&mut io::stdout().lock(), text, "\n"));
}

pub(crate) fn part(text: Arguments<'_>) {
    end_unless(write(&mut io::stdout().lock(), text, ""));
}

/// Whoever doesn't read what is said aside doesn't end the verb: what it does and prints goes on.
pub(crate) fn aside(text: Arguments<'_>) {
    let _ = write(&mut io::stderr().lock(), text, "\n");
}

fn write(to: &mut impl Write, text: Arguments<'_>, end: &str) -> io::Result<()> {
    to.write_fmt(text)?;
    to.write_all(end.as_bytes())?;
    to.flush()
}

fn end_unless(written: io::Result<()>) {
    if let Err(error) = written {
        if error.kind() != ErrorKind::BrokenPipe {
            note!("granary: stdout can't be written: {error}");
        }
        exit(status(&error));
    }
}

/// What the verb ends with when stdout fails.
fn status(error: &io::Error) -> i32 {
    if error.kind() == ErrorKind::BrokenPipe {
        PIPE_CLOSED
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        assert_eq!(status(&ErrorKind::BrokenPipe.into()), 141);
        assert_eq!(status(&ErrorKind::StorageFull.into()), 1);
    }

    #[test]
    fn a_line_is_ended_and_a_part_is_not() {
        let mut written = Vec::new();
        write(&mut written, format_args!("{}", 1), "\n").unwrap();
        write(&mut written, format_args!("\r{}", 2), "").unwrap();
        assert_eq!(written, b"1\n\r2");
    }
}
