//! Enrolled nodes, and the three operations that concern one node alone.

use bytes::Bytes;
use mayfly_sdk::{Selector, SpiffeId, Timestamp};
use ring::digest::{SHA256, digest};

use super::connection::{Connection, Row};
use super::join_tokens::Consumed;
use super::row::{fixed, get, optional_fixed, parsed, selectors, selectors_text, stored, time, unsigned, word};
use super::slots::stored_as_text;
use super::transaction::{Tx, Work};
use super::{StoreError, join_tokens};
use crate::ledger::{Digest, Record, RequestId};

stored_as_text! {
    /// Whether a node may call.
    NodeState {
        /// It may.
        Active = "active",
        /// A generation was used twice: it may not, until an operator decides.
        Frozen = "frozen",
        /// It may not, for good.
        Banned = "banned",
    }
}

/// A node as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its identity.
    pub spiffe_id: SpiffeId,
    /// How it proved itself: `join_token`, `x509pop`.
    pub attestor: String,
    /// Who made its join token; of a node that has enrolled by itself, the way in which it did.
    pub owner: String,
    /// Whether it may call.
    pub state: NodeState,
    /// DER `SubjectPublicKeyInfo` of its enrolled key.
    pub key_spki: Vec<u8>,
    /// SHA-256 of that.
    pub key_sha256: Digest,
    /// What the issuer attested about it.
    pub selectors: Vec<Selector>,
    /// The generation that its next renewal must name; 1 after the first enrolment.
    pub generation: u64,
    /// The id of its last renewal, and the answer to it.
    pub last_renewal: Option<(RequestId, Bytes)>,
    /// When it last proved itself.
    pub attested_at: Timestamp,
    /// When it last got an SVID.
    pub renewed_at: Timestamp,
    /// When that SVID ends.
    pub svid_not_after: Timestamp,
}

/// Consumes a join token for a key, and enrols the node with it.
#[derive(Debug, Clone)]
pub struct EnrolNode {
    /// SHA-256 of the token.
    pub token_sha256: Digest,
    /// The identity that the token is for; another one is refused.
    pub spiffe_id: SpiffeId,
    /// How it proved itself.
    pub attestor: String,
    /// DER `SubjectPublicKeyInfo` of the node key.
    pub key_spki: Vec<u8>,
    /// What was attested, the token's own selectors included.
    pub selectors: Vec<Selector>,
    /// When the SVID that goes with the answer ends.
    pub svid_not_after: Timestamp,
    /// Written in the same transaction, if the node is enrolled.
    pub records: Vec<Record>,
}

/// Gives a node that proved possession of its enrolled key a new SVID.
#[derive(Debug, Clone)]
pub struct ReattestNode {
    /// Which node.
    pub spiffe_id: SpiffeId,
    /// SHA-256 of the key that it proved to hold.
    pub key_sha256: Digest,
    /// When the SVID that goes with the answer ends.
    pub svid_not_after: Timestamp,
    /// Written in the same transaction, if it is granted.
    pub records: Vec<Record>,
}

/// What became of an enrolment or a re-attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolment {
    /// The node is enrolled: its row now.
    Enrolled(Box<NodeRow>),
    /// There is no such token, or not for this identity.
    TokenUnknown,
    /// The token's time is over.
    TokenExpired,
    /// The token is bound to another key.
    TokenUsed,
    /// There is no such node.
    NodeUnknown,
    /// The node is enrolled with another key.
    OtherKey,
    /// The node is enrolled with another key, whose SVID has not ended yet.
    OtherKeyInUse,
    /// The node is frozen; a new join token thaws it.
    NodeFrozen,
    /// The node is banned.
    NodeBanned,
}

/// One renewal of a node's SVID. The answer was signed already; it may be released if the outcome is
/// [`Renewal::Stored`].
#[derive(Debug, Clone)]
pub struct RenewNode {
    /// Which node.
    pub spiffe_id: SpiffeId,
    /// SHA-256 of the key of its connection.
    pub key_sha256: Digest,
    /// The generation that it names.
    pub generation: u64,
    /// What it called the request, before it sent it.
    pub request_id: RequestId,
    /// What it is to be told.
    pub answer: Bytes,
    /// When the SVID in the answer ends.
    pub svid_not_after: Timestamp,
    /// Written in the same transaction, if the answer is stored.
    pub records: Vec<Record>,
    /// Written in the same transaction, if the node is frozen.
    pub records_if_frozen: Vec<Record>,
}

/// What became of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// The answer is stored and may be released; the next renewal names this generation.
    Stored {
        /// The one after that of the request.
        next_generation: u64,
    },
    /// The same request was answered before: release this answer, and drop the new one.
    Repeated(Bytes),
    /// The generation was used already by another request: a cloned disk. The node is frozen now.
    Frozen,
    /// The node may not call: it was frozen or banned before.
    Refused(NodeState),
    /// The generation was never given out, which a restored backup explains. The node must attest anew.
    GenerationUnknown,
    /// There is no such node with this key. It must attest anew.
    NodeUnknown,
}

impl Work for EnrolNode {
    type Answer = Enrolment;

    async fn run(self, tx: &mut Tx<'_>) -> Result<Enrolment, StoreError> {
        let before = get_node(tx, &self.spiffe_id).await?;
        if before.as_ref().is_some_and(|node| node.state == NodeState::Banned) {
            return Ok(Enrolment::NodeBanned);
        }
        let mut key_sha256 = [0; 32];
        key_sha256.copy_from_slice(digest(&SHA256, &self.key_spki).as_ref());
        let (owner, again) = match join_tokens::consume(tx, &self.token_sha256, &key_sha256, &self.spiffe_id).await? {
            Consumed::Bound { owner, again } => (owner, again),
            Consumed::Unknown => return Ok(Enrolment::TokenUnknown),
            Consumed::Expired => return Ok(Enrolment::TokenExpired),
            Consumed::Used => return Ok(Enrolment::TokenUsed),
        };
        // A lost answer that is asked for again must not thaw what was frozen since; a new token does.
        if again && before.as_ref().is_some_and(|node| node.state == NodeState::Frozen) {
            return Ok(Enrolment::NodeFrozen);
        }
        let node = NodeRow {
            spiffe_id: self.spiffe_id,
            attestor: self.attestor,
            owner,
            state: NodeState::Active,
            key_spki: self.key_spki,
            key_sha256,
            selectors: self.selectors,
            // Never one that was given out before: a clone of the old disk still names that.
            generation: before.map_or(1, |node| node.generation + 1),
            last_renewal: None,
            attested_at: tx.now,
            renewed_at: tx.now,
            svid_not_after: self.svid_not_after,
        };
        write(tx, &node).await?;
        tx.record(&self.records)?;
        Ok(Enrolment::Enrolled(Box::new(node)))
    }
}

impl Work for ReattestNode {
    type Answer = Enrolment;

    async fn run(self, tx: &mut Tx<'_>) -> Result<Enrolment, StoreError> {
        let Some(mut node) = get_node(tx, &self.spiffe_id).await? else { return Ok(Enrolment::NodeUnknown) };
        if node.key_sha256 != self.key_sha256 {
            return Ok(Enrolment::OtherKey);
        }
        match node.state {
            NodeState::Active => {}
            NodeState::Frozen => return Ok(Enrolment::NodeFrozen),
            NodeState::Banned => return Ok(Enrolment::NodeBanned),
        }
        node.generation += 1;
        node.last_renewal = None;
        node.attested_at = tx.now;
        node.renewed_at = tx.now;
        node.svid_not_after = self.svid_not_after;
        write(tx, &node).await?;
        tx.record(&self.records)?;
        Ok(Enrolment::Enrolled(Box::new(node)))
    }
}

impl Work for RenewNode {
    type Answer = Renewal;

    async fn run(self, tx: &mut Tx<'_>) -> Result<Renewal, StoreError> {
        let node = get_node(tx, &self.spiffe_id).await?.filter(|node| node.key_sha256 == self.key_sha256);
        let Some(mut node) = node else { return Ok(Renewal::NodeUnknown) };
        if node.state != NodeState::Active {
            return Ok(Renewal::Refused(node.state));
        }
        if let Some((id, answer)) = &node.last_renewal
            && *id == self.request_id
        {
            return Ok(Renewal::Repeated(answer.clone()));
        }
        if self.generation > node.generation {
            return Ok(Renewal::GenerationUnknown);
        }
        if self.generation < node.generation {
            node.state = NodeState::Frozen;
            write(tx, &node).await?;
            tx.record(&self.records_if_frozen)?;
            return Ok(Renewal::Frozen);
        }
        node.generation += 1;
        node.last_renewal = Some((self.request_id, self.answer));
        node.renewed_at = tx.now;
        node.svid_not_after = self.svid_not_after;
        write(tx, &node).await?;
        tx.record(&self.records)?;
        Ok(Renewal::Stored { next_generation: node.generation })
    }
}

/// Changes a node's state.
pub(super) async fn set_state(tx: &mut Tx<'_>, spiffe_id: &SpiffeId, state: NodeState) -> Result<(), StoreError> {
    let changed = sqlx::query("UPDATE nodes SET state = $1 WHERE trust_domain = $2 AND spiffe_id = $3")
        .bind(state.as_str())
        .bind(tx.trust_domain)
        .bind(spiffe_id.as_str())
        .execute(&mut *tx.connection)
        .await?;
    StoreError::if_missing(changed.rows_affected(), || format!("the node {spiffe_id}"))
}

/// Forgets a node.
pub(super) async fn evict(tx: &mut Tx<'_>, spiffe_id: &SpiffeId) -> Result<(), StoreError> {
    let deleted = sqlx::query("DELETE FROM nodes WHERE trust_domain = $1 AND spiffe_id = $2")
        .bind(tx.trust_domain)
        .bind(spiffe_id.as_str())
        .execute(&mut *tx.connection)
        .await?;
    StoreError::if_missing(deleted.rows_affected(), || format!("the node {spiffe_id}"))
}

/// Every node.
pub(super) async fn load(connection: &mut Connection, trust_domain: &str) -> Result<Vec<NodeRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT spiffe_id, attestor, owner, state, key_spki, key_sha256, selectors, generation, last_request,
         last_answer, attested_at, renewed_at, svid_not_after
         FROM nodes WHERE trust_domain = $1 ORDER BY spiffe_id",
    )
    .bind(trust_domain)
    .fetch_all(connection)
    .await?;
    rows.iter().map(node).collect()
}

pub(super) async fn get_node(tx: &mut Tx<'_>, spiffe_id: &SpiffeId) -> Result<Option<NodeRow>, StoreError> {
    let row = sqlx::query(
        "SELECT spiffe_id, attestor, owner, state, key_spki, key_sha256, selectors, generation, last_request,
         last_answer, attested_at, renewed_at, svid_not_after
         FROM nodes WHERE trust_domain = $1 AND spiffe_id = $2",
    )
    .bind(tx.trust_domain)
    .bind(spiffe_id.as_str())
    .fetch_optional(&mut *tx.connection)
    .await?;
    row.as_ref().map(node).transpose()
}

fn node(row: &Row) -> Result<NodeRow, StoreError> {
    let answer: Option<Vec<u8>> = get(row, 9)?;
    Ok(NodeRow {
        spiffe_id: parsed(row, 0)?,
        attestor: get(row, 1)?,
        owner: get(row, 2)?,
        state: word(row, 3, NodeState::parse)?,
        key_spki: get(row, 4)?,
        key_sha256: fixed(row, 5)?,
        selectors: selectors(row, 6)?,
        generation: unsigned(get(row, 7)?)?,
        last_renewal: optional_fixed(row, 8)?.zip(answer.map(Bytes::from)),
        attested_at: time(row, 10)?,
        renewed_at: time(row, 11)?,
        svid_not_after: time(row, 12)?,
    })
}

pub(super) async fn write(tx: &mut Tx<'_>, node: &NodeRow) -> Result<(), StoreError> {
    let (last_request, last_answer) =
        node.last_renewal.as_ref().map(|(id, answer)| (id.to_vec(), answer.to_vec())).unzip();
    sqlx::query(
        "INSERT INTO nodes (trust_domain, spiffe_id, attestor, owner, state, key_spki, key_sha256, selectors,
         generation, last_request, last_answer, attested_at, renewed_at, svid_not_after)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (trust_domain, spiffe_id) DO UPDATE SET attestor = excluded.attestor, owner = excluded.owner,
         state = excluded.state, key_spki = excluded.key_spki, key_sha256 = excluded.key_sha256,
         selectors = excluded.selectors, generation = excluded.generation, last_request = excluded.last_request,
         last_answer = excluded.last_answer, attested_at = excluded.attested_at, renewed_at = excluded.renewed_at,
         svid_not_after = excluded.svid_not_after",
    )
    .bind(tx.trust_domain)
    .bind(node.spiffe_id.as_str())
    .bind(node.attestor.as_str())
    .bind(node.owner.as_str())
    .bind(node.state.as_str())
    .bind(node.key_spki.as_slice())
    .bind(node.key_sha256.to_vec())
    .bind(selectors_text(&node.selectors))
    .bind(stored(node.generation))
    .bind(last_request)
    .bind(last_answer)
    .bind(node.attested_at.unix_s())
    .bind(node.renewed_at.unix_s())
    .bind(node.svid_not_after.unix_s())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}
