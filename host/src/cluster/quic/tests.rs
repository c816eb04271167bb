//! Hosts on loopback: what gets there, who is refused.

mod stopping;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use granary_core::config_chain::config::ClusterId;
use granary_core::id::{HostId, Lsn};
use granary_core::membership::Life;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::super::link::{CallError, Link};
use super::identity::Applicant;
use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn host(n: u8) -> HostId {
    HostId([n; 16])
}

/// What a side has heard.
#[derive(Default)]
struct Heard {
    said: Mutex<Vec<(HostId, Bytes)>>,
    introduced: Mutex<Vec<(HostId, SocketAddr)>>,
    disowned: Mutex<Vec<(HostId, String)>>,
    news: Notify,
}

impl Events for Heard {
    fn frame(&self, from: HostId, frame: Bytes, _: Held) {
        self.said.lock().unwrap().push((from, frame));
        self.news.notify_waiters();
    }

    fn datagram(&self, from: HostId, datagram: Bytes) {
        self.frame(from, datagram, Held::nothing());
    }

    fn introduced(&self, host: HostId, address: SocketAddr) {
        self.introduced.lock().unwrap().push((host, address));
        self.news.notify_waiters();
    }

    fn ask(&self, from: HostId, question: Bytes) -> Answering {
        Box::pin(async move {
            match &question[..] {
                b"unreadable" => Answered::NotTaken,
                b"fatal" => Answered::Lost,
                b"endless" => std::future::pending().await,
                _ => Answered::With([&from.0[..1], &question].concat().into()),
            }
        })
    }

    fn joins(&self, _: HostId, _: SocketAddr) -> Joining {
        Box::pin(std::future::ready(Ok(())))
    }

    fn disowned(&self, by: HostId, why: &str) {
        self.disowned.lock().unwrap().push((by, why.to_owned()));
        self.news.notify_waiters();
    }

    fn rewound(&self, _: HostId, _: Life, _: Lsn) -> Telling {
        Box::pin(std::future::ready(()))
    }

    fn hosts(&self) -> Vec<(HostId, SocketAddr)> {
        vec![(host(9), "10.0.0.9:1".parse().unwrap())]
    }
}

impl Heard {
    async fn until(&self, holds: impl Fn(&Heard) -> bool) {
        let wait = async {
            loop {
                let news = self.news.notified();
                if holds(self) {
                    return;
                }
                news.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it happens");
    }
}

struct Side {
    quic: Arc<Quic>,
    heard: Arc<Heard>,
    folder: TempDir,
}

impl Drop for Side {
    fn drop(&mut self) {
        self.quic.close(false);
    }
}

fn authority(cluster: u8) -> Authority {
    Authority::found(ClusterId([cluster; 16])).unwrap()
}

fn side(n: u8, authority: &Authority) -> Side {
    started(n, authority, 1, 0)
}

/// The n-th start of a host, with a log of so many commits.
fn started(n: u8, authority: &Authority, incarnation: u32, commits: u64) -> Side {
    let identity = Identity::of(authority, host(n), Origin::Founded).unwrap();
    begun(identity, Some(authority.clone()), incarnation, commits)
}

fn started_at(listen: &str, n: u8, authority: &Authority) -> Side {
    let identity = Identity::of(authority, host(n), Origin::Founded).unwrap();
    begun_at(listen, identity, Some(authority.clone()), 1, 0)
}

fn begun(identity: Identity, authority: Option<Authority>, incarnation: u32, commits: u64) -> Side {
    begun_at("127.0.0.1:0", identity, authority, incarnation, commits)
}

fn begun_at(listen: &str, identity: Identity, authority: Option<Authority>, incarnation: u32, commits: u64) -> Side {
    let folder = tempfile::tempdir().unwrap();
    let quic = Quic::bind(QuicSettings {
        listen: listen.parse().unwrap(),
        advertise: None,
        me: identity.host,
        incarnation,
        draw: 7,
        durable: Box::new(move || Lsn(commits)),
        identity,
        authority,
        folder: folder.path().to_owned(),
        memory: 16 << 20,
    })
    .unwrap();
    let heard = Arc::new(Heard::default());
    quic.serve(heard.clone());
    Side { quic, heard, folder }
}

async fn asked(from: &Side, to: HostId) -> Result<Bytes, CallError> {
    from.quic.call(to, Bytes::from_static(b"?"), PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_come_in_order_and_questions_are_answered() {
    let authority = authority(1);
    let (a, b) = (side(1, &authority), side(2, &authority));
    a.quic.learn(host(2), b.quic.advertised());
    for n in 0..100u8 {
        a.quic.send(host(2), Bytes::copy_from_slice(&[n]));
    }
    b.heard.until(|heard| heard.said.lock().unwrap().len() == 100).await;
    let said = b.heard.said.lock().unwrap().clone();
    assert!(
        said.iter()
            .zip(0..)
            .all(|((from, frame), n)| *from == host(1) && frame[..] == [n])
    );
    assert_eq!(asked(&a, host(2)).await, Ok(Bytes::from_static(b"\x01?")));
    // The address that it was dialled from is good enough for an answer.
    assert_eq!(asked(&b, host(1)).await, Ok(Bytes::from_static(b"\x02?")));
    let long = Bytes::from(vec![7; 5 << 20]);
    a.quic.send_bulk(host(2), long.clone());
    b.heard
        .until(|heard| {
            heard
                .said
                .lock()
                .unwrap()
                .last()
                .is_some_and(|(_, frame)| *frame == long)
        })
        .await;
    a.quic.datagram(host(2), Bytes::from_static(b"datagram"));
    b.heard
        .until(|heard| {
            heard
                .said
                .lock()
                .unwrap()
                .last()
                .is_some_and(|(_, frame)| &frame[..] == b"datagram")
        })
        .await;
}

/// Only what was not taken on may be sent again by itself: who was lost with the question may have done all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_not_taken_on_was_not_sent_and_one_that_is_lost_may_have_been() {
    let authority = authority(1);
    let (a, b) = (side(1, &authority), side(2, &authority));
    a.quic.learn(host(2), b.quic.advertised());
    let ask = async |question: &'static [u8]| {
        let question = Bytes::from_static(question);
        a.quic.call(host(2), question, PATIENCE).await
    };
    assert!(matches!(ask(b"unreadable").await, Err(CallError::NotSent(_))));
    assert!(matches!(ask(b"fatal").await, Err(CallError::Unknown(_))));
    assert!(ask(b"?").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_is_asked_who_it_is() {
    let authority = authority(1);
    let (a, b) = (side(1, &authority), side(2, &authority));
    a.quic.dial(b.quic.advertised().to_string());
    a.heard
        .until(|heard| *heard.introduced.lock().unwrap() == [(host(2), b.quic.advertised())])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_another_cluster_is_refused_by_both_sides() {
    let (mine, other) = (side(1, &authority(1)), side(2, &authority(2)));
    other.quic.learn(host(1), mine.quic.advertised());
    assert!(matches!(asked(&other, host(1)).await, Err(CallError::NotSent(_))));
    // The same cluster's name, another authority: made up, or founded twice.
    let impostor = side(2, &authority(1));
    impostor.quic.learn(host(1), mine.quic.advertised());
    assert!(matches!(asked(&impostor, host(1)).await, Err(CallError::NotSent(_))));
    refused(&mine, 2).await;
    assert!(mine.heard.said.lock().unwrap().is_empty());
}

/// Waits until a side has refused as many as this.
async fn refused(side: &Side, count: u64) {
    let wait = async {
        while side.quic.refusals() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("they are refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_refused_though_its_host_believes_this_one() {
    let authority = authority(1);
    let mine = side(1, &authority);
    // What a host would send that has stolen this cluster's names and root, but not its key.
    let forged = Authority::found(authority.cluster).unwrap();
    let mut forged = Identity::of(&forged, host(2), Origin::Joined).unwrap();
    forged.believe(authority.certificate().to_vec());
    let impostor = begun(forged, None, 1, 0);
    impostor.quic.learn(host(1), mine.quic.advertised());
    assert!(matches!(asked(&impostor, host(1)).await, Err(CallError::NotSent(_))));
    refused(&mine, 1).await;
}

/// A host's certificate signs for names below its own. What it signs for another host's is believed by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_can_not_pass_for_another_one() {
    let authority = authority(1);
    let mine = side(1, &authority);
    let applicant = Applicant::new(host(3)).unwrap();
    let of_host_2 = authority.admit(host(2), applicant.public_key()).unwrap();
    let root = authority.certificate().to_vec();
    let admitted = applicant.admitted(authority.cluster, Origin::Joined, root.clone(), of_host_2.clone());
    assert!(matches!(admitted, Err(AuthorityError::Damaged)), "not even by itself");
    let applicant = Applicant::new(host(2)).unwrap();
    let certificate = authority.admit(host(2), applicant.public_key()).unwrap();
    let mut liar = applicant
        .admitted(authority.cluster, Origin::Joined, root, certificate)
        .unwrap();
    liar.host = host(3);
    let liar = begun(liar, None, 1, 0);
    liar.quic.learn(host(1), mine.quic.advertised());
    assert!(matches!(asked(&liar, host(1)).await, Err(CallError::NotSent(_))));
    refused(&mine, 1).await;
    assert!(mine.heard.said.lock().unwrap().is_empty());
}

/// Many that say nothing take little, and don't keep a host of the cluster out.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_take_no_peers_place() {
    let authority = authority(1);
    let (a, b) = (side(1, &authority), side(2, &authority));
    let fingerprint = authority.fingerprint();
    let mut config = tls::first_contact(fingerprint, authority.cluster).unwrap();
    config.transport_config(Arc::default());
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let name = tls::cluster_name(authority.cluster);
    let mut open = Vec::new();
    let mut turned_away = 0;
    for _ in 0..80 {
        let connecting = endpoint
            .connect_with(config.clone(), b.quic.advertised(), &name)
            .unwrap();
        match connecting.await {
            Ok(connection) => open.push(connection),
            Err(_) => turned_away += 1,
        }
    }
    assert!(turned_away > 0 && open.len() < 80, "{turned_away} of 80");
    // What one of them writes without end isn't taken.
    let (mut send, _receive) = open[0].open_bi().await.unwrap();
    let writing = async { while send.write_all(&[7; 1 << 16]).await.is_ok() {} };
    // It's cut off, or waits.
    let _ = tokio::time::timeout(Duration::from_millis(300), writing).await;
    let written = open[0].stats().udp_tx.bytes;
    assert!(written < 512 << 10, "{written}");
    // Another address has places left.
    let other = started_at("127.0.0.2:0", 3, &authority);
    other.quic.learn(host(2), b.quic.advertised());
    assert!(asked(&other, host(2)).await.is_ok());
    drop(open);
    endpoint.close(0u32.into(), b"");
    a.quic.learn(host(2), b.quic.advertised());
    reaches(&a, host(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_who_it_should_be_gets_nothing() {
    let authority = authority(1);
    let (a, b) = (side(1, &authority), side(2, &authority));
    a.quic.learn(host(3), b.quic.advertised());
    let Err(CallError::NotSent(why)) = asked(&a, host(3)).await else {
        panic!("it isn't host 3")
    };
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_this_host_is_refused() {
    let authority = authority(1);
    let (a, copy) = (side(1, &authority), side(1, &authority));
    copy.quic.learn(host(1), a.quic.advertised());
    assert!(asked(&copy, host(1)).await.is_err());
    refused(&a, 1).await;
}

/// Asks until there's an answer.
async fn reaches(from: &Side, to: HostId) {
    let again = async {
        while asked(from, to).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it's reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_host_takes_one_process_at_a_time_for_a_host_and_the_one_that_it_left_ends() {
    let authority = authority(1);
    let (first, third) = (side(1, &authority), side(2, &authority));
    first.quic.learn(host(2), third.quic.advertised());
    assert!(asked(&first, host(2)).await.is_ok());

    let copy = started(1, &authority, 2, 0);
    copy.quic.learn(host(2), third.quic.advertised());
    copy.quic.send(host(2), Bytes::from_static(b"an acknowledgement"));
    assert!(asked(&copy, host(2)).await.is_err());
    refused(&third, 1).await;
    // Nor is it taken by being dialled.
    third.quic.learn(host(1), copy.quic.advertised());
    assert!(asked(&third, host(1)).await.is_err());
    refused(&third, 2).await;
    assert!(
        third.heard.said.lock().unwrap().is_empty(),
        "nothing of what it said is heard"
    );
    assert!(asked(&first, host(2)).await.is_ok());
    assert!(copy.heard.disowned.lock().unwrap().is_empty(), "it might be a restart");

    // Now the first one is out of reach, and comes back when the other one was taken for it.
    first.quic.close(false);
    reaches(&copy, host(2)).await;
    let back = side(1, &authority);
    back.quic.learn(host(2), third.quic.advertised());
    assert!(asked(&back, host(2)).await.is_err());
    back.heard
        .until(|heard| !heard.disowned.lock().unwrap().is_empty())
        .await;
    let (by, why) = back.heard.disowned.lock().unwrap()[0].clone();
    assert!(by == host(2) && why.contains("start 2 of this host is known"), "{why}");
    assert!(asked(&copy, host(2)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_older_than_what_its_host_has_acknowledged_is_refused_for_good() {
    let authority = authority(1);
    let (first, third) = (started(1, &authority, 1, 30), side(2, &authority));
    first.quic.learn(host(2), third.quic.advertised());
    first.quic.send(host(2), Bytes::from_static(b"an acknowledgement"));
    third.heard.until(|heard| heard.said.lock().unwrap().len() == 1).await;
    drop(first);
    let backup = started(1, &authority, 2, 29);
    backup.quic.learn(host(2), third.quic.advertised());
    assert!(asked(&backup, host(2)).await.is_err());
    backup
        .heard
        .until(|heard| !heard.disowned.lock().unwrap().is_empty())
        .await;
    let why = backup.heard.disowned.lock().unwrap()[0].1.clone();
    assert!(why.contains("older than what this host has acknowledged"), "{why}");
    let newest = started(1, &authority, 3, 30);
    newest.quic.learn(host(2), third.quic.advertised());
    reaches(&newest, host(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_without_a_certificate_is_refused() {
    let mine = side(1, &authority(1));
    let mut config = tls::first_contact(authority_of(&mine), mine.quic.cluster()).unwrap();
    config.transport_config(Arc::default());
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let name = tls::cluster_name(mine.quic.cluster());
    let connection = endpoint
        .connect_with(config, mine.quic.advertised(), &name)
        .unwrap()
        .await;
    // It speaks the protocol of those who join, and says nothing that this understands.
    let connection = connection.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(b"let me in").await.unwrap();
    send.finish().unwrap();
    assert!(receive.read_to_end(100).await.is_err());
    assert_eq!(mine.quic.refusals(), 1);
}

fn authority_of(side: &Side) -> [u8; 32] {
    side.quic.authority().unwrap().fingerprint()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_one_host_join() {
    let a = side(1, &authority(1));
    let token = a.quic.token(Duration::from_secs(60)).unwrap().unwrap();
    let identity = join(&token, host(2)).await.unwrap();
    assert_eq!(
        identity.hosts,
        [(host(9), "10.0.0.9:1".parse().unwrap()), (host(1), a.quic.advertised())]
    );
    assert_eq!(identity.origin, Origin::Joined);
    let b = begun(identity, None, 1, 0);
    assert!(
        b.quic.token(Duration::from_secs(60)).unwrap().is_none(),
        "it lets nobody in"
    );
    b.quic.learn(host(1), a.quic.advertised());
    assert_eq!(asked(&b, host(1)).await, Ok(Bytes::from_static(b"\x02?")));

    let refused = |result: Result<_, JoinError>| result.err().map(|error| error.to_string()).unwrap_or_default();
    let used = refused(join(&token, host(3)).await.map(drop));
    assert!(used.contains("used by another host"), "{used}");
    let guessed = JoinToken {
        secret: [1; 16],
        ..token.clone()
    };
    assert!(refused(join(&guessed, host(3)).await.map(drop)).contains("hasn't made"));
    let late = a.quic.token(Duration::ZERO).unwrap().unwrap();
    assert!(refused(join(&late, host(3)).await.map(drop)).contains("expired"));
    let forged = JoinToken {
        expires: u64::MAX,
        ..late
    };
    assert!(refused(join(&forged, host(3)).await.map(drop)).contains("expired"));
    let mistaken = JoinToken {
        fingerprint: [0; 32],
        ..a.quic.token(Duration::from_secs(60)).unwrap().unwrap()
    };
    assert!(matches!(
        join(&mistaken, host(3)).await,
        Err(JoinError::Unreachable(..))
    ));
    assert!(a.folder.path().join("tokens").exists());
    // Nobody joins as a host that's there.
    let token = a.quic.token(Duration::from_secs(60)).unwrap().unwrap();
    for there in [host(1), host(9)] {
        assert!(refused(join(&token, there).await.map(drop)).contains("is in the cluster and answers"));
    }
}

/// Both authorities are believed while one takes over; then the earlier one lets nobody in any more.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_go_over_to_another_authority_and_the_earlier_one_counts_no_more() {
    let (old, next) = (authority(1), authority(1));
    let (a, b) = (side(1, &old), side(2, &old));
    a.quic.learn(host(2), b.quic.advertised());
    b.quic.learn(host(1), a.quic.advertised());
    let root = || next.certificate().to_vec();
    for side in [&a, &b] {
        side.quic
            .change_identity(|identity| {
                identity.believe(root());
                Ok(())
            })
            .unwrap();
    }
    assert!(asked(&a, host(2)).await.is_ok());
    let adopt = |side: &Side| {
        let key = side.quic.identity().public_key().unwrap();
        let certificate = next.admit(side.quic.me(), &key).unwrap();
        side.quic
            .change_identity(|identity| identity.adopt(root(), certificate))
            .unwrap();
    };
    adopt(&a);
    // One has it, the other one not yet.
    assert!(asked(&a, host(2)).await.is_ok() && asked(&b, host(1)).await.is_ok());
    adopt(&b);
    for side in [&a, &b] {
        side.quic
            .change_identity(|identity| {
                identity.believe_one();
                Ok(())
            })
            .unwrap();
        side.quic.part_from(|_| true);
        assert!(side.quic.authority().is_none(), "the earlier one isn't believed");
    }
    reaches(&a, host(2)).await;
    reaches(&b, host(1)).await;
    let kept = Identity::open(a.folder.path(), host(1)).unwrap().unwrap();
    assert!(kept.believes(&next.fingerprint()) && !kept.believes(&old.fingerprint()));
    let thief = side(3, &old);
    thief.quic.learn(host(1), a.quic.advertised());
    assert!(asked(&thief, host(1)).await.is_err());
    assert!(matches!(a.quic.take_authority(old), Err(AuthorityError::Damaged)));
    a.quic.take_authority(next).unwrap();
    assert!(a.quic.token(Duration::from_secs(60)).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_by_the_clock_on_the_wall_and_taken() {
    let authority = authority(1);
    let (a, b) = (side(1, &authority), side(2, &authority));
    let hours = |count: u64| Duration::from_secs(count * 60 * 60);
    let now = SystemTime::now();
    assert!(!a.quic.renew_if_due(now + hours(11)).unwrap());
    assert!(a.quic.renew_if_due(now + hours(13)).unwrap());
    assert!(b.quic.renew_if_due(now - hours(1)).unwrap(), "the clock was put back");
    a.quic.learn(host(2), b.quic.advertised());
    assert!(asked(&a, host(2)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_comes_back_is_reached_again() {
    let authority = authority(1);
    let a = side(1, &authority);
    let b = side(2, &authority);
    a.quic.learn(host(2), b.quic.advertised());
    assert!(asked(&a, host(2)).await.is_ok());
    drop(b);
    let back = started(2, &authority, 2, 0);
    a.quic.learn(host(2), back.quic.advertised());
    reaches(&a, host(2)).await;
}

#[test]
fn the_authority_is_kept_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    assert!(Authority::open(folder.path()).unwrap().is_none());
    let mine = authority(4);
    mine.keep(folder.path()).unwrap();
    assert_eq!(Authority::open(folder.path()).unwrap(), Some(mine));
    let file = folder.path().join("authority");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&file, b"rubbish").unwrap();
    assert!(matches!(Authority::open(folder.path()), Err(AuthorityError::Damaged)));
}
