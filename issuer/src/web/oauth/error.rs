//! Refusals as OAuth says them: an error code of the standards, and in words what the first rule is that failed.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use mayfly_sdk::{
    Reason, Refusal,
    reason::{Retry, Whose},
};
use serde_json::json;

use crate::ledger::RequestId;

/// A refusal, and which request it is about.
#[derive(Debug)]
pub(super) struct OAuthError {
    refusal: Refusal,
    request_id: Option<RequestId>,
}

impl OAuthError {
    pub(super) fn of(request_id: RequestId) -> impl Fn(Refusal) -> Self {
        move |refusal| Self { refusal, request_id: Some(request_id) }
    }
}

impl From<Refusal> for OAuthError {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, request_id: None }
    }
}

/// The `error` (RFC 6749 5.2, RFC 8693 2.2.2, RFC 9396 5, and two of our own) and the status.
fn code(reason: Reason) -> (&'static str, StatusCode) {
    match reason {
        Reason::Unauthenticated
        | Reason::UnknownEntry
        | Reason::NodeUnknown
        | Reason::NodeBanned
        | Reason::NodeFrozen
        | Reason::EntryExpired
        | Reason::EntryNotForNode
        | Reason::TemplateFactMissing
        | Reason::InsufficientAttestation => ("insufficient_attestation", StatusCode::UNAUTHORIZED),
        Reason::JwtSvidInvalid | Reason::JwtSvidUntrusted | Reason::TokenUsed => {
            ("invalid_client", StatusCode::UNAUTHORIZED)
        }
        Reason::ProofInvalid | Reason::ProofUsed => ("invalid_dpop_proof", StatusCode::BAD_REQUEST),
        Reason::TaskNotAllowed
        | Reason::TaskTokenNotBound
        | Reason::PermissionDenied
        | Reason::OnBehalfNotAllowed
        | Reason::UserTokenNotForAgent => ("unauthorized_client", StatusCode::BAD_REQUEST),
        Reason::UserLoggedOut | Reason::UserSuspended | Reason::PolicyDenied | Reason::AudienceNotServed => {
            ("access_denied", StatusCode::BAD_REQUEST)
        }
        Reason::ScopeExceedsParent | Reason::TaskExceedsEntry => ("invalid_scope", StatusCode::BAD_REQUEST),
        Reason::DetailExceedsParent => ("invalid_authorization_details", StatusCode::BAD_REQUEST),
        Reason::AudienceNotDelegable => ("invalid_target", StatusCode::BAD_REQUEST),
        Reason::ParentNotOpen | Reason::TaskEnded | Reason::TaskSuspended | Reason::TaskUnknown => {
            ("task_closed", StatusCode::BAD_REQUEST)
        }
        Reason::Unimplemented => ("unsupported_grant_type", StatusCode::BAD_REQUEST),
        Reason::TaskQuota | Reason::TaskRate | Reason::Overloaded => {
            ("temporarily_unavailable", StatusCode::TOO_MANY_REQUESTS)
        }
        // Our own failures are never the client's.
        Reason::Internal | Reason::StoreCorrupt | Reason::AuthorityDamaged => {
            ("server_error", StatusCode::INTERNAL_SERVER_ERROR)
        }
        _ => match (reason.whose(), reason.retry()) {
            (Whose::Operator | Whose::Bug, Retry::Later) => {
                ("temporarily_unavailable", StatusCode::SERVICE_UNAVAILABLE)
            }
            (Whose::Bug, _) => ("server_error", StatusCode::INTERNAL_SERVER_ERROR),
            _ => ("invalid_request", StatusCode::BAD_REQUEST),
        },
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let Self { refusal, request_id } = self;
        let (error, status) = code(refusal.reason);
        tracing::info!(reason = refusal.reason.code(), what = refusal.what, error, "oauth call refused");
        let request = request_id.map(|id| format!(" (request {})", hex::encode(id))).unwrap_or_default();
        // RFC 6749 5.2 allows printable ASCII without quotes and backslashes.
        let said: String = format!("{}; {}{request}", refusal.what, refusal.reason.remedy())
            .chars()
            .map(
                |character| {
                    if matches!(character, ' '..='~') && !matches!(character, '"' | '\\') { character } else { '\'' }
                },
            )
            .collect();
        let body = json!({"error": error, "error_description": said, "reason": refusal.reason.code()});
        let mut response = super::json(status, &body);
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_is_told_that_our_failure_is_its_own() {
        for reason in Reason::ALL {
            let (error, status) = code(*reason);
            let ours =
                reason.whose() == Whose::Bug || (reason.whose(), reason.retry()) == (Whose::Operator, Retry::Later);
            let said = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            assert!(!ours || said, "{reason:?}: {error} {status}");
        }
        for (reason, status) in [
            (Reason::TaskRate, StatusCode::TOO_MANY_REQUESTS),
            (Reason::StoreUnavailable, StatusCode::SERVICE_UNAVAILABLE),
            (Reason::IssuedNotAsPlanned, StatusCode::INTERNAL_SERVER_ERROR),
            (Reason::InvalidArgument, StatusCode::BAD_REQUEST),
        ] {
            assert_eq!(code(reason).1, status);
        }
    }
}
