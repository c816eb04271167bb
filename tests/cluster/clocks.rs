//! Wall clocks that jump by hours while hosts serve: what is promised goes by none of them, and certificates follow them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use granary_tests::seed::{self, Random};
use granary_tests::{Cluster, wait};

use crate::targets::Targets;
use crate::writers::{self, Writers};

const HOUR: i64 = 60 * 60;

/// Three hosts whose wall clocks are set by this test.
struct Clocks {
    cluster: Cluster,
    files: Vec<PathBuf>,
}

impl Clocks {
    fn start() -> Clocks {
        let mut cluster = Cluster::start(3);
        for guest in ["counter", "probe"] {
            cluster.deploy(guest);
        }
        let files: Vec<PathBuf> = cluster.hosts.iter().map(|host| host.scratch().join("clock")).collect();
        for (host, file) in cluster.hosts.iter_mut().zip(&files) {
            std::fs::write(file, "0").unwrap();
            assert!(host.stop().success());
            host.sabotage(Some(format!("clock:{}", file.display()).leak()));
            host.start_again();
        }
        cluster.settle();
        Clocks { cluster, files }
    }

    fn set(&self, at: usize, hours: i64) {
        let new = self.files[at].with_extension("new");
        std::fs::write(&new, (hours * HOUR).to_string()).unwrap();
        std::fs::rename(new, &self.files[at]).unwrap();
    }

    fn set_all(&self, hours: i64) {
        (0..3).for_each(|at| self.set(at, hours));
    }

    /// Starts a host again: it and the others have to show each other their certificates.
    fn restart(&mut self, at: usize) {
        assert!(self.cluster.hosts[at].stop().success());
        self.cluster.hosts[at].start_again();
    }
}

/// All jump together, as machines do whose time comes from one place; or one of them does.
#[test]
fn clocks_that_jump_by_hours_either_way_fail_no_call_and_keep_no_host_out() {
    let mut random = Random::new(seed::of_this_run());
    let mut clocks = Clocks::start();
    let targets = Arc::new(Targets::new(&clocks.cluster));
    targets.spare(&clocks.cluster, 2);
    let writers = Writers::start_at(targets.clone(), 4, 6, &mut random);
    writers.until_all_get_on(10);
    // Certificates of before hold no longer, or not yet, after each of these.
    for hours in [40, -40, 0] {
        clocks.set_all(hours);
        assert_eq!(hours_ahead(&clocks.cluster), hours, "guests are told the same");
        writers.until_all_get_on(10);
        clocks.restart(2);
        clocks.cluster.settle();
        writers.until_all_get_on(10);
    }
    // One that is wrong by less than a day is heard all the same.
    for hours in [20, -20] {
        clocks.set(0, hours);
        writers.until_all_get_on(10);
        clocks.restart(2);
        clocks.cluster.settle();
        writers.until_all_get_on(10);
    }
    clocks.set_all(0);
    assert_eq!(writers.failures(), [""; 0], "no clock fails a call");
    writers::check(&clocks.cluster, writers.stop());
}

/// A machine that boots without knowing the time, and learns it later.
#[test]
fn a_host_that_starts_days_behind_is_back_once_its_clock_is_right() {
    let mut clocks = Clocks::start();
    let refused = |clocks: &Clocks| {
        clocks.cluster.hosts[0].view()["cluster"]["connections_refused"]
            .as_u64()
            .unwrap()
    };
    let before = refused(&clocks);
    clocks.set(2, -72);
    clocks.restart(2);
    wait::until("the others refuse it", || (refused(&clocks) > before + 2).then_some(()));
    assert!(!clocks.cluster.is_settled());
    clocks.set(2, 0);
    clocks.cluster.settle();
}

/// By how many hours guests' clocks are ahead of this test's.
fn hours_ahead(cluster: &Cluster) -> i64 {
    let reply = wait::until("a guest answers", || {
        let reply = cluster.hosts[0].client().call("probe/clock/now_ms", "[]");
        (reply.status == 200).then_some(reply)
    });
    let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let ahead_s = (reply.integer() - i64::try_from(here).unwrap()) as f64 / 1000.0;
    (ahead_s / HOUR as f64).round() as i64
}
