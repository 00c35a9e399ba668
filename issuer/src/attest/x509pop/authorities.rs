use std::{fs::File, io::Read as _, path::Path, sync::Arc};

use mayfly_sdk::{Reason, Refusal, pem, x509::Authority};

use super::{MAX_RSA_BITS, bounded_key};

/// The longest file of authorities, bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The most authorities.
const MAX_AUTHORITIES: usize = 64;

/// The certificate authorities whose machines may enrol. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MachineAuthorities(Arc<[Authority]>);

impl MachineAuthorities {
    /// Reads a PEM file of certificate authorities.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`]: the file cannot be read, or one of its certificates is no authority: a leaf that stood
    /// here could name itself.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        let refuse = |what: String| Refusal::new(Reason::InvalidArgument, format!("{}: {what}", path.display()));
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text));
        read.map_err(|error| refuse(format!("cannot be read: {error}")))?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(refuse("is larger than 1 MiB".to_owned()));
        }
        Self::parse(&text).map_err(|refusal| refuse(refusal.what))
    }

    /// Reads PEM.
    ///
    /// # Errors
    /// As [`MachineAuthorities::read`].
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let refuse = |what: String| Refusal::new(Reason::InvalidArgument, what);
        let certificates = pem::read_certificates(text).map_err(|error| refuse(error.to_string()))?;
        if certificates.len() > MAX_AUTHORITIES {
            return Err(refuse(format!("holds more than {MAX_AUTHORITIES} certificates")));
        }
        let mut authorities = Vec::with_capacity(certificates.len());
        for (at, der) in (1..).zip(&certificates) {
            let refuse = |what: String| refuse(format!("certificate {at}: {what}"));
            let certificate = mayfly_sdk::x509::Certificate::parse(der).map_err(|error| refuse(error.to_string()))?;
            bounded_key(&certificate).map_err(|_refused| {
                refuse(format!("its key is none of ECDSA, Ed25519, or RSA from 2048 to {MAX_RSA_BITS} bits"))
            })?;
            let authority = Authority::from_der(der).map_err(|error| refuse(error.to_string()))?;
            if !authority.is_ca() {
                return Err(refuse("is no certificate authority".to_owned()));
            }
            authorities.push(authority);
        }
        Ok(Self(authorities.into()))
    }

    pub(super) fn as_slice(&self) -> &[Authority] {
        &self.0
    }
}
