//! The node's own identity: its key, its SVID, and when the SVID must be renewed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use mayfly_proto::node;
use mayfly_sdk::bundle::{Bundle, X509BundleSet};
use mayfly_sdk::tls::{Authorizer, ClientTls, Credentials, Options, Trust};
use mayfly_sdk::x509::{self, Usage, X509Svid};
use mayfly_sdk::{Clock, KeyAlgorithm, PrivateKey, Reason, Refusal, SpiffeId, Timestamp, TrustDomain, Ttl};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::record::NodeRecord;
use crate::directory::{Directory, DirectoryError};

const KEY_FILE: &str = "node.key";

/// The node key: made once on this node, where it stays (`STATE/node.key`, PKCS#8).
///
/// # Errors
/// [`DirectoryError`]: the file cannot be read or written.
pub(super) fn node_key(directory: &Directory) -> Result<PrivateKey, DirectoryError> {
    let unreadable = |why: String| DirectoryError::Unreadable { file: KEY_FILE, why };
    if let Some(pkcs8) = directory.read(KEY_FILE)? {
        return PrivateKey::from_pkcs8(&pkcs8).map_err(|error| unreadable(error.to_string()));
    }
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).map_err(|error| unreadable(error.to_string()))?;
    directory.replace(KEY_FILE, key.expose_pkcs8())?;
    Ok(key)
}

/// A key in the place of one that may be known elsewhere, on disk before anybody hears of it.
///
/// # Errors
/// [`Reason::StateUnwritable`] or [`Reason::KeyFailed`]; the old key is then still there.
pub(super) async fn replace_node_key(directory: &Directory) -> Result<PrivateKey, Refusal> {
    let key =
        PrivateKey::generate(KeyAlgorithm::EcP256).map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
    let pkcs8 = Zeroizing::new(key.expose_pkcs8().to_vec());
    let saved = directory.replace_later(KEY_FILE, pkcs8).await;
    saved.map_err(|error| Refusal::new(Reason::StateUnwritable, error.to_string()))?;
    Ok(key)
}

/// The node's SVID with its times, which run on the monotonic clock; the wall clock only adds to what it says, since the monotonic one
/// stands still while the machine is suspended.
#[derive(Debug, Clone)]
pub(super) struct NodeSvid {
    svid: X509Svid,
    expires: Moment,
    renew: Moment,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    monotonic: Duration,
    wall: Timestamp,
}

impl Moment {
    fn after(delay: Ttl, clock: &Clock) -> Self {
        Self { monotonic: clock.monotonic() + delay.duration(), wall: clock.now().saturating_add(delay) }
    }

    fn has_come(self, clock: &Clock) -> bool {
        clock.monotonic() >= self.monotonic || clock.now() >= self.wall
    }
}

impl NodeSvid {
    /// Checks an SVID that the issuer sent: it is for this node's key, of this trust domain's nodes, and verifies against the bundle at the
    /// issuer's time. Our own clock has no say: if it is wrong, a valid SVID must still be taken.
    ///
    /// # Errors
    /// The reason of what does not hold.
    pub(super) fn accept(
        sent: &node::NodeSvid,
        key: &PrivateKey,
        trust: &X509BundleSet,
        trust_domain: &TrustDomain,
        clock: &Clock,
    ) -> Result<Self, Refusal> {
        let chain: Vec<_> = sent.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let svid =
            X509Svid::new(chain, key.clone()).map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
        let issuers_now = svid.validity().not_after().saturating_sub(Ttl::from_s(sent.lifetime_s));
        let peer = x509::verify(svid.chain(), trust, issuers_now, Usage::Any)
            .map_err(|error| Refusal::new(error.reason(), format!("the node's new SVID does not verify: {error}")))?;
        let id = peer.spiffe_id();
        if id.as_str() != sent.spiffe_id || id.trust_domain() != trust_domain || !id.path().starts_with("/mayfly/node/")
        {
            let what = format!("the issuer sent an SVID of {id}, which is not a node of {trust_domain}");
            return Err(Refusal::new(Reason::UnauthorizedPeer, what));
        }
        Ok(Self {
            svid,
            expires: Moment::after(Ttl::from_s(sent.lifetime_s), clock),
            renew: Moment::after(Ttl::from_s(sent.renew_after_s), clock),
        })
    }

    /// The SVID of a record, after a restart. When to renew was drawn by the issuer and is not in the record: half of what the certificate
    /// lives stands in for it, and at once if a renewal was begun.
    pub(super) fn restore(record: &NodeRecord, key: &PrivateKey, clock: &Clock) -> Option<Self> {
        let svid = X509Svid::new(record.chain(), key.clone()).ok()?;
        let validity = svid.validity();
        let left = validity.remaining(clock.now());
        let half = Ttl::from_s(validity.lifetime().as_s() / 2);
        let until_renewal = if record.pending.is_some() { 0 } else { left.as_s().saturating_sub(half.as_s()) };
        let (expires, renew) = (Moment::after(left, clock), Moment::after(Ttl::from_s(until_renewal), clock));
        Some(Self { svid, expires, renew })
    }

    pub(super) fn spiffe_id(&self) -> &SpiffeId {
        self.svid.spiffe_id()
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        self.svid.chain()
    }

    pub(super) fn has_expired(&self, clock: &Clock) -> bool {
        self.expires.has_come(clock)
    }

    pub(super) fn must_be_renewed(&self, clock: &Clock) -> bool {
        self.renew.has_come(clock)
    }

    /// How long until the renewal is due, on the monotonic clock.
    pub(super) fn renewal_in(&self, clock: &Clock) -> Duration {
        self.renew.monotonic.saturating_sub(clock.monotonic())
    }
}

/// What the node presents and trusts, read at each handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct Presented {
    svid: Arc<ArcSwapOption<X509Svid>>,
    trust: Arc<ArcSwap<X509BundleSet>>,
}

impl Presented {
    pub(super) fn present(&self, svid: &NodeSvid) {
        self.svid.store(Some(Arc::new(svid.svid.clone())));
    }

    /// Trusts this bundle of the node's own trust domain from now on, and nothing else.
    pub(super) fn trust(&self, bundle: &Bundle) {
        self.trust.store(Arc::new(X509BundleSet::from_iter([bundle.x509.clone()])));
    }

    pub(super) fn trusted(&self) -> Arc<X509BundleSet> {
        self.trust.load_full()
    }

    /// TLS to an issuer; without a client certificate where the node's own is no longer worth anything.
    ///
    /// # Errors
    /// [`Reason::TlsSetup`].
    pub(super) fn tls(&self, trust_domain: &TrustDomain, clock: &Clock, with_svid: bool) -> Result<ClientTls, Refusal> {
        let svid = Arc::clone(&self.svid);
        let credentials = if with_svid {
            Credentials::from_svids(move || svid.load().as_deref().cloned())
        } else {
            Credentials::none()
        };
        let authorizer = Authorizer::issuer_of(trust_domain.clone());
        ClientTls::new(credentials, Trust::following(Arc::clone(&self.trust)), authorizer, clock, &Options::grpc())
    }
}
