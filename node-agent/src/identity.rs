//! The credentials of this node's workloads: minted on first use, kept while used, renewed early.
//!
//! ```text
//! stream or call ──lease──> Table ──wants──> Minter ──batches──> issuer
//!        ^                    │ slots          │
//!        └──── watch ─────────┴── SlotState <──┘
//! ```
//!
//! - One slot for each subject (an entry as rendered for one workload) and request. A slot that is leased, or was within [`GRACE`], is renewed;
//!   any other is kept for whoever comes back, until it would have to be renewed.
//! - A failed renewal changes nothing: the credential that is held stays until its end.
//! - [`minter::Minter`] is written once and works for each kind of credential; a kind is what [`Credential`] says.

mod accept;
mod batch;
mod jwt;
mod keep;
mod life;
mod minter;
mod schedule;
mod slot;
mod subject;
mod table;
#[cfg(test)]
mod tests;
mod x509;

use std::time::Duration;

use mayfly_sdk::{Clock, InstanceId, TrustDomain};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::jwt::{Jwt, JwtRequest};
pub(crate) use self::keep::Kept;
use self::life::Life;
pub(crate) use self::minter::MintCounters;
use self::minter::Minter;
pub(crate) use self::slot::{Held, Standing};
pub(crate) use self::subject::SubjectKey;
pub(crate) use self::table::{Lease, Table};
pub(crate) use self::x509::X509;
use crate::link::LinkView;

/// How long a credential is renewed after its last use.
pub(crate) const GRACE: Duration = Duration::from_mins(1);

/// Every kind of credential that workloads are given.
#[derive(Debug, Clone)]
pub(crate) struct Identities {
    pub(crate) x509: Table<X509>,
    pub(crate) jwt: Table<Jwt>,
}

/// The workers behind [`Identities`].
#[derive(Debug)]
pub(crate) struct Minters {
    x509: Minter<X509>,
    jwt: Minter<Jwt>,
}

impl Identities {
    /// The tables and their workers. `soonest_end`: told when the first X.509-SVID in use ends.
    pub(crate) fn new(
        trust_domain: &TrustDomain,
        link: &LinkView,
        most_jwt_svids: usize,
        soonest_end: watch::Sender<Option<Duration>>,
        clock: &Clock,
    ) -> (Self, Minters) {
        let (x509, x509_minter) = Minter::new(trust_domain, link, usize::MAX, Some(soonest_end), clock);
        let (jwt, jwt_minter) = Minter::new(trust_domain, link, most_jwt_svids, None, clock);
        (Self { x509, jwt }, Minters { x509: x509_minter, jwt: jwt_minter })
    }
}

impl Identities {
    /// An instance has ended: what was its own goes with it.
    pub(crate) fn forget_instance(&self, instance: InstanceId) {
        self.x509.forget_instance(instance);
        self.jwt.forget_instance(instance);
    }
}

impl Minters {
    /// How much was minted, of X.509- and JWT-SVIDs.
    pub(crate) fn counters(&self) -> (MintCounters, MintCounters) {
        (self.x509.counters(), self.jwt.counters())
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.x509.run(stop.clone()), self.jwt.run(stop));
    }
}
