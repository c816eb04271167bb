//! The host's own threads and tasks. One that panics ends the process: what it was doing is half done, and a host that goes on without it
//! would look healthy and serve nothing, or promise what nobody keeps.
//!
//! Requests aren't among them: one that panics fails by itself.

use std::io;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::outlet;

/// The exit code of a host that a fault of its own, or of its disk, ends: "internal software error" of sysexits.h, which supervisors treat
/// as any failure.
const EXIT_CODE: i32 = 70;
/// How long a thread lives that is killed on purpose.
const DOOMED: Duration = Duration::from_millis(300);

/// Ends the process when it's dropped by a panic.
struct FailStop(&'static str);

impl Drop for FailStop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                name = self.0,
                "one of the host's own threads has died: the host stops, since nobody knows what it left undone"
            );
            end_process();
        }
    }
}

/// Ends the process at once because of a fault, once its log has the reason or had a moment to take it.
pub(crate) fn end_process() -> ! {
    outlet::last_words();
    std::process::exit(EXIT_CODE);
}

/// The same where not even what usually runs at a process' end may run any more.
pub(crate) fn abort() -> ! {
    outlet::last_words();
    std::process::abort();
}

/// Starts one of the host's own threads.
pub(crate) fn start(name: &'static str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || {
        let _fail_stop = FailStop(name);
        match doom_of(name) {
            None => run(),
            Some(Doom::Death) => {
                std::thread::sleep(DOOMED);
                panic!("killed on purpose");
            }
            Some(Doom::Stall) => loop {
                std::thread::park();
            },
        }
    });
    started.map_err(|error| io::Error::new(error.kind(), format!("the thread `{name}` can't be started: {error}")))
}

/// One of the host's own tasks.
pub(crate) async fn task<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let _fail_stop = FailStop(name);
    match doom_of(name) {
        None => work.await,
        Some(Doom::Death) => {
            tokio::time::sleep(DOOMED).await;
            panic!("killed on purpose");
        }
        Some(Doom::Stall) => std::future::pending().await,
    }
}

/// What a thread does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// It panics.
    Death,
    /// Nothing.
    Stall,
}

static DOOMED_THREAD: OnceLock<(String, Doom)> = OnceLock::new();

/// Dooms the thread or task of this name, before it's started. For tests of what comes of that.
pub fn doom(name: &str, doom: Doom) {
    // The first counts.
    DOOMED_THREAD.set((name.to_owned(), doom)).ok();
}

fn doom_of(name: &str) -> Option<Doom> {
    let (doomed, doom) = DOOMED_THREAD.get()?;
    (doomed == name).then_some(*doom)
}
