//! What a user's token says, and whether it lets an agent act.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mayfly_sdk::{
    Reason, Refusal, SpiffeId, Timestamp, Ttl,
    jws::Object,
    task::{Binding, Subject, User},
};
use serde_json::Value;

use super::{config::UserProvider, session, user};
use crate::{
    ledger::Digest,
    oidc::{Claims, MAX_ID, Times, invalid, shown, text},
    registry::UsersOf,
    task::UserToken,
};

/// The most audiences of one token.
const MAX_AUDIENCES: usize = 16;
/// The most actors that a token names.
const MAX_ACTORS: usize = 64;
/// The oldest token that is taken, whenever it ends: it is not remembered for ever who has logged out.
const OLDEST: Ttl = Ttl::from_s(86_400);
/// The longest name of a client, bytes.
const MAX_CLIENT: usize = 512;

/// A user's token whose signature holds, for this issuer, now. Whether an agent may act by it is [`VerifiedUser::permit`]'s
/// to say.
#[derive(Debug, Clone)]
pub struct VerifiedUser {
    /// Who.
    pub user: User,
    /// What is kept of the token.
    pub token: UserToken,
    /// When the token ends.
    pub expires_at: Timestamp,
    /// What the provider calls the token (`jti`).
    pub token_id: Option<Arc<str>>,
    /// SHA-256 of what the provider signed.
    pub sha256: Digest,
    /// How long a task may last.
    pub longest_deadline: Ttl,
    acts: Option<String>,
    may_act: Option<BTreeSet<String>>,
    bound_to: Option<Bound>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Bound {
    To(Binding),
    Otherwise,
}

impl VerifiedUser {
    /// On whose behalf tasks are begun by it.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject::User(self.user.clone())
    }

    /// Whether an agent may act by this token: it is that agent's to act with, or nobody's yet; it names the agent, or was
    /// issued to a client that the entry names.
    ///
    /// # Errors
    /// [`Reason::UserTokenNotForAgent`].
    pub fn permit(&self, agent: &SpiffeId, binding: &Binding, allowed: &UsersOf) -> Result<(), Refusal> {
        let refused = |what: String| Err(Refusal::new(Reason::UserTokenNotForAgent, what));
        match &self.bound_to {
            None => {}
            Some(Bound::To(key)) if key == binding => {}
            Some(_) => return refused("the user's token is bound to a key that is not the agent's".to_owned()),
        }
        let is_agent = |name: &str| name == agent.as_str();
        if let Some(actor) = self.acts.as_deref().filter(|actor| !is_agent(actor)) {
            return refused(format!("{:?} acts with the user's token, and not {agent}", shown(actor)));
        }
        if let Some(may_act) = &self.may_act {
            if may_act.iter().any(|name| is_agent(name)) {
                return Ok(());
            }
            return refused(format!("the user's token says who may act (may_act), and {agent} is not among them"));
        }
        let client = self.token.client.as_deref();
        let allows = |known: &str| known == "*" || Some(known) == client;
        if self.acts.is_some() || client.is_some_and(is_agent) || allowed.clients.iter().any(|known| allows(known)) {
            return Ok(());
        }
        let issued_to = client.map_or_else(|| "names no client".to_owned(), |it| format!("is {:?}'s", shown(it)));
        refused(format!("the user's token {issued_to}, and the entry does not let {agent} act by such"))
    }
}

/// Checks the claims of a token whose signature holds.
///
/// # Errors
/// [`Reason::WrongAudience`], [`Reason::Expired`], [`Reason::NotYetValid`], [`Reason::TokenInvalid`].
pub(super) fn check(claims: Claims, provider: &UserProvider, now: Timestamp) -> Result<VerifiedUser, Refusal> {
    let Claims { all, signed_sha256 } = claims;
    // The issuer chose the key before the signature was checked; now it counts.
    if text(&all, "iss", MAX_ID)? != Some(provider.oidc.issuer()) {
        return Err(invalid("the token is of another issuer"));
    }
    if all.contains_key("events") {
        return Err(invalid("a security event is no user's token"));
    }
    if all.contains_key("mayfly_task") {
        return Err(invalid("the token is of a task, and of no user"));
    }
    check_audience(&all, &provider.audience)?;
    let Times { expires_at, issued_at } = Times::check(&all, provider.oidc.token_life(), now)?;
    let issued_at = issued_at.ok_or_else(|| invalid("the token does not say when it was issued (iat)"))?;
    if issued_at.saturating_add(OLDEST) < now {
        let what = format!("the token was issued at {issued_at}, and tokens are taken for {OLDEST} from then");
        return Err(Refusal::new(Reason::Expired, what));
    }
    let subject = text(&all, "sub", MAX_ID)?.ok_or_else(|| invalid("the token does not say whose it is (sub)"))?;
    let client = client(&all)?;
    if client == Some(subject) {
        return Err(invalid("a client got the token for itself: it is of no user"));
    }
    Ok(VerifiedUser {
        user: user(&provider.oidc, subject)?,
        token: UserToken { issued_at, session: session(&all)?, client: client.map(Arc::from) },
        expires_at,
        token_id: text(&all, "jti", MAX_ID)?.map(Arc::from),
        sha256: signed_sha256,
        longest_deadline: provider.longest_deadline,
        acts: all.get("act").map(actor).transpose()?,
        may_act: all.get("may_act").map(actors).transpose()?,
        bound_to: all.get("cnf").map(bound_to),
    })
}

/// One of the audiences is this issuer: a token for somebody else would be used by whoever it was given to.
pub(super) fn check_audience(claims: &Object, own: &str) -> Result<(), Refusal> {
    let is_own = match claims.get("aud") {
        Some(Value::String(one)) => one == own,
        Some(Value::Array(all)) if all.len() <= MAX_AUDIENCES => all.iter().any(|one| one == own),
        _ => false,
    };
    if is_own {
        return Ok(());
    }
    Err(Refusal::new(Reason::WrongAudience, format!("the token is not for {own:?}")))
}

/// Whom it was issued to: `azp` of ID tokens, `client_id` of access tokens (RFC 9068).
fn client(claims: &Object) -> Result<Option<&str>, Refusal> {
    match (text(claims, "azp", MAX_CLIENT)?, text(claims, "client_id", MAX_CLIENT)?) {
        (Some(azp), Some(client)) if azp != client => Err(invalid("the token names two clients (azp, client_id)")),
        (azp, client) => Ok(azp.or(client)),
    }
}

/// Who acts with it. More than one name cannot be kept in a chain of ours, and what cannot be kept is not dropped either.
fn actor(act: &Value) -> Result<String, Refusal> {
    let wrong = || invalid("the token is acted with (act) by more than one, or by somebody with more than a name");
    let act = act.as_object().filter(|act| act.len() == 1).ok_or_else(wrong)?;
    text(act, "sub", MAX_ID)?.map(str::to_owned).ok_or_else(wrong)
}

/// Who alone may act with it.
fn actors(may_act: &Value) -> Result<BTreeSet<String>, Refusal> {
    let wrong = || invalid("the token says in a way that is not understood who may act (may_act)");
    let may_act = may_act.as_object().filter(|may_act| may_act.len() == 1).ok_or_else(wrong)?;
    match may_act.get("sub") {
        Some(Value::String(one)) => Ok([one.clone()].into()),
        Some(Value::Array(all)) if all.len() <= MAX_ACTORS => {
            all.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

fn bound_to(cnf: &Value) -> Bound {
    let digest = |text: &str| URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok();
    let mut members = cnf.as_object().into_iter().flatten();
    let read = match (members.next(), members.next()) {
        (Some((name, Value::String(text))), None) if name == "x5t#S256" => digest(text).map(Binding::Certificate),
        (Some((name, Value::String(text))), None) if name == "jkt" => digest(text).map(Binding::Key),
        _ => None,
    };
    read.map_or(Bound::Otherwise, Bound::To)
}
