use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal};
use tonic::Request;

use crate::listener::Peer;
use crate::workload::HeldProcess;

/// The process at the other end of a call.
#[derive(Debug, Clone)]
pub(super) struct Caller(Arc<Peer>);

impl Caller {
    /// Who calls, as the listener found out when the connection was accepted.
    ///
    /// # Errors
    /// [`Reason::Internal`]: the request did not come through our listener.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Refusal> {
        let peer = request.extensions().get::<Arc<Peer>>();
        peer.cloned().map(Self).ok_or_else(|| Refusal::new(Reason::Internal, "the connection has no peer"))
    }

    pub(super) fn uid(&self) -> u32 {
        self.0.uid()
    }

    pub(super) fn process(&self) -> &Arc<HeldProcess> {
        self.0.process()
    }
}
