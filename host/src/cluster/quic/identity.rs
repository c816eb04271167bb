//! Who this host is to the others: a key of its own, a certificate of the cluster's authority for it, and the authorities that it believes.
//!
//! The certificate lets the host sign for names below its own and for no others, so that it renews by itself what it shows to others, which
//! holds for a day and names one start of the host. The file is written, and synced, before the host says anything as one of the cluster:
//! whether it has founded it or joined it is never guessed from what else is there.
//!
//! **Not here:** letting hosts in (`authority`), what is believed (`tls`).

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use granary_core::config_chain::config::ClusterId;
use granary_core::id::HostId;
use granary_core::membership::Life;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::authority::{self, Authority, AuthorityError, SKEW, host_params};
use super::tls;
use super::token::JoinToken;
use crate::clock::wall;

/// The file in the cluster's folder. Secret: readable by its owner only.
const FILE: &str = "identity";
/// How long what a host shows to others holds. It's renewed in half of that.
pub(super) const LEAF: Duration = Duration::hours(24);
/// Authorities that are believed at a time: one, another one while it takes over, and one more when that was cut short.
const ROOTS_MOST: usize = 3;

/// How a host came to be one of the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// It was the first.
    Founded,
    /// Another host let it in.
    Joined,
}

/// See the file's text.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) host: HostId,
    pub(crate) origin: Origin,
    /// The certificates of authorities that are believed; the first has signed this host's.
    roots: Vec<Vec<u8>>,
    /// The authority's for this host's key.
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// Where other hosts were when it joined.
    pub(crate) hosts: Vec<(HostId, SocketAddr)>,
    /// Of the token by which it was let in last: settings may name that for ever.
    token: Option<[u8; 32]>,
}

/// A key for which a host wants to be let in.
pub(crate) struct Applicant {
    host: HostId,
    key: KeyPair,
}

/// What a host shows: a certificate with its key, and what stands behind it.
pub(super) struct Leaf {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Applicant {
    pub(crate) fn new(host: HostId) -> Result<Applicant, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Applicant { host, key })
    }

    /// What is shown of the key.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.key.public_key_raw()
    }

    /// The host that it becomes with an authority's certificate for its key. Damaged, if the certificate isn't that.
    pub(crate) fn admitted(
        self,
        cluster: ClusterId,
        origin: Origin,
        root: Vec<u8>,
        certificate: Vec<u8>,
    ) -> Result<Identity, AuthorityError> {
        let identity = Identity {
            cluster,
            host: self.host,
            origin,
            roots: vec![root],
            certificate,
            key: self.key.serialize_der(),
            hosts: Vec::new(),
            token: None,
        };
        tls::check(&identity)?;
        Ok(identity)
    }
}

impl Identity {
    /// A host with the authority at hand.
    pub(crate) fn of(authority: &Authority, host: HostId, origin: Origin) -> Result<Identity, AuthorityError> {
        let applicant = Applicant::new(host)?;
        let certificate = authority.admit(host, applicant.public_key())?;
        applicant.admitted(authority.cluster, origin, authority.certificate().to_vec(), certificate)
    }

    /// Notes by which token it was let in, and where the others were.
    pub(super) fn welcomed(&mut self, token: &JoinToken, hosts: Vec<(HostId, SocketAddr)>) {
        self.hosts = hosts;
        self.token = Some(fingerprint_of(token));
    }

    /// Whether this token has let it in already.
    pub(crate) fn was_let_in_by(&self, token: &JoinToken) -> bool {
        self.token == Some(fingerprint_of(token))
    }

    /// The one in a cluster's folder, if there is one.
    pub(crate) fn open(folder: &Path, host: HostId) -> Result<Option<Identity>, AuthorityError> {
        let identity: Option<Identity> = authority::read(folder, FILE)?;
        match identity {
            Some(identity) if identity.host != host => Err(AuthorityError::Foreign(identity.host)),
            Some(identity) if identity.roots.is_empty() => Err(AuthorityError::Damaged),
            found => Ok(found),
        }
    }

    /// Keeps it in a cluster's folder.
    pub(crate) fn keep(&self, folder: &Path) -> Result<(), AuthorityError> {
        authority::keep(folder, FILE, self)
    }

    /// The certificates of authorities that are believed; the first has signed this host's.
    pub(super) fn roots(&self) -> impl Iterator<Item = CertificateDer<'static>> {
        self.roots.iter().map(|root| root.clone().into())
    }

    /// Whether an authority is believed.
    pub(crate) fn believes(&self, fingerprint: &[u8; 32]) -> bool {
        self.roots.iter().any(|root| blake3::hash(root) == *fingerprint)
    }

    /// Believes one authority more; of those before, the one that has signed this host's certificate stays.
    pub(crate) fn believe(&mut self, root: Vec<u8>) {
        if !self.roots.contains(&root) {
            self.roots.truncate(ROOTS_MOST - 1);
            self.roots.push(root);
        }
    }

    /// Believes no authority but the one that has signed this host's certificate.
    pub(crate) fn believe_one(&mut self) {
        self.roots.truncate(1);
    }

    /// This host's key, as another authority wants to see it.
    pub(crate) fn public_key(&self) -> Result<Vec<u8>, AuthorityError> {
        Ok(self.key_pair()?.public_key_raw().to_vec())
    }

    /// Goes over to another authority that has signed this host's key. The earlier one is believed still.
    pub(crate) fn adopt(&mut self, root: Vec<u8>, certificate: Vec<u8>) -> Result<(), AuthorityError> {
        let mut next = self.clone();
        next.roots.retain(|known| *known != root);
        next.roots.insert(0, root);
        next.roots.truncate(ROOTS_MOST);
        next.certificate = certificate;
        tls::check(&next)?;
        *self = next;
        Ok(())
    }

    /// A new certificate for one of this host's starts.
    pub(super) fn leaf(&self, life: Life) -> Result<Leaf, AuthorityError> {
        let issuer = Issuer::new(host_params(self.host)?, self.key_pair()?);
        let own = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let names = vec![
            tls::host_name(self.host, self.cluster),
            tls::life_name(life, self.host, self.cluster),
        ];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Granary host");
        let now = OffsetDateTime::from(wall());
        params.not_before = now - SKEW;
        params.not_after = now + LEAF + SKEW;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&own, &issuer)?;
        let mut chain = vec![certificate.der().clone(), self.certificate.clone().into()];
        // Whoever has an authority's fingerprint only has to see it.
        chain.extend(self.roots().take(1));
        Ok(Leaf {
            chain,
            key: PrivatePkcs8KeyDer::from(own.serialize_der()).into(),
        })
    }

    fn key_pair(&self) -> Result<KeyPair, AuthorityError> {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        Ok(KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)?)
    }
}

fn fingerprint_of(token: &JoinToken) -> [u8; 32] {
    *blake3::hash(&token.secret).as_bytes()
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("cluster", &self.cluster)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}
