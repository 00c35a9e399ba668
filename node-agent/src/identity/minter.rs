//! The worker behind a table: decides what is minted when, and is the only one that changes a slot's state.
//!
//! First uses go out at once; renewals are taken a little early so that they go together. While the connection is busy with
//! [`MOST_IN_FLIGHT`] batches, what comes waits and makes the next batch larger. Without a connection everything waits for one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::{Clock, TrustDomain};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::batch::{self, Again, Ask, Failure, Minted};
use super::schedule::Schedule;
use super::slot::{Credential, Held, Slot, SlotKey, Standing};
use super::table::Table;
use crate::holdings::Holdings;
use crate::link::{Backoff, LinkView, NodeClient};

/// Items of one call.
const MOST_IN_BATCH: usize = 256;
/// Calls at a time.
const MOST_IN_FLIGHT: usize = 4;
/// Renewals that are due within this may go together with one that is due now.
const LOOK_AHEAD: Duration = Duration::from_secs(2);
/// The wall clock is looked at again at least this often.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// The bound of the first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How often what the issuer refused for good is tried again while somebody waits for it.
const SELDOM: Duration = Duration::from_secs(30);
/// A wall clock that has moved this much against the monotonic one has jumped.
const JUMP_MS: u64 = 2_000;

/// How much was minted.
#[derive(Debug, Clone, Default)]
pub(crate) struct MintCounters {
    /// First credentials of a slot.
    pub(crate) minted: Counter,
    /// Credentials in the place of an older one.
    pub(crate) renewed: Counter,
    /// Attempts that brought nothing.
    pub(crate) failed: Counter,
}

/// The worker of one kind of credential.
#[derive(Debug)]
pub(crate) struct Minter<C: Credential> {
    trust_domain: TrustDomain,
    table: Table<C>,
    wants: mpsc::UnboundedReceiver<Arc<Slot<C>>>,
    holdings: watch::Receiver<Holdings>,
    issuer: watch::Receiver<Option<NodeClient>>,
    schedule: Schedule<C>,
    /// To be minted as soon as there is a connection with room.
    ready: Vec<Arc<Slot<C>>>,
    failing: HashMap<SlotKey<C>, Failing>,
    in_flight: JoinSet<Vec<Minted<C>>>,
    /// A call failed as if the connection were gone: nothing is sent until there is another one, or until then in case it is not.
    resume_at: Duration,
    connection: Backoff,
    /// Credentials have come or gone since [`Self::tell_soonest_end`] looked, and when it may look again.
    ends_changed: bool,
    tell_at: Duration,
    soonest_end: Option<watch::Sender<Option<Duration>>>,
    counters: MintCounters,
    /// Wall clock less monotonic clock, milliseconds.
    offset_ms: i64,
    clock: Clock,
}

/// A slot whose last attempt failed.
#[derive(Debug)]
struct Failing {
    backoff: Backoff,
    not_before: Duration,
}

impl<C: Credential> Minter<C> {
    /// A table and its worker. `most`: how many slots there may be. `soonest_end`: told when the first credential in use ends.
    pub(super) fn new(
        trust_domain: &TrustDomain,
        link: &LinkView,
        most: usize,
        soonest_end: Option<watch::Sender<Option<Duration>>>,
        clock: &Clock,
    ) -> (Table<C>, Self) {
        let (sender, wants) = mpsc::unbounded_channel();
        let table = Table::new(most, sender, clock.clone());
        let minter = Self {
            trust_domain: trust_domain.clone(),
            table: table.clone(),
            wants,
            holdings: link.holdings.clone(),
            issuer: link.issuer.clone(),
            schedule: Schedule::new(),
            ready: Vec::new(),
            failing: HashMap::new(),
            in_flight: JoinSet::new(),
            resume_at: Duration::ZERO,
            connection: Backoff::new(FIRST_PAUSE, SELDOM),
            ends_changed: true,
            tell_at: Duration::ZERO,
            soonest_end,
            counters: MintCounters::default(),
            offset_ms: 0,
            clock: clock.clone(),
        };
        (table, minter)
    }

    pub(super) fn counters(&self) -> MintCounters {
        self.counters.clone()
    }

    /// Runs until `stop`. What is in flight then is dropped: nobody would get it any more.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.offset_ms = self.offset_ms();
        for slot in self.table.slots() {
            // What a restart has kept.
            let at = slot.held().map_or(Duration::ZERO, |held| held.life().renew());
            self.schedule.add(at, &slot);
        }
        self.reconcile();
        loop {
            self.flush();
            self.tell_soonest_end();
            let wake_in = self.wake_in();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(slot) = self.wants.recv() => self.wanted(slot),
                Some(minted) = self.in_flight.join_next() => self.settle(minted.unwrap_or_default()),
                Ok(()) = self.holdings.changed() => self.reconcile(),
                Ok(()) = self.issuer.changed() => self.connected(),
                () = tokio::time::sleep(wake_in) => self.look_at_due(),
            }
        }
    }

    /// Takes everything that is wanted at this moment.
    fn wanted(&mut self, first: Arc<Slot<C>>) {
        let mut next = Some(first);
        while let Some(slot) = next {
            self.prepare(slot);
            next = self.wants.try_recv().ok();
        }
    }

    /// Makes a slot ready, unless its last attempt failed a moment ago.
    fn prepare(&mut self, slot: Arc<Slot<C>>) {
        match self.failing.get(&slot.key).map(|failing| failing.not_before) {
            Some(not_before) if not_before > self.clock.monotonic() => {
                slot.unqueue();
                self.schedule.add(not_before, &slot);
            }
            _ => self.ready.push(slot),
        }
    }

    /// Sends what is ready, the most urgent first, as far as there is a connection with room.
    fn flush(&mut self) {
        if self.resume_at > self.clock.monotonic() {
            return;
        }
        let Some(client) = self.issuer.borrow().clone() else { return };
        let Some(own) = self.holdings.borrow().bundle(&self.trust_domain).cloned() else { return };
        let now = self.clock.monotonic();
        while !self.ready.is_empty() && self.in_flight.len() < MOST_IN_FLIGHT {
            self.ready.sort_by_cached_key(|slot| slot.held().map_or(Duration::ZERO, |held| held.life().remaining(now)));
            let rest = self.ready.split_off(self.ready.len().min(MOST_IN_BATCH));
            let batch = std::mem::replace(&mut self.ready, rest);
            let asks: Vec<Ask<C>> = batch.into_iter().filter_map(|slot| self.ask(slot, now)).collect();
            if !asks.is_empty() {
                tracing::debug!(kind = C::KIND, items = asks.len(), "minting");
                self.in_flight.spawn(batch::mint(client.clone(), asks, Arc::clone(&own), self.clock.clone()));
            }
        }
    }

    fn ask(&mut self, slot: Arc<Slot<C>>, now: Duration) -> Option<Ask<C>> {
        let uid = slot.key.subject.entry_uid();
        let Some(issuance) = self.holdings.borrow().entry(uid).map(|entry| entry.issuance()) else {
            // The entry is gone; whoever holds a lease sees that by himself.
            slot.unqueue();
            self.table.forget(&slot);
            return None;
        };
        let remaining = slot.held().map_or(Duration::ZERO, |held| held.life().remaining(now));
        let remaining_s = u32::try_from(remaining.as_secs()).unwrap_or(u32::MAX);
        match C::ask(&slot.key.request, slot.key.subject.to_wire(issuance), remaining_s) {
            Ok((item, made)) => Some(Ask { slot, item, made, issuance }),
            Err(refusal) => {
                self.failed(&slot, Failure { refusal, again: Again::After(Duration::from_secs(1)) });
                None
            }
        }
    }

    fn settle(&mut self, minted: Vec<Minted<C>>) {
        for Minted { slot, outcome } in minted {
            match outcome {
                Ok(held) => self.succeeded(&slot, held),
                Err(failure) => self.failed(&slot, failure),
            }
        }
    }

    fn succeeded(&mut self, slot: &Arc<Slot<C>>, held: Held<C>) {
        slot.unqueue();
        self.connection.succeeded();
        self.ends_changed = true;
        self.failing.remove(&slot.key);
        let renewed = slot.held().is_some();
        if renewed {
            self.counters.renewed.inc()
        } else {
            self.counters.minted.inc()
        };
        tracing::info!(
            kind = C::KIND, spiffe_id = %held.spiffe_id(), entry = %slot.key.subject.entry_uid(), serial = held.accepted.serial,
            ttl_s = held.life().lifetime().as_secs(), renewed, "a credential was minted"
        );
        self.schedule.add(held.life().renew(), slot);
        // The entry may have changed while this was on its way.
        let again = {
            let holdings = self.holdings.borrow();
            holdings.entry(slot.key.subject.entry_uid()).map(|entry| held.standing(entry, &holdings))
        };
        slot.state.send_modify(|state| {
            state.held = Some(Arc::new(held));
            state.refused = None;
        });
        self.table.note_change();
        if again.is_some_and(|standing| standing != Standing::Good) && slot.queue() {
            self.prepare(Arc::clone(slot));
        }
    }

    /// A failure leaves what is held as it is.
    fn failed(&mut self, slot: &Arc<Slot<C>>, failure: Failure) {
        let Failure { refusal, again } = failure;
        self.counters.failed.inc();
        let now = self.clock.monotonic();
        tracing::warn!(
            kind = C::KIND, entry = %slot.key.subject.entry_uid(), reason = refusal.reason.code(), what = refusal.what,
            "a credential was not minted"
        );
        if again == Again::WhenConnected {
            // Stays queued, and goes out over the next connection. Whoever waits learns why it takes longer.
            slot.state.send_modify(|state| state.refused = Some(Arc::new(refusal)));
            self.ready.push(Arc::clone(slot));
            if self.resume_at <= now {
                self.resume_at = now + FIRST_PAUSE + self.connection.failed(None);
            }
            return;
        }
        slot.unqueue();
        let failing = self
            .failing
            .entry(slot.key.clone())
            .or_insert_with(|| Failing { backoff: Backoff::new(FIRST_PAUSE, SELDOM), not_before: now });
        let pause = match again {
            Again::After(_) => failing.backoff.failed(None),
            Again::Seldom | Again::WhenConnected => SELDOM,
        };
        // While it still holds something, its end is what counts; but never less than the issuer asks for.
        let left = slot.held().map(|held| held.life().remaining(now)).filter(|left| !left.is_zero());
        let pause = left.map_or(pause, |left| pause.min((left / 8).max(FIRST_PAUSE)));
        let asked = if let Again::After(least) = again { least } else { Duration::ZERO };
        failing.not_before = now + asked + pause;
        self.schedule.add(failing.not_before, slot);
        slot.state.send_modify(|state| state.refused = Some(Arc::new(refusal)));
    }

    /// Another connection stands: everything that failed may be tried again at once.
    fn connected(&mut self) {
        self.resume_at = Duration::ZERO;
        if self.issuer.borrow_and_update().is_some() {
            for slot in self.table.slots() {
                if self.failing.remove(&slot.key).is_some() && slot.is_in_use(self.clock.monotonic()) && slot.queue() {
                    self.ready.push(slot);
                }
            }
        }
    }

    /// Holds every slot against the holdings after a change.
    fn reconcile(&mut self) {
        let mut now_wanted = Vec::new();
        {
            let holdings = self.holdings.borrow_and_update();
            for slot in self.table.slots() {
                let Some(entry) = holdings.entry(slot.key.subject.entry_uid()) else {
                    self.table.forget(&slot);
                    self.failing.remove(&slot.key);
                    continue;
                };
                let Some(held) = slot.held() else {
                    // What was refused may be granted under the entry as it is now.
                    if self.failing.remove(&slot.key).is_some() {
                        now_wanted.push(slot);
                    }
                    continue;
                };
                let standing = held.standing(entry, &holdings);
                if standing == Standing::Discard {
                    slot.state.send_modify(|state| state.held = None);
                }
                if standing != Standing::Good {
                    self.failing.remove(&slot.key);
                    now_wanted.push(slot);
                }
            }
        }
        let now = self.clock.monotonic();
        for slot in now_wanted {
            if slot.is_in_use(now) && slot.queue() {
                self.prepare(slot);
            }
        }
    }

    /// Takes what is due, and what is due soon along with it.
    fn look_at_due(&mut self) {
        let now = self.clock.monotonic();
        let jumped = self.offset_ms().abs_diff(self.offset_ms) > JUMP_MS;
        if jumped {
            tracing::warn!("the wall clock has jumped; renewals are looked at again");
            self.offset_ms = self.offset_ms();
        }
        if !jumped && self.schedule.first().is_none_or(|at| at > now) {
            return;
        }
        self.ends_changed = true;
        let slots = if jumped { self.table.slots() } else { self.schedule.take_until(now + LOOK_AHEAD) };
        for slot in slots {
            let retry_at = self.failing.get(&slot.key).map(|failing| failing.not_before);
            let at = match (retry_at, slot.held()) {
                (Some(at), _) => at,
                (None, Some(held)) if held.life().must_be_renewed(&self.clock) => now,
                (None, Some(held)) if held.life().renew().saturating_sub(held.life().slack()) <= now => now,
                (None, Some(held)) => held.life().renew(),
                (None, None) => now,
            };
            if at > now {
                self.schedule.add(at, &slot);
            } else if slot.is_in_use(now) {
                if slot.queue() {
                    self.prepare(slot);
                }
            } else {
                self.let_go(&slot, now);
            }
        }
    }

    /// Nobody uses it: it is kept without renewal for as long as it is worth handing out.
    fn let_go(&mut self, slot: &Arc<Slot<C>>, now: Duration) {
        let end = slot.held().map_or(now, |held| held.life().ends());
        if end > now {
            self.schedule.add(end, slot);
        } else {
            self.table.forget(slot);
            self.failing.remove(&slot.key);
        }
    }

    /// Looks for the first credential to end, at most once a second: it steers pauses, and looking takes time.
    fn tell_soonest_end(&mut self) {
        let now = self.clock.monotonic();
        let may_look = self.ends_changed && now >= self.tell_at;
        let Some(soonest_end) = self.soonest_end.as_ref().filter(|_| may_look) else { return };
        self.ends_changed = false;
        self.tell_at = now + Duration::from_secs(1);
        let ends = self.table.slots().into_iter().filter(|slot| slot.is_in_use(now)).filter_map(|slot| slot.held());
        let soonest = ends.map(|held| held.life().ends()).filter(|end| *end > now).min();
        soonest_end.send_if_modified(|told| std::mem::replace(told, soonest) != soonest);
    }

    /// How long until something is due.
    fn wake_in(&self) -> Duration {
        let now = self.clock.monotonic();
        let resume = Some(self.resume_at).filter(|at| *at > now && !self.ready.is_empty());
        let tell = Some(self.tell_at).filter(|at| *at > now && self.ends_changed && self.soonest_end.is_some());
        let next = [self.schedule.first(), resume, tell].into_iter().flatten().min();
        next.map_or(LOOK_AGAIN, |at| at.saturating_sub(now).min(LOOK_AGAIN))
    }

    fn offset_ms(&self) -> i64 {
        let monotonic_ms = i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        self.clock.now_ms().saturating_sub(monotonic_ms)
    }
}
