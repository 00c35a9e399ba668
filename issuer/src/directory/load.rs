//! From what the store held at start to what is served.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use mayfly_sdk::{Clock, Reason, Refusal, SpiffeId, TrustDomain};
use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, task::JoinSet};

use super::{Directory, Served};
use crate::{
    authority::{Acknowledgements, SlotStore},
    policy::{Policies, PolicySet},
    registry::{ConnectedNodes, Entry, Registry, Rules, Uid},
    store::{Change, ChangedKind, Committed, EntryRow, History, Loaded, PolicyRow, Store, StoreError},
    sync::recent::{Recent, Touched},
};

impl Directory {
    /// Takes into memory what the store held at start.
    ///
    /// # Errors
    /// An entry or name in the store cannot be read: it was damaged, or written by something else.
    pub async fn load(store: Store, loaded: Loaded, rules: Rules, clock: Clock) -> Result<Arc<Self>, Refusal> {
        let Loaded { revision, mut entries, bundles, slots, nodes, join_tokens, policies, history, .. } = loaded;
        let trust_domain = rules.trust_domain.clone();
        let mut registry = Registry::new(rules);
        let mut owners = HashSet::new();
        while let Some(page) = entries.next().await? {
            for row in page {
                registry.put(Arc::new(entry(&row, &mut owners)?));
            }
        }
        let served = Served {
            revision,
            registry,
            bundles: bundles.into_iter().map(|row| (row.trust_domain.clone(), row)).collect(),
            slots: slots.into_iter().map(|row| (row.id.clone(), row)).collect(),
            nodes: nodes.into_iter().map(|row| (row.spiffe_id.clone(), Arc::new(row))).collect(),
            join_tokens: join_tokens.into_iter().map(|row| (row.token_sha256, row)).collect(),
            policies: Arc::new(applied(policies)?),
            recent: recent(history)?,
            connected: ConnectedNodes::default(),
            sessions: HashMap::new(),
        };
        Ok(Arc::new(Self {
            trust_domain,
            clock,
            store,
            edits: tokio::sync::Mutex::new(()),
            running: Mutex::new(JoinSet::new()),
            served: RwLock::new(served),
            acknowledgements: watch::Sender::new(0),
            edited: watch::Sender::new(0),
        }))
    }
}

/// What the authorities need of the directory.
#[derive(Debug, Clone)]
pub struct SlotsOf(pub Arc<Directory>);

impl SlotStore for SlotsOf {
    fn commit(&self, change: Change) -> BoxFuture<'_, Result<Committed, StoreError>> {
        self.0.commit(change).boxed()
    }
}

impl Acknowledgements for SlotsOf {
    fn behind(&self, published: mayfly_sdk::Revision) -> Vec<SpiffeId> {
        self.0.behind(published).into_iter().collect()
    }
}

fn entry(row: &EntryRow, owners: &mut HashSet<Arc<str>>) -> Result<Entry, Refusal> {
    let damaged = |what: String| {
        Refusal::new(Reason::StoreCorrupt, format!("the stored entry {:?} cannot be read: {what}", row.name))
    };
    let uid: Uid = row.uid.parse().map_err(|refusal: Refusal| damaged(refusal.what))?;
    let spec = serde_json::from_str(&row.document).map_err(|error| damaged(error.to_string()))?;
    let owner = owners.get(row.owner.as_str()).map_or_else(|| Arc::from(row.owner.as_str()), Arc::clone);
    owners.insert(Arc::clone(&owner));
    Ok(Entry {
        uid,
        owner,
        issuance: row.issuance,
        created_order: row.order,
        created_at: row.created_at,
        updated_at: row.updated_at,
        revision: row.revision,
        spec,
    })
}

/// The policies that are applied. One that cannot be read any more keeps the issuer from starting: without it, tasks would
/// begin that it forbids.
fn applied(rows: Vec<PolicyRow>) -> Result<Policies, Refusal> {
    let mut policies = Policies::default();
    for row in rows {
        let set = row.document.map(|document| PolicySet::stored(&row.name, &document)).transpose()?;
        policies.put(&row.name, set.map(Arc::new), row.revision);
    }
    Ok(policies)
}

fn recent(history: History) -> Result<Recent, Refusal> {
    let mut recent = Recent::new(history.floor);
    let mut changes = history.changes.into_iter().peekable();
    while let Some(change) = changes.next() {
        let revision = change.revision;
        let mut touched = Touched::default();
        note(&mut touched, change.kind, &change.key)?;
        while let Some(more) = changes.next_if(|next| next.revision == revision) {
            note(&mut touched, more.kind, &more.key)?;
        }
        recent.push(revision, touched);
    }
    Ok(recent)
}

fn note(touched: &mut Touched, kind: ChangedKind, key: &str) -> Result<(), Refusal> {
    match kind {
        ChangedKind::Entry => {
            touched.entries.insert(key.parse()?);
        }
        ChangedKind::Bundle => {
            touched.bundles.insert(TrustDomain::from_name(key)?);
        }
        // A slot that was tainted changes the denials; sending them once too often costs nothing.
        ChangedKind::Slot => touched.denials = true,
        ChangedKind::Node | ChangedKind::Policy => {}
    }
    Ok(())
}
