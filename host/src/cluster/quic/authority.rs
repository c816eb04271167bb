//! The cluster's certificate authority: made by the host that founds it, and kept by the voters, who let other hosts in with it.
//!
//! It signs one certificate for each host, which lets that host make certificates for itself and for nobody else (`identity`). So no host
//! needs the authority to go on; only who joins does.
//!
//! **Not here:** who joins (`token`), what is believed (`tls`), who gets the key (`super::super::keys`).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use granary_core::config_chain::config::ClusterId;
use granary_core::id::HostId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use time::Duration;

use super::super::wire;
use super::tls;

/// The file in the cluster's folder. Secret: readable by its owner only.
pub(super) const AUTHORITY_FILE: &str = "authority";
/// Clocks of hosts may differ by this much: more than wrong time zones make of it.
pub(super) const SKEW: Duration = Duration::hours(24);
/// Bytes of a public key, an uncompressed point of P-256.
const PUBLIC_KEY: usize = 65;

/// See the file's text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authority {
    /// The cluster that it's of.
    pub(crate) cluster: ClusterId,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Why there is no authority or no identity.
#[derive(Debug)]
pub(crate) enum AuthorityError {
    /// A file can't be read or written.
    File(PathBuf, io::Error),
    /// The file isn't one.
    Damaged,
    /// The file is of another host.
    Foreign(HostId),
    /// A certificate can't be made.
    Certificate(rcgen::Error),
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthorityError::File(path, error) => write!(f, "{}: {error}", path.display()),
            AuthorityError::Damaged => f.write_str(
                "a file of this host's identity in its cluster (cluster/identity or cluster/authority) is damaged: put it back from a copy, \
                 or delete both and start the host once with --join and a token of another host",
            ),
            AuthorityError::Foreign(host) => write!(
                f,
                "cluster/identity is host {host}'s: the folder was put together from two; go on with one that is a host's own"
            ),
            AuthorityError::Certificate(error) => write!(f, "a certificate can't be made: {error}"),
        }
    }
}

impl std::error::Error for AuthorityError {}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> AuthorityError {
        AuthorityError::Certificate(error)
    }
}

impl Authority {
    /// A new one for a cluster.
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
        read(folder, AUTHORITY_FILE)
    }

    /// Keeps it in a cluster's folder.
    pub(crate) fn keep(&self, folder: &Path) -> Result<(), AuthorityError> {
        keep(folder, AUTHORITY_FILE, self)
    }

    /// What tells it from others.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        *blake3::hash(&self.certificate).as_bytes()
    }

    /// Its own certificate, by which others believe it.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Lets a host be one of the cluster's: a certificate with which it can make certificates of its own names, for the key whose public
    /// half this is.
    pub(crate) fn admit(&self, host: HostId, public_key: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        if public_key.len() != PUBLIC_KEY {
            return Err(AuthorityError::Damaged);
        }
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)?;
        let issuer = Issuer::new(params(self.cluster)?, key);
        let own_names = GeneralSubtree::DnsName(tls::host_name(host, self.cluster));
        let mut params = host_params(host)?;
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![own_names],
            excluded_subtrees: Vec::new(),
        });
        Ok(params.signed_by(&PublicKey(public_key), &issuer)?.der().to_vec())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// Another host's key, of which it shows one half.
struct PublicKey<'a>(&'a [u8]);

impl PublicKeyData for PublicKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// What an issuer has to be called for its certificate to be found: the same for each host of the cluster.
fn params(cluster: ClusterId) -> Result<CertificateParams, AuthorityError> {
    signer(format!("Granary cluster {cluster}"), BasicConstraints::Constrained(1))
}

/// The same for what a host signs its own certificates with.
pub(super) fn host_params(host: HostId) -> Result<CertificateParams, AuthorityError> {
    signer(format!("Granary host {host}"), BasicConstraints::Constrained(0))
}

fn signer(name: String, below: BasicConstraints) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(below);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // As long as the cluster. No clock has a part in it: what is signed while one is wrong would hold from a day that is yet to come, or no
    // longer once it's put right.
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    Ok(params)
}

/// Reads a file of the cluster's folder, if there is one.
pub(super) fn read<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>, AuthorityError> {
    let path = folder.join(name);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AuthorityError::File(path, error)),
        Ok(bytes) => bytes,
    };
    wire::decode(&bytes).map(Some).ok_or(AuthorityError::Damaged)
}

/// Keeps a file in the cluster's folder.
pub(super) fn keep<T: Serialize>(folder: &Path, name: &str, value: &T) -> Result<(), AuthorityError> {
    let kept = keep_bytes(folder, name, &wire::encode(value));
    kept.map_err(|error| AuthorityError::File(folder.join(name), error))
}

/// Keeps a file in the cluster's folder, for its owner's eyes only: it's there as a whole after a crash, or as it was.
pub(super) fn keep_bytes(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let new = folder.join(name).with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(new, folder.join(name))?;
    File::open(folder)?.sync_all()
}
