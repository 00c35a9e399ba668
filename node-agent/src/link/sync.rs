//! A session from its hello to its end: updates in, acknowledgements out, and the node's renewal beside them.

use std::time::Duration;

use mayfly_proto::node as wire;
use mayfly_sdk::{Reason, Refusal, Revision};

use super::node::NodeSvid;
use super::record::PendingRenewal;
use super::renew::{Renewal, Renewed};
use super::session::{Session, Update};
use super::state::needs_operator;
use super::{Link, LinkState, TaskNews};
use crate::holdings::UpdateError;

/// The wall clock is asked again at least this often, for a machine that was suspended.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// From here on a difference between the clocks is worth a warning.
const MAX_SKEW_MS: u64 = 5_000;

impl Link {
    /// Keeps in sync until the session ends. Says why it ended.
    pub(super) async fn serve(&mut self, session: Session) -> Refusal {
        match self.pump(session).await {
            Ok(never) => match never {},
            Err(why) => why,
        }
    }

    async fn pump(&mut self, mut session: Session) -> Result<std::convert::Infallible, Refusal> {
        let mut renewal = Renewal::new();
        let mut reported = Vec::new();
        self.connected(&session);
        let mut written = self.streams.written();
        written.mark_changed();
        loop {
            let until_renewal = self.renewal_in(&renewal);
            tokio::select! {
                update = session.next() => {
                    self.take(&mut session, update?).await?;
                    self.report(&session, &mut reported).await?;
                }
                Ok(()) = written.changed() => {
                    let revision = *written.borrow_and_update();
                    if revision != Revision::NONE {
                        session.acknowledge(revision).await?;
                    }
                }
                () = tokio::time::sleep(until_renewal), if renewal.is_idle() => self.renew(&session, &mut renewal).await?,
                outcome = renewal.outcome() => {
                    if let Some(successor) = self.renewed(&mut renewal, outcome, &session).await? {
                        session = successor;
                        self.connected(&session);
                        written.mark_changed();
                    }
                }
            }
        }
    }

    /// A session stands, and calls go over its connection from now on.
    fn connected(&mut self, session: &Session) {
        self.issuer.send_replace(Some(session.client.clone()));
        let skew_ms = session.skew_ms;
        self.status.send_modify(|status| status.clock_skew_ms = Some(skew_ms));
        if skew_ms.unsigned_abs() > MAX_SKEW_MS {
            tracing::warn!(
                skew_ms,
                issuer = session.issuer,
                remedy = "synchronise the clocks of both machines (NTP)",
                "the clocks of this node and the issuer differ"
            );
        }
    }

    async fn take(&mut self, session: &mut Session, update: Update) -> Result<(), Refusal> {
        let taken = match update {
            Update::Hello(_) => return Err(Refusal::new(Reason::MessageInvalid, "the issuer said hello twice")),
            Update::Tasks(states) => {
                // Nobody listens where tasks are not kept: in some tests.
                self.tasks.send(TaskNews { states, opened: session.opened }).ok();
                return Ok(());
            }
            Update::Snapshot(part) => self.take_snapshot(session, part),
            Update::Delta(delta) => self.take_delta(delta).map(|()| true),
        };
        let complete = taken.map_err(|error| {
            self.needs_snapshot = true;
            Refusal::new(Reason::MessageInvalid, error.to_string())
        })?;
        if !complete {
            return Ok(());
        }
        self.needs_snapshot = false;
        let revision = self.holdings.borrow().revision();
        self.streams.holds(revision);
        if !self.status.borrow().is_in_sync() {
            tracing::info!(issuer = session.issuer, %revision, "in sync");
            self.backoff.succeeded();
            self.last = None;
        }
        self.set_state(LinkState::InSync { issuer: session.issuer.clone() });
        self.follow_own_bundle().await
    }

    fn take_snapshot(&self, session: &mut Session, part: wire::Snapshot) -> Result<bool, UpdateError> {
        let whole = session.gathering.take(part, &self.holdings.borrow())?;
        Ok(whole.map(|whole| self.holdings.send_replace(whole)).is_some())
    }

    fn take_delta(&self, delta: wire::Delta) -> Result<(), UpdateError> {
        let mut outcome = Ok(());
        self.holdings.send_if_modified(|holdings| {
            outcome = holdings.apply(delta);
            outcome.is_ok()
        });
        outcome
    }

    /// Trusts, and remembers, the newest bundle of the node's own trust domain.
    async fn follow_own_bundle(&mut self) -> Result<(), Refusal> {
        let own = self.holdings.borrow().bundle(&self.settings.trust_domain).cloned();
        let (Some(own), Some(record)) = (own, &mut self.record) else { return Ok(()) };
        if record.bundle.as_bytes() == own.document().as_ref() {
            return Ok(());
        }
        self.presented.trust(own.bundle());
        record.bundle = String::from_utf8_lossy(own.document()).into_owned();
        if let Err(refusal) = record.save(&self.directory).await {
            // The newest bundle is in use; the one on disk still verifies an issuer, or a restart asks for a token.
            tracing::error!(
                reason = refusal.reason.code(),
                what = refusal.what,
                "the newest bundle was not remembered"
            );
        }
        Ok(())
    }

    async fn report(&self, session: &Session, reported: &mut Vec<wire::EntryProblem>) -> Result<(), Refusal> {
        let problems = self.holdings.borrow().problems();
        if *reported != problems {
            session.report(problems.clone()).await?;
            *reported = problems;
        }
        Ok(())
    }

    fn renewal_in(&self, renewal: &Renewal) -> Duration {
        match &self.svid {
            Some(svid) if !renewal.must_dial && !svid.must_be_renewed(&self.clock) => {
                svid.renewal_in(&self.clock).min(LOOK_AGAIN)
            }
            Some(_) => Duration::ZERO,
            None => LOOK_AGAIN,
        }
    }

    /// Begins the next step of a renewal that is due.
    async fn renew(&mut self, session: &Session, renewal: &mut Renewal) -> Result<(), Refusal> {
        let due = self.svid.as_ref().is_some_and(|svid| svid.must_be_renewed(&self.clock));
        if renewal.must_dial {
            renewal.dial(session.issuer.clone(), self.tls.clone());
        } else if due && let Some(record) = &mut self.record {
            let begun = record.pending.clone().filter(|pending| pending.generation == record.generation);
            let pending = if let Some(pending) = begun {
                pending
            } else {
                let pending = PendingRenewal::begin(record.generation)?;
                record.pending = Some(pending.clone());
                record.save(&self.directory).await?;
                pending
            };
            renewal.ask(session.client.clone(), &pending);
        }
        Ok(())
    }

    /// Takes the outcome of a step. A session over the new connection, once it stands.
    async fn renewed(
        &mut self,
        renewal: &mut Renewal,
        outcome: Result<Renewed, Refusal>,
        session: &Session,
    ) -> Result<Option<Session>, Refusal> {
        let outcome = match outcome {
            Ok(Renewed::Svid(sent)) => self.store_svid(&sent).await.map(|()| {
                renewal.must_dial = true;
                None
            }),
            Ok(Renewed::Dialed(dialed)) => {
                Session::open(dialed.channel, session.issuer.clone(), &self.greeter, self.held()).await.map(Some)
            }
            Err(why) => Err(why),
        };
        match outcome {
            Ok(successor) => {
                renewal.must_dial &= successor.is_none();
                renewal.succeeded();
                Ok(successor)
            }
            Err(why) if needs_operator(why.reason) => Err(why),
            Err(why) => {
                // The old SVID and the old connection serve on.
                renewal.failed();
                tracing::warn!(reason = why.reason.code(), what = why.what, "the node's SVID was not renewed yet");
                Ok(None)
            }
        }
    }

    async fn store_svid(&mut self, sent: &wire::NodeSvid) -> Result<(), Refusal> {
        let svid =
            NodeSvid::accept(sent, &self.key, &self.presented.trusted(), &self.settings.trust_domain, &self.clock)?;
        if let Some(record) = &mut self.record {
            record.set_chain(svid.chain());
            record.generation = sent.generation;
            record.pending = None;
            record.save(&self.directory).await?;
        }
        tracing::info!(node = %svid.spiffe_id(), ttl_s = sent.lifetime_s, "the node's SVID was renewed");
        self.presented.present(&svid);
        self.svid = Some(svid);
        Ok(())
    }
}
