//! PEM (RFC 7468), for files that people and other programs read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::key::PrivateKey;

/// The text is not a series of PEM certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a series of PEM certificates")]
pub struct PemError;

/// One certificate.
#[must_use]
pub fn certificate(der: &[u8]) -> String {
    encode("CERTIFICATE", der).to_string()
}

/// A private key as unencrypted PKCS#8. Whoever calls this answers for where the text goes; it is wiped when dropped.
#[must_use]
pub fn private_key(key: &PrivateKey) -> Zeroizing<String> {
    private_key_der(key.expose_pkcs8())
}

/// The same of a key that is PKCS#8 DER already.
#[must_use]
pub fn private_key_der(pkcs8: &[u8]) -> Zeroizing<String> {
    encode("PRIVATE KEY", pkcs8)
}

/// Every certificate of a file, in order; at least one.
///
/// # Errors
/// [`PemError`].
pub fn read_certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    read.ok().filter(|certificates| !certificates.is_empty()).ok_or(PemError)
}

const LINE: usize = 64;

fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / LINE + 2 * label.len() + 40));
    let (begin, end) = (format!("-----BEGIN {label}-----\n"), format!("-----END {label}-----\n"));
    text.push_str(&begin);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&end);
    text
}
