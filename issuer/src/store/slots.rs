//! Slots: the signing authorities and where each stands in its life.

use mayfly_sdk::{Revision, Timestamp};

use super::StoreError;
use super::connection::{Connection, Row};
use super::row::{ders, get, join_der, optional_time, revision, stored, time, unsigned, word};
use super::transaction::Tx;

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
        /// WIT-SVIDs; in the bundle while they are on.
        Wit = "wit",
        /// Task tokens; in no bundle, so that none is taken for an SVID.
        Task = "task",
        /// Token Status Lists; in no bundle.
        StatusList = "status_list",
        /// Security event tokens; in no bundle.
        SecurityEvent = "security_event",
        /// Transaction tokens; in no bundle.
        Transaction = "transaction",
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
    /// For keys of tokens the kid, for X.509 the hexadecimal key id.
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

/// Creates a slot, or replaces the one that is in the state and generation expected.
pub(super) async fn put(tx: &mut Tx<'_>, put: PutSlot) -> Result<(), StoreError> {
    let PutSlot { row, expect } = put;
    let id = row.id.clone();
    let sql = match expect {
        None => {
            "INSERT INTO slots (trust_domain, id, kind, issuer, generation, state, algorithm, public_key, key_provider,
             key_bytes, wrapping_key_id, chain, anchors, origin, prepared_at, activate_by, activated_at, retiring_at,
             ended_at, not_after, epoch, n)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)"
        }
        Some(_) => {
            "UPDATE slots SET kind = $3, issuer = $4, generation = $5, state = $6, algorithm = $7, public_key = $8,
             key_provider = $9, key_bytes = $10, wrapping_key_id = $11, chain = $12, anchors = $13, origin = $14,
             prepared_at = $15, activate_by = $16, activated_at = $17, retiring_at = $18, ended_at = $19,
             not_after = $20, epoch = $21, n = $22
             WHERE trust_domain = $1 AND id = $2 AND state = $23 AND generation = $24"
        }
    };
    let (key_provider, key_bytes, wrapping_key_id) = match row.key {
        Some(key) => (Some(key.provider), Some(key.bytes), Some(key.wrapping_key_id)),
        None => (None, None, None),
    };
    let mut query = sqlx::query(sql)
        .bind(tx.trust_domain)
        .bind(row.id)
        .bind(row.kind.as_str())
        .bind(row.issuer)
        .bind(stored(row.generation))
        .bind(row.state.as_str())
        .bind(row.algorithm)
        .bind(row.public_key)
        .bind(key_provider)
        .bind(key_bytes)
        .bind(wrapping_key_id)
        .bind(join_der(&row.chain))
        .bind(join_der(&row.anchors))
        .bind(row.origin.as_str())
        .bind(row.prepared_at.unix_s())
        .bind(row.activate_by.map(Timestamp::unix_s))
        .bind(row.activated_at.map(Timestamp::unix_s))
        .bind(row.retiring_at.map(Timestamp::unix_s))
        .bind(row.ended_at.map(Timestamp::unix_s))
        .bind(row.not_after.unix_s())
        .bind(stored(tx.head.revision.epoch))
        .bind(stored(tx.head.revision.n));
    if let Some((state, generation)) = expect {
        query = query.bind(state.as_str()).bind(stored(generation));
    }
    let written = query.execute(&mut *tx.connection).await.map_err(|error| {
        StoreError::if_taken(error, "an authority with this id or generation exists, or another one is active")
    })?;
    match expect {
        Some((state, _)) if written.rows_affected() == 0 => {
            Err(StoreError::Conflict { what: format!("the authority {id} is not {state} any more") })
        }
        _ => Ok(()),
    }
}

/// Forgets a slot.
pub(super) async fn delete(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    let deleted = sqlx::query("DELETE FROM slots WHERE trust_domain = $1 AND id = $2")
        .bind(tx.trust_domain)
        .bind(id)
        .execute(&mut *tx.connection)
        .await?;
    StoreError::if_missing(deleted.rows_affected(), || format!("the authority {id}"))
}

/// Every slot, by kind, issuer and generation.
pub(super) async fn load(connection: &mut Connection, trust_domain: &str) -> Result<Vec<SlotRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, kind, issuer, generation, state, algorithm, public_key, key_provider, key_bytes, wrapping_key_id,
         chain, anchors, origin, prepared_at, activate_by, activated_at, retiring_at, ended_at, not_after, epoch, n
         FROM slots WHERE trust_domain = $1 ORDER BY kind, issuer, generation",
    )
    .bind(trust_domain)
    .fetch_all(connection)
    .await?;
    rows.iter().map(slot).collect()
}

fn slot(row: &Row) -> Result<SlotRow, StoreError> {
    let key = match (get(row, 7)?, get(row, 8)?, get(row, 9)?) {
        (Some(provider), Some(bytes), Some(wrapping_key_id)) => Some(SlotKey { provider, bytes, wrapping_key_id }),
        (None, None, None) => None,
        _ => return Err(StoreError::Corrupt { what: "an authority has half a key".into() }),
    };
    Ok(SlotRow {
        id: get(row, 0)?,
        kind: word(row, 1, SlotKind::parse)?,
        issuer: get(row, 2)?,
        generation: unsigned(get(row, 3)?)?,
        state: word(row, 4, SlotState::parse)?,
        algorithm: get(row, 5)?,
        public_key: get(row, 6)?,
        key,
        chain: ders(row, 10)?,
        anchors: ders(row, 11)?,
        origin: word(row, 12, SlotOrigin::parse)?,
        prepared_at: time(row, 13)?,
        activate_by: optional_time(row, 14)?,
        activated_at: optional_time(row, 15)?,
        retiring_at: optional_time(row, 16)?,
        ended_at: optional_time(row, 17)?,
        not_after: time(row, 18)?,
        revision: revision(row, 19)?,
    })
}
