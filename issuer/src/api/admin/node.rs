//! Nodes and join tokens.

use std::sync::Arc;

use mayfly_proto::admin::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, EntryProblem, GetNodeResponse, ListNodesRequest,
    ListNodesResponse, Node as WireNode,
};
use mayfly_sdk::{Reason, Refusal, Selector, Serial, SpiffeId, Ttl};

use super::{
    Admin,
    authorize::{Authorized, Object},
    page_size, wire_revision,
};
use crate::{
    attest::{JoinTokenRequest, create_join_token},
    directory::{Actor, facts},
    ledger::{Kind, Personal, Record},
    store::{Change, NodeRow, NodeState, Op},
};

/// The longest life of a join token: a day. It is a bearer secret.
const LONGEST_JOIN_TOKEN: Ttl = Ttl::from_s(86_400);

impl Admin {
    pub(super) fn nodes(&self, request: &ListNodesRequest, authorized: &Authorized) -> ListNodesResponse {
        let size = page_size(request.page_size);
        let after = |node: &&Arc<NodeRow>| node.spiffe_id.as_str() > request.page_token.as_str();
        let now = self.directory.clock().now();
        let mut nodes = self.directory.nodes();
        self.directory.with_registry(|registry| {
            nodes.retain(|node| authorized.may(registry, now, Object::Node(&node.spiffe_id)));
        });
        let items: Vec<_> = nodes.iter().filter(after).take(size).map(|node| self.wire_node(node)).collect();
        let next_page_token = match items.last() {
            Some(last) if items.len() == size => last.spiffe_id.clone(),
            _ => String::new(),
        };
        ListNodesResponse { items, next_page_token }
    }

    pub(super) fn node(&self, id: &str, authorized: &Authorized) -> Result<GetNodeResponse, Refusal> {
        let node = self.find(id, authorized)?;
        Ok(GetNodeResponse { node: Some(self.wire_node(&node)) })
    }

    pub(super) async fn evict(&self, id: &str, authorized: &Authorized) -> Result<(), Refusal> {
        let spiffe_id = self.find(id, authorized)?.spiffe_id.clone();
        let op = Op::EvictNode { spiffe_id: spiffe_id.clone() };
        self.change_node(Kind::NodeEvicted, op, spiffe_id, authorized.actor()).await
    }

    pub(super) async fn ban(&self, id: &str, authorized: &Authorized) -> Result<(), Refusal> {
        let spiffe_id = self.find(id, authorized)?.spiffe_id.clone();
        let op = Op::SetNodeState { spiffe_id: spiffe_id.clone(), state: NodeState::Banned };
        self.change_node(Kind::NodeBanned, op, spiffe_id, authorized.actor()).await
    }

    pub(super) async fn join_token(
        &self,
        request: CreateJoinTokenRequest,
        actor: &Actor,
    ) -> Result<CreateJoinTokenResponse, Refusal> {
        let ttl = if request.ttl_s == 0 { self.join_token_ttl } else { Ttl::from_s(request.ttl_s) };
        if ttl > LONGEST_JOIN_TOKEN {
            return Err(Refusal::new(
                Reason::InvalidTtl,
                format!("a join token lives for a day at the most, not {ttl}"),
            ));
        }
        let selectors = request.selectors.iter().map(|text| Ok(text.parse::<Selector>()?));
        let wanted = JoinTokenRequest {
            ttl,
            node: Some(request.spiffe_id).filter(|node| !node.is_empty()),
            selectors: selectors.collect::<Result<_, Refusal>>()?,
        };
        let (secret, token) = create_join_token(&self.directory, wanted, actor).await?;
        let pin = hex::encode(self.authorities.snapshot().root_pin());
        Ok(CreateJoinTokenResponse {
            token: format!("{secret}.{pin}"),
            expires_at: token.expires_at.unix_s(),
            spiffe_id: token.spiffe_id.to_string(),
        })
    }

    async fn change_node(&self, kind: Kind, op: Op, node: SpiffeId, actor: &Actor) -> Result<(), Refusal> {
        let clock = self.directory.clock();
        let record = Record {
            node: Some(node),
            personal: Personal { actor: Some(Arc::clone(actor)), ..Personal::default() },
            ..Record::new(kind, Serial::generate(clock.now_ms())?)
        };
        let change = Change { ops: vec![op], records: vec![record], ..Change::new(clock.now()) };
        self.directory.commit(change).await?;
        Ok(())
    }

    /// The node with this id. What the caller may not see is not there.
    fn find(&self, id: &str, authorized: &Authorized) -> Result<Arc<NodeRow>, Refusal> {
        let id: SpiffeId = id.parse()?;
        let now = self.directory.clock().now();
        let may = self.directory.with_registry(|registry| authorized.may(registry, now, Object::Node(&id)));
        self.directory
            .node(&id)
            .filter(|_| may)
            .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no node {id}")))
    }

    fn wire_node(&self, node: &NodeRow) -> WireNode {
        let session = self.directory.session(&node.spiffe_id);
        // What the issuer sees, and what the node reports.
        let seen = self.directory.with_registry(|registry| registry.problems_of_node(&facts(node)));
        let reported = session.iter().flat_map(|session| session.problems());
        let problems = seen.into_iter().chain(reported).map(|(uid, refusal)| EntryProblem {
            entry_uid: uid.to_string(),
            reason: refusal.reason.code().to_owned(),
            what: refusal.what,
        });
        WireNode {
            spiffe_id: node.spiffe_id.to_string(),
            attestor: node.attestor.clone(),
            state: node.state.as_str().to_owned(),
            selectors: node.selectors.iter().map(ToString::to_string).collect(),
            generation: node.generation,
            key_sha256: hex::encode(node.key_sha256),
            attested_at: node.attested_at.unix_s(),
            renewed_at: node.renewed_at.unix_s(),
            svid_not_after: node.svid_not_after.unix_s(),
            problems: problems.collect(),
            connected: session.is_some(),
            acknowledged: session.as_ref().and_then(|session| session.acknowledged()).map(wire_revision),
            clock_skew_ms: session.as_ref().map_or(0, |session| session.skew_ms),
            build: session.map(|session| session.build.clone()).unwrap_or_default(),
        }
    }
}
