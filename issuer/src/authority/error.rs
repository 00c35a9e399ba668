//! What can go wrong with authorities, by whose move it is.

use std::path::PathBuf;

use mayfly_sdk::key::KeyError;
use mayfly_sdk::{Reason, Refusal, SpiffeId, Timestamp, Ttl};

use super::AuthorityId;
use crate::store::{SlotKind, SlotState};

/// Why an authority could not be opened, changed or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    // The caller's.
    /// Somebody asked for a kind that there is not.
    #[error("there is no kind of authority `{name}`: x509_root, x509_intermediate, jwt, wit and task are known")]
    UnknownKind {
        /// What was asked for.
        name: String,
    },
    /// Somebody named an authority that there is not.
    #[error("there is no authority {id}")]
    NotFound {
        /// What was named.
        id: AuthorityId,
    },
    /// The authority's state does not allow what was asked.
    #[error("authority {id} is {state}: {why}")]
    WrongState {
        /// Which one.
        id: AuthorityId,
        /// Its state.
        state: SlotState,
        /// What would be possible.
        why: &'static str,
    },
    /// A successor was prepared already.
    #[error("authority {id} of kind {kind} is prepared already: activate or revoke it first")]
    AlreadyPrepared {
        /// The kind.
        kind: SlotKind,
        /// The prepared one.
        id: AuthorityId,
    },
    /// What was asked does not apply to this kind.
    #[error("an authority of kind {kind} {why}")]
    NotForThisKind {
        /// The kind.
        kind: SlotKind,
        /// What is different about it.
        why: &'static str,
    },
    /// A prepared authority was published too short a time ago to be activated without force.
    #[error("authority {id} was published too recently: it may be activated from {at} on, or at once by force")]
    LeadNotOver {
        /// Which one.
        id: AuthorityId,
        /// From when on.
        at: Timestamp,
    },
    /// A prepared authority is not known everywhere yet.
    #[error(
        "authority {id} has not been acknowledged by {} of the nodes in sync, the first of them {}: wait, or activate it by force",
        nodes.len(), nodes.first().map_or_else(|| "unknown".to_owned(), ToString::to_string)
    )]
    Unacknowledged {
        /// Which one.
        id: AuthorityId,
        /// Who lacks it.
        nodes: Vec<SpiffeId>,
    },
    /// A longer life was asked for than the schedule of the keys allows.
    #[error("a lifetime of {asked} is not possible: the longest that {kind} can sign is {longest}")]
    TtlTooLong {
        /// The kind of key.
        kind: SlotKind,
        /// What was asked for.
        asked: Ttl,
        /// The longest there is.
        longest: Ttl,
    },
    /// What was asked to be signed is not an SVID.
    #[error("{what}")]
    Plan {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The public key to be certified belongs to an authority.
    #[error("the key is one of the trust domain's own signing keys")]
    AuthorityKey,

    /// A task token would be longer than services read.
    #[error("the task token for this grant would be longer than 4 KiB")]
    TaskTooLarge,
    /// WIT-SVIDs are asked for where they are off.
    #[error("this trust domain does not issue WIT-SVIDs: wit.enabled is false")]
    WitOff,

    // The operator's.
    /// The store holds sealed keys and the wrapping key's file is not there.
    #[error("the store holds signing keys sealed under wrapping key {wanted}, and there is no file {}", path.display())]
    WrappingKeyMissing {
        /// Where it was looked for.
        path: PathBuf,
        /// The id of the key that is needed.
        wanted: String,
    },
    /// The store holds keys sealed under another wrapping key.
    #[error("the store holds signing keys sealed under wrapping key {wanted}, and {} holds {found}", path.display())]
    WrappingKeyWrong {
        /// Where the key was read.
        path: PathBuf,
        /// The id of the key that is needed.
        wanted: String,
        /// The id of the key that is there.
        found: String,
    },
    /// The wrapping key's file cannot be used.
    #[error("the wrapping key in {} cannot be used: {what}", path.display())]
    WrappingKeyFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// A sealed key does not open: the row was changed, or belongs to another slot or trust domain.
    #[error("the sealed key of authority {id} does not open: its row was changed or belongs elsewhere")]
    SealBroken {
        /// Whose.
        id: AuthorityId,
    },
    /// The stored slots contradict each other.
    #[error("the stored authorities are damaged: {what}")]
    Damaged {
        /// How.
        what: String,
    },
    /// The store did not take a change; nothing became visible.
    #[error("the store did not take the change: {}", .0.what)]
    Store(Refusal),

    // Ours.
    /// No authority can sign at this moment; a new one is being made.
    #[error("no {kind} can sign this at the moment: {what}")]
    Unavailable {
        /// The kind.
        kind: SlotKind,
        /// Why.
        what: &'static str,
    },
    /// The component that changes authorities has ended.
    #[error("the issuer is shutting down")]
    Stopped,
    /// What was signed is not what was planned. It was not released.
    #[error("what was signed is not what was planned: {field}")]
    NotAsPlanned {
        /// Where they differ.
        field: &'static str,
    },
    /// A certificate could not be encoded.
    #[error("the certificate could not be made: {what}")]
    Encoding {
        /// Why not.
        what: String,
    },
    /// The library could not make or use a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The vocabulary refused: no randomness, a bundle that cannot be written.
    #[error("{}", .0.what)]
    Refused(#[from] Refusal),
}

impl AuthorityError {
    /// The stable reason code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownKind { .. } | Self::Plan { .. } => Reason::InvalidArgument,
            Self::NotFound { .. } => Reason::AuthorityUnknown,
            Self::WrongState { .. } | Self::AlreadyPrepared { .. } | Self::NotForThisKind { .. } => {
                Reason::AuthorityState
            }
            Self::LeadNotOver { .. } | Self::Unacknowledged { .. } => Reason::AuthorityNotAcknowledged,
            Self::TtlTooLong { .. } => Reason::InvalidTtl,
            Self::AuthorityKey => Reason::KeyReserved,
            Self::WitOff => Reason::Unimplemented,
            Self::TaskTooLarge => Reason::GrantTooLarge,
            Self::WrappingKeyMissing { .. } | Self::WrappingKeyWrong { .. } | Self::WrappingKeyFile { .. } => {
                Reason::WrappingKey
            }
            Self::SealBroken { .. } | Self::Damaged { .. } => Reason::AuthorityDamaged,
            Self::Store(refusal) | Self::Refused(refusal) => refusal.reason,
            Self::Unavailable { .. } => Reason::AuthorityUnavailable,
            Self::Stopped => Reason::ShuttingDown,
            Self::NotAsPlanned { .. } | Self::Encoding { .. } => Reason::IssuedNotAsPlanned,
            Self::Key(error) => error.reason(),
        }
    }
}

impl From<AuthorityError> for Refusal {
    fn from(error: AuthorityError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}
