//! What is said to whoever is refused: RFC 6750 over HTTP, a status over gRPC.

use std::fmt;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::dpop;
use crate::grpc;
use crate::jws::JwsAlgorithm;
use crate::reason::{Reason, Refusal};
use crate::task::TaskTokenError;
use crate::wit::ProofError;

/// Response header: the stable code of the reason.
const REASON: &str = grpc::REASON;

/// What every challenge of a service says (RFC 6750 3, RFC 9728 5.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Where the document about the resource is.
    pub(super) resource_metadata: Option<String>,
    /// The scope tokens that the call needs. Only those that can be quoted are named.
    pub(super) scope: Vec<String>,
    /// Whether tokens are taken with a proof too.
    pub(super) dpop: bool,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// There is no token: the challenge says what is needed, and names no error (RFC 6750 3.1).
    NoToken,
    /// There is more than one `Authorization`, or it cannot be read.
    NotOneToken,
    /// The proof of possession that came with the token does not hold for this request.
    Proof(ProofError),
    /// The token, or what it allows, is not enough.
    Token(TaskTokenError),
}

/// A refusal that knows how to answer: as an HTTP response, or as a gRPC status.
#[derive(Debug, Clone)]
pub struct Denied {
    denial: Denial,
    challenge: Arc<Challenge>,
}

impl Denied {
    pub(super) fn new(denial: Denial, challenge: &Arc<Challenge>) -> Self {
        Self { denial, challenge: Arc::clone(challenge) }
    }

    /// Why.
    #[must_use]
    pub const fn denial(&self) -> Denial {
        self.denial
    }

    /// The stable reason code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self.denial {
            Denial::NoToken => Reason::Unauthenticated,
            Denial::NotOneToken => Reason::TaskTokenInvalid,
            Denial::Proof(error) => error.reason(),
            Denial::Token(error) => error.reason(),
        }
    }

    /// The name of the check that failed.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self.denial {
            Denial::NoToken => "no_token",
            Denial::NotOneToken => "form",
            Denial::Proof(_) => "proof",
            Denial::Token(error) => error.rule(),
        }
    }

    /// 400 where there is not one token, 401 for a token that is not good, 403 for one that is not enough, and 503 where that is not
    /// known: another token would not help.
    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        match (self.denial, self.oauth_error()) {
            (Denial::Token(TaskTokenError::StandingUnknown) | Denial::Proof(ProofError::TooManyInUse), _) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            (_, Some("invalid_request")) => StatusCode::BAD_REQUEST,
            (_, Some("insufficient_scope")) => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// The values of `WWW-Authenticate`, one for each way in; none where another token would not help.
    #[must_use]
    pub fn challenges(&self) -> Vec<String> {
        let Some(bearer) = self.challenge() else { return Vec::new() };
        let algorithms = dpop::ALGORITHMS.map(JwsAlgorithm::name).join(" ");
        let proved = self.challenge.dpop.then(|| match bearer.strip_prefix("Bearer ") {
            Some(parameters) => format!("DPoP {parameters}, algs=\"{algorithms}\""),
            None => format!("DPoP algs=\"{algorithms}\""),
        });
        std::iter::once(bearer).chain(proved).collect()
    }

    fn challenge(&self) -> Option<String> {
        if self.status_code() == StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let mut parts = Vec::new();
        if let Some(error) = self.oauth_error() {
            parts.push(format!("error=\"{error}\""));
            parts.push(format!("error_description=\"{self}\""));
        }
        let scope: Vec<&str> =
            self.challenge.scope.iter().map(String::as_str).filter(|token| quotable(token)).collect();
        if !scope.is_empty() {
            parts.push(format!("scope=\"{}\"", scope.join(" ")));
        }
        if let Some(url) = &self.challenge.resource_metadata {
            parts.push(format!("resource_metadata=\"{url}\""));
        }
        Some(format!("Bearer {}", parts.join(", ")).trim_end().to_owned())
    }

    /// The HTTP response, without a body.
    #[must_use]
    pub fn into_http<B: Default>(self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = self.status_code();
        self.write(response.headers_mut());
        if self.status_code() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    /// The answer to a request with these headers: a gRPC one if it is a gRPC request.
    pub(super) fn answer<B: Default>(self, to: &HeaderMap) -> Response<B> {
        let kind = to.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if kind.starts_with(b"application/grpc") { Status::from(self).into_http() } else { self.into_http() }
    }

    fn oauth_error(&self) -> Option<&'static str> {
        match self.denial {
            Denial::NoToken => None,
            Denial::NotOneToken => Some("invalid_request"),
            Denial::Proof(_) => Some("invalid_dpop_proof"),
            Denial::Token(error) => Some(error.oauth_error()),
        }
    }

    fn write(&self, headers: &mut HeaderMap) {
        headers.insert(REASON, HeaderValue::from_static(self.reason().code()));
        // It is made of printable characters.
        for value in self.challenges().into_iter().filter_map(|challenge| HeaderValue::try_from(challenge).ok()) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denial {
            Denial::NoToken => f.write_str("a task token is needed"),
            Denial::NotOneToken => f.write_str("not one bearer token"),
            Denial::Proof(error) => error.fmt(f),
            Denial::Token(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Denied {}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let code = match denied.status_code() {
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            _ => Code::Unauthenticated,
        };
        let plain = Status::from(Refusal::new(denied.reason(), denied.to_string()));
        let mut headers = plain.metadata().clone().into_headers();
        denied.write(&mut headers);
        Status::with_metadata(code, plain.message(), MetadataMap::from_headers(headers))
    }
}

/// What may stand between quotation marks in a challenge as it is: scope tokens are made of this (RFC 6749 3.3).
pub(super) fn quotable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
}
