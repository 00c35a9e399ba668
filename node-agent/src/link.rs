//! The agent's side of the protocol with an issuer: who this node is, and what it holds.
//!
//! ```text
//! Unenrolled ─join token─> Attesting ─SVID on disk─> Connecting ─snapshot or delta─> InSync ─┐
//!     ^                        ^                          ^                                  │
//!     └── evicted, new token ──┴── SVID expired ──────────┴──────────── Disconnected <───────┘
//! ```
//!
//! - It never exits: whatever the issuer or the network does, it waits (full jitter, for ever) and tries the next address. What only an
//!   operator can mend is a state with a text that says what to do, tried again every 30 to 60 s and as soon as the join token's file changes.
//! - The pause is shorter while identities that are in use near their end, since that is when every second counts.
//! - Renewal of the node's SVID: the request id is on disk before the call; the new connection stands before the old one ends.

mod attest;
mod backoff;
mod dial;
mod enrol;
mod hello;
mod machine;
mod node;
mod record;
mod renew;
mod session;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod token;

use std::path::PathBuf;
use std::time::Duration;

use mayfly_sdk::bundle::Bundle;
use mayfly_sdk::tls::ClientTls;
use mayfly_sdk::{Clock, PrivateKey, Reason, Refusal, TrustDomain};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::backoff::Backoff;
use self::enrol::a_certificate_helps;
use self::hello::Greeter;
pub(crate) use self::machine::MachineFiles;
use self::node::{NodeSvid, Presented};
use self::record::NodeRecord;
pub(crate) use self::session::NodeClient;
use self::session::Session;
use self::state::needs_operator;
pub(crate) use self::state::{LinkState, LinkStatus};
use self::token::JoinToken;
use crate::directory::{Directory, DirectoryError};
use crate::holdings::Holdings;
use crate::streams::Streams;

/// The shortest and longest bound of a pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often what only an operator can mend is tried again; as much again is added at random.
const OPERATOR_PAUSE: Duration = Duration::from_secs(30);
/// How often the join token's file is looked at while the link waits for one.
const TOKEN_LOOK: Duration = Duration::from_secs(2);

/// What the link is made of.
#[derive(Debug)]
pub(crate) struct LinkSettings {
    pub(crate) trust_domain: TrustDomain,
    /// `host:port`, at least one.
    pub(crate) addresses: Vec<String>,
    pub(crate) join_token_file: Option<PathBuf>,
    /// What the node attests with in place of a join token.
    pub(crate) machine: Option<MachineFiles>,
    pub(crate) bootstrap_bundle: Option<PathBuf>,
    pub(crate) boot_id: String,
}

/// The link: the one writer of the holdings, and of everything that the node remembers of its enrolment.
#[derive(Debug)]
pub(crate) struct Link {
    settings: LinkSettings,
    greeter: Greeter,
    clock: Clock,
    directory: Directory,
    key: PrivateKey,
    record: Option<NodeRecord>,
    svid: Option<NodeSvid>,
    presented: Presented,
    tls: ClientTls,
    anonymous_tls: ClientTls,
    turn: usize,
    backoff: Backoff,
    /// Why the last attempt ended; decides whether a new join token is looked for.
    last: Option<Reason>,
    /// SHA-256 of a join token that the issuer refused: it is not tried again.
    refused_token: Option<String>,
    /// The next session must begin with a snapshot.
    needs_snapshot: bool,
    holdings: watch::Sender<Holdings>,
    streams: Streams,
    status: watch::Sender<LinkStatus>,
    issuer: watch::Sender<Option<NodeClient>>,
    node: watch::Sender<Option<String>>,
    tasks: mpsc::UnboundedSender<TaskNews>,
    /// When the first identity in use ends, on the monotonic clock.
    soonest_end: watch::Receiver<Option<Duration>>,
}

/// What the link starts with.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) holdings: Holdings,
    /// For how long the agent has not been in sync.
    pub(crate) out_of_sync: Duration,
}

impl Held {
    /// A cold start.
    pub(crate) fn nothing() -> Self {
        Self { holdings: Holdings::empty(), out_of_sync: Duration::ZERO }
    }
}

/// The SPIFFE ID of the node that this directory is of, if it was enrolled.
///
/// # Errors
/// [`DirectoryError`]: the record cannot be used.
pub(crate) fn enrolled_as(directory: &Directory) -> Result<Option<String>, DirectoryError> {
    Ok(NodeRecord::load(directory)?.map(|record| record.spiffe_id))
}

/// What the issuer has said of this node's tasks.
#[derive(Debug)]
pub(crate) struct TaskNews {
    pub(crate) states: mayfly_proto::node::TaskStates,
    /// When the stream that it came over was opened, on the monotonic clock.
    pub(crate) opened: Duration,
}

/// What others see of the link.
#[derive(Debug, Clone)]
pub(crate) struct LinkView {
    pub(crate) status: watch::Receiver<LinkStatus>,
    pub(crate) holdings: watch::Receiver<Holdings>,
    /// The connection to call the issuer over; none: there is none.
    pub(crate) issuer: watch::Receiver<Option<NodeClient>>,
    /// The node's SPIFFE ID; none: it is not enrolled.
    pub(crate) node: watch::Receiver<Option<String>>,
}

impl Link {
    /// A link that starts from what the node remembers. `held`: what a warm restart has kept; `tasks`: told how tasks stand.
    ///
    /// # Errors
    /// [`DirectoryError`]: the state directory cannot be used.
    pub(crate) fn new(
        settings: LinkSettings,
        directory: Directory,
        held: Held,
        streams: Streams,
        soonest_end: watch::Receiver<Option<Duration>>,
        tasks: mpsc::UnboundedSender<TaskNews>,
        clock: Clock,
    ) -> Result<(Self, LinkView), LinkError> {
        let key = node::node_key(&directory)?;
        let record = NodeRecord::load(&directory)?;
        if let Some(record) = record.as_ref().filter(|record| record.trust_domain != settings.trust_domain.as_str()) {
            return Err(LinkError::OtherTrustDomain {
                enrolled: record.trust_domain.clone(),
                configured: settings.trust_domain.to_string(),
            });
        }
        let presented = Presented::default();
        let svid = record.as_ref().and_then(|record| NodeSvid::restore(record, &key, &clock));
        if let Some(svid) = &svid {
            presented.present(svid);
        }
        if let Some(record) = &record {
            let bundle = Bundle::from_spiffe_json(settings.trust_domain.clone(), record.bundle.as_bytes());
            presented.trust(&bundle.map_err(Refusal::from)?);
        }
        let tls = presented.tls(&settings.trust_domain, &clock, true)?;
        let anonymous_tls = presented.tls(&settings.trust_domain, &clock, false)?;
        let greeter = Greeter {
            trust_domain: settings.trust_domain.clone(),
            boot_id: settings.boot_id.clone(),
            clock: clock.clone(),
        };
        streams.holds(held.holdings.revision());
        let (holdings, holdings_view) = watch::channel(held.holdings);
        let (status, status_view) =
            watch::channel(LinkStatus { out_of_sync_before: held.out_of_sync, ..LinkStatus::starting() });
        let (issuer, issuer_view) = watch::channel(None);
        let (node, node_view) = watch::channel(record.as_ref().map(|record| record.spiffe_id.clone()));
        let view = LinkView { status: status_view, holdings: holdings_view, issuer: issuer_view, node: node_view };
        let link = Self {
            settings,
            greeter,
            clock,
            directory,
            key,
            record,
            svid,
            presented,
            tls,
            anonymous_tls,
            turn: 0,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            last: None,
            refused_token: None,
            needs_snapshot: false,
            holdings,
            streams,
            status,
            issuer,
            node,
            tasks,
            soonest_end,
        };
        Ok((link, view))
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while let Some(why) = stop.run_until_cancelled(Box::pin(self.attempt())).await {
            let pause = self.ended(&why);
            if stop.run_until_cancelled(self.wait(pause, why.reason)).await.is_none() {
                break;
            }
        }
        self.issuer.send_replace(None);
    }

    /// One way from where the node stands to being in sync, and on until that ends. Says why it ended.
    async fn attempt(&mut self) -> Refusal {
        match self.connect().await {
            Ok(session) => self.serve(session).await,
            Err(why) => why,
        }
    }

    async fn connect(&mut self) -> Result<Session, Refusal> {
        self.enrol_if_needed().await?;
        let issuer = self.address();
        self.set_state(LinkState::Connecting { issuer: issuer.clone() });
        let dialed = dial::dial(&issuer, &self.tls, self.patience()).await?;
        Session::open(dialed.channel, issuer, &self.greeter, self.held()).await
    }

    /// What to resume from; none: a snapshot is needed.
    fn held(&self) -> Option<mayfly_sdk::Revision> {
        let holdings = self.holdings.borrow();
        (!self.needs_snapshot && !holdings.is_empty()).then(|| holdings.revision())
    }

    fn address(&self) -> String {
        let addresses = &self.settings.addresses;
        addresses.get(self.turn % addresses.len().max(1)).cloned().unwrap_or_default()
    }

    /// Notes that an attempt ended. How long to wait before the next.
    fn ended(&mut self, why: &Refusal) -> Duration {
        self.issuer.send_replace(None);
        self.turn = self.turn.wrapping_add(1);
        self.last = Some(why.reason);
        let (reason, remedy) = (why.reason.code(), why.reason.remedy());
        if why.reason == Reason::JoinTokenMissing {
            tracing::error!(reason, what = why.what, remedy, "this node is not enrolled");
            self.set_state(LinkState::Unenrolled(why.clone()));
            return OPERATOR_PAUSE;
        }
        let helps_itself = self.settings.machine.is_some() && a_certificate_helps(why.reason);
        if needs_operator(why.reason) && !helps_itself {
            tracing::error!(reason, what = why.what, remedy, "the link is refused until an operator acts");
            self.set_state(LinkState::Refused(why.clone()));
            return OPERATOR_PAUSE.mul_f64(1.0 + fastrand::f64());
        }
        let pause = self.backoff.failed(None).min(self.bound());
        let attempt = self.backoff.failures();
        tracing::warn!(
            reason,
            what = why.what,
            remedy,
            attempt,
            pause_ms = pause.as_millis(),
            "not in sync with any issuer"
        );
        self.set_state(LinkState::Disconnected(why.clone()));
        pause
    }

    /// The longest pause that identities in use allow: an eighth of what the first one to end has left.
    fn bound(&self) -> Duration {
        let end = *self.soonest_end.borrow();
        let left = end.map(|end| end.saturating_sub(self.clock.monotonic())).filter(|left| !left.is_zero());
        left.map_or(LONGEST_PAUSE, |left| (left / 8).max(FIRST_PAUSE))
    }

    /// How long a handshake may take: less while identities in use near their end, so that another issuer is tried in time.
    fn patience(&self) -> Duration {
        (self.bound() * 2).clamp(Duration::from_secs(1), dial::HANDSHAKE_WITHIN)
    }

    /// Waits, but not longer than until the operator puts another join token in its place, where one could help.
    async fn wait(&self, pause: Duration, reason: Reason) {
        let wants_token = reason == Reason::JoinTokenMissing || needs_operator(reason);
        let mut left = pause;
        while wants_token && left > TOKEN_LOOK {
            tokio::time::sleep(TOKEN_LOOK).await;
            left -= TOKEN_LOOK;
            if self.unused_token().await.is_some() {
                return;
            }
        }
        tokio::time::sleep(left).await;
    }

    fn set_state(&self, state: LinkState) {
        let now = self.clock.monotonic();
        self.status.send_if_modified(|status| {
            let in_sync = matches!(state, LinkState::InSync { .. });
            status.out_of_sync_since = if in_sync { None } else { Some(status.out_of_sync_since.unwrap_or(now)) };
            if in_sync {
                status.out_of_sync_before = Duration::ZERO;
            }
            let changed = status.state != state;
            status.state = state;
            changed
        });
    }
}

/// Why a link cannot be made. The operator's to mend, except for a bug in TLS's settings.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The state is of a node of another trust domain.
    #[error(
        "the state directory is of a node of {enrolled}, and the configuration says {configured}: correct trust_domain, or use another state_dir"
    )]
    OtherTrustDomain {
        /// Where the node is enrolled.
        enrolled: String,
        /// What the configuration says.
        configured: String,
    },
    /// What the node remembers does not hold together, or TLS cannot be set up.
    #[error("{}; {}", .0.what, .0.reason.remedy())]
    Refused(#[from] Refusal),
}
