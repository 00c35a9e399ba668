//! From a node's word to a task and its first token, and to every further one.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use mayfly_sdk::task::{
    Actor, Binding, Grant, MAX_LIFE, Standing, StatusEntry, Subject, TaskClaims, TaskState, Wish, attenuate,
};
use mayfly_sdk::{InstanceId, Reason, Refusal, Serial, SpiffeId, Timestamp, Ttl, VerifiedPeer};

use super::account::Account;
use super::verified::Verified;
use super::{Authorized, Caller, Issued, Minter, Profile, Request, step};
use crate::authority::{Authorities, SignedTask, TaskPlan};
use crate::ledger::{Kind, Personal, Record};
use crate::policy::Question;
use crate::registry::Authorization;
use crate::store::NodeRow;
use crate::task::{Held, PER_LIST, Task, allowed};
use crate::users::VerifiedUser;

/// The longest purpose, bytes.
const MAX_PURPOSE: usize = 1024;
/// The longest grant, bytes of JSON.
const MAX_GRANT: usize = 16 * 1024;
/// The most workloads in `may_act`.
const MAX_MAY_ACT: usize = 64;
/// A token that would live for less is not given out.
const SHORTEST_TOKEN: Ttl = Ttl::from_s(5);

/// What a node asks for when one of its workloads begins a task. Its word, not yet believed.
#[derive(Clone)]
pub struct BeginTask {
    /// What the token is to be bound to.
    pub svid: ShownKey,
    /// What for.
    pub purpose: String,
    /// What it is to be allowed, JSON.
    pub grant: String,
    /// How long; `None`: the default.
    pub deadline: Option<Ttl>,
    /// How deep it may be delegated; `None`: as deep as is allowed.
    pub max_hops: Option<u8>,
    /// Who may be the next holder, if that is to be limited.
    pub may_act: Option<Vec<String>>,
    /// Whether it outlives its instance.
    pub detached: bool,
    /// Whether its node asks for it; otherwise the node is told of it, so that the task ends with its process.
    pub by_node: bool,
    /// The token of the task above, where there is one.
    pub parent_token: Option<String>,
    /// The token of the user on whose behalf it is, where there is one.
    pub subject_token: Option<String>,
}

/// What a node asks for when the token of a task is to be renewed, or bound to another certificate.
#[derive(Debug)]
pub struct RenewTask {
    /// The task.
    pub id: Serial,
    /// What the token is to be bound to.
    pub svid: ShownKey,
}

/// What an instance has shown of its own, so that a token can be bound to it.
#[derive(Debug, Clone)]
pub enum ShownKey {
    /// Its X.509-SVID, DER, leaf first: not yet believed.
    Chain(Vec<Bytes>),
    /// The same, as the peer of a TLS connection.
    Peer(Arc<VerifiedPeer>),
    /// A key of its own, by a proof of possession from a workload that has this identity.
    Proof {
        /// Who it is.
        spiffe_id: SpiffeId,
        /// SHA-256 thumbprint of the key (RFC 7638).
        thumbprint: [u8; 32],
    },
}

/// A task and its newest token.
#[derive(Debug)]
pub struct Begun {
    /// The task and how it stands.
    pub held: Held,
    /// The token, recorded.
    pub issued: Issued<SignedTask>,
    /// What it is bound to.
    pub binding: Binding,
}

/// The holder of a task to be, as the issuer believes it.
struct Holder {
    consent: Authorization,
    actor: Actor,
    binding: Binding,
    /// The end of what the token is bound to.
    bound_until: Timestamp,
}

/// Task tokens: what they add to the steps that all credentials share.
enum TaskProfile {}

impl Profile for TaskProfile {
    type Plan = TaskPlan;
    type Credential = SignedTask;

    async fn sign(authorities: &Authorities, plan: &TaskPlan) -> Result<SignedTask, Refusal> {
        Ok(authorities.sign_task(plan).await?)
    }

    fn describe(token: &SignedTask, _: &TaskPlan) -> step::Description {
        step::Description {
            kind: Kind::TaskTokenIssued,
            serial: token.jti,
            spiffe_id: token.spiffe_id.clone(),
            authority: token.authority.clone(),
            key_sha256: None,
            released_sha256: step::sha256(&[token.token.as_bytes()]),
            not_after: token.not_after,
        }
    }
}

impl Minter {
    /// Begins a task for a node's workload, and signs its first token. Both are recorded in one transaction.
    ///
    /// # Errors
    /// The first rule that does not hold: [`Reason::TaskNotAllowed`], [`Reason::TaskExceedsEntry`], those of
    /// [`attenuate`] and of [`crate::users::Users::verify`], and whatever keeps an identity from being minted.
    pub async fn begin_task(&self, node: &NodeRow, request: Request<BeginTask>) -> Result<Begun, Refusal> {
        let facts = crate::directory::facts(node);
        let caller = Caller { facts: &facts, now: self.directory.clock().now() };
        let mut account = Account::of_begin(&caller, &request);
        if let Err(refusal) = self.tasks.admit(&node.spiffe_id, request.instance) {
            return Err(self.refuse(account, refusal).await);
        }
        // Before the turn: a provider's keys may have to be waited for.
        let user = match self.user_of(&caller, &request).await {
            Ok(user) => user,
            Err(refusal) => return Err(self.refuse(account, refusal).await),
        };
        let _turn = self.admission.enter(&node.spiffe_id, 0).await?;
        let caller = Caller { now: self.directory.clock().now(), ..caller };
        let decided = self.decide(&caller, &request, user.as_ref(), &mut account);
        let (holder, task) = match decided {
            Ok(decided) => decided,
            Err(refusal) => return Err(self.refuse(account, refusal).await),
        };
        let (request_id, policy) = (request.request_id, account.policy());
        let begun = Record {
            node: Some(task.node.clone()),
            instance: Some(holder.actor.instance),
            entry_uid: Some(task.entry.to_string().into()),
            revision: Some(holder.consent.entry.revision),
            request_id: Some(request_id),
            released_sha256: Some(task.grant.digest()),
            not_after: Some(task.deadline),
            policy: Some(Arc::clone(&policy)),
            personal: Personal {
                spiffe_id: Some(holder.actor.spiffe_id.clone()),
                actor: Some(task.subject.to_string().into()),
                detail: Some(Arc::clone(&task.purpose)),
            },
            ..Record::new(Kind::TaskBegun, task.id)
        };
        let plan = self.token(&task, &holder, caller.now)?;
        let on_behalf =
            step::OnBehalf::new(&caller, Some(holder.actor.instance), Arc::clone(&holder.consent.entry), request_id);
        let signed =
            Authorized::<TaskProfile> { plan, on_behalf }.sign(&self.authorities, self.directory.clock()).await?;
        let decision = account.clone().granted(&task);
        let make = |record| {
            let record = Record { policy: Some(policy), ..record };
            self.tasks.begin(task, request.wanted.by_node, decision, vec![begun, record])
        };
        match signed.record_with(make).await {
            Ok((task, recorded)) => Ok(Begun {
                held: Held { task, state: TaskState::Open },
                issued: recorded.release(),
                binding: holder.binding,
            }),
            Err(refusal) if is_decided(refusal.reason) => Err(self.refuse(account, refusal).await),
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether the task may be begun, and what it is then: by the entry, by the task above, by the policies.
    fn decide(
        &self,
        caller: &Caller<'_>,
        request: &Request<BeginTask>,
        user: Option<&VerifiedUser>,
        account: &mut Account,
    ) -> Result<(Holder, Task), Refusal> {
        let holder = self.holder(caller, request, &request.wanted.svid, account)?;
        if let Some(user) = user {
            account.is_for(user);
            let allowed = allowed::users_of(&holder.consent.entry, user.user.provider())?;
            user.permit(&holder.actor.spiffe_id, &holder.binding, allowed)?;
        }
        let task = self.plan(caller, &request.wanted, user, &holder, account)?;
        allowed::subject(&holder.consent.entry, &task.subject)?;
        self.judge(caller, request, &holder, &task, false, account)?;
        let evidence = evidence(caller, &holder, user, &account.policy());
        Ok((holder, Task { evidence, ..task }))
    }

    /// Whether the policies permit it.
    fn judge<W>(
        &self,
        caller: &Caller<'_>,
        request: &Request<W>,
        holder: &Holder,
        task: &Task,
        renewal: bool,
        account: &mut Account,
    ) -> Result<(), Refusal> {
        let (entry, facts) = (&holder.consent.entry, request.facts.as_slice());
        let question = Question { task, renewal, node: caller.facts, entry, facts, now: caller.now };
        let context = question.context();
        account.in_context(context.clone());
        let verdict = self.directory.policies().judge(context, &question.asked()?)?;
        let permitted = verdict.demand();
        account.judged(verdict);
        permitted
    }

    /// A fresh token of a task that is open, for the certificate that its instance has now.
    ///
    /// # Errors
    /// [`Reason::TaskUnknown`] if it is not one of this node and instance, [`Reason::TaskEnded`],
    /// [`Reason::TaskSuspended`], and whatever keeps an identity from being minted.
    pub async fn renew_task(&self, node: &NodeRow, request: Request<RenewTask>) -> Result<Begun, Refusal> {
        let _turn = self.admission.enter(&node.spiffe_id, 0).await?;
        let facts = crate::directory::facts(node);
        let caller = Caller { facts: &facts, now: self.directory.clock().now() };
        let id = request.wanted.id;
        let unknown = || Refusal::new(Reason::TaskUnknown, format!("no open task {id} of this instance is known"));
        let held = self.tasks.get(id).filter(|held| held.task.node == node.spiffe_id).ok_or_else(unknown)?;
        let mut account = Account::of_renewal(&caller, &request, id);
        if let Err(refusal) = self.tasks.admit_further(&node.spiffe_id, request.instance) {
            return Err(self.refuse(account, refusal).await);
        }
        let decided = self.decide_renewal(&caller, &request, &held, &mut account);
        let holder = match decided {
            Ok(holder) => holder,
            Err(refusal) => return Err(self.refuse(account, refusal).await),
        };
        let plan = self.token(&held.task, &holder, caller.now)?;
        let entry = Arc::clone(&holder.consent.entry);
        let on_behalf = step::OnBehalf::new(&caller, Some(holder.actor.instance), entry, request.request_id);
        let signed =
            Authorized::<TaskProfile> { plan, on_behalf }.sign(&self.authorities, self.directory.clock()).await?;
        let policy = account.policy();
        let make = |record| async move {
            let record = Record { policy: Some(policy), ..record };
            Ok(self.directory.record(vec![record]).await?)
        };
        let ((), recorded) = signed.record_with(make).await?;
        Ok(Begun { held, issued: recorded.release(), binding: holder.binding })
    }

    fn decide_renewal(
        &self,
        caller: &Caller<'_>,
        request: &Request<RenewTask>,
        held: &Held,
        account: &mut Account,
    ) -> Result<Holder, Refusal> {
        let id = held.task.id;
        let holder = self.holder(caller, request, &request.wanted.svid, account)?;
        if held.task.holder() != Some(&holder.actor) || held.task.entry != holder.consent.entry.uid {
            return Err(Refusal::new(Reason::TaskUnknown, format!("no open task {id} of this instance is known")));
        }
        if held.task.bound_to_key != matches!(holder.binding, Binding::Key(_)) {
            let what = "the tokens of this task are bound as it was begun: to a certificate, or to the key of a proof";
            return Err(Refusal::new(Reason::TaskTokenNotBound, what));
        }
        // The entry may have been changed since: what it no longer allows is not renewed.
        allowed::grant(&holder.consent.entry, &held.task.grant)?;
        allowed::subject(&holder.consent.entry, &held.task.subject)?;
        match self.tasks.standing(id, caller.now) {
            Standing::Open => {}
            Standing::Suspended => {
                return Err(Refusal::new(Reason::TaskSuspended, format!("the task {id} is suspended")));
            }
            _ => return Err(Refusal::new(Reason::TaskEnded, format!("the task {id} has ended"))),
        }
        // As may the policies.
        self.judge(caller, request, &holder, &held.task, true, account)?;
        Ok(holder)
    }

    /// Whose task it is to be: the entry serves this node, the SVID is one of ours for the same identity.
    fn holder<W>(
        &self,
        caller: &Caller<'_>,
        request: &Request<W>,
        svid: &ShownKey,
        account: &mut Account,
    ) -> Result<Holder, Refusal> {
        let consent = self.consent(caller, request)?;
        account.rests_on(&consent.spiffe_id, &consent.entry);
        allowed::part(&consent.entry)?;
        let instance: InstanceId = request
            .instance
            .ok_or_else(|| Refusal::new(Reason::InvalidArgument, "a task is of one instance, and none is named"))?;
        let certificate = |svid: Verified| (svid.spiffe_id, Binding::Certificate(svid.thumbprint), svid.valid_until);
        let (spiffe_id, binding, bound_until) = match svid {
            ShownKey::Chain(chain) => certificate(self.verified.verify(chain, &self.authorities, caller.now)?),
            ShownKey::Peer(peer) => certificate(Verified::of(peer)),
            // A bare key ends with nothing: the token's own life is the bound.
            ShownKey::Proof { spiffe_id, thumbprint } => {
                (spiffe_id.clone(), Binding::Key(*thumbprint), caller.now.saturating_add(MAX_LIFE))
            }
        };
        if spiffe_id != consent.spiffe_id {
            let what = format!("what was shown is of {spiffe_id}, and the task of {}", consent.spiffe_id);
            return Err(Refusal::new(Reason::TaskTokenNotBound, what));
        }
        let actor = Actor { spiffe_id: consent.spiffe_id.clone(), instance };
        Ok(Holder { consent, actor, binding, bound_until })
    }

    /// What the task is to be, if it may be that.
    fn plan(
        &self,
        caller: &Caller<'_>,
        wish: &BeginTask,
        user: Option<&VerifiedUser>,
        holder: &Holder,
        account: &mut Account,
    ) -> Result<Task, Refusal> {
        let entry = &holder.consent.entry;
        if wish.purpose.is_empty() || wish.purpose.len() > MAX_PURPOSE || wish.purpose.contains(char::is_control) {
            let what = "the purpose of a task is 1 to 1,024 bytes of text in one line";
            return Err(Refusal::new(Reason::InvalidArgument, what));
        }
        let too_long = || Refusal::new(Reason::InvalidGrant, "a grant is at most 16 KiB of JSON");
        let grant = Some(wish.grant.as_bytes()).filter(|json| json.len() <= MAX_GRANT).ok_or_else(too_long)?;
        let grant = Grant::from_json(grant).map_err(Refusal::from)?;
        let may_act = wish.may_act.as_deref().map(may_act).transpose()?;
        allowed::grant(entry, &grant)?;
        let id = Serial::generate(self.directory.clock().now_ms())?;
        let begun_at = caller.now;
        let task = Task {
            id,
            root: id,
            parent: None,
            parent_digest: None,
            node: caller.facts.spiffe_id.clone(),
            entry: entry.uid,
            subject: match user {
                Some(user) => user.subject(),
                None => Subject::Workload(holder.actor.spiffe_id.clone()),
            },
            user_token: user.map(|user| user.token.clone()),
            chain: vec![holder.actor.clone()],
            grant,
            may_act,
            purpose: wish.purpose.as_str().into(),
            begun_at,
            deadline: begun_at,
            hop: 0,
            max_hops: 0,
            detached: wish.detached,
            bound_to_key: matches!(holder.binding, Binding::Key(_)),
            // Once it is decided.
            evidence: [0; 32],
            // Where nobody is named by a URL, nobody fetches lists.
            status: self.task_iss.starts_with("https://").then(|| self.tasks.next_status()),
        };
        match &wish.parent_token {
            None => {
                let bounds = allowed::bounds(entry, wish.deadline, wish.max_hops, self.tasks.limits())?;
                let bounds = allowed::bounds_of_user(bounds, wish.deadline, user)?;
                let max_hops = bounds.max_hops.unwrap_or_default();
                Ok(Task { deadline: begun_at.saturating_add(bounds.deadline), max_hops, ..task })
            }
            Some(token) => self.below(token, wish, holder, task, account),
        }
    }

    /// The task below another one, which its token shows.
    fn below(
        &self,
        token: &str,
        wish: &BeginTask,
        holder: &Holder,
        task: Task,
        account: &mut Account,
    ) -> Result<Task, Refusal> {
        let claims = self.task_keys().read(token, task.begun_at).map_err(Refusal::from)?;
        account.is_below(claims.task.id);
        let gone = || Refusal::new(Reason::ParentNotOpen, "the task above has ended");
        let parent = self.tasks.get(claims.task.id).ok_or_else(gone)?;
        // How long a task may last at all is the entry's to say; the rest is up to the task above.
        let (entry, limits) = (&holder.consent.entry, self.tasks.limits());
        let deadline = if wish.deadline.is_some() {
            task.begun_at.saturating_add(allowed::bounds(entry, wish.deadline, None, limits)?.deadline)
        } else {
            let longest = allowed::longest(allowed::part(entry)?, limits);
            parent.task.deadline.min(task.begun_at.saturating_add(longest))
        };
        let wanted = Wish { grant: &task.grant, deadline, max_hops: wish.max_hops, caller: &holder.actor };
        let link = attenuate(&parent.as_parent(), &wanted, task.begun_at)?;
        let above = &parent.task;
        let mut chain = above.chain.clone();
        chain.push(holder.actor.clone());
        Ok(Task {
            root: above.root,
            parent: Some(above.id),
            parent_digest: Some(above.grant.digest()),
            subject: above.subject.clone(),
            user_token: above.user_token.clone(),
            chain,
            deadline,
            hop: link.hop,
            max_hops: link.max_hops,
            ..task
        })
    }

    fn token(&self, task: &Task, holder: &Holder, now: Timestamp) -> Result<TaskPlan, Refusal> {
        let life = self.tasks.limits().token.min(MAX_LIFE);
        let expires_at = now.saturating_add(life).min(task.deadline).min(holder.bound_until);
        if expires_at.remaining(now) < SHORTEST_TOKEN {
            let what = "the token would live for less than 5 s: the task or the X.509-SVID is about to end";
            return Err(Refusal::new(Reason::Expired, what));
        }
        let claims = TaskClaims {
            issuer: self.task_iss.to_string(),
            subject: task.subject.clone(),
            chain: task.chain.clone(),
            may_act: task.may_act.clone(),
            grant: task.grant.clone(),
            binding: holder.binding,
            issued_at: now,
            expires_at,
            jti: Serial::generate(self.directory.clock().now_ms())?,
            task: task.link(),
            parent_digest: task.parent_digest,
            evidence: task.evidence,
            status: task.status.map(|status| StatusEntry {
                index: status % PER_LIST,
                uri: format!("{}/status/{}", self.task_iss, status / PER_LIST),
            }),
        };
        Ok(TaskPlan { claims })
    }
}

fn may_act(ids: &[String]) -> Result<BTreeSet<SpiffeId>, Refusal> {
    if ids.len() > MAX_MAY_ACT {
        return Err(Refusal::new(Reason::InvalidArgument, "at most 64 workloads are named as those that may act next"));
    }
    ids.iter().map(|id| Ok(id.parse::<SpiffeId>()?)).collect()
}

/// Whether a begin was refused by what it is, and not because it could not be recorded.
fn is_decided(reason: Reason) -> bool {
    matches!(reason, Reason::TaskQuota | Reason::ParentNotOpen | Reason::UserSuspended | Reason::UserLoggedOut)
}

/// What the decision rested on, as one digest.
fn evidence(caller: &Caller<'_>, holder: &Holder, user: Option<&VerifiedUser>, policy: &str) -> [u8; 32] {
    let entry = &holder.consent.entry;
    let revision = entry.revision;
    let text = format!(
        "mayfly task evidence v1\nentry {} {} {}\nnode {}\ninstance {}\npolicy {policy}\n",
        entry.uid, revision.epoch, revision.n, caller.facts.spiffe_id, holder.actor.instance
    );
    let user = user.map(|user| format!("user {} token {}\n", user.subject(), hex::encode(user.sha256)));
    step::sha256(&[text.as_bytes(), user.unwrap_or_default().as_bytes()])
}
