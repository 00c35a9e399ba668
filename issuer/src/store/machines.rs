//! Nodes that enrol by a certificate of their machine: nobody made a token for them.

use mayfly_sdk::{Selector, Serial, SpiffeId, Timestamp};
use ring::digest::{SHA256, digest};

use super::StoreError;
use super::nodes::{Enrolment, NodeRow, NodeState, evict, get_node, write};
use super::row::{fixed, parsed, time, word};
use super::transaction::{Tx, Work};
use crate::ledger::{Digest, Kind, Record};

/// Enrols a node whose machine proved possession of a certificate's key.
#[derive(Debug, Clone)]
pub struct EnrolMachine {
    /// The identity that follows from the certificate.
    pub spiffe_id: SpiffeId,
    /// How it proved itself.
    pub attestor: String,
    /// SHA-256 of the DER `SubjectPublicKeyInfo` of the machine's certificate.
    pub machine_key_sha256: Digest,
    /// DER `SubjectPublicKeyInfo` of the node key.
    pub key_spki: Vec<u8>,
    /// What was attested.
    pub selectors: Vec<Selector>,
    /// When the SVID that goes with the answer ends.
    pub svid_not_after: Timestamp,
    /// Written in the same transaction, if the node is enrolled.
    pub records: Vec<Record>,
}

/// What became of a machine's enrolment.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineEnrolment {
    /// Whether it is enrolled.
    pub outcome: Enrolment,
    /// Nodes that the same machine was before, by other certificates of its key: they are no more.
    pub superseded: Vec<SpiffeId>,
}

impl From<Enrolment> for MachineEnrolment {
    fn from(outcome: Enrolment) -> Self {
        Self { outcome, superseded: Vec::new() }
    }
}

impl Work for EnrolMachine {
    type Answer = MachineEnrolment;

    /// The same node key may come again: a lost answer burns nothing. Another one must wait until the SVID of the one before
    /// has ended, so that a copied machine key displaces nobody. What was frozen or banned stays so: only an operator
    /// decides about that. All this is asked of every node of the machine's key: who has the key has as many certificates of
    /// it, and names by them, as the authority makes, and can make a second one of each by himself where it signs by ECDSA.
    async fn run(self, tx: &mut Tx<'_>) -> Result<MachineEnrolment, StoreError> {
        let mut key_sha256 = [0; 32];
        key_sha256.copy_from_slice(digest(&SHA256, &self.key_spki).as_ref());
        let same_machine = sqlx::query(
            "SELECT spiffe_id, state, key_sha256, svid_not_after FROM nodes
             WHERE trust_domain = $1 AND (spiffe_id = $2 OR machine_key_sha256 = $3) ORDER BY state = 'active'",
        )
        .bind(tx.trust_domain)
        .bind(self.spiffe_id.as_str())
        .bind(self.machine_key_sha256.to_vec())
        .fetch_all(&mut *tx.connection)
        .await?;
        let mut superseded = Vec::new();
        for node in &same_machine {
            let spiffe_id: SpiffeId = parsed(node, 0)?;
            let again = spiffe_id == self.spiffe_id && fixed(node, 2)? == key_sha256;
            match word(node, 1, NodeState::parse)? {
                NodeState::Active if !again && time(node, 3)? >= tx.now => return Ok(Enrolment::OtherKeyInUse.into()),
                NodeState::Active if spiffe_id != self.spiffe_id => superseded.push(spiffe_id),
                NodeState::Active => {}
                NodeState::Frozen => return Ok(Enrolment::NodeFrozen.into()),
                NodeState::Banned => return Ok(Enrolment::NodeBanned.into()),
            }
        }
        for other in &superseded {
            evict(tx, other).await?;
            let serial = Serial::generate(tx.now.unix_s().saturating_mul(1000));
            let serial = serial.map_err(|error| StoreError::Corrupt { what: error.to_string() })?;
            tx.record(&[Record { node: Some(other.clone()), ..Record::new(Kind::NodeEvicted, serial) }])?;
        }
        let before = get_node(tx, &self.spiffe_id).await?;
        let node = NodeRow {
            spiffe_id: self.spiffe_id,
            owner: self.attestor.clone(),
            attestor: self.attestor,
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
        sqlx::query("UPDATE nodes SET machine_key_sha256 = $1 WHERE trust_domain = $2 AND spiffe_id = $3")
            .bind(self.machine_key_sha256.to_vec())
            .bind(tx.trust_domain)
            .bind(node.spiffe_id.as_str())
            .execute(&mut *tx.connection)
            .await?;
        tx.record(&self.records)?;
        Ok(MachineEnrolment { outcome: Enrolment::Enrolled(Box::new(node)), superseded })
    }
}
