//! Edits: planned on what is served, durable, then visible, then pushed; one at a time.
//!
//! An edit runs to its end even if whoever asked for it goes away in the middle: memory would fall behind the store. What becomes of a node is
//! kept in the order of the commits: a ban would otherwise be overwritten by an enrolment that was stored before it.

use std::{collections::BTreeSet, future::Future, sync::Arc};

use mayfly_sdk::{Reason, Refusal, Revision, Serial, SpiffeId, Timestamp};
use tokio::sync::oneshot;

use super::{Directory, Served};
use crate::{
    ledger::{Kind, Personal, Record},
    policy::{Policies, PolicySet},
    registry::{EntryChange, Plan, Registry, Uid},
    store::{
        BundleRow, Change, Committed, EnrolMachine, EnrolNode, Enrolment, JoinTokenRow, MachineEnrolment, NodeState,
        Op, PutPolicy, ReattestNode, RenewNode, Renewal, StoreError,
    },
    sync::{recent::Touched, session::Changes},
};

/// Who edits: `uid:0`, or a SPIFFE ID; recorded with what he does.
pub type Actor = Arc<str>;

/// What an edit of entries did.
#[derive(Debug)]
pub struct Edited {
    /// The plan that was carried out.
    pub plan: Plan,
    /// The revision that it made; none when there was nothing to do.
    pub revision: Option<Revision>,
}

impl Directory {
    /// Edits entries: `plan` sees the registry as it is when its turn has come.
    ///
    /// # Errors
    /// What `plan` refuses, or what the store could not make durable; nothing is visible then.
    pub async fn edit_entries<E>(
        self: &Arc<Self>,
        actor: &Actor,
        plan: impl FnOnce(&Registry) -> Result<Plan, E> + Send + 'static,
    ) -> Result<Edited, E>
    where
        E: From<Refusal> + Send + 'static,
    {
        let (this, actor) = (Arc::clone(self), Arc::clone(actor));
        self.to_end(async move {
            let _turn = this.edits.lock().await;
            let plan = plan(&this.served.read().registry)?;
            if plan.is_empty() {
                return Ok(Edited { plan, revision: None });
            }
            let at = this.clock.now();
            let records = entry_records(&plan, &actor, this.clock.now_ms()).map_err(E::from)?;
            let change = Change { ops: plan.ops(), records, ..Change::new(at) };
            let committed = this.store.commit(change).await.map_err(|error| E::from(Refusal::from(error)))?;
            let mut served = this.served.write();
            let changes = served.registry.apply(plan.clone(), committed, at);
            let touched = Touched { entries: touched_entries(&changes), ..Touched::default() };
            served.publish(committed.revision, &changes, touched);
            drop(served);
            this.edited.send_modify(|count| *count += 1);
            Ok(Edited { plan, revision: Some(committed.revision) })
        })
        .await
        .map_err(E::from)?
    }

    /// Commits a change to anything but entries, and makes it visible.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is visible then.
    pub async fn commit(self: &Arc<Self>, change: Change) -> Result<Committed, StoreError> {
        let this = Arc::clone(self);
        self.to_end(async move {
            let _turn = this.edits.lock().await;
            let (keeper, ops, at) = (Arc::clone(&this), change.ops.clone(), change.at);
            let keep = move |committed: &Committed| keeper.served.write().keep_committed(ops, at, committed.revision);
            let committed = this.store.work_then(change, keep).await?;
            this.acknowledgements.send_modify(|count| *count += 1);
            Ok(committed)
        })
        .await
        .unwrap_or(Err(StoreError::Shut))
    }

    /// Applies a set of policies in place of the one with its name, or deletes it, as one revision.
    ///
    /// # Errors
    /// [`Reason::InvalidPolicy`] if there is no room for it, [`Reason::NotFound`], or what the store says; what was applied
    /// before stays then.
    pub async fn put_policy(
        self: &Arc<Self>,
        actor: &Actor,
        name: String,
        set: Option<Arc<PolicySet>>,
    ) -> Result<Revision, Refusal> {
        let (this, actor) = (Arc::clone(self), Arc::clone(actor));
        self.to_end(async move {
            let _turn = this.edits.lock().await;
            let mut policies = Policies::clone(&this.policies());
            match &set {
                Some(set) => policies.has_room(set)?,
                None if policies.get(&name).is_none() => {
                    return Err(Refusal::new(Reason::NotFound, format!("there is no policy set {name:?}")));
                }
                None => {}
            }
            let kind = if set.is_some() { Kind::PolicyApplied } else { Kind::PolicyDeleted };
            let record = Record {
                released_sha256: set.as_ref().map(|set| crate::mint::sha256(&[set.document().as_bytes()])),
                personal: Personal {
                    actor: Some(Arc::clone(&actor)),
                    detail: Some(name.as_str().into()),
                    spiffe_id: None,
                },
                ..Record::new(kind, Serial::generate(this.clock.now_ms())?)
            };
            let document = set.as_ref().map(|set| set.document());
            let put = PutPolicy { name: name.clone(), owner: actor.to_string(), document };
            let ops = vec![Op::PutPolicy(put)];
            let change = Change { ops, records: vec![record], ..Change::new(this.clock.now()) };
            let committed = this.store.commit(change).await?;
            policies.put(&name, set, committed.revision);
            let mut served = this.served.write();
            served.policies = Arc::new(policies);
            served.publish(committed.revision, &[], Touched::default());
            Ok(committed.revision)
        })
        .await?
    }

    /// Makes a join token durable and known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_join_token(
        self: &Arc<Self>,
        token: JoinTokenRow,
        records: Vec<Record>,
    ) -> Result<(), StoreError> {
        let this = Arc::clone(self);
        self.to_end(async move {
            this.store.create_join_token(token.clone(), records).await?;
            this.served.write().keep_join_token(token);
            Ok(())
        })
        .await
        .unwrap_or(Err(StoreError::Shut))
    }

    /// Consumes a join token for a key and enrols the node.
    ///
    /// # Errors
    /// [`StoreError`]; a refusal is an [`Enrolment`].
    pub async fn enrol(self: &Arc<Self>, enrol: EnrolNode) -> Result<Enrolment, StoreError> {
        let this = Arc::clone(self);
        self.to_end(async move {
            let keeper = Arc::clone(&this);
            this.store.work_then(enrol, move |outcome| keeper.served.write().keep_enrolled(outcome)).await
        })
        .await
        .unwrap_or(Err(StoreError::Shut))
    }

    /// Enrols a node whose machine proved possession of a certificate's key.
    ///
    /// # Errors
    /// [`StoreError`]; a refusal is an [`Enrolment`].
    pub async fn enrol_machine(self: &Arc<Self>, enrol: EnrolMachine) -> Result<Enrolment, StoreError> {
        let this = Arc::clone(self);
        self.to_end(async move {
            let keeper = Arc::clone(&this);
            let keep = move |enrolment: &MachineEnrolment| {
                let mut served = keeper.served.write();
                for node in &enrolment.superseded {
                    served.forget_node(node);
                }
                served.keep_enrolled(&enrolment.outcome);
            };
            Ok(this.store.work_then(enrol, keep).await?.outcome)
        })
        .await
        .unwrap_or(Err(StoreError::Shut))
    }

    /// Gives a node that proved possession of its enrolled key a new SVID.
    ///
    /// # Errors
    /// [`StoreError`]; a refusal is an [`Enrolment`].
    pub async fn reattest(self: &Arc<Self>, reattest: ReattestNode) -> Result<Enrolment, StoreError> {
        let this = Arc::clone(self);
        self.to_end(async move {
            let keeper = Arc::clone(&this);
            this.store.work_then(reattest, move |outcome| keeper.served.write().keep_enrolled(outcome)).await
        })
        .await
        .unwrap_or(Err(StoreError::Shut))
    }

    /// Renews a node's SVID.
    ///
    /// # Errors
    /// [`StoreError`]; a refusal is a [`Renewal`].
    pub async fn renew(self: &Arc<Self>, renew: RenewNode) -> Result<Renewal, StoreError> {
        let this = Arc::clone(self);
        self.to_end(async move {
            let (keeper, renewal) = (Arc::clone(&this), renew.clone());
            let keep = move |outcome: &Renewal| {
                keeper.served.write().keep_renewed(renewal, outcome, keeper.clock.now());
            };
            this.store.work_then(renew, keep).await
        })
        .await
        .unwrap_or(Err(StoreError::Shut))
    }

    /// Runs `work` to its end, whether or not the caller waits for it.
    async fn to_end<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Refusal> {
        let (done, outcome) = oneshot::channel();
        {
            let mut running = self.running.lock();
            while running.try_join_next().is_some() {}
            running.spawn(async move {
                // Whoever asked may have gone.
                done.send(work.await).ok();
            });
        }
        outcome.await.map_err(|_ended| Refusal::new(Reason::ShuttingDown, "the issuer is shutting down"))
    }

    /// Waits for what was begun, and closes the store.
    pub async fn shut(&self) {
        let running = std::mem::take(&mut *self.running.lock());
        running.join_all().await;
        self.store.shut().await;
    }
}

impl Served {
    fn keep_enrolled(&mut self, outcome: &Enrolment) {
        if let Enrolment::Enrolled(node) = outcome {
            self.nodes.insert(node.spiffe_id.clone(), Arc::new((**node).clone()));
        }
    }

    fn keep_committed(&mut self, ops: Vec<Op>, at: Timestamp, revision: Revision) {
        let mut touched = Touched::default();
        let before = self.denials(at);
        for op in ops {
            self.apply(op, revision, &mut touched);
        }
        touched.denials = self.denials(at) != before;
        self.publish(revision, &[], touched);
    }

    fn forget_node(&mut self, spiffe_id: &SpiffeId) {
        self.nodes.remove(spiffe_id);
        self.registry.forget_node(spiffe_id);
        self.end_session(spiffe_id);
    }

    /// Keeps a new token, and forgets those that ended.
    fn keep_join_token(&mut self, token: JoinTokenRow) {
        let now = token.created_at;
        self.join_tokens.retain(|_, token| token.expires_at > now);
        self.join_tokens.insert(token.token_sha256, token);
    }

    fn keep_renewed(&mut self, renew: RenewNode, outcome: &Renewal, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(&renew.spiffe_id).map(Arc::make_mut) else { return };
        match outcome {
            Renewal::Stored { next_generation } => {
                node.generation = *next_generation;
                node.last_renewal = Some((renew.request_id, renew.answer));
                node.renewed_at = now;
                node.svid_not_after = renew.svid_not_after;
            }
            Renewal::Frozen => {
                node.state = NodeState::Frozen;
                self.end_session(&renew.spiffe_id);
            }
            Renewal::Repeated(_) | Renewal::Refused(_) | Renewal::GenerationUnknown | Renewal::NodeUnknown => {}
        }
    }

    fn apply(&mut self, op: Op, revision: Revision, touched: &mut Touched) {
        match op {
            // Entries are edited through `edit_entries`, which knows their order.
            // Likewise policies, through `put_policy`.
            Op::PutEntry(_) | Op::DeleteEntry { .. } | Op::PutPolicy(_) => {}
            Op::PutBundle(put) => {
                touched.bundles.insert(put.trust_domain.clone());
                let row = BundleRow {
                    trust_domain: put.trust_domain.clone(),
                    owner: put.owner,
                    document: put.document,
                    sequence: put.sequence,
                    revision,
                };
                self.bundles.insert(put.trust_domain, row);
            }
            Op::DeleteBundle { trust_domain } => {
                self.bundles.remove(&trust_domain);
                touched.bundles.insert(trust_domain);
            }
            Op::PutSlot(put) => {
                let mut row = put.row;
                row.revision = revision;
                self.slots.insert(row.id.clone(), row);
            }
            Op::DeleteSlot { id } => {
                self.slots.remove(&id);
            }
            Op::SetNodeState { spiffe_id, state } => {
                if let Some(node) = self.nodes.get_mut(&spiffe_id) {
                    Arc::make_mut(node).state = state;
                }
                if state != NodeState::Active {
                    self.end_session(&spiffe_id);
                }
            }
            Op::EvictNode { spiffe_id } => self.forget_node(&spiffe_id),
        }
    }

    /// Makes a revision the newest one, and tells the sessions that it concerns.
    fn publish(&mut self, revision: Revision, changes: &[EntryChange], touched: Touched) {
        self.revision = revision;
        let mut deltas = self.connected.deltas(changes, self.registry.rules());
        if touched.bundles.is_empty() && !touched.denials {
            for (node, delta) in deltas {
                if let Some(session) = self.sessions.get(&node) {
                    let mut changes = Changes::none(revision);
                    changes.add_entries(delta);
                    session.offer(changes);
                }
            }
        } else {
            for (node, session) in &self.sessions {
                let mut changes = Changes::none(revision);
                changes.add_entries(deltas.remove(node).unwrap_or_default());
                changes.bundles.clone_from(&touched.bundles);
                changes.denials = touched.denials;
                session.offer(changes);
            }
        }
        self.recent.push(revision, touched);
    }
}

fn touched_entries(changes: &[EntryChange]) -> BTreeSet<Uid> {
    let entries = changes.iter().flat_map(|change| [&change.before, &change.after]);
    entries.flatten().map(|entry| entry.uid).collect()
}

fn entry_records(plan: &Plan, actor: &Actor, now_ms: i64) -> Result<Vec<Record>, Refusal> {
    let record = |kind, uid: Uid, name: &Arc<str>| {
        Ok(Record {
            entry_uid: Some(uid.to_string().into()),
            personal: Personal { actor: Some(Arc::clone(actor)), detail: Some(Arc::clone(name)), spiffe_id: None },
            ..Record::new(kind, Serial::generate(now_ms)?)
        })
    };
    let created = plan.created.iter().map(|made| record(Kind::EntryCreated, made.uid, &made.spec.name));
    let updated = plan.updated.iter().map(|update| record(Kind::EntryUpdated, update.before.uid, &update.spec.name));
    let deleted = plan.deleted.iter().map(|entry| record(Kind::EntryDeleted, entry.uid, &entry.spec.name));
    created.chain(updated).chain(deleted).collect()
}
