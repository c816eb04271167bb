//! Where this process' lines go, on their way to stdout or stderr: into a ring, from which a thread of its own writes them.
//!
//! A log on a disk that is full, or in a pipe that nobody reads, is no reason to stop, slow or end what serves. So whoever has a line leaves
//! it here and goes on. What finds no room, or can't be written, is dropped and counted; the next line that can be written says how many.
//!
//! **Not here:** what a line says and how (the program's own), and what becomes of it behind the descriptor: files, their age and their size are
//! whoever's who started the process.

mod line_writer;
mod ring;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use self::line_writer::LineWriter;
use self::ring::Ring;

/// How long a process that ends because of a fault waits for its log: its last line says why it ends, and a log that stalls must not keep it.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// A place for lines. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Outlet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    /// There is something to be written.
    more: Condvar,
    /// All was written.
    written: Condvar,
    dropped: AtomicU64,
}

impl Outlet {
    /// Starts the thread that writes lines. `notice` is the line that says how many were dropped.
    ///
    /// The thread is left alone when the process ends: it may be waiting for a reader for good.
    pub fn start(
        name: &str,
        out: impl Write + Send + 'static,
        notice: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Outlet> {
        let outlet = Outlet::default();
        let (shared, thread) = (outlet.0.clone(), std::thread::Builder::new().name(name.to_owned()));
        thread.spawn(move || shared.write_all_to(LineWriter::new(out, notice)))?;
        Ok(outlet)
    }

    /// Leaves a line, without its end, to be written. Never waits for the writer.
    pub fn push(&self, line: String) {
        let fits = self.0.lock().push(line);
        match fits {
            true => self.0.more.notify_one(),
            false => drop(self.0.dropped.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Waits until all lines so far were written or dropped, for so long at most. Whether they were.
    pub fn flush(&self, patience: Duration) -> bool {
        let limit = Instant::now() + patience;
        let mut ring = self.0.lock();
        while !ring.is_empty() {
            let Some(left) = limit.checked_duration_since(Instant::now()) else {
                return false;
            };
            ring = self.0.written.wait_timeout(ring, left).expect(UNPOISONED).0;
        }
        true
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Default for Outlet {
    fn default() -> Outlet {
        Outlet(Arc::new(Shared {
            ring: Mutex::default(),
            more: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
        }))
    }
}

const UNPOISONED: &str = "no panic under this lock";

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect(UNPOISONED)
    }

    fn write_all_to<W: Write, N: Fn(u64) -> String>(&self, mut writer: LineWriter<W, N>) {
        let mut ring = self.lock();
        loop {
            let Some(entry) = ring.take() else {
                self.written.notify_all();
                ring = self.more.wait(ring).expect(UNPOISONED);
                continue;
            };
            drop(ring);
            let dropped = writer.write(&entry);
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
            ring = self.lock();
        }
    }
}

static LOG: OnceLock<Outlet> = OnceLock::new();

/// Makes an outlet the one of this process' log: it's counted in the metrics, and waited for, a moment, when a fault ends the process.
/// The first one counts.
pub fn keep_log(outlet: Outlet) {
    LOG.set(outlet).ok();
}

/// Records of this process' log that were dropped so far.
pub(crate) fn dropped() -> u64 {
    LOG.get().map_or(0, Outlet::dropped)
}

/// Gives the log's last lines a moment to be written.
pub(crate) fn last_words() {
    if let Some(log) = LOG.get() {
        log.flush(LAST_PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::ring::LINES_LIMIT;
    use super::*;

    /// Takes what is written when it's told to, and says that it was asked.
    struct Gate {
        asked: Sender<()>,
        open: Receiver<()>,
        seen: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            // Once the test lets go of the gate it's open for good.
            let _ = self.open.recv();
            self.seen.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn notice(dropped: u64) -> String {
        format!("{dropped} records were dropped")
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up_and_says_later_what_is_missing() {
        let ((asked, is_asked), (gate, open)) = (channel(), channel());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stalled = Gate {
            asked,
            open,
            seen: seen.clone(),
        };
        let outlet = Outlet::start("log", stalled, notice).unwrap();
        outlet.push("first".to_owned());
        is_asked.recv().unwrap();
        // The thread waits for its reader now, with nothing left in the ring.
        for number in 0..LINES_LIMIT + 7 {
            outlet.push(format!("line {number}"));
        }
        assert_eq!(outlet.dropped(), 7);
        assert!(!outlet.flush(Duration::ZERO), "it waits for nobody");
        drop(gate);
        assert!(outlet.flush(Duration::from_secs(60)));
        outlet.push("again".to_owned());
        assert!(outlet.flush(Duration::from_secs(60)));
        let text = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let (last, before) = (lines.len() - 1, format!("line {}", LINES_LIMIT - 1));
        assert_eq!(lines[0], "first");
        assert_eq!(lines[last - 2..], [before.as_str(), "7 records were dropped", "again"]);
        assert_eq!(lines.len(), LINES_LIMIT + 3);
    }

    #[test]
    fn a_writer_that_fails_costs_its_records_only() {
        let refused = Arc::new(Mutex::new(true));
        let seen = Arc::new(Mutex::new(Vec::new()));
        struct Disk(Arc<Mutex<bool>>, Arc<Mutex<Vec<u8>>>);
        impl Write for Disk {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if *self.0.lock().unwrap() {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.1.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let outlet = Outlet::start("log", Disk(refused.clone(), seen.clone()), notice).unwrap();
        for line in ["one", "two", "three"] {
            outlet.push(line.to_owned());
        }
        assert!(outlet.flush(Duration::from_secs(60)));
        assert_eq!(outlet.dropped(), 3);
        *refused.lock().unwrap() = false;
        outlet.push("four".to_owned());
        assert!(outlet.flush(Duration::from_secs(60)));
        let text = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "3 records were dropped\nfour\n");
        assert_eq!(outlet.dropped(), 3);
    }
}
