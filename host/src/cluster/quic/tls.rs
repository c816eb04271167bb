//! Who is believed: hosts with certificates of authorities that this host believes, and on first contact of the authority that a token names.
//!
//! A host's certificate names the host and its cluster (`HOST.CLUSTER.granary`) and its life (`LIFE.life.HOST.CLUSTER.granary`). It's signed by
//! the host's own key, that by the authority for names below `HOST.CLUSTER.granary` only: no host can pass for another one. Who dials a
//! host expects its name, who dials an address takes any host of the cluster and looks who it is. TLS 1.3 only, without resumption: what was
//! believed once isn't believed unseen.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use granary_core::config_chain::config::ClusterId;
use granary_core::id::{HostId, Lsn};
use granary_core::membership::Life;
use quinn::crypto::rustls::{HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme, version};

use super::authority::AuthorityError;
use super::identity::{Identity, Leaf};
use crate::clock::since_1970;

/// What hosts of a cluster speak. The number rises with the form of what is said: hosts of different forms don't get past the handshake,
/// instead of reading one thing for another.
pub(super) const PEERS: &[u8] = b"granary/3";
/// What a host speaks that isn't in yet.
pub(super) const JOIN: &[u8] = b"granary-join/3";
/// A connection on which nothing is heard for this long is over.
const IDLE: Duration = Duration::from_secs(3);
/// Between signs of life on a quiet one.
const KEEP_ALIVE: Duration = Duration::from_millis(800);
/// Questions that a peer may ask at once.
const QUESTIONS_MOST: u32 = 1024;
/// Streams of frames that a peer may have.
const FRAME_STREAMS_MOST: u32 = 4;
/// Bytes on their way in, all streams of a connection together.
const WINDOW: u32 = 32 << 20;
/// The same before it's known whose the connection is.
pub(super) const STRANGERS_WINDOW: u32 = 64 << 10;
/// Bytes of datagrams that may wait to be read.
const DATAGRAMS: usize = 64 << 10;
/// Connections that wait for a first look.
const INCOMING_MOST: usize = 256;

/// What a certificate calls a host.
pub(super) fn host_name(host: HostId, cluster: ClusterId) -> String {
    format!("{host}.{cluster}.granary")
}

/// What a certificate calls one of a host's lives.
pub(super) fn life_name(life: Life, host: HostId, cluster: ClusterId) -> String {
    format!("{life}.life.{}", host_name(host, cluster))
}

/// What any host of the cluster is called by who doesn't know yet which one it is.
pub(super) fn cluster_name(cluster: ClusterId) -> String {
    format!("{cluster}.granary")
}

/// How an identity is used.
pub(super) struct Credentials {
    pub(super) server: ServerConfig,
    pub(super) client: ClientConfig,
}

impl Credentials {
    /// A new certificate for a start of this host, and what believes its like.
    pub(super) fn new(identity: &Identity, life: Life) -> Result<Credentials, AuthorityError> {
        let Leaf { chain, key } = identity.leaf(life)?;
        let roots = Arc::new(store(identity.roots())?);
        let provider = Arc::new(ring::default_provider());
        let verifier = HostVerifier {
            believed: Believed::These(roots.clone()),
            any: cluster_name(identity.cluster),
            provider: provider.clone(),
        };
        let client = rustls::ClientConfig::builder_with_details(provider.clone(), Arc::new(OwnTime))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?;

        // A new host has no certificate yet: what it may do without is decided by what it speaks.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|_| AuthorityError::Damaged)?;
        let mut server = rustls::ServerConfig::builder_with_details(provider, Arc::new(OwnTime))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        server.alpn_protocols = vec![PEERS.to_vec(), JOIN.to_vec()];
        server.send_tls13_tickets = 0;
        let server = QuicServerConfig::try_from(server).map_err(|_: NoInitialCipherSuite| AuthorityError::Damaged)?;
        let mut server = ServerConfig::with_crypto(Arc::new(server));
        server
            .transport_config(Arc::new(for_strangers()))
            .max_incoming(INCOMING_MOST)
            .incoming_buffer_size(u64::from(STRANGERS_WINDOW))
            .incoming_buffer_size_total(16 * u64::from(STRANGERS_WINDOW));
        Ok(Credentials {
            server,
            client: quic_client(client, PEERS)?,
        })
    }
}

/// For a host that has nothing but an authority's fingerprint.
pub(super) fn first_contact(fingerprint: [u8; 32], cluster: ClusterId) -> Result<ClientConfig, AuthorityError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = HostVerifier {
        believed: Believed::Fingerprint(fingerprint),
        any: cluster_name(cluster),
        provider: provider.clone(),
    };
    let config = rustls::ClientConfig::builder_with_details(provider, Arc::new(OwnTime))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    quic_client(config, JOIN)
}

/// Whether what a host would show is what others believe: its key is the one that its authority has signed, for its names.
pub(super) fn check(identity: &Identity) -> Result<(), AuthorityError> {
    let life = Life {
        incarnation: 0,
        draw: 0,
        began: Lsn(0),
    };
    let Leaf { chain, .. } = identity.leaf(life)?;
    let verifier = HostVerifier {
        believed: Believed::These(Arc::new(store(identity.roots().take(1))?)),
        any: cluster_name(identity.cluster),
        provider: Arc::new(ring::default_provider()),
    };
    let name = ServerName::try_from(host_name(identity.host, identity.cluster)).map_err(|_| AuthorityError::Damaged)?;
    let verified = verifier.verify_server_cert(
        &chain[0],
        &chain[1..],
        &name,
        &[],
        UnixTime::since_unix_epoch(since_1970()),
    );
    verified.map(|_| ()).map_err(|_| AuthorityError::Damaged)
}

fn store(roots: impl Iterator<Item = CertificateDer<'static>>) -> Result<RootCertStore, AuthorityError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(|_| AuthorityError::Damaged)?;
    }
    Ok(store)
}

fn quic_client(mut config: rustls::ClientConfig, speaks: &[u8]) -> Result<ClientConfig, AuthorityError> {
    config.alpn_protocols = vec![speaks.to_vec()];
    config.resumption = Resumption::disabled();
    let config = QuicClientConfig::try_from(config).map_err(|_: NoInitialCipherSuite| AuthorityError::Damaged)?;
    let mut client = ClientConfig::new(Arc::new(config));
    client.transport_config(Arc::new(for_peers()));
    Ok(client)
}

fn unusable(_: rustls::Error) -> AuthorityError {
    AuthorityError::Damaged
}

/// Among hosts that know each other.
fn for_peers() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(Duration::from_millis(30))
        .max_concurrent_bidi_streams(VarInt::from_u32(QUESTIONS_MOST))
        .max_concurrent_uni_streams(VarInt::from_u32(FRAME_STREAMS_MOST))
        .stream_receive_window(VarInt::from_u32(WINDOW / 2))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .datagram_receive_buffer_size(Some(DATAGRAMS));
    transport
}

/// For whoever dials this host, until it's known who that is: one question, and little memory.
fn for_strangers() -> TransportConfig {
    let mut transport = for_peers();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(STRANGERS_WINDOW));
    transport
}

/// A connection turns out to be a peer's.
pub(super) fn welcome_peer(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(WINDOW));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(QUESTIONS_MOST));
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(FRAME_STREAMS_MOST));
}

/// What was agreed to speak.
pub(super) fn speaks(connection: &Connection) -> Option<Vec<u8>> {
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    data.protocol
}

/// The host in the certificate that the other side has shown: one of this cluster's, as the handshake has verified.
pub(super) fn host_of(connection: &Connection, cluster: ClusterId) -> Option<HostId> {
    named(connection, &format!(".{}", cluster_name(cluster)))
}

/// And which of its lives it is.
pub(super) fn life_of(connection: &Connection, cluster: ClusterId) -> Option<Life> {
    let host = host_of(connection, cluster)?;
    named(connection, &format!(".life.{}", host_name(host, cluster)))
}

/// What stands before `suffix` in one of the names that the other side has shown.
fn named<T: FromStr>(connection: &Connection, suffix: &str) -> Option<T> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let leaf = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
    leaf.valid_dns_names()
        .find_map(|name| name.strip_suffix(suffix)?.parse().ok())
}

/// By which clock certificates hold.
#[derive(Debug)]
struct OwnTime;

impl TimeProvider for OwnTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(since_1970()))
    }
}

/// Which authorities are believed.
#[derive(Debug)]
enum Believed {
    These(Arc<RootCertStore>),
    /// The one of this fingerprint, which the other side has to send along.
    Fingerprint([u8; 32]),
}

/// Verifies the host at the other end.
#[derive(Debug)]
struct HostVerifier {
    believed: Believed,
    /// The name that stands for any host of the cluster.
    any: String,
    provider: Arc<CryptoProvider>,
}

impl HostVerifier {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    fn roots(&self, shown: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, rustls::Error> {
        match &self.believed {
            Believed::These(roots) => Ok(roots.clone()),
            Believed::Fingerprint(fingerprint) => {
                let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
                let authority = shown
                    .iter()
                    .find(|certificate| blake3::hash(certificate) == *fingerprint)
                    .ok_or(unknown)?;
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone().into_owned())?;
                Ok(Arc::new(roots))
            }
        }
    }
}

impl ServerCertVerifier for HostVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let roots = self.roots(intermediates)?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms().all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms)?;
        let any = matches!(server_name, ServerName::DnsName(name) if name.as_ref() == self.any);
        if !any {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}
