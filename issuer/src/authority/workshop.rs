//! Where keys are made: a new key of any kind, with its certificate and sealed for the store.

use std::sync::Arc;

use mayfly_sdk::{Clock, PrivateKey, Serial, Timestamp, TrustDomain};

use super::AuthorityError;
use super::certificate::{Birth, RootIssuer};
use super::kind::Kind;
use super::leaf::X509Intermediate;
use super::schedule::Settings;
use super::slot::{Active, Facts, Prepared, state};
use super::wrapping::{Sealer, SlotName};
use crate::store::{SlotKind, SlotOrigin};

/// What making a key needs.
pub(super) struct Workshop {
    pub(super) trust_domain: TrustDomain,
    /// The name of this issuer: its intermediates are its own.
    pub(super) issuer: Arc<str>,
    pub(super) settings: Settings,
    pub(super) sealer: Sealer,
    pub(super) clock: Clock,
}

impl Workshop {
    /// A new key that all issuers share, sealed for the store.
    pub(super) async fn shared<K: Kind>(&self, generation: u64, now: Timestamp) -> Result<Prepared<K>, AuthorityError> {
        let key = self.key(K::NAME).await?;
        let birth = self.birth(now, now.saturating_add(self.settings.life(K::NAME)))?;
        let chain: Arc<_> = K::certify(&birth, &key).await?.into();
        let facts = self.facts::<K>(&birth, &key, generation, Arc::clone(&chain), chain);
        let stored = self.sealer.seal(&key, &SlotName::of::<K>(&facts))?;
        let signer = Arc::new(K::signer(&key, &facts.chain)?);
        Ok(Prepared::prepare(facts, state::Secret { stored: Some(stored), signer }))
    }

    /// A new intermediate of this process under the active root. Its key is in memory only.
    pub(super) async fn intermediate(
        &self,
        generation: u64,
        root: &RootIssuer,
        root_ends: Timestamp,
        now: Timestamp,
    ) -> Result<Active<X509Intermediate>, AuthorityError> {
        let key = self.key(SlotKind::X509Intermediate).await?;
        let not_after = now.saturating_add(self.settings.life(SlotKind::X509Intermediate)).min(root_ends);
        let birth = self.birth(now, not_after)?;
        let certificate = root.sign_intermediate(&birth, key.public_key()).await?;
        let (chain, anchors) = (Arc::from([certificate]), Arc::from([root.certificate().clone()]));
        let facts = self.facts::<X509Intermediate>(&birth, &key, generation, chain, anchors);
        let facts = Facts { issuer: Arc::clone(&self.issuer), ..facts };
        let signer = Arc::new(X509Intermediate::signer(&key, &facts.chain)?);
        Ok(Prepared::prepare(facts, state::Secret { stored: None, signer }).activate(now))
    }

    /// Off the async workers: an RSA key takes up to seconds.
    async fn key(&self, kind: SlotKind) -> Result<PrivateKey, AuthorityError> {
        let algorithm = self.settings.algorithm(kind);
        let made = tokio::task::spawn_blocking(move || PrivateKey::generate(algorithm)).await;
        Ok(made.unwrap_or(Err(mayfly_sdk::key::KeyError::Failed))?)
    }

    fn birth(&self, made_at: Timestamp, not_after: Timestamp) -> Result<Birth<'_>, AuthorityError> {
        let serial = Serial::generate(self.clock.now_ms())?;
        Ok(Birth { trust_domain: &self.trust_domain, serial, made_at, not_after })
    }

    fn facts<K: Kind>(
        &self,
        birth: &Birth<'_>,
        key: &PrivateKey,
        generation: u64,
        chain: Arc<[bytes::Bytes]>,
        anchors: Arc<[bytes::Bytes]>,
    ) -> Facts {
        Facts {
            id: K::authority_id(key.public_key()),
            generation,
            issuer: Arc::default(),
            algorithm: self.settings.algorithm(K::NAME),
            public_key: key.public_key().clone(),
            chain,
            anchors,
            origin: SlotOrigin::Own,
            made_at: birth.made_at,
            not_after: birth.not_after,
        }
    }
}
