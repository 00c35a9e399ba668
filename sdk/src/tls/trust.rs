//! Where a handshake finds the bundles of the moment.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::bundle::X509BundleSet;

/// The bundles that peers are verified against, asked for at every handshake: a new bundle counts from the next
/// handshake on, without a restart.
#[derive(Clone)]
pub struct Trust(Arc<dyn Fn() -> Arc<X509BundleSet> + Send + Sync>);

impl Trust {
    /// Asks `bundles` at every handshake. It must answer from memory: the handshake waits for it.
    pub fn from_fn(bundles: impl Fn() -> Arc<X509BundleSet> + Send + Sync + 'static) -> Self {
        Self(Arc::new(bundles))
    }

    /// Reads a snapshot that its owner replaces.
    #[must_use]
    pub fn following(bundles: Arc<ArcSwap<X509BundleSet>>) -> Self {
        Self::from_fn(move || bundles.load_full())
    }

    /// Always these bundles: for tests and for tools that live shorter than a bundle.
    #[must_use]
    pub fn fixed(bundles: X509BundleSet) -> Self {
        let bundles = Arc::new(bundles);
        Self::from_fn(move || Arc::clone(&bundles))
    }

    /// The bundles of this moment.
    #[must_use]
    pub fn current(&self) -> Arc<X509BundleSet> {
        (self.0)()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust(..)")
    }
}
