//! A JSON document and the answers about it.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::mint::sha256;

/// A document, and the tag by which others know whether theirs still is it.
#[derive(Debug, Clone)]
pub(super) struct Document {
    json: bytes::Bytes,
    etag: Option<HeaderValue>,
}

impl Document {
    pub(super) fn new(json: String) -> Self {
        let etag = HeaderValue::try_from(format!("\"{}\"", hex::encode(sha256(&[json.as_bytes()])))).ok();
        Self { json: json.into(), etag }
    }

    /// The answer to one request for it.
    pub(super) fn answer(self, method: &Method, headers: &HeaderMap) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this is read with GET\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let is_known = |etag: &HeaderValue| headers.get_all(header::IF_NONE_MATCH).iter().any(|tags| names(tags, etag));
        let mut response = if self.etag.as_ref().is_some_and(is_known) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            Response::new(Body::from(self.json))
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // A revoked key must be gone at the next request: whoever keeps a copy asks whether it still holds.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(etag) = self.etag {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

/// Whether a list of entity tags has this one, or is `*` (RFC 9110 13.1.2; the comparison is the weak one).
fn names(tags: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(tags), Ok(etag)) = (tags.to_str(), etag.to_str()) else { return false };
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// An answer in words.
pub(super) fn text(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(words));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

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
