//! A slot as the store holds it, and the one place where a row becomes a slot again.

use std::sync::Arc;

use bytes::Bytes;
use mayfly_sdk::{KeyAlgorithm, PublicKey, Revision, Timestamp};

use super::AuthorityError;
use super::kind::Kind;
use super::slot::{Active, Facts, Prepared, Retired, Retiring, Revoked, Slot, Tainted, state};
use super::wrapping::{Sealer, SlotName};
use crate::store::{SlotKey, SlotKind, SlotRow, SlotState};

/// What a stored slot turned out to be.
pub(super) enum StoredSlot<K: Kind> {
    Prepared(Prepared<K>),
    Active(Active<K>),
    Retiring(Retiring<K>),
    Retired(Retired<K>),
    Tainted(Tainted<K>),
    Revoked(Revoked<K>),
    /// Active in a process that has ended, and its key with it.
    Lost(Retiring<K>),
}

impl<K: Kind> StoredSlot<K> {
    /// Opens a row.
    ///
    /// # Errors
    /// [`AuthorityError::Damaged`] if the row lacks what its state needs; what [`Sealer::open`] says.
    pub(super) fn open(row: &SlotRow, sealer: &Sealer, now: Timestamp) -> Result<Self, AuthorityError> {
        let id = row.id.clone();
        let damaged = |what: &str| AuthorityError::Damaged { what: format!("authority {id}: {what}") };
        let facts = facts::<K>(row, damaged)?;
        let past = |at: Option<Timestamp>| -> Result<_, AuthorityError> {
            let stopped = at.ok_or_else(|| damaged("it has no time at which it stopped signing"))?;
            Ok(state::Past { activated: row.activated_at, stopped })
        };
        let ended = || row.ended_at.ok_or_else(|| damaged("its end has no time"));
        let secret = || open_secret::<K>(row.key.as_ref(), &facts, sealer);
        Ok(match row.state {
            SlotState::Prepared => {
                let published = Some(row.revision);
                Self::Prepared(Slot::new(Arc::clone(&facts), state::Prepared { secret: secret()?, published }))
            }
            SlotState::Active if K::NAME == SlotKind::X509Intermediate => {
                Self::Lost(Slot::new(facts, state::Retiring(past(Some(now))?)))
            }
            SlotState::Active => {
                let since = row.activated_at.ok_or_else(|| damaged("it was never activated"))?;
                Self::Active(Slot::new(Arc::clone(&facts), state::Active { secret: secret()?, since }))
            }
            SlotState::Retiring => Self::Retiring(Slot::new(facts, state::Retiring(past(row.retiring_at)?))),
            SlotState::Retired => Self::Retired(Slot::new(facts, state::Retired(past(row.retiring_at)?, ended()?))),
            SlotState::Tainted => Self::Tainted(Slot::new(facts, state::Tainted(past(row.retiring_at)?, ended()?))),
            SlotState::Revoked => Self::Revoked(Slot::new(facts, state::Revoked(past(row.retiring_at)?, ended()?))),
        })
    }
}

fn facts<K: Kind>(row: &SlotRow, damaged: impl Fn(&str) -> AuthorityError) -> Result<Arc<Facts>, AuthorityError> {
    let public_key = PublicKey::from_spki(&row.public_key).ok().ok_or_else(|| damaged("its public key"))?;
    let id = K::authority_id(&public_key);
    if id.as_str() != row.id {
        return Err(damaged("its id is not that of its key"));
    }
    let algorithm: KeyAlgorithm = row.algorithm.parse().ok().ok_or_else(|| damaged("its algorithm"))?;
    Ok(Arc::new(Facts {
        id,
        generation: row.generation,
        issuer: row.issuer.as_str().into(),
        algorithm,
        public_key,
        chain: row.chain.iter().map(|der| Bytes::from(der.clone())).collect(),
        anchors: row.anchors.iter().map(|der| Bytes::from(der.clone())).collect(),
        origin: row.origin,
        made_at: row.prepared_at,
        not_after: row.not_after,
    }))
}

fn open_secret<K: Kind>(
    stored: Option<&SlotKey>,
    facts: &Facts,
    sealer: &Sealer,
) -> Result<state::Secret<K>, AuthorityError> {
    let broken = || AuthorityError::SealBroken { id: facts.id.clone() };
    let stored = stored.ok_or_else(broken)?;
    let key = sealer.open(stored, &SlotName::of::<K>(facts))?;
    if *key.public_key() != facts.public_key {
        return Err(broken());
    }
    let signer = K::signer(&key, &facts.chain);
    let signer =
        signer.map_err(|error| AuthorityError::Damaged { what: format!("authority {}: {error}", facts.id) })?;
    Ok(state::Secret { stored: Some(stored.clone()), signer: Arc::new(signer) })
}

/// What a slot writes about its state.
pub struct Written {
    state: SlotState,
    key: Option<SlotKey>,
    activated_at: Option<Timestamp>,
    retiring_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

/// A state that can be written.
pub trait Write {
    /// What its row says.
    fn written(&self) -> Written;
}

impl<K: Kind, S: Write> Slot<K, S> {
    /// Its row.
    pub(super) fn row(&self) -> SlotRow {
        let facts = self.facts();
        let Written { state, key, activated_at, retiring_at, ended_at } = self.state().written();
        SlotRow {
            id: facts.id.as_str().to_owned(),
            kind: K::NAME,
            issuer: facts.issuer.to_string(),
            generation: facts.generation,
            state,
            algorithm: facts.algorithm.name().to_owned(),
            public_key: facts.public_key.spki().to_vec(),
            key,
            chain: facts.chain.iter().map(|der| der.to_vec()).collect(),
            anchors: facts.anchors.iter().map(|der| der.to_vec()).collect(),
            origin: facts.origin,
            prepared_at: facts.made_at,
            activate_by: Some(facts.activate_by()),
            activated_at,
            retiring_at,
            ended_at,
            not_after: facts.not_after,
            revision: Revision::default(),
        }
    }
}

impl<K: Kind> Write for state::Prepared<K> {
    fn written(&self) -> Written {
        let key = self.secret.stored.clone();
        Written { state: SlotState::Prepared, key, activated_at: None, retiring_at: None, ended_at: None }
    }
}

impl<K: Kind> Write for state::Active<K> {
    fn written(&self) -> Written {
        let (key, activated_at) = (self.secret.stored.clone(), Some(self.since));
        Written { state: SlotState::Active, key, activated_at, retiring_at: None, ended_at: None }
    }
}

impl Write for state::Retiring {
    fn written(&self) -> Written {
        self.0.written(SlotState::Retiring, None)
    }
}

impl Write for state::Retired {
    fn written(&self) -> Written {
        self.0.written(SlotState::Retired, Some(self.1))
    }
}

impl Write for state::Tainted {
    fn written(&self) -> Written {
        self.0.written(SlotState::Tainted, Some(self.1))
    }
}

impl Write for state::Revoked {
    fn written(&self) -> Written {
        self.0.written(SlotState::Revoked, Some(self.1))
    }
}

impl state::Past {
    /// A key that signs no more is not kept.
    fn written(&self, state: SlotState, ended_at: Option<Timestamp>) -> Written {
        Written { state, key: None, activated_at: self.activated, retiring_at: Some(self.stopped), ended_at }
    }
}
