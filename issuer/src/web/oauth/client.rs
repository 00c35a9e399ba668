//! Who calls: what the ledger says of the certificate.

use std::sync::Arc;

use mayfly_sdk::task::Actor;
use mayfly_sdk::tls::PeerInfo;
use mayfly_sdk::{InstanceId, Reason, Refusal, Serial, SpiffeId, VerifiedPeer};

use super::Call;
use crate::{
    directory::facts,
    ledger::Kind,
    mint::{ShownKey, sha256},
    registry::{AssertedFacts, Entry, MintRequest, Uid, Wanted},
    store::{NodeRow, NodeState},
};

/// Certificates that are remembered; when there are more, all are forgotten.
const MOST: usize = 20_000;

/// For whom a certificate was issued.
#[derive(Debug, Clone)]
pub(in crate::web) struct Found {
    node: SpiffeId,
    instance: Option<InstanceId>,
    entry: Uid,
}

/// A workload, as the ledger knows the certificate of the connection.
pub(super) struct Client {
    pub(super) spiffe_id: SpiffeId,
    /// What it has shown of its own.
    pub(super) key: ShownKey,
    pub(super) node: Arc<NodeRow>,
    /// None where the workloads of the entry share an SVID.
    pub(super) instance: Option<InstanceId>,
    pub(super) entry: Arc<Entry>,
}

impl Call {
    /// The workload at the other end, whose identity still is what its certificate says.
    ///
    /// # Errors
    /// [`Reason::InsufficientAttestation`] where the ledger has no record of the certificate; what keeps a node's workload from an
    /// identity.
    pub(super) async fn client(&self) -> Result<Client, Refusal> {
        let missing = || Refusal::new(Reason::Unauthenticated, "this needs an X.509-SVID as client certificate");
        let peer = self.info.as_ref().and_then(PeerInfo::peer).ok_or_else(missing)?;
        let Found { node, instance, entry } = self.found(peer).await?;
        self.living(&node, entry, instance, peer.spiffe_id(), ShownKey::Peer(Arc::clone(peer)))
    }

    /// The workload that something was issued to, if it still is what that says.
    ///
    /// # Errors
    /// What keeps a node's workload from an identity.
    pub(super) fn living(
        &self,
        node: &SpiffeId,
        entry: Uid,
        instance: Option<InstanceId>,
        spiffe_id: &SpiffeId,
        key: ShownKey,
    ) -> Result<Client, Refusal> {
        let directory = &self.oauth.minter.directory;
        let gone = || Refusal::new(Reason::NodeUnknown, format!("the node {node} of this workload is not enrolled"));
        let node = directory.node(node).ok_or_else(gone)?;
        if node.state != NodeState::Active {
            return Err(Refusal::new(Reason::NodeBanned, format!("the node {} is banned or frozen", node.spiffe_id)));
        }
        // As if the node asked now: the entry may be gone, or be another one by the same name.
        let issuance = directory.with_registry(|registry| registry.get(entry).map(|entry| entry.issuance));
        let unknown = || Refusal::new(Reason::UnknownEntry, "the entry of this workload is gone");
        let request = MintRequest {
            node: &facts(&node),
            entry,
            issuance: issuance.ok_or_else(unknown)?,
            facts: &AssertedFacts::default(),
            wanted: Wanted::X509,
        };
        let now = directory.clock().now();
        let consent = directory.with_registry(|registry| registry.authorize(&request, now))?;
        if consent.spiffe_id != *spiffe_id {
            return Err(Refusal::new(Reason::UnknownEntry, "the entry of this workload is for another identity now"));
        }
        Ok(Client { spiffe_id: spiffe_id.clone(), key, node, instance, entry: consent.entry })
    }

    async fn found(&self, peer: &VerifiedPeer) -> Result<Found, Refusal> {
        let thumbprint = sha256(&[peer.certificate()]);
        if let Some(found) = self.oauth.found.lock().get(&thumbprint) {
            return Ok(found.clone());
        }
        let unknown = |what: &str| Refusal::new(Reason::InsufficientAttestation, what);
        let no_record = || unknown("the ledger has no record of this certificate");
        let serial = serial(peer.serial()).ok_or_else(no_record)?;
        let logged = self.oauth.minter.directory.store().find(serial).await?.ok_or_else(no_record)?;
        let record = logged.record;
        if record.kind != Kind::X509SvidIssued || record.released_sha256 != Some(thumbprint) {
            return Err(no_record());
        }
        let (Some(node), Some(entry)) = (record.node, record.entry_uid) else {
            return Err(unknown("this certificate was issued to no workload of a node"));
        };
        let found = Found { node, instance: record.instance, entry: entry.parse()? };
        let mut all = self.oauth.found.lock();
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(thumbprint, found.clone());
        Ok(found)
    }
}

/// A serial number as certificates write it: without leading zeros, but for one that keeps it positive.
fn serial(der: &[u8]) -> Option<Serial> {
    let digits = der.iter().position(|byte| *byte != 0).and_then(|first| der.get(first..))?;
    let mut bytes = [0; 16];
    let at = bytes.len().checked_sub(digits.len())?;
    bytes.get_mut(at..)?.copy_from_slice(digits);
    Serial::try_from(bytes).ok()
}

impl Client {
    /// The one process that this is.
    ///
    /// # Errors
    /// [`Reason::InsufficientAttestation`]: it is of several.
    pub(super) fn actor(&self) -> Result<Actor, Refusal> {
        let shared = || Refusal::new(Reason::InsufficientAttestation, "this identity is shared by several processes");
        Ok(Actor { spiffe_id: self.spiffe_id.clone(), instance: self.instance.ok_or_else(shared)? })
    }
}
