use std::collections::BTreeMap;

use super::{JwtBundle, WitBundle, X509Bundle};
use crate::id::TrustDomain;

/// Something that is of exactly one trust domain.
pub trait OfTrustDomain {
    /// That trust domain.
    fn trust_domain(&self) -> &TrustDomain;
}

/// At most one bundle for each trust domain. Never merges two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleSet<B>(BTreeMap<TrustDomain, B>);

/// What X.509-SVIDs of several trust domains are verified with.
pub type X509BundleSet = BundleSet<X509Bundle>;
/// What JWT-SVIDs of several trust domains are verified with.
pub type JwtBundleSet = BundleSet<JwtBundle>;
/// What WIT-SVIDs of several trust domains are verified with.
pub type WitBundleSet = BundleSet<WitBundle>;

impl<B: OfTrustDomain> BundleSet<B> {
    /// A set without bundles, which trusts nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Puts a bundle in, in the place of the one that its trust domain had; returns that one.
    pub fn insert(&mut self, bundle: B) -> Option<B> {
        self.0.insert(bundle.trust_domain().clone(), bundle)
    }

    /// Takes the bundle of a trust domain out.
    pub fn remove(&mut self, trust_domain: &TrustDomain) -> Option<B> {
        self.0.remove(trust_domain)
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&B> {
        self.0.get(trust_domain)
    }

    /// All bundles, in the order of their trust domains' names.
    pub fn iter(&self) -> impl Iterator<Item = &B> {
        self.0.values()
    }

    /// The number of bundles.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no bundle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<B: OfTrustDomain> Default for BundleSet<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// Of two bundles for one trust domain the later one stays.
impl<B: OfTrustDomain> FromIterator<B> for BundleSet<B> {
    fn from_iter<I: IntoIterator<Item = B>>(bundles: I) -> Self {
        let mut set = Self::new();
        for bundle in bundles {
            set.insert(bundle);
        }
        set
    }
}

impl<B: OfTrustDomain> From<B> for BundleSet<B> {
    fn from(bundle: B) -> Self {
        Self::from_iter([bundle])
    }
}
