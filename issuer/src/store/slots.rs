//! Slots: the signing authorities and where each stands in its life.

use mayfly_sdk::{Revision, Timestamp};

/// Writes an enum that is stored as text, with both directions from one table.
macro_rules! stored_as_text {
    ($(#[doc = $doc:literal])+ $name:ident { $( $(#[doc = $vdoc:literal])+ $variant:ident = $text:literal, )+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[doc = $vdoc])+ $variant, )+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )+];

            /// The word in the store and in every output.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }

            /// The value with this word.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $( $text => Some(Self::$variant), )+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use stored_as_text;

stored_as_text! {
    /// What an authority signs.
    SlotKind {
        /// Intermediates of the X.509 hierarchy; in the bundle.
        X509Root = "x509_root",
        /// X.509-SVIDs; one issuer process's own, its key only in that process's memory.
        X509Intermediate = "x509_intermediate",
        /// JWT-SVIDs; in the bundle.
        Jwt = "jwt",
    }
}

stored_as_text! {
    /// Where an authority stands in its life.
    SlotState {
        /// Known and in the bundle, signs nothing yet.
        Prepared = "prepared",
        /// Signs. One of a kind (one of a kind for each issuer, for intermediates).
        Active = "active",
        /// Signs no more; what it signed still verifies.
        Retiring = "retiring",
        /// Ended; no longer in the bundle.
        Retired = "retired",
        /// Believed to be compromised: what it signed is minted anew.
        Tainted = "tainted",
        /// Compromised and out of the bundle.
        Revoked = "revoked",
    }
}

stored_as_text! {
    /// Who vouches for an authority.
    SlotOrigin {
        /// It is its own root, or under one of ours.
        Own = "self",
        /// An authority outside signed it.
        Upstream = "upstream",
    }
}

/// An authority as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRow {
    /// For JWT keys the kid, for X.509 the hexadecimal key id.
    pub id: String,
    /// What it signs.
    pub kind: SlotKind,
    /// The issuer whose own it is; empty: shared by all.
    pub issuer: String,
    /// Counts the keys of this kind (and issuer) from 1; never used twice.
    pub generation: u64,
    /// Where it stands.
    pub state: SlotState,
    /// Name of the key's algorithm.
    pub algorithm: String,
    /// DER `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
    /// The private key, sealed or by reference; `None` where it never leaves its process.
    pub key: Option<SlotKey>,
    /// DER certificates, its own first; empty for keys without one.
    pub chain: Vec<Vec<u8>>,
    /// DER certificates that the bundle holds for it.
    pub anchors: Vec<Vec<u8>>,
    /// Who vouches for it.
    pub origin: SlotOrigin,
    /// When it was made.
    pub prepared_at: Timestamp,
    /// When it takes over at the latest.
    pub activate_by: Option<Timestamp>,
    /// When it began to sign.
    pub activated_at: Option<Timestamp>,
    /// When it stopped signing.
    pub retiring_at: Option<Timestamp>,
    /// When it left the bundle, or was tainted or revoked.
    pub ended_at: Option<Timestamp>,
    /// The end of its life.
    pub not_after: Timestamp,
    /// The change that wrote it last. Ignored in a [`PutSlot`]: the store fills it in.
    pub revision: Revision,
}

/// A private key as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotKey {
    /// What keeps it: `sealed`, or the name of a key service.
    pub provider: String,
    /// Sealed bytes or the service's handle; they carry their own version.
    pub bytes: Vec<u8>,
    /// Which wrapping key opens them; empty for a handle.
    pub wrapping_key_id: String,
}

impl std::fmt::Debug for SlotKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlotKey")
            .field("provider", &self.provider)
            .field("wrapping_key_id", &self.wrapping_key_id)
            .finish_non_exhaustive()
    }
}

/// A slot to be created or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutSlot {
    /// What it becomes.
    pub row: SlotRow,
    /// The state and generation that the slot with this id must have, else
    /// [`StoreError::Conflict`](super::StoreError::Conflict); `None`: there must be no slot with this id.
    pub expect: Option<(SlotState, u64)>,
}
