//! The certificate that this machine has from elsewhere, and its key: what a node without a join token attests with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mayfly_sdk::x509::Certificate;
use mayfly_sdk::{Reason, Refusal, pem};
use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::{Zeroize as _, Zeroizing};

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// The most certificates that an issuer reads.
const MAX_CERTIFICATES: usize = 4;
/// How keys sign: the one algorithm that the issuer expects of each kind.
const SCHEMES: [SignatureScheme; 5] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::ED25519,
];

/// Where the machine's certificate and key lie.
#[derive(Debug, Clone)]
pub(crate) struct MachineFiles {
    /// PEM, leaf first.
    pub(crate) certificate: PathBuf,
    /// PEM: PKCS#8, PKCS#1 or SEC 1, not encrypted.
    pub(crate) key: PathBuf,
}

/// The machine's certificate, and the key that proves it.
#[derive(Debug)]
pub(super) struct Machine {
    chain: Vec<Bytes>,
    key: Arc<dyn SigningKey>,
}

impl Machine {
    /// Reads both files, off the async workers. They are read anew each time, since others renew them.
    ///
    /// # Errors
    /// [`Reason::MachineCertificateUnusable`] says which file, and what is wrong with it.
    pub(super) async fn read(files: &MachineFiles) -> Result<Self, Refusal> {
        let files = files.clone();
        let read = tokio::task::spawn_blocking(move || Self::read_now(&files)).await;
        read.unwrap_or_else(|stopped| Err(unusable(stopped.to_string())))
    }

    /// The certificates, DER, leaf first.
    pub(super) fn chain(&self) -> &[Bytes] {
        &self.chain
    }

    /// Signs with the machine's key.
    ///
    /// # Errors
    /// [`Reason::MachineCertificateUnusable`]: the key is of a kind that no issuer accepts.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Bytes, Refusal> {
        let signer = self.key.choose_scheme(&SCHEMES).ok_or_else(|| unusable("the key is of an unknown kind"))?;
        signer.sign(message).map(Bytes::from).map_err(|error| unusable(format!("the key does not sign: {error}")))
    }

    fn read_now(files: &MachineFiles) -> Result<Self, Refusal> {
        let at = |path: &Path, why: String| unusable(format!("{}: {why}", path.display()));
        let certificate = |why: String| at(&files.certificate, why);
        let text = read_file(&files.certificate)?;
        let chain = pem::read_certificates(&text).map_err(|error| certificate(error.to_string()))?;
        if chain.len() > MAX_CERTIFICATES {
            return Err(certificate(format!("holds more than {MAX_CERTIFICATES} certificates")));
        }
        let key = read_key(&files.key)?;
        let leaf = chain.first().ok_or_else(|| certificate("holds no certificate".to_owned()))?;
        let leaf = Certificate::parse(leaf).map_err(|error| certificate(error.to_string()))?;
        if key.public_key().is_some_and(|public| public.as_ref() != leaf.spki()) {
            return Err(at(&files.key, "is not the key of the first certificate".to_owned()));
        }
        Ok(Self { chain: chain.iter().map(|der| Bytes::copy_from_slice(der)).collect(), key })
    }
}

fn read_key(path: &Path) -> Result<Arc<dyn SigningKey>, Refusal> {
    let refuse = |why: String| unusable(format!("{}: {why}", path.display()));
    let text = read_file(path)?;
    let mut der = PrivateKeyDer::from_pem_slice(&text).map_err(|error| refuse(format!("no private key: {error}")))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der);
    der.zeroize();
    key.map_err(|error| refuse(error.to_string()))
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let refuse = |why: String| unusable(format!("{}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(refuse("is larger than 256 KiB".to_owned()));
    }
    std::fs::read(path).map(Zeroizing::new).map_err(|error| refuse(error.to_string()))
}

fn unusable(what: impl Into<String>) -> Refusal {
    Refusal::new(Reason::MachineCertificateUnusable, what)
}
