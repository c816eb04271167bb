//! Hosts on loopback: what gets there, who is refused.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use granary_core::config_chain::config::ClusterId;
use granary_core::id::{HostId, Lsn};
use tempfile::TempDir;
use tokio::sync::Notify;

use super::super::link::{CallError, Link};
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
    fn frame(&self, from: HostId, frame: Bytes) {
        self.said.lock().unwrap().push((from, frame));
        self.news.notify_waiters();
    }

    fn datagram(&self, from: HostId, datagram: Bytes) {
        self.frame(from, datagram);
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
                _ => Answered::With([&from.0[..1], &question].concat().into()),
            }
        })
    }

    fn joins(&self) -> Joining {
        Box::pin(std::future::ready(Ok(())))
    }

    fn disowned(&self, by: HostId, why: &str) {
        self.disowned.lock().unwrap().push((by, why.to_owned()));
        self.news.notify_waiters();
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
        self.quic.close();
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
    let folder = tempfile::tempdir().unwrap();
    let quic = Quic::bind(QuicSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        me: host(n),
        incarnation,
        draw: 7,
        durable: Box::new(move || Lsn(commits)),
        authority: authority.clone(),
        folder: folder.path().to_owned(),
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
    let forged = forged.leaf(host(2), "1-1-0".parse().unwrap()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(forged.chain, forged.key)
        .unwrap();
    config.alpn_protocols = vec![tls::PEERS.to_vec()];
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(config));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let name = tls::host_name(host(1), authority.cluster);
    let connecting = endpoint.connect_with(config, mine.quic.advertised(), &name).unwrap();
    if let Ok(connection) = connecting.await {
        assert!(matches!(
            connection.closed().await,
            quinn::ConnectionError::ConnectionClosed(_)
        ));
    }
    refused(&mine, 1).await;
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
    first.quic.close();
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
    let mut config = tls::first_contact(authority_of(&mine)).unwrap();
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
    side.quic.authority().fingerprint()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_one_host_join() {
    let a = side(1, &authority(1));
    let token = a.quic.token(Duration::from_secs(60)).unwrap();
    let welcome = join(&token, host(2)).await.unwrap();
    assert_eq!(
        welcome.hosts,
        [(host(9), "10.0.0.9:1".parse().unwrap()), (host(1), a.quic.advertised())]
    );
    let b = side(2, &welcome.authority);
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
    let late = a.quic.token(Duration::ZERO).unwrap();
    assert!(refused(join(&late, host(3)).await.map(drop)).contains("expired"));
    let forged = JoinToken {
        expires: u64::MAX,
        ..late
    };
    assert!(refused(join(&forged, host(3)).await.map(drop)).contains("expired"));
    let mistaken = JoinToken {
        fingerprint: [0; 32],
        ..a.quic.token(Duration::from_secs(60)).unwrap()
    };
    assert!(matches!(
        join(&mistaken, host(3)).await,
        Err(JoinError::Unreachable(..))
    ));
    assert!(a.folder.path().join("tokens").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken() {
    let authority = authority(1);
    let (a, b) = (side(1, &authority), side(2, &authority));
    a.quic.renew().unwrap();
    b.quic.renew().unwrap();
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
