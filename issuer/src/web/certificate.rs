//! The certificate of the profile `https_web`: files that somebody else renews.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use mayfly_sdk::tls::Credentials;
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use crate::{ledger::Digest, mint::sha256};

/// How often the files are looked at. They are read whole: a mounted secret changes by a link, and its times may not.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// The most bytes of either file.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a certificate and its key cannot be presented: the operator's move. At start the issuer stops with it; later it goes on
/// presenting what it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{} cannot be read: {what}; let the issuer's user read it, or correct `{key}`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        key: &'static str,
        /// What the system says.
        what: String,
    },
    /// What the files hold is no chain with its key.
    #[error(
        "`web.certificate` and `web.key` cannot be presented: {what}; give a PEM chain, leaf first, and the PEM key of its leaf"
    )]
    Unusable {
        /// What is wrong.
        what: String,
    },
}

/// Two files, and what they hold.
#[derive(Debug)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Of what was read last, whether it could be used or not.
    seen: Digest,
    current: Arc<ArcSwapOption<CertifiedKey>>,
}

impl Files {
    /// Reads them for the first time.
    pub(super) async fn open(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let read = read_both(certificate, key).await?;
        let current = Arc::new(ArcSwapOption::from(Some(read.presentable()?)));
        Ok(Self { certificate: certificate.into(), key: key.into(), seen: read.digest(), current })
    }

    /// What they hold now, asked for at every handshake.
    pub(super) fn credentials(&self) -> Credentials {
        Credentials::following(Arc::clone(&self.current))
    }

    /// Reads them again. What cannot be used is logged once, and what was presented before goes on being presented: the
    /// two files are seldom replaced in one moment.
    pub(super) async fn refresh(&mut self) {
        let outcome = match read_both(&self.certificate, &self.key).await {
            Ok(read) if read.digest() == self.seen => return,
            Ok(read) => {
                self.seen = read.digest();
                read.presentable()
            }
            Err(_) if self.seen == Digest::default() => return,
            Err(error) => {
                self.seen = Digest::default();
                Err(error)
            }
        };
        match outcome {
            Ok(key) => {
                self.current.store(Some(key));
                tracing::info!("the web certificate was reloaded");
            }
            Err(error) => tracing::warn!(%error, "the web certificate was not reloaded; the one before stays"),
        }
    }
}

struct Read {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

async fn read_both(certificate: &Path, key: &Path) -> Result<Read, CertificateError> {
    let certificate = read(certificate, "web.certificate").await?.to_vec();
    Ok(Read { certificate, key: read(key, "web.key").await? })
}

async fn read(path: &Path, key: &'static str) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let unreadable = |what: String| CertificateError::Unreadable { path: path.into(), key, what };
    let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(error.to_string()))?;
    // Room for all of it at once: a buffer that grows leaves copies of a key behind.
    let length = file.metadata().await.map_or(0, |data| data.len()).min(MAX_BYTES);
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 64));
    file.take(MAX_BYTES + 1).read_to_end(&mut content).await.map_err(|error| unreadable(error.to_string()))?;
    if content.len() as u64 > MAX_BYTES {
        return Err(unreadable(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(content)
}

impl Read {
    fn digest(&self) -> Digest {
        sha256(&[&sha256(&[&self.certificate]), &sha256(&[self.key.as_slice()])])
    }

    fn presentable(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let unusable = |what: String| CertificateError::Unusable { what };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| unusable(format!("the certificates: {error}")))?;
        if chain.is_empty() {
            return Err(unusable("there is no certificate in the file".into()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| unusable(format!("the key: {error}")))?;
        let key = any_supported_type(&key).map_err(|error| unusable(format!("the key: {error}")))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|error| unusable(format!("key and leaf do not belong together: {error}")))?;
        Ok(Arc::new(certified))
    }
}
