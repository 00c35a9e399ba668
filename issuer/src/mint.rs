//! Minting: each step consumes the one before, so that nothing is released that was not recorded, and nothing twice.
//!
//! ```text
//! Request (asserted by a node) --authorize--> Authorized --sign--> Signed --record--> Recorded --release--> Issued
//! ```
//!
//! A caller without a node agent brings a token in place of a node's word, which is used up where a batch is recorded.
//!
//! A batch goes through together: each item is refused or goes on by itself, one durable write records all that were
//! signed. Nothing here reads the database.

mod account;
mod admission;
mod agentless;
mod inspect;
mod jwt;
mod live_keys;
mod on_behalf;
mod step;
mod task;
mod verified;
mod wit;
mod x509;

use std::sync::Arc;

use mayfly_sdk::{InstanceId, Refusal, Timestamp};

pub use account::KeptRefusals;
pub use admission::Admission;
pub use agentless::{AgentlessIssue, AgentlessWish};
pub use jwt::{JwtProfile, JwtRequest};
pub use live_keys::{Holder, LiveKeys};
pub use step::{Authorized, Issued, Recorded, Signed, record};
pub(crate) use step::{renew_after_s, sha256};
pub use task::{BeginTask, Begun, RenewTask, ShownKey};
pub use verified::VerifiedSvids;
pub use wit::{WitProfile, WitRequest};
pub use x509::{X509Profile, X509Request};

use crate::{
    authority::Authorities,
    directory::{Directory, facts},
    ledger::RequestId,
    registry::{AssertedFacts, NodeFacts, Uid},
    store::NodeRow,
    task::Tasks,
    users::Users,
};

/// How many signatures are made before other work on this thread gets a turn.
const SIGNED_AT_A_STRETCH: usize = 16;

/// Mints credentials for the workloads of attested nodes. Shared behind an `Arc`.
pub struct Minter {
    /// What is served.
    pub directory: Arc<Directory>,
    /// What signs.
    pub authorities: Authorities,
    /// Who may ask now.
    pub admission: Admission,
    /// Which keys stand for whom.
    pub live_keys: LiveKeys,
    /// The `iss` of JWT-SVIDs.
    pub iss: Option<Arc<str>>,
    /// The tasks that have not ended.
    pub tasks: Arc<Tasks>,
    /// SVIDs that were shown before.
    pub verified: VerifiedSvids,
    /// How often refused tasks are recorded.
    pub kept_refusals: KeptRefusals,
    /// The `iss` of task tokens.
    pub task_iss: Arc<str>,
    /// On whose behalf tasks may be begun.
    pub users: Arc<Users>,
}

/// What a node asks for one of its workloads. Its word, not yet believed.
#[derive(Debug)]
pub struct Request<W> {
    /// What the node called it; recorded.
    pub request_id: RequestId,
    /// The entry that it rests on.
    pub entry: Uid,
    /// The issuance of the entry that the node knows.
    pub issuance: u64,
    /// The instance that it is for, where the entry's workloads do not share.
    pub instance: Option<InstanceId>,
    /// Facts about the workload that the entry's template uses.
    pub facts: AssertedFacts,
    /// What is wanted.
    pub wanted: W,
}

/// A kind of credential: what is added to the steps that all kinds share.
pub trait Profile: Sized + Send + Sync + 'static {
    /// What is to be signed.
    type Plan: Send;
    /// What was signed.
    type Credential: Send;

    /// Signs it, reads it back and compares it with the plan.
    ///
    /// # Errors
    /// The refusal for the node.
    fn sign(
        authorities: &Authorities,
        plan: &Self::Plan,
    ) -> impl Future<Output = Result<Self::Credential, Refusal>> + Send;

    /// What the ledger says about it.
    fn describe(credential: &Self::Credential, plan: &Self::Plan) -> step::Description;
}

/// A kind of credential that nodes ask for in batches.
pub trait Batched: Profile {
    /// What a node asks for.
    type Wanted: Send;

    /// Decides whether this node may have it, and what exactly.
    ///
    /// # Errors
    /// The refusal for the node.
    fn authorize(
        minter: &Minter,
        node: &Caller<'_>,
        request: Request<Self::Wanted>,
    ) -> Result<Authorized<Self>, Refusal>;
}

/// The node that asks, as the issuer knows it.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// What was attested.
    pub facts: &'a NodeFacts,
    /// The time of the call.
    pub now: Timestamp,
}

impl std::fmt::Debug for Minter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minter").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Minter {
    /// Mints a batch. The results are in the order of the requests; an item that could not be read is passed through.
    /// `remaining_s` is the least remaining lifetime of what is to be replaced, seconds.
    ///
    /// # Errors
    /// The whole batch is refused when too many calls wait already.
    pub async fn mint<P: Batched>(
        &self,
        node: &NodeRow,
        requests: Vec<Result<Request<P::Wanted>, Refusal>>,
        remaining_s: u32,
    ) -> Result<Vec<Result<Issued<P::Credential>, Refusal>>, Refusal> {
        let _turn = self.admission.enter(&node.spiffe_id, remaining_s).await?;
        let facts = facts(node);
        let caller = Caller { facts: &facts, now: self.directory.clock().now() };
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut signed = Vec::with_capacity(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            let authorized = request.and_then(|request| P::authorize(self, &caller, request));
            match authorized {
                Ok(authorized) => match authorized.sign(&self.authorities, self.directory.clock()).await {
                    Ok(done) => {
                        signed.push(done);
                        outcomes.push(None);
                    }
                    Err(refusal) => outcomes.push(Some(refusal)),
                },
                Err(refusal) => outcomes.push(Some(refusal)),
            }
            if index % SIGNED_AT_A_STRETCH == SIGNED_AT_A_STRETCH - 1 {
                tokio::task::yield_now().await;
            }
        }
        let mut recorded = record(signed, &self.directory).await.map(Vec::into_iter);
        Ok(outcomes
            .into_iter()
            .map(|refused| match (refused, &mut recorded) {
                (Some(refusal), _) => Err(refusal),
                (None, Err(refusal)) => Err(refusal.clone()),
                (None, Ok(recorded)) => recorded.next().map(Recorded::release).ok_or_else(step::lost),
            })
            .collect())
    }
}
