//! What we present in a handshake: our own chain and key, as they are at that moment.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::config::provider;
use crate::key::PrivateKey;
use crate::reason::{Reason, Refusal};
use crate::x509::X509Svid;

/// The chain and key that are presented, asked for at every handshake: a renewed SVID counts from the next handshake
/// on, without a restart.
#[derive(Clone)]
pub struct Credentials(Arc<dyn Fn() -> Option<Arc<CertifiedKey>> + Send + Sync>);

impl Credentials {
    /// Asks `keys` at every handshake; see [`certified_key`]. It must answer from memory: the handshake waits for it.
    /// On `None` a client presents nothing, and a server refuses the handshake.
    pub fn from_fn(keys: impl Fn() -> Option<Arc<CertifiedKey>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(keys))
    }

    /// Reads a snapshot that its owner replaces: the form for the daemons, whose chains are not those of the Workload
    /// API (the issuer's ends with its root).
    #[must_use]
    pub fn following(keys: Arc<ArcSwapOption<CertifiedKey>>) -> Self {
        Self::from_fn(move || keys.load_full())
    }

    /// Asks `svids` at every handshake and presents the SVID. Its key is parsed once, not at every handshake.
    pub fn from_svids(svids: impl Fn() -> Option<X509Svid> + Send + Sync + 'static) -> Self {
        let parsed = ArcSwapOption::<Parsed>::empty();
        Self::from_fn(move || {
            let svid = svids()?;
            // The cached SVID is held, so no other one can lie at its address.
            if let Some(hit) = parsed.load_full().filter(|parsed| std::ptr::eq(parsed.svid.chain(), svid.chain())) {
                return Some(Arc::clone(&hit.key));
            }
            match certified_key(svid.chain().to_vec(), svid.key()) {
                Ok(key) => {
                    parsed.store(Some(Arc::new(Parsed { svid, key: Arc::clone(&key) })));
                    Some(key)
                }
                Err(refusal) => {
                    tracing::error!(spiffe_id = %svid.spiffe_id(), reason = refusal.reason.code(), "own svid cannot be presented");
                    None
                }
            }
        })
    }

    /// Presents nothing: for a client that is not yet known to anybody.
    #[must_use]
    pub fn none() -> Self {
        Self::from_fn(|| None)
    }

    /// What would be presented at this moment.
    #[must_use]
    pub fn current(&self) -> Option<Arc<CertifiedKey>> {
        (self.0)()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A chain (leaf first) and its key as rustls presents them.
///
/// # Errors
/// `key_malformed` when the key cannot sign in TLS or is not the key of the leaf: the two were taken from different
/// places, which is a mistake of the caller.
pub fn certified_key(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Result<Arc<CertifiedKey>, Refusal> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.expose_pkcs8()));
    let refused = |error: rustls::Error| {
        Refusal::new(Reason::KeyMalformed, format!("the key cannot be presented with this chain: {error}"))
    };
    let key = provider().key_provider.load_private_key(der.clone_key()).map_err(refused)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(refused)?;
    Ok(Arc::new(certified))
}

struct Parsed {
    svid: X509Svid,
    key: Arc<CertifiedKey>,
}
