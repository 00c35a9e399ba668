//! Credentials in the form in which a restart of the agent keeps them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mayfly_proto::node;
use mayfly_sdk::{Clock, InstanceId, PrivateKey, Selector};
use prost::Message;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroize as _;

use super::slot::{Accepted, Credential, Held, SlotKey};
use super::{Identities, Jwt, JwtRequest, Life, SubjectKey, Table, Wit, X509};
use crate::holdings::{HeldBundle, Holdings};

/// A credential as it is kept. Field numbers are never used again.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct Kept {
    #[prost(message, optional, tag = "1")]
    subject: Option<node::Subject>,
    /// Audiences of a JWT-SVID; none for other kinds.
    #[prost(string, repeated, tag = "2")]
    audience: Vec<String>,
    /// DER, leaf first.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    chain: Vec<Bytes>,
    /// PKCS#8 of an X.509-SVID, the token of a JWT-SVID, the JWK of a WIT-SVID.
    #[prost(bytes = "bytes", tag = "4")]
    secret: Bytes,
    #[prost(uint64, tag = "5")]
    lifetime_ms: u64,
    #[prost(uint64, tag = "6")]
    remaining_ms: u64,
    #[prost(uint64, tag = "7")]
    renew_in_ms: u64,
    #[prost(string, tag = "8")]
    serial: String,
    /// The token of a WIT-SVID; empty for other kinds. A build that does not know it finds an X.509-SVID without a chain, and
    /// leaves it.
    #[prost(string, tag = "9")]
    wit: String,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("subject", &self.subject).field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// What was read back is wiped where it was copied to.
impl Kept {
    /// Takes the secret out, and wipes the copy that the message holds if nobody shares it.
    fn take_secret(&mut self) -> zeroize::Zeroizing<Vec<u8>> {
        let secret = zeroize::Zeroizing::new(self.secret.to_vec());
        if let Ok(mut shared) = std::mem::take(&mut self.secret).try_into_mut() {
            shared.as_mut().zeroize();
        }
        secret
    }
}

impl Identities {
    /// Every credential that still has something left.
    pub(crate) fn keep(&self, clock: &Clock) -> Vec<Kept> {
        let now = clock.monotonic();
        let x509 = kept(&self.x509, now, |(), held| x509_parts(held));
        let jwt = kept(&self.jwt, now, |request: &JwtRequest, held| Kept {
            audience: request.audience().to_vec(),
            secret: Bytes::copy_from_slice(held.credential().expose_token().as_bytes()),
            ..Kept::default()
        });
        let wit = kept(&self.wit, now, |(), held| Kept {
            wit: held.credential().token().to_owned(),
            secret: held.credential().key().clone(),
            ..Kept::default()
        });
        x509.chain(jwt).chain(wit).collect()
    }

    /// Puts back what was kept `elapsed` ago and is still good. How many.
    pub(crate) fn restore(
        &self,
        kept: Vec<Kept>,
        elapsed: Duration,
        holdings: &Holdings,
        own: &Arc<HeldBundle>,
        clock: &Clock,
    ) -> usize {
        let restore = |kept: Kept| {
            if !kept.wit.is_empty() {
                let (key, held) = restored::<Wit>(kept, elapsed, holdings, own, clock, |kept, own| {
                    let (token, secret) = (std::mem::take(&mut kept.wit), kept.take_secret());
                    let lifetime_s = u32::try_from(kept.lifetime_ms / 1000).ok()?;
                    Some((Wit::restored(token, &secret, lifetime_s, own)?, ()))
                })?;
                self.wit.restore(key, held);
            } else if !kept.audience.is_empty() {
                let (key, held) = restored::<Jwt>(kept, elapsed, holdings, own, clock, |kept, own| {
                    let request = JwtRequest::new(kept.audience.clone());
                    let token = String::from_utf8(kept.take_secret().to_vec()).ok()?;
                    Some((Jwt::restored(token, own)?, request))
                })?;
                self.jwt.restore(key, held);
            } else {
                let (key, held) = restored_x509(kept, elapsed, holdings, own, clock)?;
                self.x509.restore(key, held);
            }
            Some(())
        };
        kept.into_iter().filter_map(restore).count()
    }
}

impl Kept {
    /// One X.509-SVID by itself: what a token is bound to, and need not be in a slot any more.
    pub(crate) fn of_x509(subject: &SubjectKey, held: &Held<X509>, now: Duration) -> Self {
        one(subject, held, now, x509_parts(held))
    }

    /// It again, if there is something left of it.
    pub(crate) fn into_x509(
        self,
        elapsed: Duration,
        holdings: &Holdings,
        own: &Arc<HeldBundle>,
        clock: &Clock,
    ) -> Option<Held<X509>> {
        restored_x509(self, elapsed, holdings, own, clock).map(|(_, held)| held)
    }
}

fn x509_parts(held: &Held<X509>) -> Kept {
    Kept { chain: held.credential().certificates(), secret: held.credential().key().clone(), ..Kept::default() }
}

fn restored_x509(
    kept: Kept,
    elapsed: Duration,
    holdings: &Holdings,
    own: &Arc<HeldBundle>,
    clock: &Clock,
) -> Option<(SlotKey<X509>, Held<X509>)> {
    restored::<X509>(kept, elapsed, holdings, own, clock, |kept, own| {
        let key = PrivateKey::from_pkcs8(&kept.take_secret()).ok()?;
        let chain = kept.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let lifetime_s = u32::try_from(kept.lifetime_ms / 1000).ok()?;
        Some((X509::restored(chain, key, lifetime_s, own)?, ()))
    })
}

fn kept<'a, C: Credential>(
    table: &'a Table<C>,
    now: Duration,
    parts: impl Fn(&C::Request, &Held<C>) -> Kept + 'a,
) -> impl Iterator<Item = Kept> + 'a {
    table.slots().into_iter().filter_map(move |slot| {
        let held = slot.held().filter(|held| held.life().has_left(Duration::ZERO, now))?;
        Some(one(&slot.key.subject, &held, now, parts(&slot.key.request, &held)))
    })
}

fn one<C: Credential>(subject: &SubjectKey, held: &Held<C>, now: Duration, parts: Kept) -> Kept {
    Kept {
        subject: Some(subject.to_wire(held.issuance)),
        lifetime_ms: whole_ms(held.life().lifetime()),
        remaining_ms: whole_ms(held.life().remaining(now)),
        renew_in_ms: whole_ms(held.life().renew().saturating_sub(now)),
        serial: held.accepted.serial.clone(),
        ..parts
    }
}

/// What a kind of credential finds in itself when it is read back, and what was asked for.
type Found<C> = (Accepted<C>, <C as Credential>::Request);

fn restored<C: Credential>(
    mut kept: Kept,
    elapsed: Duration,
    holdings: &Holdings,
    own: &Arc<HeldBundle>,
    clock: &Clock,
    read: impl Fn(&mut Kept, &HeldBundle) -> Option<Found<C>>,
) -> Option<(SlotKey<C>, Held<C>)> {
    let ms = |ms| Duration::from_millis(ms).saturating_sub(elapsed);
    let life =
        Life::restored(Duration::from_millis(kept.lifetime_ms), ms(kept.remaining_ms), ms(kept.renew_in_ms), clock);
    if !life.has_left(Duration::ZERO, clock.monotonic()) {
        return None;
    }
    let wire = kept.subject.take()?;
    let subject = SubjectKey::from_wire(&wire)?;
    holdings.entry(subject.entry_uid())?;
    let serial = std::mem::take(&mut kept.serial);
    let (accepted, request) = read(&mut kept, own)?;
    let accepted = Accepted { life, serial, ..accepted };
    Some((SlotKey { subject, request }, Held { accepted, issuance: wire.issuance, checked_with: Arc::clone(own) }))
}

impl SubjectKey {
    /// The subject that was sent or kept; none if it cannot be read.
    pub(crate) fn from_wire(wire: &node::Subject) -> Option<Self> {
        let facts = wire.facts.iter().map(|fact| fact.parse::<Selector>()).collect::<Result<Vec<_>, _>>().ok()?;
        let instance = match wire.instance.len() {
            0 => None,
            _ => Some(InstanceId::from_bytes(wire.instance.as_ref().try_into().ok()?)),
        };
        Some(Self::of_parts(wire.entry_uid.as_str().into(), instance, facts.into()))
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
