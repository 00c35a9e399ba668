//! The bundle endpoint: one document, as it is at this moment (rows BD-1, FD-1 to FD-6).

use std::sync::Arc;

use mayfly_sdk::Revision;
use parking_lot::Mutex;
use serde_json::Value;

use super::document::Document;
use crate::{config::BundleEndpointConfig, directory::Directory};

/// The `use` of keys that verify WIT-SVIDs. Deployed SPIRE refuses a whole bundle that has one (DESIGN 9).
const WIT_USE: &str = "wit-svid";

/// The trust domain's own bundle over HTTP.
#[derive(Debug)]
pub(super) struct BundleEndpoint {
    directory: Arc<Directory>,
    path: String,
    /// Whether WIT keys are shown.
    wit: bool,
    /// The document is made once for each revision of the bundle, not once for each stranger who asks.
    rendered: Mutex<Option<(Revision, Document)>>,
}

impl BundleEndpoint {
    pub(super) fn new(directory: Arc<Directory>, config: &BundleEndpointConfig) -> Self {
        Self { directory, path: config.path.clone(), wit: config.wit, rendered: Mutex::new(None) }
    }

    /// Its path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The document as it is now; `None` if what is stored cannot be read.
    pub(super) fn document(&self) -> Option<Document> {
        let row = self.directory.bundle(self.directory.trust_domain())?;
        let mut rendered = self.rendered.lock();
        if let Some((_, document)) = rendered.as_ref().filter(|(of, _)| *of == row.revision) {
            return Some(document.clone());
        }
        let fresh = Document::new(published(row.document, self.wit)?);
        *rendered = Some((row.revision, fresh.clone()));
        Some(fresh)
    }
}

/// What is shown of a bundle: all of it, or all but its WIT keys. The sequence stays: it grows with every change, and may
/// grow without one.
fn published(document: String, wit: bool) -> Option<String> {
    if wit {
        return Some(document);
    }
    let mut bundle: Value = serde_json::from_str(&document).ok()?;
    let keys = bundle.get_mut("keys")?.as_array_mut()?;
    let before = keys.len();
    keys.retain(|key| key.get("use").and_then(Value::as_str) != Some(WIT_USE));
    Some(if keys.len() == before { document } else { bundle.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUNDLE: &str = r#"{"keys":[{"use":"x509-svid"},{"kid":"w","use":"wit-svid"},{"use":"jwt-svid"}],"spiffe_sequence":18446744073709551615}"#;

    #[test]
    fn wit_keys_are_left_out_and_nothing_else() {
        assert_eq!(published(BUNDLE.into(), true).unwrap(), BUNDLE);
        assert_eq!(
            published(BUNDLE.into(), false).unwrap(),
            r#"{"keys":[{"use":"x509-svid"},{"use":"jwt-svid"}],"spiffe_sequence":18446744073709551615}"#
        );
    }

    /// Rows: BD-1.
    #[test]
    fn the_last_key_that_is_left_out_leaves_an_empty_list() {
        assert_eq!(published(r#"{"keys":[{"use":"wit-svid"}]}"#.into(), false).unwrap(), r#"{"keys":[]}"#);
        assert_eq!(published("{}".into(), false), None);
    }
}
