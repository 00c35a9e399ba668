//! `RenewNode`: the next SVID for the enrolled key. The same request id gets the same answer; a generation that was used
//! by another request freezes the node.

use mayfly_proto::node::{RenewNodeRequest, RenewNodeResponse};
use mayfly_sdk::{Reason, Refusal, Serial};
use prost::Message as _;

use super::{Inner, node_svid};
use crate::{
    attest::{NodeSubject, SignedNode},
    ledger::{Kind, Personal, Record, RequestId},
    store::{NodeRow, NodeState, RenewNode, Renewal},
};

impl Inner {
    pub(super) async fn renew(&self, node: &NodeRow, request: RenewNodeRequest) -> Result<RenewNodeResponse, Refusal> {
        let directory = &self.minter.directory;
        let request_id = request_id(&request.request_id)?;
        let subject = NodeSubject {
            spiffe_id: &node.spiffe_id,
            key_spki: &node.key_spki,
            key_sha256: &node.key_sha256,
            request_id: Some(request_id),
            detail: &node.attestor,
        };
        let signed =
            SignedNode::sign(&self.minter.authorities, directory, Kind::NodeRenewed, subject, self.lifetimes().svid)
                .await?;
        let svid_not_after = signed.not_after();
        let (svid, record) = signed.into_parts();
        let next_generation = request.generation.saturating_add(1);
        let answer = RenewNodeResponse { svid: Some(node_svid(&svid, next_generation, directory.clock().now())) };
        let frozen = Record {
            node: Some(node.spiffe_id.clone()),
            key_sha256: Some(node.key_sha256),
            request_id: Some(request_id),
            reason: Some(Reason::NodeFrozen.code().into()),
            personal: Personal::default(),
            ..Record::new(Kind::NodeFrozen, Serial::generate(directory.clock().now_ms())?)
        };
        let outcome = directory
            .renew(RenewNode {
                spiffe_id: node.spiffe_id.clone(),
                key_sha256: node.key_sha256,
                generation: request.generation,
                request_id,
                answer: answer.encode_to_vec().into(),
                svid_not_after,
                records: vec![record],
                records_if_frozen: vec![frozen],
            })
            .await?;
        self.answer(node, outcome, answer)
    }

    fn answer(
        &self,
        node: &NodeRow,
        outcome: Renewal,
        answer: RenewNodeResponse,
    ) -> Result<RenewNodeResponse, Refusal> {
        let id = &node.spiffe_id;
        match outcome {
            Renewal::Stored { .. } => {
                self.metrics.renewed();
                Ok(answer)
            }
            Renewal::Repeated(answer) => {
                let stored = RenewNodeResponse::decode(answer);
                let mut answer = stored.map_err(|error| {
                    Refusal::new(Reason::Internal, format!("a stored answer cannot be read: {error}"))
                })?;
                self.age(node, &mut answer);
                Ok(answer)
            }
            Renewal::Frozen => {
                tracing::error!(node = %id, reason = Reason::NodeFrozen.code(), "a node's generation was used twice: two machines share its state");
                Err(Refusal::new(
                    Reason::NodeFrozen,
                    format!("the node {id} renewed twice from the same generation: it is frozen"),
                ))
            }
            Renewal::Refused(NodeState::Banned) => {
                Err(Refusal::new(Reason::NodeBanned, format!("the node {id} is banned")))
            }
            Renewal::Refused(_) => Err(Refusal::new(Reason::NodeFrozen, format!("the node {id} is frozen"))),
            Renewal::GenerationUnknown => Err(Refusal::new(
                Reason::NodeUnknown,
                format!("the node {id} names a generation that was never given out"),
            )),
            Renewal::NodeUnknown => {
                Err(Refusal::new(Reason::NodeUnknown, format!("no node {id} is enrolled with this key")))
            }
        }
    }

    /// A stored answer counts from the moment when it was made: take off what has passed since.
    fn age(&self, node: &NodeRow, answer: &mut RenewNodeResponse) {
        let now = self.minter.directory.clock().now();
        let node = self.minter.directory.node(&node.spiffe_id);
        if let (Some(svid), Some(node)) = (answer.svid.as_mut(), node) {
            let left = node.svid_not_after.remaining(now).as_s();
            let passed = svid.lifetime_s.saturating_sub(left);
            svid.lifetime_s = left;
            svid.renew_after_s = svid.renew_after_s.saturating_sub(passed);
        }
    }
}

/// Reads a request id: exactly 16 bytes.
pub(super) fn request_id(bytes: &[u8]) -> Result<RequestId, Refusal> {
    RequestId::try_from(bytes)
        .map_err(|_length| Refusal::new(Reason::InvalidArgument, "a request id has exactly 16 bytes"))
}
