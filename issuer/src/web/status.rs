//! Token Status Lists (draft-ietf-oauth-status-list-12): how tasks stand, for validators that hear no feed.
//!
//! ```text
//! GET https://HOST/task/status/N  ──>  statuslist+jwt: 2 bits for each task (0 valid, 1 invalid, 2 suspended), compressed
//! ```
//!
//! A list is made when it is asked for and has changed, once a second at the most, whoever asks how often.

use std::{collections::HashMap, io::Write as _, sync::Arc, time::Duration};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::{Compression, write::ZlibEncoder};
use http::{HeaderValue, Method, Response, StatusCode, header};
use mayfly_sdk::Refusal;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::document::text;
use crate::{mint::Minter, task::PER_LIST};

/// Below `https://HOST`.
const PATH: &str = "/task/status/";
/// How long a list is good: seconds for which others may keep it, and until it is worth nothing.
const TTL_S: i64 = 10;
const LIFE_S: i64 = 60;
/// A list is made anew after a change no sooner than this.
const PAUSE: Duration = Duration::from_secs(1);
/// Lists that are kept.
const KEPT: usize = 64;

/// The lists.
#[derive(Debug)]
pub(super) struct StatusLists {
    minter: Arc<Minter>,
    /// `https://HOST`.
    url: String,
    made: Mutex<HashMap<u64, Made>>,
    /// Held by whoever makes one: however many ask, one is made at a time, and the others find it.
    making: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Made {
    token: bytes::Bytes,
    version: u64,
    at: Instant,
}

impl StatusLists {
    pub(super) fn new(minter: Arc<Minter>, url: &str) -> Self {
        Self {
            minter,
            url: url.trim_end_matches('/').to_owned(),
            made: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// The answer, if the path is that of a list.
    pub(super) async fn answer(&self, method: &Method, path: &str) -> Option<Response<Body>> {
        let number = path.strip_prefix(PATH)?;
        if method != Method::GET && method != Method::HEAD {
            return Some(text(StatusCode::METHOD_NOT_ALLOWED, "this is read with GET\n"));
        }
        let list = number.parse().ok().filter(|list: &u64| list.to_string() == number).unwrap_or(u64::MAX);
        Some(match self.token(list).await {
            Ok(None) => text(StatusCode::NOT_FOUND, "there is no such status list\n"),
            Ok(Some(token)) => {
                let mut response = Response::new(Body::from(token));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/statuslist+jwt"));
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
                headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
                response
            }
            Err(refusal) => {
                tracing::error!(reason = refusal.reason.code(), what = refusal.what, "a status list was not made");
                text(StatusCode::SERVICE_UNAVAILABLE, "the status list cannot be made now\n")
            }
        })
    }

    /// The list that was made last, if it still is good enough.
    fn kept(&self, list: u64, version: u64) -> Option<bytes::Bytes> {
        let made = self.made.lock();
        let made = made.get(&list)?;
        let age = made.at.elapsed();
        // One that has not changed is signed again while others may still take it for fresh.
        let is_fresh = age < PAUSE || (made.version == version && age < Duration::from_secs(TTL_S.unsigned_abs() / 2));
        is_fresh.then(|| made.token.clone())
    }

    /// A list, signed; `None`: there is none with this number.
    async fn token(&self, list: u64) -> Result<Option<bytes::Bytes>, Refusal> {
        let version = || self.minter.tasks.status_version(list);
        let known = || version().map(|version| self.kept(list, version));
        let _making = match known() {
            None => return Ok(None),
            Some(Some(token)) => return Ok(Some(token)),
            Some(None) => self.making.lock().await,
        };
        if let Some(Some(token)) = known() {
            return Ok(Some(token));
        }
        let Some(listed) = self.minter.tasks.status_list(list) else { return Ok(None) };
        let now = self.minter.directory.clock().now().unix_s();
        let claims = json!({
            "iss": format!("{}/status", self.url),
            "sub": format!("{}{PATH}{list}", self.url),
            "iat": now,
            "exp": now + LIFE_S,
            "ttl": TTL_S,
            "status_list": {"bits": 2, "lst": URL_SAFE_NO_PAD.encode(compressed(&listed.refused)?)},
        });
        let token = self.minter.authorities.snapshot().status_list().sign_notice(claims.to_string().as_bytes()).await?;
        let token = bytes::Bytes::from(token);
        let mut all = self.made.lock();
        if all.len() >= KEPT {
            all.clear();
        }
        all.insert(list, Made { token: token.clone(), version: listed.version, at: Instant::now() });
        Ok(Some(token))
    }
}

/// The list as bytes, the lowest bits of each first, in the ZLIB format.
fn compressed(refused: &[(usize, bool)]) -> Result<Vec<u8>, Refusal> {
    let mut bits = vec![0_u8; usize::try_from(PER_LIST / 4).unwrap_or_default()];
    for (place, suspended) in refused {
        if let Some(byte) = bits.get_mut(place / 4) {
            *byte |= (if *suspended { 2 } else { 1 }) << (place % 4 * 2);
        }
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(&bits).and_then(|()| encoder.finish());
    written.map_err(|error| Refusal::new(mayfly_sdk::Reason::Internal, format!("a status list: {error}")))
}
