//! The bundle endpoint: one document, as it is at this moment (rows BD-1, FD-1 to FD-6).

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use mayfly_sdk::Revision;
use parking_lot::Mutex;
use serde_json::Value;

use crate::{config::BundleEndpointConfig, directory::Directory, metrics::Metrics, mint::sha256};

/// The `use` of keys that verify WIT-SVIDs. Deployed SPIRE refuses a whole bundle that has one (DESIGN 9).
const WIT_USE: &str = "wit-svid";

/// The trust domain's own bundle over HTTP.
#[derive(Debug)]
pub(super) struct BundleEndpoint {
    directory: Arc<Directory>,
    path: String,
    /// Whether WIT keys are shown.
    wit: bool,
    metrics: Arc<Metrics>,
    /// The document is made once for each revision of the bundle, not once for each stranger who asks.
    rendered: Mutex<Option<Rendered>>,
}

#[derive(Debug, Clone)]
struct Rendered {
    of: Revision,
    document: bytes::Bytes,
    etag: HeaderValue,
}

impl BundleEndpoint {
    pub(super) fn new(directory: Arc<Directory>, config: &BundleEndpointConfig, metrics: Arc<Metrics>) -> Self {
        Self { directory, path: config.path.clone(), wit: config.wit, metrics, rendered: Mutex::new(None) }
    }

    /// The answer to one request. Its body, if it has one, is not looked at.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let response = self.respond(request.method(), request.uri().path(), request.headers());
        self.metrics.web_answered(response.status().as_u16());
        response
    }

    fn respond(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Body> {
        if path != self.path {
            return text(StatusCode::NOT_FOUND, "there is nothing at this path\n");
        }
        if method != Method::GET {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this is read with GET\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        let Some(rendered) = self.render() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the bundle cannot be read\n");
        };
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tags| names(tags, &rendered.etag));
        let mut response = if known {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            Response::new(Body::from(rendered.document))
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // A revoked key must be gone at the next request: whoever keeps a copy asks whether it still holds.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::ETAG, rendered.etag);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn render(&self) -> Option<Rendered> {
        let row = self.directory.bundle(self.directory.trust_domain())?;
        let mut rendered = self.rendered.lock();
        if let Some(rendered) = rendered.as_ref().filter(|rendered| rendered.of == row.revision) {
            return Some(rendered.clone());
        }
        let document = published(row.document, self.wit)?;
        let etag = HeaderValue::try_from(format!("\"{}\"", hex::encode(sha256(&[document.as_bytes()])))).ok()?;
        let fresh = Rendered { of: row.revision, document: document.into(), etag };
        *rendered = Some(fresh.clone());
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

/// Whether a list of entity tags has this one, or is `*` (RFC 9110 13.1.2; the comparison is the weak one).
fn names(tags: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(tags), Ok(etag)) = (tags.to_str(), etag.to_str()) else { return false };
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn text(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(words));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
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

    #[test]
    fn entity_tags_are_compared_as_a_list() {
        let etag = HeaderValue::from_static("\"a\"");
        for (tags, known) in
            [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            assert_eq!(names(&HeaderValue::from_static(tags), &etag), known, "{tags}");
        }
    }
}
