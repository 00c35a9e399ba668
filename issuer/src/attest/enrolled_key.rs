//! Re-attestation of a node whose SVID has expired: possession of its enrolled key is enough for a while.

use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, SpiffeId, Timestamp, Ttl};

use super::{Attested, Attestor, Means, ProvenKey};
use crate::directory::Directory;

pub(super) struct EnrolledKey<'a> {
    pub(super) directory: &'a Arc<Directory>,
    pub(super) reattest: Ttl,
}

impl Attestor for EnrolledKey<'_> {
    type Evidence = SpiffeId;

    fn attest(&self, id: SpiffeId, key: ProvenKey, now: Timestamp) -> Result<Attested, Refusal> {
        let node = self.directory.live_node(&id, key.sha256())?;
        let until = node.svid_not_after.saturating_add(self.reattest);
        if until < now {
            let what = format!(
                "the node's SVID expired at {}, too long ago for its key alone to prove it",
                node.svid_not_after
            );
            return Err(Refusal::new(Reason::NodeReattestTooLate, what));
        }
        let selectors = node.selectors.clone();
        Ok(Attested { spiffe_id: id, attestor: "enrolled_key", selectors, key, means: Means::EnrolledKey })
    }
}
