//! Refusals as gRPC statuses, and statuses as refusals: one mapping for every service and every client.
//!
//! ```text
//! Refusal --into--> Status{code, "what; remedy", mayfly-reason, mayfly-remedy, mayfly-retry-ms} --from_status--> Refusal
//! ```
//!
//! The code is what a client that knows nothing of Mayfly acts on (the table is that of the SPIFFE Workload API:
//! `InvalidArgument` and `Unimplemented` are not to be repeated, `Unavailable` and `Aborted` are, `PermissionDenied` means that there is
//! no identity). The metadata is for those that know more.

use std::time::Duration;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::reason::{Reason, Refusal, Retry, Whose};

/// Metadata key: the stable code of [`Reason::code`].
pub const REASON: &str = "mayfly-reason";
/// Metadata key: [`Reason::remedy`].
pub const REMEDY: &str = "mayfly-remedy";
/// Metadata key: milliseconds after which the call may be repeated; absent where repeating cannot help.
pub const RETRY_MS: &str = "mayfly-retry-ms";

/// The pause that is advised where a refusal may be repeated later and nobody knows better.
const RETRY_LATER: Duration = Duration::from_secs(1);

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let after = match refusal.reason.retry() {
            Retry::No => None,
            Retry::Later => Some(RETRY_LATER),
            Retry::Now => Some(Duration::ZERO),
        };
        status(&refusal, after)
    }
}

impl Refusal {
    /// The refusal that a status carries, or the nearest one to its code when the server is not one of ours.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let sent = ascii(status.metadata(), REASON).and_then(|code| code.parse::<Reason>().ok());
        let reason = sent.unwrap_or_else(|| reason_of(status.code()));
        let message = status.message();
        let what = match message.strip_suffix(reason.remedy()).and_then(|rest| rest.strip_suffix("; ")) {
            Some(what) if sent.is_some() => what,
            _ if message.is_empty() => status.code().description(),
            _ => message,
        };
        Self::new(reason, what)
    }
}

/// A status for this refusal that advises to repeat the call after a pause (rounded to milliseconds), or not to.
#[must_use]
pub fn status(refusal: &Refusal, retry_after: Option<Duration>) -> Status {
    let reason = refusal.reason;
    let mut metadata = MetadataMap::new();
    metadata.insert(REASON, MetadataValue::from_static(reason.code()));
    if let Ok(remedy) = MetadataValue::try_from(reason.remedy()) {
        metadata.insert(REMEDY, remedy);
    }
    if let Some(after) = retry_after {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        metadata.insert(RETRY_MS, MetadataValue::from(after_ms));
    }
    Status::with_metadata(code(reason), format!("{}; {}", refusal.what, reason.remedy()), metadata)
}

/// How long the server asks to wait before the call is repeated.
#[must_use]
pub fn retry_after(status: &Status) -> Option<Duration> {
    ascii(status.metadata(), RETRY_MS)?.parse().ok().map(Duration::from_millis)
}

/// The gRPC code for a reason.
#[must_use]
pub fn code(reason: Reason) -> Code {
    match reason {
        Reason::PermissionDenied
        | Reason::NoIdentity
        | Reason::UnauthorizedPeer
        | Reason::TaskNotAllowed
        | Reason::TaskExceedsEntry
        | Reason::AudienceNotServed => Code::PermissionDenied,
        Reason::Unauthenticated => Code::Unauthenticated,
        Reason::NotFound | Reason::TaskUnknown => Code::NotFound,
        Reason::Unimplemented => Code::Unimplemented,
        Reason::Unavailable | Reason::Overloaded | Reason::TaskQuota => Code::Unavailable,
        // A token that does not hold is a wrong argument of the one who asks about it (SPIRE answers so too).
        Reason::UnknownTrustDomain => Code::InvalidArgument,
        // The same change once more would be as stale; what follows something begins anew.
        Reason::Stale => Code::Aborted,
        other => match (other.whose(), other.retry()) {
            (Whose::Caller, Retry::No | Retry::Later) => Code::InvalidArgument,
            (Whose::Peer, _) => Code::Unauthenticated,
            (Whose::Operator, Retry::No) => Code::FailedPrecondition,
            // Whoever is told `InvalidArgument` never asks again.
            (Whose::Operator, Retry::Later) | (Whose::Operator | Whose::Caller, Retry::Now) => Code::Unavailable,
            (Whose::Bug, _) => Code::Internal,
        },
    }
}

/// The reason that comes nearest to a bare code.
fn reason_of(code: Code) -> Reason {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => Reason::InvalidArgument,
        Code::PermissionDenied => Reason::PermissionDenied,
        Code::Unauthenticated => Reason::Unauthenticated,
        Code::NotFound => Reason::NotFound,
        Code::Unimplemented => Reason::Unimplemented,
        Code::ResourceExhausted => Reason::Overloaded,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Reason::Unavailable,
    }
}

fn ascii<'m>(metadata: &'m MetadataMap, key: &str) -> Option<&'m str> {
    metadata.get(key)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_the_wire() {
        for reason in Reason::ALL {
            let sent = Refusal::new(*reason, "the entry `web` names no node; see above");
            let status = Status::from(sent.clone());
            assert_eq!(Refusal::from_status(&status), sent);
            assert_eq!(ascii(status.metadata(), REMEDY), Some(reason.remedy()), "{reason}");
            assert_eq!(retry_after(&status).is_none(), reason.retry() == Retry::No, "{reason}");
            assert_ne!(status.code(), Code::Ok);
        }
    }

    #[test]
    fn a_status_of_another_server_becomes_the_nearest_refusal() {
        let foreign = Refusal::from_status(&Status::permission_denied("no identity issued"));
        assert_eq!(foreign, Refusal::new(Reason::PermissionDenied, "no identity issued"));
        let mute = Refusal::from_status(&Status::new(Code::Unavailable, ""));
        assert_eq!(mute.reason, Reason::Unavailable);
        assert!(!mute.what.is_empty());
        let mut newer = Status::invalid_argument("words");
        newer.metadata_mut().insert(REASON, MetadataValue::from_static("from_the_future"));
        assert_eq!(Refusal::from_status(&newer), Refusal::new(Reason::InvalidArgument, "words"));
    }

    #[test]
    fn the_codes_are_those_of_the_workload_api() {
        assert_eq!(code(Reason::NoIdentity), Code::PermissionDenied);
        assert_eq!(code(Reason::Unavailable), Code::Unavailable);
        assert_eq!(code(Reason::Overloaded), Code::Unavailable);
        assert_eq!(code(Reason::Unimplemented), Code::Unimplemented);
        assert_eq!(code(Reason::InvalidSpiffeId), Code::InvalidArgument);
        assert_eq!(code(Reason::JwtSvidUntrusted), Code::InvalidArgument);
        assert_eq!(code(Reason::WrongAudience), Code::InvalidArgument);
        assert_eq!(code(Reason::X509SvidUntrusted), Code::Unauthenticated);
        for reason in Reason::ALL.iter().filter(|reason| reason.retry() == Retry::Now) {
            assert!(matches!(code(*reason), Code::Unavailable | Code::Aborted), "{reason}");
        }
    }

    #[test]
    fn an_advised_pause_is_told_in_milliseconds() {
        let refusal = Refusal::new(Reason::Overloaded, "too many calls");
        assert_eq!(
            retry_after(&status(&refusal, Some(Duration::from_millis(1_500)))),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(retry_after(&status(&refusal, None)), None);
    }
}
