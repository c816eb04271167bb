//! The cluster's certificate authority: made by the host that founds it, handed to each that joins.
//!
//! Every host has the key: each renews its own certificate, and none is needed for others to go on. A host of the cluster can read and
//! change all state anyway, so that the key is everywhere gives nothing away that membership doesn't.
//!
//! **Not here:** who joins (`token`), what is believed (`tls`).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use granary_core::config_chain::config::ClusterId;
use granary_core::id::HostId;
use granary_core::membership::Life;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::super::wire;
use super::tls;

/// The file in the cluster's folder. Secret: readable by its owner only.
const AUTHORITY_FILE: &str = "authority";
/// How long a host's certificate holds. It's renewed in half of that.
const LEAF: Duration = Duration::hours(24);
/// The authority itself: as long as the cluster, in practice.
const LIFETIME: Duration = Duration::days(20 * 365);
/// Clocks of hosts may differ by this much.
const SKEW: Duration = Duration::hours(1);

/// See the file's text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authority {
    /// The cluster that it's of.
    pub(crate) cluster: ClusterId,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A host's certificate with its key, and the authority's behind it.
pub(super) struct Leaf {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Why there is no authority.
#[derive(Debug)]
pub(crate) enum AuthorityError {
    /// Its file can't be read or written.
    Io(io::Error),
    /// The file isn't one.
    Damaged,
    /// A certificate can't be made.
    Certificate(rcgen::Error),
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthorityError::Io(error) => write!(f, "the cluster's authority file: {error}"),
            AuthorityError::Damaged => {
                f.write_str("the cluster's authority file is damaged: copy it from another host of the cluster")
            }
            AuthorityError::Certificate(error) => write!(f, "a certificate can't be made: {error}"),
        }
    }
}

impl std::error::Error for AuthorityError {}

impl From<io::Error> for AuthorityError {
    fn from(error: io::Error) -> AuthorityError {
        AuthorityError::Io(error)
    }
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> AuthorityError {
        AuthorityError::Certificate(error)
    }
}

impl Authority {
    /// A new cluster's.
    pub(crate) fn found(cluster: ClusterId) -> Result<Authority, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params(cluster)?.self_signed(&key)?;
        Ok(Authority {
            cluster,
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
        })
    }

    /// The one in a cluster's folder, if there is one.
    pub(crate) fn open(folder: &Path) -> Result<Option<Authority>, AuthorityError> {
        let bytes = match std::fs::read(folder.join(AUTHORITY_FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        wire::decode(&bytes).map(Some).ok_or(AuthorityError::Damaged)
    }

    /// Keeps it in a cluster's folder.
    pub(crate) fn keep(&self, folder: &Path) -> Result<(), AuthorityError> {
        std::fs::create_dir_all(folder)?;
        let new = folder.join(AUTHORITY_FILE).with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&wire::encode(self))?;
        file.sync_all()?;
        std::fs::rename(new, folder.join(AUTHORITY_FILE))?;
        File::open(folder)?.sync_all()?;
        Ok(())
    }

    /// What tells it from others.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        *blake3::hash(&self.certificate).as_bytes()
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone().into()
    }

    /// A new certificate for a host of the cluster.
    pub(super) fn leaf(&self, host: HostId, life: Life) -> Result<Leaf, AuthorityError> {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)?;
        let issuer = Issuer::new(params(self.cluster)?, key);
        let own = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let names = vec![
            tls::host_name(host, self.cluster),
            tls::life_name(life, self.cluster),
            tls::cluster_name(self.cluster),
        ];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Granary host");
        params.not_before = now() - SKEW;
        params.not_after = now() + LEAF + SKEW;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&own, &issuer)?;
        Ok(Leaf {
            chain: vec![certificate.der().clone(), self.certificate()],
            key: PrivatePkcs8KeyDer::from(own.serialize_der()).into(),
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// What an issuer has to be called for its certificate to be found: the same for each host of the cluster.
fn params(cluster: ClusterId) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Granary cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = now() - SKEW;
    params.not_after = now() + LIFETIME;
    Ok(params)
}

fn now() -> OffsetDateTime {
    SystemTime::now().into()
}
