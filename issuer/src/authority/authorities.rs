//! What the rest of the issuer holds: the keys that sign now, the bundle, and the way to ask for changes.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mayfly_sdk::{PublicKey, Revision, SpiffeId, Ttl};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::bundle::OwnBundle;
use super::certificate::X509Root;
use super::due::Acknowledgements;
use super::keyring::{Keyring, Roster, View};
use super::kind::Kind;
use super::leaf::{LeafPlan, SignedX509, X509Intermediate};
use super::notice::{SecurityEvent, StatusList, Transaction};
use super::schedule::Settings;
use super::slot::Active;
use super::task::{SignedTask, Task, TaskPlan};
use super::token::{Jwt, JwtPlan, SignedJwt};
use super::wit::{SignedWit, Wit, WitPlan};
use super::{AuthorityError, AuthorityId, Facts};
use crate::store::SlotKind;

/// The authorities of the trust domain as they are now. Cheap to clone; signing takes no lock.
///
/// They change only in [`Rotation`](super::Rotation), which owns the slots; changes are asked for here.
#[derive(Clone)]
pub struct Authorities(Arc<Inner>);

struct Inner {
    live: ArcSwap<Snapshot>,
    changed: watch::Sender<Revision>,
    requests: mpsc::Sender<Request>,
    nodes: Arc<dyn Acknowledgements>,
    nudge: Notify,
    settings: Settings,
}

/// Everything that signs and verifies at one moment, all of it stored.
pub struct Snapshot {
    intermediate: Active<X509Intermediate>,
    jwt: Active<Jwt>,
    /// `None` where WIT-SVIDs are off.
    wit: Option<Active<Wit>>,
    task: Active<Task>,
    /// Every key whose task tokens may still be good, the newest last.
    task_keys: Vec<PublicKey>,
    status_list: Active<StatusList>,
    status_list_keys: Vec<PublicKey>,
    security_event: Active<SecurityEvent>,
    security_event_keys: Vec<PublicKey>,
    transaction: Active<Transaction>,
    transaction_keys: Vec<PublicKey>,
    root: Facts,
    bundle: OwnBundle,
    denied: Vec<AuthorityId>,
    own_keys: HashSet<PublicKey>,
    views: Vec<View>,
    revision: Revision,
}

/// What a change made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The authority that was named or made.
    pub view: View,
    /// The revision of the change.
    pub revision: Revision,
}

/// A change that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Prepare(SlotKind),
    Activate { id: AuthorityId, force: bool },
    Taint(AuthorityId),
    Revoke(AuthorityId),
    Reseal,
}

pub(super) struct Request {
    pub(super) command: Command,
    pub(super) actor: Arc<str>,
    pub(super) answer: oneshot::Sender<Result<Answer, AuthorityError>>,
}

/// Which authority a change was about, if about one, and its revision.
pub(super) type Answer = (Option<AuthorityId>, Revision);

impl Authorities {
    pub(super) fn new(
        snapshot: Snapshot,
        settings: Settings,
        nodes: Arc<dyn Acknowledgements>,
    ) -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(16);
        let changed = watch::Sender::new(snapshot.revision);
        let live = ArcSwap::from_pointee(snapshot);
        (Self(Arc::new(Inner { live, changed, requests, nodes, nudge: Notify::new(), settings })), received)
    }

    pub(super) fn show(&self, snapshot: Snapshot) {
        let revision = snapshot.revision;
        self.0.live.store(Arc::new(snapshot));
        self.0.changed.send_replace(revision);
    }

    /// What signs and verifies now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.live.load_full()
    }

    /// Marks a new value after each change of the snapshot, with its revision.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Revision> {
        self.0.changed.subscribe()
    }

    /// Tells that acknowledgements have changed, or a node came into or fell out of sync: a successor may be waiting for
    /// it. Cheap, and may be called for each.
    pub fn acknowledged(&self) {
        self.0.nudge.notify_one();
    }

    pub(super) async fn nudged(&self) {
        self.0.nudge.notified().await;
    }

    /// Signs an X.509-SVID.
    ///
    /// # Errors
    /// What [`Active::<X509Intermediate>::sign`] says; [`AuthorityError::TtlTooLong`], and
    /// [`AuthorityError::AuthorityKey`] if the key is one of our own.
    pub async fn sign_x509(&self, plan: &LeafPlan) -> Result<SignedX509, AuthorityError> {
        Settings::check_ttl(SlotKind::X509Intermediate, plan.ttl, self.longest_x509_ttl())?;
        let snapshot = self.0.live.load();
        snapshot.check_member(&plan.spiffe_id)?;
        if snapshot.own_keys.contains(&plan.public_key) {
            return Err(AuthorityError::AuthorityKey);
        }
        // A guard of `ArcSwap` is not held while a key service might be waited for.
        let snapshot = arc_swap::Guard::into_inner(snapshot);
        let signed = snapshot.intermediate.sign(plan).await;
        if matches!(signed, Err(AuthorityError::Unavailable { .. })) {
            self.0.nudge.notify_one();
        }
        signed
    }

    /// Signs a JWT-SVID.
    ///
    /// # Errors
    /// What [`Active::<Jwt>::sign`] says; [`AuthorityError::TtlTooLong`].
    pub async fn sign_jwt(&self, plan: &JwtPlan) -> Result<SignedJwt, AuthorityError> {
        Settings::check_ttl(SlotKind::Jwt, plan.ttl, self.longest_jwt_ttl())?;
        let snapshot = self.snapshot();
        snapshot.check_member(&plan.spiffe_id)?;
        snapshot.jwt.sign(plan).await
    }

    /// Signs a WIT-SVID.
    ///
    /// # Errors
    /// [`AuthorityError::WitOff`]; what [`Active::<Wit>::sign`] says; [`AuthorityError::TtlTooLong`], and
    /// [`AuthorityError::AuthorityKey`] if the key is one of our own.
    pub async fn sign_wit(&self, plan: &WitPlan) -> Result<SignedWit, AuthorityError> {
        let snapshot = self.snapshot();
        let key = snapshot.wit.as_ref().ok_or(AuthorityError::WitOff)?;
        Settings::check_ttl(SlotKind::Wit, plan.ttl, self.0.settings.longest_wit_ttl())?;
        snapshot.check_member(&plan.spiffe_id)?;
        if snapshot.own_keys.contains(&plan.public_key) {
            return Err(AuthorityError::AuthorityKey);
        }
        key.sign(plan).await
    }

    /// Signs a task token.
    ///
    /// # Errors
    /// What [`Active::<Task>::sign`] says; [`AuthorityError::TtlTooLong`].
    pub async fn sign_task(&self, plan: &TaskPlan) -> Result<SignedTask, AuthorityError> {
        Settings::check_ttl(SlotKind::Task, plan.life(), self.0.settings.longest_task_ttl())?;
        self.snapshot().task.sign(plan).await
    }

    /// The longest X.509-SVID that can be signed.
    #[must_use]
    pub fn longest_x509_ttl(&self) -> Ttl {
        self.0.settings.longest_x509_ttl()
    }

    /// The longest JWT-SVID that can be signed.
    #[must_use]
    pub fn longest_jwt_ttl(&self) -> Ttl {
        self.0.settings.longest_jwt_ttl()
    }

    /// Every authority, roots first, each kind from the newest to the oldest; a prepared one with the nodes that it
    /// waits for.
    #[must_use]
    pub fn list(&self) -> Vec<View> {
        let mut views = self.snapshot().views.clone();
        for view in &mut views {
            if let Some(published) = view.published {
                view.waiting_for = self.0.nodes.behind(published);
            }
        }
        views
    }

    /// Makes and publishes the successor of the active authority of this kind.
    ///
    /// # Errors
    /// [`AuthorityError`] says what stands in the way; nothing happened then.
    pub async fn prepare(&self, kind: SlotKind, actor: Arc<str>) -> Result<Changed, AuthorityError> {
        self.one(Command::Prepare(kind), actor).await
    }

    /// Lets a prepared authority take over. Without `force` it must have been published for its lead and acknowledged by
    /// every node in sync.
    ///
    /// # Errors
    /// [`AuthorityError`] says what stands in the way; nothing happened then.
    pub async fn activate(&self, id: AuthorityId, force: bool, actor: Arc<str>) -> Result<Changed, AuthorityError> {
        self.one(Command::Activate { id, force }, actor).await
    }

    /// Marks an authority as compromised: if it is active, a successor takes over at once. What it signed is minted anew,
    /// and verifies until the authority is revoked.
    ///
    /// # Errors
    /// [`AuthorityError`] says what stands in the way; nothing happened then.
    pub async fn taint(&self, id: AuthorityId, actor: Arc<str>) -> Result<Changed, AuthorityError> {
        self.one(Command::Taint(id), actor).await
    }

    /// Takes an authority out of the bundle: if it is active, a successor takes over at once. What it signed verifies
    /// no more.
    ///
    /// # Errors
    /// [`AuthorityError`] says what stands in the way; nothing happened then.
    pub async fn revoke(&self, id: AuthorityId, actor: Arc<str>) -> Result<Changed, AuthorityError> {
        self.one(Command::Revoke(id), actor).await
    }

    /// Makes a new wrapping key and seals every stored key under it. The old one is gone then.
    ///
    /// # Errors
    /// [`AuthorityError`] says what stands in the way.
    pub async fn reseal(&self, actor: Arc<str>) -> Result<Revision, AuthorityError> {
        self.ask(Command::Reseal, actor).await.map(|(_, revision)| revision)
    }

    async fn one(&self, command: Command, actor: Arc<str>) -> Result<Changed, AuthorityError> {
        let (id, revision) = self.ask(command, actor).await?;
        let view = self.list().into_iter().find(|view| Some(&view.id) == id.as_ref());
        Ok(Changed { view: view.ok_or(AuthorityError::Stopped)?, revision })
    }

    async fn ask(&self, command: Command, actor: Arc<str>) -> Result<Answer, AuthorityError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.requests.send(Request { command, actor, answer }).await;
        sent.ok().ok_or(AuthorityError::Stopped)?;
        answered.await.unwrap_or(Err(AuthorityError::Stopped))
    }
}

impl Snapshot {
    /// # Errors
    /// [`AuthorityError::Unavailable`] if a kind has no active key yet.
    pub(super) fn of(
        keyring: &Keyring,
        bundle: &OwnBundle,
        revision: Revision,
        wit: bool,
    ) -> Result<Self, AuthorityError> {
        let [roots, intermediates, jwt] = [keyring.roots.facts(), keyring.intermediates.facts(), keyring.jwt.facts()];
        let notices =
            [keyring.status_lists.facts(), keyring.security_events.facts(), keyring.transactions.facts()].concat();
        let tokens = [jwt, keyring.wit.facts(), keyring.task.facts(), notices].concat();
        let own_keys = [roots, intermediates.clone(), tokens].concat();
        let denied_roots: Vec<_> = keyring.roots.denied().collect();
        // What a denied root certified is denied too, so that those who compare need only look at a leaf's issuer.
        let below = intermediates.iter().filter(|own| denied_roots.iter().any(|root| root.chain == own.anchors));
        let mut denied: Vec<_> = below.map(|facts| facts.id.clone()).collect();
        denied.extend(denied_roots.iter().map(|facts| facts.id.clone()));
        denied.extend(keyring.intermediates.denied().map(|facts| facts.id.clone()));
        denied.extend(keyring.jwt.denied().map(|facts| facts.id.clone()));
        denied.extend(keyring.wit.denied().map(|facts| facts.id.clone()));
        denied.extend(keyring.task.denied().map(|facts| facts.id.clone()));
        denied.extend(keyring.status_lists.denied().map(|facts| facts.id.clone()));
        denied.extend(keyring.security_events.denied().map(|facts| facts.id.clone()));
        denied.extend(keyring.transactions.denied().map(|facts| facts.id.clone()));
        denied.sort();
        denied.dedup();
        Ok(Self {
            intermediate: keyring.active::<X509Intermediate>()?.draft(),
            jwt: keyring.active::<Jwt>()?.draft(),
            wit: if wit { Some(keyring.active::<Wit>()?.draft()) } else { None },
            task: keyring.active::<Task>()?.draft(),
            task_keys: published(&keyring.task),
            status_list: keyring.active::<StatusList>()?.draft(),
            status_list_keys: published(&keyring.status_lists),
            security_event: keyring.active::<SecurityEvent>()?.draft(),
            security_event_keys: published(&keyring.security_events),
            transaction: keyring.active::<Transaction>()?.draft(),
            transaction_keys: published(&keyring.transactions),
            root: keyring.active::<X509Root>()?.facts().clone(),
            bundle: bundle.clone(),
            denied,
            own_keys: own_keys.into_iter().map(|facts| facts.public_key.clone()).collect(),
            views: keyring.views(),
            revision,
        })
    }

    /// An issuer vouches for names of its own trust domain and for no others.
    fn check_member(&self, id: &SpiffeId) -> Result<(), AuthorityError> {
        let foreign = AuthorityError::Plan { what: "the SPIFFE ID is of another trust domain" };
        if id.is_member_of(self.bundle.bundle().trust_domain()) { Ok(()) } else { Err(foreign) }
    }

    /// The key that signs X.509-SVIDs.
    #[must_use]
    pub fn intermediate(&self) -> &Active<X509Intermediate> {
        &self.intermediate
    }

    /// The key that signs JWT-SVIDs.
    #[must_use]
    pub fn jwt(&self) -> &Active<Jwt> {
        &self.jwt
    }

    /// The key that signs WIT-SVIDs; `None` where they are off.
    #[must_use]
    pub fn wit(&self) -> Option<&Active<Wit>> {
        self.wit.as_ref()
    }

    /// The keys that verify task tokens: none of a revoked one.
    #[must_use]
    pub fn task_keys(&self) -> &[PublicKey] {
        &self.task_keys
    }

    /// The key that signs status lists.
    #[must_use]
    pub fn status_list(&self) -> &Active<StatusList> {
        &self.status_list
    }

    /// The keys that verify status lists.
    #[must_use]
    pub fn status_list_keys(&self) -> &[PublicKey] {
        &self.status_list_keys
    }

    /// The key that signs security events.
    #[must_use]
    pub fn security_event(&self) -> &Active<SecurityEvent> {
        &self.security_event
    }

    /// The keys that verify security events.
    #[must_use]
    pub fn security_event_keys(&self) -> &[PublicKey] {
        &self.security_event_keys
    }

    /// The key that signs transaction tokens.
    #[must_use]
    pub fn transaction(&self) -> &Active<Transaction> {
        &self.transaction
    }

    /// The keys that verify transaction tokens.
    #[must_use]
    pub fn transaction_keys(&self) -> &[PublicKey] {
        &self.transaction_keys
    }

    /// The active root's certificate, DER: the last of the chain that the issuer presents at first contact.
    #[must_use]
    pub fn root_certificate(&self) -> Option<&Bytes> {
        self.root.chain.first()
    }

    /// SHA-256 of the active root's SPKI: the pin in a join token.
    #[must_use]
    pub fn root_pin(&self) -> [u8; 32] {
        self.root.public_key.spki_sha256()
    }

    /// The trust domain's own bundle.
    #[must_use]
    pub fn bundle(&self) -> &OwnBundle {
        &self.bundle
    }

    /// Tainted and revoked authorities, and intermediates below them: what they signed is minted anew.
    #[must_use]
    pub fn denied(&self) -> &[AuthorityId] {
        &self.denied
    }

    /// The revision of the last change of any authority.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

/// Keys whose signatures may still be good, the newest last.
fn published<K: Kind>(roster: &Roster<K>) -> Vec<PublicKey> {
    roster.published().into_iter().map(|facts| facts.public_key.clone()).collect()
}
