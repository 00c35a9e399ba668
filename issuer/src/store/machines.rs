//! Nodes that enrol by a certificate of their machine: nobody made a token for them.

use mayfly_sdk::{Selector, SpiffeId, Timestamp};
use ring::digest::{SHA256, digest};

use super::StoreError;
use super::nodes::{Enrolment, NodeRow, NodeState, get_node, write};
use super::transaction::{Tx, Work};
use crate::ledger::Record;

/// Enrols a node whose machine proved possession of a certificate's key.
#[derive(Debug, Clone)]
pub struct EnrolMachine {
    /// The identity that follows from the certificate.
    pub spiffe_id: SpiffeId,
    /// How it proved itself.
    pub attestor: String,
    /// DER `SubjectPublicKeyInfo` of the node key.
    pub key_spki: Vec<u8>,
    /// What was attested.
    pub selectors: Vec<Selector>,
    /// When the SVID that goes with the answer ends.
    pub svid_not_after: Timestamp,
    /// Written in the same transaction, if the node is enrolled.
    pub records: Vec<Record>,
}

impl Work for EnrolMachine {
    type Answer = Enrolment;

    /// The same node key may come again: a lost answer burns nothing. Another one must wait until the SVID of the one before
    /// has ended, so that a copied machine key displaces nobody. What was frozen or banned stays so: only an operator
    /// decides about that.
    async fn run(self, tx: &mut Tx<'_>) -> Result<Enrolment, StoreError> {
        let mut key_sha256 = [0; 32];
        key_sha256.copy_from_slice(digest(&SHA256, &self.key_spki).as_ref());
        let before = get_node(tx, &self.spiffe_id).await?;
        if let Some(node) = &before {
            match node.state {
                NodeState::Active if node.key_sha256 != key_sha256 && node.svid_not_after >= tx.now => {
                    return Ok(Enrolment::OtherKeyInUse);
                }
                NodeState::Active => {}
                NodeState::Frozen => return Ok(Enrolment::NodeFrozen),
                NodeState::Banned => return Ok(Enrolment::NodeBanned),
            }
        }
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
        tx.record(&self.records)?;
        Ok(Enrolment::Enrolled(Box::new(node)))
    }
}
