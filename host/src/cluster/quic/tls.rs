//! Who is believed: certificates of this cluster's authority, and on first contact the authority that a token names.
//!
//! A host's certificate names the host and its cluster (`HOST.CLUSTER.granary`), its life (`LIFE.life.CLUSTER.granary`), and the cluster alone
//! (`CLUSTER.granary`): who dials a host expects the first, who dials an address expects the last and looks who it is. TLS 1.3 only, without resumption: what was believed once
//! isn't believed unseen.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use granary_core::config_chain::config::ClusterId;
use granary_core::id::HostId;
use granary_core::membership::Life;
use quinn::crypto::rustls::{HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme, version};

use super::authority::{Authority, AuthorityError, Leaf};

/// What hosts of a cluster speak.
pub(super) const PEERS: &[u8] = b"granary/1";
/// What a host speaks that isn't in yet.
pub(super) const JOIN: &[u8] = b"granary-join/1";
/// A connection on which nothing is heard for this long is over.
const IDLE: Duration = Duration::from_secs(3);
/// Between signs of life on a quiet one.
const KEEP_ALIVE: Duration = Duration::from_millis(800);
/// Questions that a peer may ask at once.
const QUESTIONS_MOST: u32 = 1024;
/// Bytes on their way in, all streams of a connection together.
const WINDOW: u32 = 32 << 20;

/// What a certificate calls a host.
pub(super) fn host_name(host: HostId, cluster: ClusterId) -> String {
    format!("{host}.{cluster}.granary")
}

/// What a certificate calls one of a host's lives.
pub(super) fn life_name(life: Life, cluster: ClusterId) -> String {
    format!("{life}.life.{cluster}.granary")
}

/// What every host's certificate has.
pub(super) fn cluster_name(cluster: ClusterId) -> String {
    format!("{cluster}.granary")
}

/// How a leaf and an authority are used.
pub(super) struct Credentials {
    pub(super) server: ServerConfig,
    pub(super) client: ClientConfig,
}

impl Credentials {
    /// A new certificate, and what believes its like.
    pub(super) fn new(authority: &Authority, host: HostId, life: Life) -> Result<Credentials, AuthorityError> {
        let Leaf { chain, key } = authority.leaf(host, life)?;
        let mut roots = RootCertStore::empty();
        roots
            .add(authority.certificate())
            .map_err(|_| AuthorityError::Damaged)?;
        let roots = Arc::new(roots);
        let provider = Arc::new(ring::default_provider());

        let client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unusable)?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?;

        // A new host has no certificate yet: what it may do without is decided by what it speaks.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|_| AuthorityError::Damaged)?;
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        server.alpn_protocols = vec![PEERS.to_vec(), JOIN.to_vec()];
        server.send_tls13_tickets = 0;
        let server = QuicServerConfig::try_from(server).map_err(|_: NoInitialCipherSuite| AuthorityError::Damaged)?;
        let mut server = ServerConfig::with_crypto(Arc::new(server));
        server.transport_config(transport());
        Ok(Credentials {
            server,
            client: quic_client(client, PEERS)?,
        })
    }
}

/// For a host that has nothing but an authority's fingerprint.
pub(super) fn first_contact(fingerprint: [u8; 32]) -> Result<ClientConfig, AuthorityError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = FirstContact {
        fingerprint,
        algorithms: provider.signature_verification_algorithms,
        provider: provider.clone(),
    };
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    quic_client(config, JOIN)
}

fn quic_client(mut config: rustls::ClientConfig, speaks: &[u8]) -> Result<ClientConfig, AuthorityError> {
    config.alpn_protocols = vec![speaks.to_vec()];
    config.resumption = Resumption::disabled();
    let config = QuicClientConfig::try_from(config).map_err(|_: NoInitialCipherSuite| AuthorityError::Damaged)?;
    let mut client = ClientConfig::new(Arc::new(config));
    client.transport_config(transport());
    Ok(client)
}

fn unusable(_: rustls::Error) -> AuthorityError {
    AuthorityError::Damaged
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(Duration::from_millis(30))
        .max_concurrent_bidi_streams(VarInt::from_u32(QUESTIONS_MOST))
        .max_concurrent_uni_streams(VarInt::from_u32(4))
        .stream_receive_window(VarInt::from_u32(WINDOW / 2))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW));
    Arc::new(transport)
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
    named(connection, &format!(".life.{}", cluster_name(cluster)))
}

/// What stands before `suffix` in one of the names that the other side has shown.
fn named<T: FromStr>(connection: &Connection, suffix: &str) -> Option<T> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let leaf = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
    leaf.valid_dns_names()
        .find_map(|name| name.strip_suffix(suffix)?.parse().ok())
}

/// Believes the authority of one fingerprint, which the other side has to send along.
#[derive(Debug)]
struct FirstContact {
    fingerprint: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for FirstContact {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = intermediates
            .iter()
            .find(|certificate| blake3::hash(certificate) == self.fingerprint)
            .ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|_| unknown())?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
