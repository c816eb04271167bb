//! Three offices with real disks, over a network of this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use granary_core::commit::{Change, Commit, Delta};
use granary_core::config_chain::config::{ClusterId, Member};
use granary_core::id::{Ballot, GrainKey, GrainName, GrainType, HostId, ModuleHash, Revision, Seq};
use granary_core::membership::{Change as Sight, Seen, Standing};
use granary_core::replication::messages::{Payload, Proposal};
use tokio::sync::Notify;

use super::handle::{Start, open};
use super::link::{Answer, Link};
use super::notes::{Edit, Opened};
use super::quic::Held;
use super::*;
use crate::clock::Clock;
use crate::storage::{SledStorage, Storage, StorageConfig};

const PATIENCE: Duration = Duration::from_secs(30);

/// Who hears whom.
#[derive(Default)]
struct Net {
    hosts: RwLock<BTreeMap<HostId, Handle>>,
    dead: RwLock<BTreeSet<HostId>>,
}

struct Wire {
    net: Arc<Net>,
    me: HostId,
}

impl Link for Wire {
    fn send(&self, to: HostId, frame: Bytes) {
        let dead = self.net.dead.read().unwrap();
        if !dead.contains(&to)
            && !dead.contains(&self.me)
            && let Some(handle) = self.net.hosts.read().unwrap().get(&to)
        {
            handle.frame(self.me, frame, Held::nothing());
        }
    }

    fn send_bulk(&self, to: HostId, frame: Bytes) {
        self.send(to, frame);
    }

    fn datagram(&self, _: HostId, _: Bytes) {}

    fn learn(&self, _: HostId, _: std::net::SocketAddr) {}

    fn dial(&self, _: String) {}

    fn call(&self, _: HostId, _: Bytes, _: Duration) -> Answer {
        Box::pin(async { Err(CallError::NotSent("no calls here".to_owned())) })
    }
}

struct Side {
    id: HostId,
    handle: Handle,
    storage: Arc<SledStorage>,
    office: Option<std::thread::JoinHandle<()>>,
    data: tempfile::TempDir,
}

impl Side {
    fn start(net: &Arc<Net>, data: tempfile::TempDir, founds: bool) -> Side {
        let storage = SledStorage::open(data.path(), StorageConfig::default()).unwrap();
        let (handle, inbox) = channel_to_office();
        storage.set_sink(Arc::new(handle.clone()));
        let id = storage.host();
        let member = Member {
            host: id,
            weight: 100,
            zone: String::new(),
        };
        let link = Wire {
            net: net.clone(),
            me: id,
        };
        let start = Start {
            data: data.path(),
            cluster: ClusterId([5; 16]),
            founds: founds.then_some(member),
            storage: storage.clone(),
            link: Arc::new(link),
            clock: Clock::start(),
            seed: 7,
            config: &ClusterConfig::new("127.0.0.1:1".parse().unwrap()),
        };
        let office = Some(open(start, &handle, inbox).unwrap());
        net.hosts.write().unwrap().insert(id, handle.clone());
        Side {
            id,
            handle,
            storage,
            office,
            data,
        }
    }

    /// Stops and starts it again.
    fn again(mut self, net: &Arc<Net>) -> Side {
        self.handle.stop();
        self.office.take().unwrap().join().unwrap();
        self.storage.close();
        let Side {
            storage, handle, data, ..
        } = self;
        net.hosts.write().unwrap().retain(|id, _| *id != storage.host());
        drop((storage, handle));
        Side::start(net, data, false)
    }

    fn see(&self, whom: HostId, standing: Standing) {
        let now = Seen {
            host: whom,
            incarnation: 1,
            renewal: 0,
            address: "127.0.0.1:1".parse().unwrap(),
            standing,
            since: granary_core::time::Time(0),
        };
        let was = Some(Seen {
            standing: Standing::Alive,
            ..now
        })
        .filter(|_| !standing.is_active());
        self.handle.seen(Sight { was, now });
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn cluster(net: &Arc<Net>) -> Vec<Side> {
    let sides: Vec<Side> = (0..3)
        .map(|i| Side::start(net, tempfile::tempdir().unwrap(), i == 0))
        .collect();
    for side in &sides {
        for other in sides.iter().filter(|other| other.id != side.id) {
            side.see(other.id, Standing::Alive);
        }
    }
    settled(&sides, 3).await;
    sides
}

async fn settled(sides: &[Side], members: usize) {
    for side in sides {
        until("all slots are served by all", async || {
            let view = side.handle.view(PATIENCE).await.unwrap();
            let config = view.config.as_ref();
            config.is_some_and(|config| config.members.len() == members && config.is_settled()) && view.installing == 0
        })
        .await;
    }
}

/// An activation that only notes what it hears.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<News>>,
    bell: Notify,
}

impl Hear for Ear {
    fn hear(self: Arc<Self>, news: News) {
        self.heard.lock().unwrap().push(news);
        self.bell.notify_one();
    }
}

impl Ear {
    async fn wait_for(&self, news: News) {
        let heard = async {
            while !self.heard.lock().unwrap().contains(&news) {
                self.bell.notified().await;
            }
        };
        let heard = tokio::time::timeout(PATIENCE, heard).await;
        heard.unwrap_or_else(|_| panic!("never heard {news:?}: {:?}", self.heard.lock().unwrap()));
    }
}

fn name(key: &str) -> GrainName {
    GrainName::new(GrainType::new("counter").unwrap(), GrainKey::new(key).unwrap())
}

fn commit(grain: &GrainName, ballot: Ballot, seq: u64, prev_hash: [u8; 16]) -> Proposal {
    let delta = Delta {
        memory_len: 1 << 16,
        globals: vec![u128::from(seq)],
        ..Delta::default()
    };
    let commit = Commit {
        grain: grain.clone(),
        ballot,
        seq: Seq(seq),
        prev_hash,
        module: ModuleHash([1; 32]),
        revision: Revision(1),
        change: Change::Delta(delta),
        replies: Vec::new(),
    };
    let mut bytes = Vec::new();
    commit.encode(&mut bytes);
    Proposal {
        seq: Seq(seq),
        prev_hash,
        hash: Commit::hash(&bytes),
        deletes: false,
        payload: Payload::Delta(bytes.into()),
    }
}

/// Commits `count` times after `opened`, and waits until all are. The last hash.
async fn write(side: &Side, grain: &GrainName, ear: &Ear, opened: &Opened, count: u64) -> [u8; 16] {
    let (first, mut last) = opened.head.map_or((0, [0; 16]), |head| (head.seq.0, head.hash));
    for seq in first + 1..=first + count {
        let proposal = commit(grain, opened.ballot, seq, last);
        last = proposal.hash;
        side.handle.propose(grain.id(), proposal);
    }
    ear.wait_for(News::Committed(Seq(first + count))).await;
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_served_by_another_host_when_the_first_is_dead() {
    let net = Arc::new(Net::default());
    let sides = cluster(&net).await;
    let (grain, ear) = (name("alice"), Arc::new(Ear::default()));
    let opened = sides[0].handle.open(&grain, ear.clone()).await.unwrap();
    assert!(opened.head.is_none() && opened.state.is_none());
    let last = write(&sides[0], &grain, &ear, &opened, 20).await;
    assert!(sides[0].handle.read(grain.id(), opened.ballot, Seq(20)).await);

    let held = sides[1].handle.open(&grain, Arc::new(Ear::default())).await;
    assert_eq!(held.err(), Some(OpenError::Held(sides[0].id)));
    net.dead.write().unwrap().insert(sides[0].id);
    for side in &sides[1..] {
        side.see(sides[0].id, Standing::Down);
    }
    let ear = Arc::new(Ear::default());
    let opened = sides[1].handle.open(&grain, ear.clone()).await.unwrap();
    let head = opened.head.unwrap();
    assert_eq!((head.seq, head.hash), (Seq(20), last));
    write(&sides[1], &grain, &ear, &opened, 3).await;
    for side in &sides[1..] {
        until("the copy is there", async || {
            side.storage
                .head(&grain)
                .unwrap()
                .is_some_and(|head| head.head.seq == Seq(23))
        })
        .await;
    }
}

/// A `volatile` grain is written when it leaves memory. A host that says good-bye before a quorum has that would have the others take
/// the grain over without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_activation_counts_until_its_last_commit_is_accepted() {
    let net = Arc::new(Net::default());
    let sides = cluster(&net).await;
    let (grain, ear) = (name("alice"), Arc::new(Ear::default()));
    let opened = sides[0].handle.open(&grain, ear.clone()).await.unwrap();
    assert_eq!(sides[0].handle.activations(), 1);
    net.dead.write().unwrap().insert(sides[0].id);
    let handle = &sides[0].handle;
    handle.propose(grain.id(), commit(&grain, opened.ballot, 1, [0; 16]));
    handle.close(grain.id(), None);
    assert!(handle.answers(PATIENCE).await, "it has taken both");
    assert_eq!(handle.activations(), 1, "nobody else has the commit");
    net.dead.write().unwrap().clear();
    ear.wait_for(News::Over).await;
    until("it's over", async || handle.activations() == 0).await;
    let mut head = None;
    until("another host takes it", async || {
        let opened = sides[1].handle.open(&grain, Arc::new(Ear::default())).await;
        head = opened.ok().and_then(|opened| opened.head);
        head.is_some()
    })
    .await;
    assert_eq!(head.unwrap().seq, Seq(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_hosts_start_again_and_nothing_is_lost() {
    let net = Arc::new(Net::default());
    let sides = cluster(&net).await;
    let names: Vec<GrainName> = (0..20).map(|i| name(&format!("g{i}"))).collect();
    let mut lasts = Vec::new();
    for (i, grain) in names.iter().enumerate() {
        let ear = Arc::new(Ear::default());
        let side = &sides[i % 3];
        let opened = side.handle.open(grain, ear.clone()).await.unwrap();
        lasts.push(write(side, grain, &ear, &opened, 1 + i as u64).await);
    }
    let mut again = Vec::new();
    for side in sides {
        again.push(side.again(&net));
    }
    for side in &again {
        for other in again.iter().filter(|other| other.id != side.id) {
            side.see(other.id, Standing::Alive);
        }
    }
    for (i, grain) in names.iter().enumerate() {
        let (side, ear) = (&again[(i + 1) % 3], Arc::new(Ear::default()));
        let mut opened = None;
        until("the grain can be taken", async || {
            opened = side.handle.open(grain, ear.clone()).await.ok();
            opened.is_some()
        })
        .await;
        let opened = opened.unwrap();
        let head = opened.head.expect("it was committed");
        assert_eq!((head.seq, head.hash), (Seq(1 + i as u64), lasts[i]));
        write(side, grain, &ear, &opened, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_changed_by_one_at_a_time() {
    let net = Arc::new(Net::default());
    let sides = cluster(&net).await;
    let table = granary_core::id::GrainId([9; 16]);
    // An edit that another host has interrupted may have been made all the same, so each looks first.
    let push = |byte: u8| -> Edit {
        Box::new(move |bytes: Option<&[u8]>| {
            let bytes = bytes.unwrap_or_default();
            (!bytes.contains(&byte)).then(|| [bytes, &[byte]].concat())
        })
    };
    let mut tasks = tokio::task::JoinSet::new();
    for (side, byte) in sides.iter().zip(1u8..) {
        let handle = side.handle.clone();
        tasks.spawn(async move {
            for turn in 0..5 {
                // Those that interrupt one another make way for longer each time: on a machine of any speed one gets through.
                let mut pause = Duration::from_millis(u64::from(byte) * 7);
                while handle.edit(table, push(byte * 16 + turn)).await == Edited::Again {
                    tokio::time::sleep(pause).await;
                    pause = pause * 3 / 2;
                }
            }
        });
    }
    tasks.join_all().await;
    let mut read = Edited::Again;
    until("the table can be read", async || {
        read = sides[0].handle.edit(table, Box::new(|_| None)).await;
        read != Edited::Again
    })
    .await;
    let Edited::Done(_, Some(mut bytes)) = read else {
        panic!("the table is empty")
    };
    bytes.sort_unstable();
    let expected: Vec<u8> = (1..=3u8)
        .flat_map(|byte| (0..5).map(move |turn| byte * 16 + turn))
        .collect();
    assert_eq!(bytes, expected);
}
