//! [`Certificates`]: certificates of one's own from PEM files, read again when the files change.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::tls::{Configs, provider};
use crate::error::{Error, Result};

/// New connections look at the files at most this often.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// The three files and what was last read from them.
pub(super) struct Certificates {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    check_every: Duration,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    configs: Configs,
    stamps: [Stamp; 3],
    checked: Instant,
}

/// Changes when a file is written or replaced; `None` while it cannot be seen.
type Stamp = Option<(SystemTime, u64)>;

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// `CONFIG_CERTIFICATE`, naming the file and what is wrong with it.
    pub(super) fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Self> {
        Self::load_checked_every(ca, cert, key, CHECK_EVERY)
    }

    pub(super) fn load_checked_every(
        ca: &Path,
        cert: &Path,
        key: &Path,
        check_every: Duration,
    ) -> Result<Self> {
        // Stamps are taken before reading: a change in between is then seen at the next check.
        let stamps = [stamp(ca), stamp(cert), stamp(key)];
        let configs = read(ca, cert, key)?;
        Ok(Certificates {
            ca: ca.to_owned(),
            cert: cert.to_owned(),
            key: key.to_owned(),
            check_every,
            loaded: Mutex::new(Loaded { configs, stamps, checked: Instant::now() }),
        })
    }

    /// The configurations for a new connection. While changed files cannot be used (half of them
    /// replaced, say) the previous ones stay in force and a warning is logged.
    pub(super) fn current(&self) -> Configs {
        let mut loaded = self.loaded.lock();
        if loaded.checked.elapsed() >= self.check_every {
            loaded.checked = Instant::now();
            let stamps = [stamp(&self.ca), stamp(&self.cert), stamp(&self.key)];
            if stamps != loaded.stamps {
                match read(&self.ca, &self.cert, &self.key) {
                    Ok(configs) => {
                        tracing::info!(cert = %self.cert.display(), "certificates were read again");
                        loaded.configs = configs;
                        loaded.stamps = stamps;
                    }
                    Err(error) => tracing::warn!(
                        %error,
                        "changed certificate files cannot be used; the previous ones stay in force"
                    ),
                }
            }
        }
        loaded.configs.clone()
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(ca: &Path, cert: &Path, key: &Path) -> Result<Configs> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in("ca", ca)? {
        roots.add(certificate).map_err(|e| bad("ca", ca, &e))?;
    }
    let chain = certificates_in("cert", cert)?;
    let pem = read_file("key", key)?;
    let private_key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| match e {
        rustls::pki_types::pem::Error::NoItemsFound => {
            bad("key", key, &"it holds no unencrypted private key in PEM form")
        }
        e => bad("key", key, &e),
    })?;
    let provider = provider();
    // Apart from the pair itself, so that the message names the right file.
    let signer = provider.key_provider.load_private_key(private_key.clone_key()).map_err(|e| {
        bad("key", key, &format!("it is not a usable Ed25519, ECDSA or RSA key: {e}"))
    })?;
    rustls::sign::CertifiedKey::new(chain.clone(), signer).keys_match().or_else(|e| match e {
        rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown) => Ok(()),
        rustls::Error::InconsistentKeys(_) => Err(bad(
            "key",
            key,
            &format!("it does not belong to the certificate in {}", cert.display()),
        )),
        e => Err(bad("cert", cert, &e)),
    })?;
    Configs::new(provider, roots, chain, private_key).map_err(|e| bad("cert", cert, &e))
}

fn certificates_in(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = read_file(option, path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| bad(option, path, &e))?;
    if certificates.is_empty() {
        return Err(bad(option, path, &"it holds no certificate in PEM form"));
    }
    Ok(certificates)
}

fn read_file(option: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| bad(option, path, &e))
}

fn bad(option: &str, path: &Path, what: &dyn std::fmt::Display) -> Error {
    Error::config(
        "CONFIG_CERTIFICATE",
        format!("{option}={:?} cannot be used: {what}", path.display().to_string()),
    )
}
