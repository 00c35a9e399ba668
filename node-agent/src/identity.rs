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
mod secret;
mod slot;
mod subject;
mod table;
#[cfg(test)]
mod tests;
mod wit;
mod x509;

use std::time::Duration;

use mayfly_sdk::{Clock, InstanceId, TrustDomain};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::jwt::{Jwt, JwtRequest};
pub(crate) use self::keep::Kept;
pub(crate) use self::life::Life;
pub(crate) use self::minter::MintCounters;
use self::minter::Minter;
pub(crate) use self::slot::{Credential, Held, Standing};
pub(crate) use self::subject::SubjectKey;
pub(crate) use self::table::{Lease, Table};
pub(crate) use self::wit::Wit;
pub(crate) use self::x509::X509;
use crate::link::LinkView;

/// How long a credential is renewed after its last use.
pub(crate) const GRACE: Duration = Duration::from_mins(1);

/// Every kind of credential that workloads are given.
#[derive(Debug, Clone)]
pub(crate) struct Identities {
    pub(crate) x509: Table<X509>,
    pub(crate) jwt: Table<Jwt>,
    pub(crate) wit: Table<Wit>,
}

/// The workers behind [`Identities`].
#[derive(Debug)]
pub(crate) struct Minters {
    x509: Minter<X509>,
    jwt: Minter<Jwt>,
    wit: Minter<Wit>,
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
        let (wit, wit_minter) = Minter::new(trust_domain, link, usize::MAX, None, clock);
        (Self { x509, jwt, wit }, Minters { x509: x509_minter, jwt: jwt_minter, wit: wit_minter })
    }
}

impl Identities {
    /// An instance has ended: what was its own goes with it.
    pub(crate) fn forget_instance(&self, instance: InstanceId) {
        self.x509.forget_instance(instance);
        self.jwt.forget_instance(instance);
        self.wit.forget_instance(instance);
    }
}

impl Minters {
    /// How much was minted, of X.509-, JWT- and WIT-SVIDs.
    pub(crate) fn counters(&self) -> [MintCounters; 3] {
        [self.x509.counters(), self.jwt.counters(), self.wit.counters()]
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.x509.run(stop.clone()), self.jwt.run(stop.clone()), self.wit.run(stop));
    }
}
