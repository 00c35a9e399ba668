//! The node's own SVID: signed, recorded together with the enrolment that it rests on, then released.

use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, Serial, SpiffeId, Timestamp, Ttl};

use super::{Attested, Means};
use crate::{
    authority::{Authorities, LeafPlan, SignedX509},
    directory::Directory,
    ledger::{Digest, Kind, Personal, Record, RequestId},
    mint::sha256,
    store::{EnrolMachine, EnrolNode, Enrolment, NodeRow, ReattestNode},
};

/// Lifetimes that concern nodes.
#[derive(Debug, Clone, Copy)]
pub struct NodeLifetimes {
    /// Of a node SVID.
    pub svid: Ttl,
    /// How long after its expiry the enrolled key alone re-attests.
    pub reattest: Ttl,
}

/// A node SVID that is not recorded yet: nobody may have it.
#[derive(Debug)]
pub struct SignedNode {
    svid: SignedX509,
    record: Record,
}

/// A node that is enrolled, with its SVID on the way out.
#[derive(Debug)]
pub struct Enrolled {
    /// The node.
    pub node: NodeRow,
    /// Its SVID.
    pub svid: SignedX509,
}

impl SignedNode {
    /// Signs an SVID for a node key.
    ///
    /// # Errors
    /// No authority can sign it now.
    pub async fn sign(
        authorities: &Authorities,
        directory: &Directory,
        kind: Kind,
        subject: NodeSubject<'_>,
        ttl: Ttl,
    ) -> Result<Self, Refusal> {
        let now = directory.clock().now();
        let plan = LeafPlan {
            spiffe_id: subject.spiffe_id.clone(),
            public_key: mayfly_sdk::PublicKey::from_spki(subject.key_spki)?,
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            ttl,
            serial: Serial::generate(directory.clock().now_ms())?,
            now,
        };
        let svid = authorities.sign_x509(&plan).await?;
        let record = Record {
            authority: Some(svid.authority.shared()),
            key_sha256: Some(*subject.key_sha256),
            node: Some(subject.spiffe_id.clone()),
            request_id: subject.request_id,
            released_sha256: Some(sha256(&[&svid.der])),
            not_after: Some(svid.validity.not_after()),
            personal: Personal { detail: Some(Arc::from(subject.detail)), ..Personal::default() },
            ..Record::new(kind, svid.serial)
        };
        Ok(Self { svid, record })
    }

    /// When it ends.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.svid.validity.not_after()
    }

    /// The SVID, to be encoded into the answer that is stored with its record; and the record.
    #[must_use]
    pub fn into_parts(self) -> (SignedX509, Record) {
        (self.svid, self.record)
    }
}

/// Who a node SVID is for.
#[derive(Debug, Clone, Copy)]
pub struct NodeSubject<'a> {
    /// The node.
    pub spiffe_id: &'a SpiffeId,
    /// DER `SubjectPublicKeyInfo` of its enrolled key.
    pub key_spki: &'a [u8],
    /// SHA-256 of that.
    pub key_sha256: &'a Digest,
    /// What the node called its request.
    pub request_id: Option<RequestId>,
    /// How it was proved; recorded.
    pub detail: &'a str,
}

impl Attested {
    /// Signs the node's SVID and enrols it: the token is consumed, the node and its record are durable, or nothing is.
    ///
    /// # Errors
    /// The token was used meanwhile, the node is banned, or the store could not.
    pub async fn enrol(
        self,
        authorities: &Authorities,
        directory: &Arc<Directory>,
        lifetimes: &NodeLifetimes,
    ) -> Result<Enrolled, Refusal> {
        let subject = NodeSubject {
            spiffe_id: &self.spiffe_id,
            key_spki: self.key.spki(),
            key_sha256: self.key.sha256(),
            request_id: None,
            detail: self.attestor,
        };
        let signed = SignedNode::sign(authorities, directory, Kind::NodeAttested, subject, lifetimes.svid).await?;
        let svid_not_after = signed.not_after();
        let (svid, record) = signed.into_parts();
        let records = vec![record];
        let outcome = match self.means {
            Means::JoinToken { sha256 } => {
                let enrol = EnrolNode {
                    token_sha256: sha256,
                    spiffe_id: self.spiffe_id,
                    attestor: self.attestor.to_owned(),
                    key_spki: self.key.spki().to_vec(),
                    selectors: self.selectors,
                    svid_not_after,
                    records,
                };
                directory.enrol(enrol).await?
            }
            Means::Certificate { key_sha256 } => {
                let enrol = EnrolMachine {
                    spiffe_id: self.spiffe_id,
                    attestor: self.attestor.to_owned(),
                    machine_key_sha256: key_sha256,
                    key_spki: self.key.spki().to_vec(),
                    selectors: self.selectors,
                    svid_not_after,
                    records,
                };
                directory.enrol_machine(enrol).await?
            }
            Means::EnrolledKey => {
                let key_sha256 = *self.key.sha256();
                directory
                    .reattest(ReattestNode { spiffe_id: self.spiffe_id, key_sha256, svid_not_after, records })
                    .await?
            }
        };
        match outcome {
            Enrolment::Enrolled(node) => Ok(Enrolled { node: *node, svid }),
            refused => Err(refusal(&refused)),
        }
    }
}

fn refusal(outcome: &Enrolment) -> Refusal {
    match outcome {
        Enrolment::TokenUnknown => Refusal::new(Reason::JoinTokenUnknown, "this issuer knows no such join token"),
        Enrolment::TokenExpired => Refusal::new(Reason::JoinTokenExpired, "the join token has ended"),
        Enrolment::TokenUsed => Refusal::new(Reason::JoinTokenUsed, "the join token was used by another node key"),
        Enrolment::NodeUnknown | Enrolment::OtherKey => {
            Refusal::new(Reason::NodeUnknown, "no such node is enrolled with this key")
        }
        Enrolment::OtherKeyInUse => Refusal::new(
            Reason::MachineEnrolledElsewhere,
            "the key of this certificate has enrolled a node key, or a node by another certificate, whose SVID has not ended yet",
        ),
        Enrolment::NodeFrozen => Refusal::new(
            Reason::NodeFrozen,
            "the node is frozen, or another of its machine's key: its state was used twice",
        ),
        Enrolment::NodeBanned => {
            Refusal::new(Reason::NodeBanned, "the node is banned, or another of its machine's key")
        }
        Enrolment::Enrolled(_) => Refusal::new(Reason::Internal, "an enrolled node was taken for a refusal"),
    }
}
