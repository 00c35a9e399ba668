//! What is to be done now, and when to ask again: decisions only.

use mayfly_sdk::{Revision, SpiffeId, Timestamp};

use super::AuthorityId;
use super::certificate::{AUTHORITY_BACKDATE, X509Root};
use super::keyring::{Keyring, Roster};
use super::kind::Kind;
use super::notice::Notice;
use super::schedule::{Settings, prepare_at};
use super::slot::Prepared;
use super::task::Task;
use super::token::Jwt;
use super::wit::Wit;
use crate::store::SlotKind;

/// Who has acknowledged what: named by its user, answered by the part that talks to the nodes.
pub trait Acknowledgements: Send + Sync + 'static {
    /// The nodes in sync that have not acknowledged this revision or a later one.
    fn behind(&self, published: Revision) -> Vec<SpiffeId>;
}

/// Two readings of the time.
///
/// What adds trust or renews goes by `now`. What takes trust away, or trusts that others have heard, goes by `settled`,
/// which follows `now` but takes its time over a jump forward: a clock that was wrong for an hour removes no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub now: Timestamp,
    /// The wall clock as far as it has proved itself; never later than `now`.
    pub settled: Timestamp,
}

impl Moment {
    /// A moment whose clock is beyond doubt.
    #[must_use]
    pub fn certain(now: Timestamp) -> Self {
        Self { now, settled: now }
    }
}

/// One thing to be done. Each is one change of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is no active key of this kind: make one, which is active at once. For the intermediate this is also what
    /// follows when the present one is half through its life or is not under the active root.
    Begin(SlotKind),
    /// Make the successor and publish it.
    Prepare(SlotKind),
    /// Let the successor take over.
    Activate {
        /// Its kind.
        kind: SlotKind,
        /// The nodes that have not acknowledged it, where the deadline has decided.
        without: Vec<SpiffeId>,
    },
    /// Nothing that this authority signed is valid any more: it leaves the bundle.
    End(AuthorityId),
    /// An authority that ended long ago is forgotten; the ledger remembers.
    Forget(AuthorityId),
}

/// What is to be done now, in this order, and when to ask again if nothing happens before.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Agenda {
    /// What is to be done now.
    pub steps: Vec<Step>,
    /// When something will be due next, by the wall clock.
    pub next: Option<Timestamp>,
}

impl Agenda {
    /// Whether `at` has come by this reading of the clock; if not, it is a time to ask again.
    fn reached(&mut self, at: Timestamp, by: Timestamp) -> bool {
        let reached = by >= at;
        if !reached {
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
        reached
    }
}

impl Keyring {
    /// What is to be done at this moment.
    #[must_use]
    pub fn due(&self, settings: &Settings, moment: Moment, nodes: &dyn Acknowledgements) -> Agenda {
        let mut agenda = Agenda::default();
        self.roots.due(settings, moment, nodes, &mut agenda);
        self.intermediate_due(moment, &mut agenda);
        self.jwt.due(settings, moment, nodes, &mut agenda);
        // Off, no key is made and none takes over; those that there are end as any other.
        if settings.wit {
            self.wit.due(settings, moment, nodes, &mut agenda);
        }
        self.task.due(settings, moment, nodes, &mut agenda);
        self.status_lists.due(settings, moment, nodes, &mut agenda);
        self.security_events.due(settings, moment, nodes, &mut agenda);
        self.transactions.due(settings, moment, nodes, &mut agenda);
        self.roots.ends(moment, &mut agenda);
        self.intermediates.ends(moment, &mut agenda);
        self.jwt.ends(moment, &mut agenda);
        self.wit.ends(moment, &mut agenda);
        self.task.ends(moment, &mut agenda);
        self.status_lists.ends(moment, &mut agenda);
        self.security_events.ends(moment, &mut agenda);
        self.transactions.ends(moment, &mut agenda);
        agenda
    }

    /// This process's intermediate concerns nobody else: its successor signs as soon as it is made.
    fn intermediate_due(&self, moment: Moment, agenda: &mut Agenda) {
        let Some(root) = &self.roots.active else { return };
        let renew = match &self.intermediates.active {
            None => true,
            Some(active) => {
                let facts = active.facts();
                let half = agenda.reached(prepare_at(facts.made_at, facts.life()), moment.now);
                // After the clock went back, those who verify would find it not valid yet.
                let early = moment.now < facts.made_at.saturating_sub(AUTHORITY_BACKDATE);
                half || early || facts.anchors != root.facts().chain
            }
        };
        if renew {
            agenda.steps.push(Step::Begin(SlotKind::X509Intermediate));
        }
    }
}

impl<K: Shared> Roster<K> {
    fn due(&self, settings: &Settings, moment: Moment, nodes: &dyn Acknowledgements, agenda: &mut Agenda) {
        let Some(active) = &self.active else {
            agenda.steps.push(Step::Begin(K::NAME));
            return;
        };
        let facts = active.facts();
        // The successor takes over whoever knows it when the active one could not sign for a whole life any more.
        let last = K::last_moment(facts, settings).is_some_and(|last| agenda.reached(last, moment.now));
        let Some(prepared) = &self.prepared else {
            if agenda.reached(prepare_at(facts.made_at, facts.life()), moment.now) || last {
                agenda.steps.push(Step::Prepare(K::NAME));
            }
            return;
        };
        let without = prepared.unacknowledged(nodes);
        let next = prepared.facts();
        let lead_over = agenda.reached(settings.lead_over(K::NAME, next), moment.settled);
        if last || (lead_over && without.is_empty()) || agenda.reached(next.activate_by(), moment.settled) {
            agenda.steps.push(Step::Activate { kind: K::NAME, without });
        }
    }
}

impl<K: Kind> Prepared<K> {
    /// The nodes in sync that do not know this key yet.
    #[must_use]
    pub fn unacknowledged(&self, nodes: &dyn Acknowledgements) -> Vec<SpiffeId> {
        self.published().map_or_else(Vec::new, |published| nodes.behind(published))
    }
}

impl<K: Kind> Roster<K> {
    fn ends(&self, moment: Moment, agenda: &mut Agenda) {
        let signed = self.retiring.iter().map(|slot| (slot.id(), slot.until()));
        for (id, until) in signed.chain(self.tainted.iter().map(|slot| (slot.id(), slot.until()))) {
            if agenda.reached(until, moment.settled) {
                agenda.steps.push(Step::End(id.clone()));
            }
        }
        // Kept for one more life, so that people who look find it. The newest stays: it holds the generation.
        let newest = |generation| generation == self.last_generation;
        let retired = self.retired.iter().map(|slot| (slot.facts(), slot.until()));
        for (facts, until) in retired.chain(self.revoked.iter().map(|slot| (slot.facts(), slot.until()))) {
            let forget_at = until.saturating_add(facts.life());
            if !newest(facts.generation) && agenda.reached(forget_at, moment.settled) {
                agenda.steps.push(Step::Forget(facts.id.clone()));
            }
        }
    }
}

/// A kind whose keys all issuers of the trust domain share, and which are published before they sign.
pub trait Shared: Kind {
    /// From when on the active key cannot do its work until the end of its life, if it has such an end.
    fn last_moment(active: &super::Facts, settings: &Settings) -> Option<Timestamp>;
}

impl Shared for X509Root {
    /// What it signs may not outlive it, so it must be replaced while it can still sign a whole intermediate.
    fn last_moment(active: &super::Facts, settings: &Settings) -> Option<Timestamp> {
        Some(active.not_after.saturating_sub(settings.life(SlotKind::X509Intermediate)))
    }
}

impl Shared for Jwt {
    /// A bare key has no end that anybody sees. If an issuer was down beyond it, going on with a key that is published
    /// harms nobody, and changing to one that is not would.
    fn last_moment(_: &super::Facts, _: &Settings) -> Option<Timestamp> {
        None
    }
}

impl Shared for Wit {
    /// As for JWT keys.
    fn last_moment(_: &super::Facts, _: &Settings) -> Option<Timestamp> {
        None
    }
}

impl Shared for Task {
    /// As for JWT keys.
    fn last_moment(_: &super::Facts, _: &Settings) -> Option<Timestamp> {
        None
    }
}

impl<K: Notice> Shared for K {
    /// As for JWT keys.
    fn last_moment(_: &super::Facts, _: &Settings) -> Option<Timestamp> {
        None
    }
}
