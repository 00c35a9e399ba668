use std::collections::BTreeMap;

use serde_json::Value;

use super::{Bundle, BundleError};
use crate::id::TrustDomain;
use crate::json::{self, Object};

/// The longest bundle map that is read, in bytes.
pub const MAX_BUNDLE_MAP_BYTES: usize = 16 * 1024 * 1024;

/// Bundles of several trust domains in one document (Bundle 5.1). Read all or nothing: whoever gets an error keeps the
/// map that he had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BundleMap(BTreeMap<TrustDomain, Bundle>);

impl BundleMap {
    /// Reads a map. Refresh hints of its members mean nothing here and are dropped (row BM-3).
    ///
    /// # Errors
    /// A [`BundleError`] about the map, or about any of its bundles.
    pub fn from_json(document: &[u8]) -> Result<Self, BundleError> {
        if document.len() > MAX_BUNDLE_MAP_BYTES {
            return Err(BundleError::TooLong);
        }
        let document = json::object(document).ok().ok_or(BundleError::NotJson)?;
        let members = document.get("trust_domains").and_then(Value::as_object).ok_or(BundleError::NoTrustDomains)?;
        let mut map = BTreeMap::new();
        for (name, bundle) in members {
            let trust_domain = TrustDomain::from_name(name).ok().ok_or(BundleError::BadTrustDomain)?;
            let bundle = Bundle::from_object(trust_domain.clone(), bundle.as_object().ok_or(BundleError::NotJson)?)?;
            map.insert(trust_domain, Bundle { refresh_hint: None, ..bundle });
        }
        Ok(Self(map))
    }

    /// The document; `trust_domains` is there even when it is empty (row BM-1).
    #[must_use]
    pub fn to_json(&self) -> String {
        let members: Object = self
            .0
            .iter()
            .map(|(name, bundle)| {
                let bundle = Bundle { refresh_hint: None, ..bundle.clone() };
                (name.to_string(), Value::Object(bundle.to_object()))
            })
            .collect();
        json::canonical(Object::from_iter([("trust_domains".to_owned(), members.into())]))
    }

    /// Puts a bundle in, in the place of the one that its trust domain had.
    pub fn insert(&mut self, bundle: Bundle) -> Option<Bundle> {
        self.0.insert(bundle.trust_domain().clone(), bundle)
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        self.0.get(trust_domain)
    }

    /// All bundles, in the order of their trust domains' names.
    pub fn iter(&self) -> impl Iterator<Item = &Bundle> {
        self.0.values()
    }
}
