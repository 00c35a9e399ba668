//! First contact: trust in an issuer by the hash of its root's public key, and by nothing else.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;

use crate::bundle::{X509Bundle, X509BundleSet};
use crate::id::TrustDomain;
use crate::reason::{Reason, Refusal};
use crate::x509::Certificate;

/// SHA-256 of a DER `SubjectPublicKeyInfo`; written as 64 hexadecimal digits.
#[derive(Clone, Copy, Hash, PartialEq, Eq)]
pub struct SpkiPin([u8; 32]);

impl SpkiPin {
    /// The pin of a public key.
    #[must_use]
    pub fn of_spki(spki: &[u8]) -> Self {
        let mut pin = [0; 32];
        for (to, from) in pin.iter_mut().zip(ring::digest::digest(&ring::digest::SHA256, spki).as_ref()) {
            *to = *from;
        }
        Self(pin)
    }

    /// The pin of the key that a certificate certifies.
    ///
    /// # Errors
    /// `x509_svid_invalid` when the bytes are not a certificate.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, Refusal> {
        Ok(Self::of_spki(Certificate::parse(certificate)?.spki()))
    }

    /// The bundle of a first contact: the one certificate of `chain` whose key is pinned, for this trust domain alone.
    /// The peer chose what it sent, so the rest of the chain is worth nothing until it is verified against this.
    ///
    /// # Errors
    /// `pin_mismatch` when no certificate has the pinned key; `x509_svid_invalid` when one cannot be read.
    pub(super) fn sole_anchor(
        self,
        chain: &[CertificateDer<'_>],
        trust_domain: &TrustDomain,
    ) -> Result<X509BundleSet, Refusal> {
        for certificate in chain {
            if Self::of_certificate(certificate)?.equals(self) {
                let bundle = X509Bundle::from_der(trust_domain.clone(), certificate).map_err(Refusal::from)?;
                return Ok(X509BundleSet::from_iter([bundle]));
            }
        }
        Err(Refusal::new(Reason::PinMismatch, "no certificate of the peer's chain has the pinned key"))
    }

    /// In constant time.
    fn equals(self, other: Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl FromStr for SpkiPin {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let mut pin = [0; 32];
        hex::decode_to_slice(text, &mut pin).map_err(|_not_hex: hex::FromHexError| {
            Refusal::new(Reason::InvalidArgument, "a pin is 64 hexadecimal digits: SHA-256 of the root's public key")
        })?;
        Ok(Self(pin))
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpkiPin({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_64_hexadecimal_digits() {
        let pin = SpkiPin::of_spki(b"key");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert!(pin.equals(pin) && !pin.equals(SpkiPin::of_spki(b"other")));
        for bad in ["", "00", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64)] {
            assert_eq!(bad.parse::<SpkiPin>().unwrap_err().reason, Reason::InvalidArgument, "{bad}");
        }
    }
}
