//! How long a request waits between its bytes' arrival and its connection's turn on a worker thread: the time from the wake-up of
//! the connection's task to its next poll. That is the one queue that all requests go through, so its length says
//! whether more come in than the host can do.
//!
//! **Not here:** what's done about a long wait (`granary_core::admission`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

/// Stands between a socket and its connection's task, and notes when the socket wakes the task.
#[derive(Debug)]
pub(super) struct Wait {
    bell: Arc<Bell>,
    /// The bell, as the socket knows it.
    waker: Waker,
    /// The task that the bell wakes.
    task: Waker,
}

#[derive(Debug)]
struct Bell {
    started: Instant,
    /// Nanoseconds from `started` to the first wake-up since the last poll; 0 when there was none.
    rung: AtomicU64,
    task: Mutex<Waker>,
}

impl Wait {
    pub(super) fn new() -> Wait {
        let bell = Arc::new(Bell {
            started: Instant::now(),
            rung: AtomicU64::new(0),
            task: Mutex::new(Waker::noop().clone()),
        });
        Wait {
            waker: bell.clone().into(),
            bell,
            task: Waker::noop().clone(),
        }
    }

    /// Nanoseconds from the socket's wake-up to now; nothing when this poll has another reason.
    pub(super) fn ended(&self) -> Option<u64> {
        let rung = self.bell.rung.swap(0, Ordering::Relaxed);
        (rung != 0).then(|| self.bell.nanos().saturating_sub(rung))
    }

    /// What the socket is polled with, for the task that polls.
    pub(super) fn context(&mut self, task: &Context<'_>) -> Context<'_> {
        if !self.task.will_wake(task.waker()) {
            self.task.clone_from(task.waker());
            self.bell.task().clone_from(task.waker());
        }
        Context::from_waker(&self.waker)
    }
}

impl Bell {
    /// Never 0.
    fn nanos(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64 + 1
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Waker> {
        self.task.lock().expect("no panic under this lock")
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The first one counts. Whoever polls in between finds the bytes, and this wake-up is the next poll's.
        let _ = self
            .rung
            .compare_exchange(0, self.nanos(), Ordering::Relaxed, Ordering::Relaxed);
        // Woken outside the lock: what a waker does is not ours.
        let task = self.task().clone();
        task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wait_is_from_the_first_wake_up_to_the_poll() {
        let count = Arc::new(Count::default());
        let task = Waker::from(count.clone());
        let mut wait = Wait::new();
        assert_eq!(wait.ended(), None);
        let socket = wait.context(&Context::from_waker(&task)).waker().clone();
        socket.wake_by_ref();
        std::thread::sleep(Duration::from_millis(5));
        socket.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(wait.ended().unwrap() >= 5_000_000);
        assert_eq!(wait.ended(), None, "this poll has another reason");
    }

    #[test]
    fn another_task_is_woken_once_it_polls() {
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut wait = Wait::new();
        let socket = wait
            .context(&Context::from_waker(&first.clone().into()))
            .waker()
            .clone();
        wait.context(&Context::from_waker(&second.clone().into()));
        socket.wake();
        let woken = [first, second].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [0, 1]);
    }
}
