use std::time::Duration;

use mayfly_sdk::ops::Readiness;
use mayfly_sdk::{Reason, Refusal};

/// How the agent stands with the issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Nothing was tried yet.
    Starting,
    /// Nothing to attest with: no join token, no machine certificate.
    Unenrolled(Refusal),
    /// Proving which node this is.
    Attesting {
        /// `host:port`.
        issuer: String,
    },
    /// Enrolled, and opening the stream.
    Connecting {
        /// `host:port`.
        issuer: String,
    },
    /// Everything that the issuer knows for this node is held, and changes arrive as they happen.
    InSync {
        /// `host:port`.
        issuer: String,
    },
    /// Out of reach for the moment; tried again for ever.
    Disconnected(Refusal),
    /// The issuer refuses this node, or this node the issuer, until an operator acts; tried again slowly.
    Refused(Refusal),
}

/// The state of the link with what follows from it for those who depend on it.
#[derive(Debug, Clone)]
pub(crate) struct LinkStatus {
    /// How the agent stands with the issuer.
    pub(crate) state: LinkState,
    /// Since when it is not in sync, on the monotonic clock; none: it is.
    pub(crate) out_of_sync_since: Option<Duration>,
    /// For how long it was not in sync before this process began.
    pub(crate) out_of_sync_before: Duration,
    /// The issuer's wall clock less ours, milliseconds; none: not measured yet.
    pub(crate) clock_skew_ms: Option<i64>,
}

impl LinkStatus {
    /// At start.
    #[must_use]
    pub(crate) fn starting() -> Self {
        Self {
            state: LinkState::Starting,
            out_of_sync_since: Some(Duration::ZERO),
            out_of_sync_before: Duration::ZERO,
            clock_skew_ms: None,
        }
    }

    /// Whether everything that the issuer knows for this node is held.
    #[must_use]
    pub(crate) fn is_in_sync(&self) -> bool {
        self.out_of_sync_since.is_none()
    }

    /// For how long it has not been in sync; none: it is.
    pub(crate) fn out_of_sync_for(&self, now: Duration) -> Option<Duration> {
        self.out_of_sync_since.map(|since| now.saturating_sub(since) + self.out_of_sync_before)
    }

    /// Why the agent cannot say more than it holds, for a workload that is told to wait.
    #[must_use]
    pub(crate) fn why(&self) -> Refusal {
        match &self.state {
            LinkState::Unenrolled(why) | LinkState::Disconnected(why) | LinkState::Refused(why) => {
                Refusal::new(Reason::Unavailable, format!("the node agent is not in sync with an issuer: {}", why.what))
            }
            state => Refusal::new(Reason::Unavailable, format!("the node agent is {}", state.phrase())),
        }
    }

    /// Why a credential that was waited for did not come.
    #[must_use]
    pub(crate) fn why_nothing_was_minted(&self) -> Refusal {
        if self.is_in_sync() {
            Refusal::new(Reason::Unavailable, "the issuer did not mint the credential in time")
        } else {
            self.why()
        }
    }

    /// The answer of `/ready`. `warm`: whether identities are served although the issuer is out of reach.
    #[must_use]
    pub(crate) fn readiness(&self, warm: bool) -> Readiness {
        let state = self.state.name();
        match &self.state {
            LinkState::InSync { issuer } => Readiness::ready(state, format!("in sync with {issuer}")),
            LinkState::Unenrolled(why) | LinkState::Disconnected(why) | LinkState::Refused(why) => {
                let message = format!("{}: {}; {}", self.state.phrase(), why.what, why.reason.remedy());
                let ready = warm && !matches!(self.state, LinkState::Unenrolled(_));
                if ready { Readiness::ready(state, message) } else { Readiness::not_ready(state, message) }
            }
            _ if warm => Readiness::ready(state, self.state.phrase()),
            _ => Readiness::not_ready(state, self.state.phrase()),
        }
    }
}

impl LinkState {
    /// A stable word for it.
    #[must_use]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Unenrolled(_) => "unenrolled",
            Self::Attesting { .. } => "attesting",
            Self::Connecting { .. } => "connecting",
            Self::InSync { .. } => "in_sync",
            Self::Disconnected(_) => "disconnected",
            Self::Refused(why) => why.reason.code(),
        }
    }

    /// Every name that does not come from a reason, for a metric with one series each.
    pub(crate) const NAMES: [&'static str; 7] =
        ["starting", "unenrolled", "attesting", "connecting", "in_sync", "disconnected", "refused"];

    /// Its place in [`Self::NAMES`].
    pub(crate) fn class(&self) -> &'static str {
        if matches!(self, Self::Refused(_)) { "refused" } else { self.name() }
    }

    fn phrase(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Unenrolled(_) => "not enrolled",
            Self::Attesting { .. } => "proving to an issuer which node this is",
            Self::Connecting { .. } => "connecting to an issuer",
            Self::InSync { .. } => "in sync with an issuer",
            Self::Disconnected(_) => "out of reach of every issuer",
            Self::Refused(_) => "refused until an operator acts",
        }
    }
}

/// Whether only an operator can end this: what is tried again slowly.
pub(crate) fn needs_operator(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::JoinTokenUnknown
            | Reason::JoinTokenUsed
            | Reason::JoinTokenExpired
            | Reason::NodeUnknown
            | Reason::NodeBanned
            | Reason::NodeFrozen
            | Reason::NodeReattestTooLate
            | Reason::PinMismatch
            | Reason::ProtocolUnsupported
            | Reason::AttestorOff
            | Reason::MachineCertificateUnusable
            | Reason::MachineCertificateInvalid
            | Reason::MachineCertificateUntrusted
            | Reason::MachineEnrolledElsewhere
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_node_says_what_to_do_and_is_not_ready() {
        let why = Refusal::new(Reason::NodeFrozen, "this node's state was used in two places");
        let status = LinkStatus { state: LinkState::Refused(why), ..LinkStatus::starting() };
        let readiness = status.readiness(false);
        assert_eq!((readiness.ready, readiness.state.as_str()), (false, "node_frozen"));
        assert!(readiness.message.contains("second machine"), "{}", readiness.message);
    }

    #[test]
    fn an_outage_under_warm_identities_stays_ready() {
        let why = Refusal::new(Reason::PeerUnreachable, "connection refused");
        let status = LinkStatus { state: LinkState::Disconnected(why), ..LinkStatus::starting() };
        assert!(status.readiness(true).ready && !status.readiness(false).ready);
    }
}
