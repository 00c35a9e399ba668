//! The issuer's own SVID: made and renewed in memory, rotated in place under the listeners, recorded like any other.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use mayfly_sdk::{
    KeyAlgorithm, PrivateKey, Refusal, Serial, SpiffeId, Ttl, X509BundleSet,
    tls::{Credentials, Trust, certified_key},
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::{
    authority::{Authorities, LeafPlan},
    config::Hosts,
    directory::Directory,
    ledger::{Kind, Personal, Record},
    mint::{renew_after_s, sha256},
};

/// After a failed renewal, how long until the next try.
const RETRY: Duration = Duration::from_secs(5);
/// How long to sleep at most, so that a suspended machine notices.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// The issuer's own identity, and whom it believes.
pub struct OwnIdentity {
    directory: Arc<Directory>,
    authorities: Authorities,
    spiffe_id: SpiffeId,
    /// The host names by which others reach its HTTPS listeners.
    hosts: Hosts,
    ttl: Ttl,
    key: Arc<ArcSwapOption<CertifiedKey>>,
    trust: Arc<ArcSwap<X509BundleSet>>,
    renew_at: Duration,
}

impl OwnIdentity {
    /// Makes the first SVID.
    ///
    /// # Errors
    /// The name is not a path segment, no authority can sign, or the store could not record it.
    pub async fn make(
        directory: Arc<Directory>,
        authorities: Authorities,
        name: &str,
        hosts: Hosts,
        ttl: Ttl,
    ) -> Result<Self, Refusal> {
        let spiffe_id = SpiffeId::from_path(directory.trust_domain(), &format!("/mayfly/issuer/{name}"))?;
        let trust = Arc::new(ArcSwap::from_pointee(X509BundleSet::default()));
        let key = Arc::new(ArcSwapOption::empty());
        let mut identity = Self { directory, authorities, spiffe_id, hosts, ttl, key, trust, renew_at: Duration::ZERO };
        identity.renew().await?;
        Ok(identity)
    }

    /// What to present: the chain ends with the root, so that first contact can be pinned to it.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials::following(Arc::clone(&self.key))
    }

    /// Whom to believe: the trust domain's own bundle, as it is now.
    #[must_use]
    pub fn trust(&self) -> Trust {
        Trust::following(Arc::clone(&self.trust))
    }

    /// Renews it at half its life, and at once when the authorities change.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut authorities = self.authorities.watch();
        loop {
            let due = self.renew_at.saturating_sub(self.directory.clock().monotonic());
            tokio::select! {
                () = stop.cancelled() => return,
                changed = authorities.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(due.min(LONGEST_SLEEP)) => {
                    if self.renew_at > self.directory.clock().monotonic() {
                        continue;
                    }
                }
            }
            if let Err(refusal) = self.renew().await {
                tracing::error!(
                    reason = refusal.reason.code(),
                    what = refusal.what,
                    "the issuer's own svid could not be renewed"
                );
                self.renew_at = self.directory.clock().monotonic() + RETRY;
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Refusal> {
        let clock = self.directory.clock();
        let snapshot = self.authorities.snapshot();
        let mut trust = X509BundleSet::default();
        trust.insert(snapshot.bundle().bundle().x509.clone());
        self.trust.store(Arc::new(trust));

        let key = PrivateKey::generate(KeyAlgorithm::EcP256)?;
        let plan = LeafPlan {
            spiffe_id: self.spiffe_id.clone(),
            public_key: key.public_key().clone(),
            dns_names: self.hosts.names.clone(),
            ip_addresses: self.hosts.addresses.clone(),
            ttl: self.ttl,
            serial: Serial::generate(clock.now_ms())?,
            now: clock.now(),
        };
        let svid = self.authorities.sign_x509(&plan).await?;
        let record = Record {
            authority: Some(svid.authority.shared()),
            key_sha256: Some(plan.public_key.spki_sha256()),
            released_sha256: Some(sha256(&[&svid.der])),
            not_after: Some(svid.validity.not_after()),
            personal: Personal { spiffe_id: Some(self.spiffe_id.clone()), detail: Some("issuer".into()), actor: None },
            ..Record::new(Kind::X509SvidIssued, svid.serial)
        };
        self.directory.record(vec![record]).await?;
        let chain = std::iter::once(&svid.der).chain(svid.intermediates.iter()).chain(snapshot.root_certificate());
        let chain = chain.map(|der| CertificateDer::from(der.to_vec())).collect();
        self.key.store(Some(certified_key(chain, &key)?));
        let after = Duration::from_secs(renew_after_s(self.ttl.as_s()).into());
        self.renew_at = clock.monotonic() + after;
        tracing::debug!(spiffe_id = %self.spiffe_id, serial = %svid.serial, "the issuer renewed its own svid");
        Ok(())
    }
}
