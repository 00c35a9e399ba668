//! Where others find the keys that verify our tokens: two authorization servers, two sets of keys, none in both, so that who does not
//! look at `typ` takes no JWT-SVID for an access token.
//!
//! ```text
//! https://HOST/svid   JWT-SVIDs    OpenID discovery, appended:     /svid/.well-known/openid-configuration
//! https://HOST/task   task tokens  RFC 8414 metadata, inserted:    /.well-known/oauth-authorization-server/task
//!                                  what else is said of tasks:     /status/jwks.json, /events/jwks.json, /txn/jwks.json
//! ```

use mayfly_sdk::{PublicKey, Revision, dpop, json::Object, jwk, jws::JwsAlgorithm};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{document::Document, oauth};
use crate::authority::{Authorities, Snapshot};

const SVID_METADATA: &str = "/svid/.well-known/openid-configuration";
const SVID_KEYS: &str = "/svid/jwks.json";
const TASK_METADATA: &str = "/.well-known/oauth-authorization-server/task";
const TASK_KEYS: &str = "/task/jwks.json";
const STATUS_KEYS: &str = "/status/jwks.json";
const EVENT_KEYS: &str = "/events/jwks.json";
const TRANSACTION_KEYS: &str = "/txn/jwks.json";

/// The documents, made once for each change of the keys.
pub(super) struct Discovery {
    authorities: Authorities,
    /// `https://HOST`.
    url: String,
    /// `https://HOST:PORT` of the endpoints that want a client certificate.
    mtls_url: Option<String>,
    made: Mutex<Option<(Revision, Made)>>,
}

#[derive(Clone)]
struct Made {
    svid_metadata: Document,
    svid_keys: Document,
    task_metadata: Document,
    task_keys: Document,
    status_keys: Document,
    event_keys: Document,
    transaction_keys: Document,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discovery").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Discovery {
    /// Of the issuer at this URL, which has no path.
    pub(super) fn new(authorities: Authorities, url: &str, mtls_url: Option<String>) -> Self {
        Self { authorities, url: url.trim_end_matches('/').to_owned(), mtls_url, made: Mutex::new(None) }
    }

    /// The document at a path.
    pub(super) fn at(&self, path: &str) -> Option<Document> {
        let pick: fn(Made) -> Document = match path {
            SVID_METADATA => |made| made.svid_metadata,
            SVID_KEYS => |made| made.svid_keys,
            TASK_METADATA => |made| made.task_metadata,
            TASK_KEYS => |made| made.task_keys,
            STATUS_KEYS => |made| made.status_keys,
            EVENT_KEYS => |made| made.event_keys,
            TRANSACTION_KEYS => |made| made.transaction_keys,
            _ => return None,
        };
        let snapshot = self.authorities.snapshot();
        let mut made = self.made.lock();
        if let Some((_, made)) = made.as_ref().filter(|(revision, _)| *revision == snapshot.revision()) {
            return Some(pick(made.clone()));
        }
        let fresh = self.make(&snapshot);
        *made = Some((snapshot.revision(), fresh.clone()));
        Some(pick(fresh))
    }

    fn make(&self, snapshot: &Snapshot) -> Made {
        let url = &self.url;
        let svid_keys: Vec<_> =
            snapshot.bundle().bundle().jwt.authorities().iter().map(|key| key.public_key().clone()).collect();
        Made {
            // As OpenID Connect Discovery 1.0 demands it; nobody logs in here, so that there is no endpoint to send people to.
            svid_metadata: document(&json!({
                "issuer": format!("{url}/svid"),
                "jwks_uri": format!("{url}{SVID_KEYS}"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": algorithms(&svid_keys),
            })),
            svid_keys: document(&jwk::signing_set(&svid_keys)),
            task_metadata: document(&self.task_metadata()),
            task_keys: document(&jwk::signing_set(snapshot.task_keys())),
            status_keys: document(&jwk::signing_set(snapshot.status_list_keys())),
            event_keys: document(&jwk::signing_set(snapshot.security_event_keys())),
            transaction_keys: document(&jwk::signing_set(snapshot.transaction_keys())),
        }
    }
}

impl Discovery {
    /// RFC 8414 2, RFC 8705 5.
    fn task_metadata(&self) -> Value {
        let url = &self.url;
        let mut metadata = members(json!({
            "issuer": format!("{url}/task"),
            "jwks_uri": format!("{url}{TASK_KEYS}"),
            "response_types_supported": [],
            "authorization_details_types_supported": ["mcp_tool", "resource"],
            "status_list_jwks_uri": format!("{url}{STATUS_KEYS}"),
            "security_event_jwks_uri": format!("{url}{EVENT_KEYS}"),
            "transaction_token_jwks_uri": format!("{url}{TRANSACTION_KEYS}"),
        }));
        // This document is read where the public listener is, which has the token endpoint too.
        metadata.extend(members(json!({
            "token_endpoint": format!("{url}{}", oauth::TOKEN),
            "grant_types_supported": ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
            "token_endpoint_auth_methods_supported": ["spiffe_jwt"],
            "dpop_signing_alg_values_supported": dpop::ALGORITHMS.map(JwsAlgorithm::name),
        })));
        if let Some(mtls) = &self.mtls_url {
            let endpoints = members(json!({
                "token_endpoint": format!("{mtls}{}", oauth::TOKEN),
                "introspection_endpoint": format!("{mtls}{}", oauth::INTROSPECT),
                "revocation_endpoint": format!("{mtls}{}", oauth::REVOKE),
            }));
            let without_alias = endpoints.iter().filter(|(name, _)| *name != "token_endpoint");
            metadata.extend(without_alias.map(|(name, at)| (name.clone(), at.clone())));
            metadata.extend(members(json!({
                "mtls_endpoint_aliases": endpoints,
                "token_endpoint_auth_methods_supported": ["spiffe_jwt", "tls_client_auth"],
                "introspection_endpoint_auth_methods_supported": ["tls_client_auth"],
                "revocation_endpoint_auth_methods_supported": ["tls_client_auth"],
                "tls_client_certificate_bound_access_tokens": true,
                "task_events_endpoint": format!("{mtls}{}", oauth::EVENTS),
            })));
        }
        Value::Object(metadata)
    }
}

fn members(value: Value) -> Object {
    match value {
        Value::Object(members) => members,
        _ => Object::new(),
    }
}

fn document(value: &Value) -> Document {
    Document::new(value.to_string())
}

fn algorithms(keys: &[PublicKey]) -> Vec<&'static str> {
    let mut names: Vec<_> = keys.iter().filter_map(|key| Some(JwsAlgorithm::for_key(key.key_type())?.name())).collect();
    names.sort_unstable();
    names.dedup();
    names
}
