//! The one owner of the slots: each step and each request becomes one change of the store, and visible after it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use mayfly_sdk::{Refusal, Revision, SpiffeId};

use super::AuthorityError;
use super::authorities::{Answer, Command, Snapshot};
use super::bundle::OwnBundle;
use super::draft::{Draft, Fate, Finished};
use super::due::{Acknowledgements, Agenda, Step};
use super::keyring::{Keyring, of_kind};
use super::kind::Kind;
use super::settling::Settling;
use super::workshop::Workshop;
use crate::store::{Change, Committed, SlotKind, SlotState, Store, StoreError};

/// What the authorities need of the store: named by its user.
pub trait SlotStore: Send + Sync + 'static {
    /// Makes all of a change durable in one transaction, or none of it.
    fn commit(&self, change: Change) -> BoxFuture<'_, Result<Committed, StoreError>>;
}

impl SlotStore for Store {
    fn commit(&self, change: Change) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(Store::commit(self, change))
    }
}

/// Owns the slots.
pub(super) struct Keeper {
    pub(super) store: Arc<dyn SlotStore>,
    pub(super) nodes: Arc<dyn Acknowledgements>,
    pub(super) workshop: Workshop,
    pub(super) keyring: Keyring,
    pub(super) bundle: Option<OwnBundle>,
    pub(super) revision: Revision,
    pub(super) settling: Settling,
}

impl Keeper {
    /// What is due now, and when to look again.
    pub(super) fn agenda(&mut self) -> Agenda {
        let moment = self.settling.read(&self.workshop.clock);
        self.keyring.due(&self.workshop.settings, moment, &*self.nodes)
    }

    /// What signs and verifies now.
    ///
    /// # Errors
    /// [`AuthorityError::Unavailable`] if something is missing.
    pub(super) fn snapshot(&self) -> Result<Snapshot, AuthorityError> {
        let none = AuthorityError::Unavailable { kind: SlotKind::X509Root, what: "no bundle was published yet" };
        Snapshot::of(&self.keyring, self.bundle.as_ref().ok_or(none)?, self.revision, self.workshop.settings.wit)
    }

    /// Does one step.
    ///
    /// # Errors
    /// [`AuthorityError`]: nothing has changed then.
    pub(super) async fn perform(&mut self, step: &Step) -> Result<(), AuthorityError> {
        let mut draft = Draft::new(&self.keyring, &self.workshop, None);
        match step {
            Step::Begin(SlotKind::X509Intermediate) => draft.renew_intermediate(Fate::Retired).await?,
            Step::Begin(kind) => of_kind!(*kind, K => draft.succeed::<K>(Fate::Retired, &[]).await?),
            Step::Prepare(kind) => of_kind!(*kind, K => draft.prepare::<K>().await.map(|_| ())?),
            Step::Activate { kind, without } => {
                of_kind!(*kind, K => draft.succeed::<K>(Fate::Retired, without).await?);
            }
            Step::End(id) => {
                let (kind, state) = self.keyring.locate(id)?;
                of_kind!(kind, K => draft.end::<K>(id, state)?);
            }
            Step::Forget(id) => {
                let (kind, _) = self.keyring.locate(id)?;
                of_kind!(kind, K => draft.forget::<K>(id));
            }
        }
        let finished = draft.finish(self.bundle.as_ref())?;
        self.commit(finished).await?;
        tell(step);
        Ok(())
    }

    /// Publishes the bundle anew if it does not follow from slots and settings any more.
    ///
    /// # Errors
    /// [`AuthorityError`]: nothing has changed then.
    pub(super) async fn republish(&mut self) -> Result<(), AuthorityError> {
        let finished = Draft::new(&self.keyring, &self.workshop, None).finish(self.bundle.as_ref())?;
        if finished.change.ops.is_empty() { Ok(()) } else { self.commit(finished).await }
    }

    /// Does what somebody asked for.
    ///
    /// # Errors
    /// [`AuthorityError`]: nothing has changed then.
    pub(super) async fn obey(&mut self, command: &Command, actor: &Arc<str>) -> Result<Answer, AuthorityError> {
        let mut draft = Draft::new(&self.keyring, &self.workshop, Some(actor));
        let about = match command {
            Command::Prepare(SlotKind::X509Intermediate) => return Err(not_for_intermediates()),
            Command::Prepare(SlotKind::Wit) if !self.workshop.settings.wit => return Err(AuthorityError::WitOff),
            Command::Prepare(kind) => Some(of_kind!(*kind, K => {
                if let Some(prepared) = &K::roster(&self.keyring).prepared {
                    return Err(AuthorityError::AlreadyPrepared { kind: *kind, id: prepared.id().clone() });
                }
                draft.prepare::<K>().await?
            })),
            Command::Activate { id, force } => {
                let (kind, state) = self.keyring.locate(id)?;
                if state != SlotState::Prepared {
                    let why = "only a prepared one can be activated";
                    return Err(AuthorityError::WrongState { id: id.clone(), state, why });
                }
                let without = of_kind!(kind, K => self.may_activate::<K>(*force)?);
                of_kind!(kind, K => draft.succeed::<K>(Fate::Retired, &without).await?);
                Some(id.clone())
            }
            Command::Taint(id) => {
                let (kind, state) = self.keyring.locate(id)?;
                if !matches!(state, SlotState::Active | SlotState::Retiring) {
                    let why = match state {
                        SlotState::Prepared => "it has signed nothing: revoke it",
                        _ => "only an active or retiring one can be tainted",
                    };
                    return Err(AuthorityError::WrongState { id: id.clone(), state, why });
                }
                of_kind!(kind, K => draft.taint::<K>(id).await?);
                Some(id.clone())
            }
            Command::Revoke(id) => {
                let (kind, state) = self.keyring.locate(id)?;
                if matches!(state, SlotState::Retired | SlotState::Revoked) {
                    let why = "it is out of the bundle already";
                    return Err(AuthorityError::WrongState { id: id.clone(), state, why });
                }
                of_kind!(kind, K => draft.revoke::<K>(id, state).await?);
                Some(id.clone())
            }
            Command::Reseal => return self.reseal(actor).await,
        };
        let finished = draft.finish(self.bundle.as_ref())?;
        self.commit(finished).await?;
        tracing::info!(?command, %actor, "an administrator changed an authority");
        Ok((about, self.revision))
    }

    /// Seals every stored key under a new wrapping key. The new key is on disk before the store needs it, and the old one
    /// until the store does not: a crash in between is finished when the wrapping key is next read.
    async fn reseal(&mut self, actor: &Arc<str>) -> Result<Answer, AuthorityError> {
        let path = self.workshop.sealer.key().path().to_owned();
        let next = self.workshop.sealer.with_key(self.workshop.sealer.key().next()?);
        let mut draft = Draft::new(&self.keyring, &self.workshop, Some(actor));
        draft.reseal(&next)?;
        let finished = draft.finish(self.bundle.as_ref())?;
        self.commit(finished).await?;
        self.workshop.sealer = next.in_place_of(&path)?;
        tracing::info!(%actor, wrapping_key = %self.workshop.sealer.key().id(), "the signing keys are sealed anew");
        Ok((None, self.revision))
    }

    /// Whether a prepared key may take over, and without whom.
    fn may_activate<K: Kind>(&self, force: bool) -> Result<Vec<SpiffeId>, AuthorityError> {
        let none = AuthorityError::Unavailable { kind: K::NAME, what: "none is prepared" };
        let prepared = K::roster(&self.keyring).prepared.as_ref().ok_or(none)?;
        let nodes = prepared.unacknowledged(&*self.nodes);
        let at = self.workshop.settings.lead_over(K::NAME, prepared.facts());
        let id = prepared.id().clone();
        if force {
            Ok(nodes)
        } else if self.workshop.clock.now() < at {
            Err(AuthorityError::LeadNotOver { id, at })
        } else if nodes.is_empty() {
            Ok(nodes)
        } else {
            Err(AuthorityError::Unacknowledged { id, nodes })
        }
    }

    /// Persist first, then visible.
    async fn commit(&mut self, finished: Finished) -> Result<(), AuthorityError> {
        let Finished { mut keyring, change, bundle } = finished;
        let committed = self.store.commit(change).await.map_err(|error| AuthorityError::Store(Refusal::from(error)))?;
        keyring.published(committed.revision);
        self.keyring = keyring;
        self.bundle = Some(bundle);
        self.revision = committed.revision;
        Ok(())
    }
}

fn not_for_intermediates() -> AuthorityError {
    AuthorityError::NotForThisKind {
        kind: SlotKind::X509Intermediate,
        why: "belongs to one process and signs as soon as it is made: taint the present one to get another",
    }
}

/// Says what was done, and names those whom a deadline left behind.
fn tell(step: &Step) {
    tracing::info!(?step, "an authority was rotated");
    if let Step::Activate { kind, without } = step {
        for node in without.iter().take(100) {
            tracing::warn!(%kind, %node, "a key was activated that this node has not acknowledged: it will refuse what the key signs");
        }
    }
}
