//! An issuer's authorities on a manual clock, and SVIDs to try them with.

use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::bundle::{Bundle, JwtBundleSet, WitBundleSet, X509BundleSet};
use mayfly_sdk::jwt::{Audience, Options};
use mayfly_sdk::time::ClockHand;
use mayfly_sdk::x509::Usage;
use mayfly_sdk::{Clock, KeyAlgorithm, PrivateKey, Serial, Timestamp, TrustDomain, Ttl, WitSvid};

use super::fake::{FakeNodes, FakeStore};
use crate::authority::{
    Authorities, AuthorityError, JwtPlan, LeafPlan, Place, Rotation, Settings, SignedJwt, SignedWit, SignedX509,
    WitPlan, open,
};

pub(super) const START: Timestamp = Timestamp::from_unix_s(1_800_000_000);
pub(super) const HOUR: u32 = 3600;

/// What outlives a process: the disk, the clock, and the other machines.
pub(super) struct World {
    pub(super) store: Arc<FakeStore>,
    pub(super) nodes: FakeNodes,
    pub(super) directory: tempfile::TempDir,
    pub(super) clock: Clock,
    pub(super) hand: ClockHand,
    pub(super) settings: Settings,
    key: PrivateKey,
}

/// A process.
pub(super) struct Issuer {
    pub(super) authorities: Authorities,
    pub(super) rotation: Rotation,
}

impl World {
    pub(super) fn new() -> Self {
        let (clock, hand) = Clock::manual(START);
        Self {
            store: Arc::default(),
            nodes: FakeNodes::default(),
            directory: tempfile::tempdir().unwrap(),
            clock,
            hand,
            settings: Settings::default(),
            key: PrivateKey::generate(KeyAlgorithm::EcP256).unwrap(),
        }
    }

    pub(super) async fn start(&self) -> Result<Issuer, AuthorityError> {
        let place = Place {
            trust_domain: trust_domain(),
            issuer: "one".to_owned(),
            wrapping_key: self.directory.path().join("wrapping.key"),
        };
        let (store, nodes) = (self.store.clone(), Arc::new(self.nodes.clone()));
        let stored = self.store.stored();
        let (authorities, rotation) =
            open(place, self.settings.clone(), stored, store, nodes, self.clock.clone()).await?;
        Ok(Issuer { authorities, rotation })
    }

    pub(super) fn pass(&self, seconds: u32) {
        self.hand.advance(Duration::from_secs(seconds.into()));
    }

    pub(super) fn leaf(&self, ttl: Ttl) -> LeafPlan {
        LeafPlan {
            spiffe_id: "spiffe://td.test/a/workload".parse().unwrap(),
            public_key: self.key.public_key().clone(),
            dns_names: vec!["a.example.org".to_owned(), "b.example.org".to_owned(), "c.example.org".to_owned()],
            ip_addresses: Vec::new(),
            ttl,
            serial: Serial::generate(self.clock.now_ms()).unwrap(),
            now: self.clock.now(),
        }
    }

    pub(super) fn token(&self, ttl: Ttl) -> JwtPlan {
        JwtPlan {
            spiffe_id: "spiffe://td.test/a/workload".parse().unwrap(),
            audience: vec!["one".to_owned(), "two".to_owned()],
            ttl,
            jti: Serial::generate(self.clock.now_ms()).unwrap(),
            iss: None,
            claims: mayfly_sdk::jws::Object::new(),
            now: self.clock.now(),
        }
    }

    pub(super) fn wit(&self, ttl: Ttl) -> WitPlan {
        WitPlan {
            spiffe_id: "spiffe://td.test/a/workload".parse().unwrap(),
            public_key: self.key.public_key().clone(),
            ttl,
            jti: Serial::generate(self.clock.now_ms()).unwrap(),
            now: self.clock.now(),
        }
    }

    /// As whoever holds the key that the token is bound to.
    pub(super) fn verify_wit(&self, svid: &SignedWit, bundle: &Bundle) -> Result<(), String> {
        let bundles = WitBundleSet::from(bundle.wit.clone());
        let held = WitSvid::new(&svid.token, self.key.clone()).map_err(|error| error.to_string())?;
        assert_eq!(*held.spiffe_id(), svid.spiffe_id);
        held.check_issued(&bundles, self.clock.now()).map_err(|error| error.to_string())
    }

    /// Signs one of each and verifies all with the bundle that is published.
    pub(super) async fn sign_and_verify(&self, issuer: &Issuer) {
        let x509 = issuer.authorities.sign_x509(&self.leaf(Ttl::from_s(900))).await.unwrap();
        let jwt = issuer.authorities.sign_jwt(&self.token(Ttl::from_s(300))).await.unwrap();
        let bundle = bundle_of(issuer);
        verify_x509(&x509, &bundle, self.clock.now()).unwrap();
        verify_jwt(&jwt, &bundle, self.clock.now()).unwrap();
        if self.settings.wit {
            let wit = issuer.authorities.sign_wit(&self.wit(Ttl::from_s(900))).await.unwrap();
            self.verify_wit(&wit, &bundle).unwrap();
        }
    }
}

pub(super) fn trust_domain() -> TrustDomain {
    "td.test".parse().unwrap()
}

/// The bundle as somebody reads it who gets the published document.
pub(super) fn bundle_of(issuer: &Issuer) -> Bundle {
    read_bundle(issuer.authorities.snapshot().bundle().document())
}

pub(super) fn read_bundle(document: &str) -> Bundle {
    Bundle::from_spiffe_json(trust_domain(), document.as_bytes()).unwrap()
}

pub(super) fn verify_x509(svid: &SignedX509, bundle: &Bundle, now: Timestamp) -> Result<(), String> {
    let mut chain = vec![svid.der.clone()];
    chain.extend(svid.intermediates.iter().cloned());
    let mut bundles = X509BundleSet::default();
    bundles.insert(bundle.x509.clone());
    let peer = mayfly_sdk::x509::verify(&chain, &bundles, now, Usage::Any).map_err(|error| error.to_string())?;
    assert_eq!(*peer.spiffe_id(), svid.spiffe_id);
    Ok(())
}

pub(super) fn verify_jwt(svid: &SignedJwt, bundle: &Bundle, now: Timestamp) -> Result<(), String> {
    let mut bundles = JwtBundleSet::default();
    bundles.insert(bundle.jwt.clone());
    let audience = Audience::new("two").unwrap();
    let options = Options::default().with_leeway(Ttl::ZERO).unwrap();
    let token = mayfly_sdk::jwt::verify(&svid.token, &bundles, &audience, now, &options);
    token.map(|token| assert_eq!(*token.spiffe_id(), svid.spiffe_id)).map_err(|error| error.to_string())
}
