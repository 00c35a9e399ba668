//! X.509 proof of possession: a machine that has a certificate from elsewhere proves by its key which machine it is.
//!
//! ```text
//! certificates --read, within bounds--> PresentedChain --signature by the leaf's key--> --path to a configured authority--> Attested
//! ```
//!
//! - Everything is bounded before any cryptography: 4 certificates, 48 KiB, RSA from 2048 to 4096 bits (SPIRE 1.14.2: huge
//!   chains and keys cost its server its processor).
//! - The chain that is verified is that of the very key that signed, and names are taken from the certificate that was verified.
//! - The node is named by the SHA-256 of the certificate. While a node key is in use that was enrolled by the machine's key,
//!   another one is refused: whoever copies a machine's key does not displace the machine.
//! - Certificate revocation lists are not looked at: a stolen machine is banned, by its key. A certificate alone would not do:
//!   an ECDSA signature has a twin that anybody can work out, and with it a certificate of another fingerprint.

mod authorities;
mod names;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use mayfly_sdk::{
    PublicKey, Reason, Refusal, SignatureAlgorithm, SpiffeId, Timestamp, TrustDomain,
    key::KeyType,
    x509::{Certificate, X509Error, verify_client},
};

pub use authorities::MachineAuthorities;

use super::{Attested, Attestor, Means, ProvenKey, own_selectors};
use crate::mint::sha256;

/// Its name in SPIFFE IDs and selectors.
pub(super) const NAME: &str = "x509pop";
/// What the machine's key signs: this, the nonce, the TLS exporter of the connection, and the SHA-256 of the node key.
const SIGNED_CONTEXT: &[u8] = b"mayfly machine certificate v1\0";
/// The most certificates of a chain.
const MAX_CERTIFICATES: usize = 4;
/// The most bytes of a chain.
const MAX_CHAIN_BYTES: usize = 48 * 1024;
/// The most bits of an RSA key.
const MAX_RSA_BITS: u32 = 4096;

/// A chain that a node says is its machine's: within bounds, every certificate and key read, nothing verified.
pub struct PresentedChain {
    /// Leaf first; never empty.
    leaf: Bytes,
    intermediates: Vec<Bytes>,
    key: PublicKey,
}

/// A chain, and what is said to be a signature by the key of its leaf.
#[derive(Debug)]
pub struct Possession {
    chain: PresentedChain,
    signature: Vec<u8>,
}

impl PresentedChain {
    /// Reads a chain, DER, leaf first. No cryptography.
    ///
    /// # Errors
    /// [`Reason::MachineCertificateInvalid`]: it is beyond the bounds, or cannot be read.
    pub fn read(certificates: Vec<Bytes>) -> Result<Self, Refusal> {
        let size: usize = certificates.iter().map(Bytes::len).sum();
        if certificates.len() > MAX_CERTIFICATES || size > MAX_CHAIN_BYTES {
            return Err(invalid(format!(
                "the chain of the machine's certificate has {} certificates in {size} bytes, and at most {MAX_CERTIFICATES} in {MAX_CHAIN_BYTES} are read",
                certificates.len()
            )));
        }
        let mut keys = Vec::with_capacity(certificates.len());
        for der in &certificates {
            keys.push(bounded_key(&Certificate::parse(der).map_err(unreadable)?)?);
        }
        let mut certificates = certificates.into_iter();
        let mut keys = keys.into_iter();
        let (Some(leaf), Some(key)) = (certificates.next(), keys.next()) else {
            return Err(invalid("the machine presents no certificate".to_owned()));
        };
        Ok(Self { leaf, intermediates: certificates.collect(), key })
    }

    /// With what is said to be a signature by its key.
    #[must_use]
    pub fn signed(self, signature: Vec<u8>) -> Possession {
        Possession { chain: self, signature }
    }
}

impl std::fmt::Debug for PresentedChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PresentedChain({} certificates)", self.intermediates.len() + 1)
    }
}

pub(super) struct X509Pop<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) authorities: &'a MachineAuthorities,
}

impl Attestor for X509Pop<'_> {
    type Evidence = Possession;

    fn attest(&self, evidence: Possession, key: ProvenKey, now: Timestamp) -> Result<Attested, Refusal> {
        let Possession { chain, signature } = evidence;
        let statement = key.statement(SIGNED_CONTEXT);
        chain.key.verify(algorithm(chain.key.key_type()), &statement, &signature).map_err(|_refused| {
            let what = "the challenge was not signed by the key of the machine's certificate on this connection";
            Refusal::new(Reason::SignatureInvalid, what)
        })?;

        let leaf = Certificate::parse(&chain.leaf).map_err(unreadable)?;
        let intermediates: Result<Vec<_>, _> = chain.intermediates.iter().map(|der| Certificate::parse(der)).collect();
        let intermediates = intermediates.map_err(unreadable)?;
        let anchor = verify_client(&leaf, &intermediates, self.authorities.as_slice(), now).map_err(untrusted)?;

        let fingerprint = hex::encode(sha256(&[&chain.leaf]));
        let spiffe_id = SpiffeId::from_path(self.trust_domain, &format!("/mayfly/node/{NAME}/{fingerprint}"))?;
        let mut selectors = own_selectors(NAME, &fingerprint)?.to_vec();
        selectors.extend(names::selectors(&chain.leaf, anchor)?);
        let means = Means::Certificate { key_sha256: sha256(&[leaf.spki()]) };
        Ok(Attested { spiffe_id, attestor: NAME, selectors, key, means })
    }
}

/// Reads a chain of one certificate and its names, for a fuzz target: whatever the bytes are, it returns.
pub fn fuzz_machine_chain(der: &[u8]) {
    let chain = PresentedChain::read(vec![Bytes::copy_from_slice(der)]);
    let anchor = mayfly_sdk::x509::Authority::from_der(der);
    if let (Ok(chain), Ok(anchor)) = (chain, anchor) {
        names::selectors(&chain.leaf, &anchor).ok();
    }
}

/// The one algorithm with which a key of this type answers.
fn algorithm(key: KeyType) -> SignatureAlgorithm {
    match key {
        KeyType::Rsa => SignatureAlgorithm::RsaPssSha256,
        other => SignatureAlgorithm::for_x509(other),
    }
}

/// The key of a certificate, unless it costs whoever verifies with it too much.
fn bounded_key(certificate: &Certificate<'_>) -> Result<PublicKey, Refusal> {
    let key = PublicKey::from_spki(certificate.spki())
        .map_err(|error| invalid(format!("a key of the machine's chain is not accepted: {error}")))?;
    if key.key_type() == KeyType::Rsa && key.bits() > MAX_RSA_BITS {
        let what =
            format!("a key of the machine's chain has {} bits, and RSA up to {MAX_RSA_BITS} is read", key.bits());
        return Err(invalid(what));
    }
    Ok(key)
}

fn unreadable(error: X509Error) -> Refusal {
    invalid(format!("the machine's chain is not accepted: {error}"))
}

fn untrusted(error: X509Error) -> Refusal {
    let what = format!("the machine's certificate is not believed: {error}");
    match error {
        X509Error::LeafIsAuthority
        | X509Error::LeafKeyUsage
        | X509Error::ExtendedKeyUsage
        | X509Error::CriticalExtension
        | X509Error::Expired
        | X509Error::NotYetValid
        | X509Error::Malformed => invalid(what),
        _ => Refusal::new(Reason::MachineCertificateUntrusted, what),
    }
}

fn invalid(what: String) -> Refusal {
    Refusal::new(Reason::MachineCertificateInvalid, what)
}
