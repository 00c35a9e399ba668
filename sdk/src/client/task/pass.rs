use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::task as wire;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::bundle::{X509Bundle, X509BundleSet};
use crate::jws;
use crate::reason::{Reason, Refusal};
use crate::time::{Clock, Timestamp, Ttl};
use crate::tls::{Authorizer, ClientTls, Credentials, Options, Trust};
use crate::x509::X509Svid;

/// A token that is shown as it is. What is shown of it in logs is its end.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken {
    text: Zeroizing<String>,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

impl BearerToken {
    /// A token with these times, as whoever issued it says.
    #[must_use]
    pub fn new(text: impl Into<String>, issued_at: Timestamp, expires_at: Timestamp) -> Self {
        Self { text: Zeroizing::new(text.into()), issued_at, expires_at }
    }

    /// Its text: whoever sees it may use it, as far as it is not bound to more.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// When it was issued.
    #[must_use]
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// When it ends.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// How long it is good, from issue to end.
    #[must_use]
    pub fn life(&self) -> Ttl {
        self.expires_at.remaining(self.issued_at)
    }

    /// Whether so little of its life is left, less than 40 % and less than 120 s, that whoever should have renewed it by then
    /// has failed.
    pub(super) fn is_at_its_last(&self, now_ms: i64) -> bool {
        now_ms > self.at_its_last_ms()
    }

    /// The last moment before that, in Unix milliseconds.
    pub(super) fn at_its_last_ms(&self) -> i64 {
        let last_ms = (i64::from(self.life().as_s()) * 400).min(120_000);
        self.expires_at.unix_s().saturating_mul(1000).saturating_sub(last_ms)
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BearerToken(.. until {})", self.expires_at)
    }
}

/// A token, and the identity over whose connections it is to be presented: of one moment, and of no use apart. Cheap to clone.
#[derive(Clone)]
pub struct Pass {
    token: BearerToken,
    identity: Option<Arc<Identity>>,
}

/// An X.509-SVID, and the roots that came with it.
struct Identity {
    svid: X509Svid,
    bundles: X509BundleSet,
}

impl Pass {
    /// A token that is good over any connection.
    #[must_use]
    pub const fn unbound(token: BearerToken) -> Self {
        Self { token, identity: None }
    }

    /// Reads one from the agent's message. The SVID of `before` is taken over where it is the same.
    pub(super) fn read(message: wire::TaskToken, before: Option<&Self>) -> Result<Self, Refusal> {
        let invalid = |what: String| Refusal::new(Reason::MessageInvalid, format!("the agent's task token: {what}"));
        let text = message.token;
        let (_, claims) = jws::insecure_parts(&text).map_err(|error| invalid(error.to_string()))?;
        let issued_at = claims.get("iat").and_then(serde_json::Value::as_i64);
        let issued_at = Timestamp::from_unix_s(issued_at.ok_or_else(|| invalid("it has no `iat`".to_owned()))?);
        let token = BearerToken::new(text, issued_at, Timestamp::from_unix_s(message.expires_at));
        let same = before.and_then(|before| before.identity.as_ref());
        let same = same.filter(|same| same.svid.chain_der() == message.x509_svid.as_ref());
        let svid = match same {
            Some(same) => same.svid.clone(),
            None => X509Svid::from_der(&message.x509_svid, &message.x509_svid_key)
                .map_err(|error| invalid(error.to_string()))?,
        };
        let bundle = X509Bundle::from_der(svid.spiffe_id().trust_domain().clone(), &message.bundle);
        let bundles = bundle.map_err(|error| invalid(error.to_string()))?.into();
        Ok(Self { token, identity: Some(Arc::new(Identity { svid, bundles })) })
    }

    /// The token.
    #[must_use]
    pub const fn token(&self) -> &BearerToken {
        &self.token
    }

    /// The token's text.
    #[must_use]
    pub fn expose_token(&self) -> &str {
        self.token.expose()
    }

    /// The X.509-SVID that the token is bound to; none where it is good over any connection.
    #[must_use]
    pub fn svid(&self) -> Option<&X509Svid> {
        self.identity.as_ref().map(|identity| &identity.svid)
    }

    /// TLS that presents that SVID and no other, to servers of its trust domain that `servers` allows. The bundle is that of the
    /// pass: connections that are made later are made with a later pass.
    ///
    /// # Errors
    /// `tls_setup`; `source_not_ready` where the token is bound to nothing, and says nothing about connections.
    pub fn client_tls(&self, servers: Authorizer, clock: &Clock, options: &Options) -> Result<ClientTls, Refusal> {
        let nothing = || Refusal::new(Reason::SourceNotReady, "the token came without an SVID");
        let identity = Arc::clone(self.identity.as_ref().ok_or_else(nothing)?);
        let (svid, bundles) = (identity.svid.clone(), identity.bundles.clone());
        ClientTls::new(
            Credentials::from_svids(move || Some(svid.clone())),
            Trust::fixed(bundles),
            servers,
            clock,
            options,
        )
    }

    /// What tells connections apart that may carry the token: a digest of the SVID and of the roots.
    pub(in crate::client) fn connection_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        if let Some(identity) = &self.identity {
            let mut bytes = identity.svid.chain_der();
            for bundle in identity.bundles.iter() {
                bytes.extend(bundle.to_der());
            }
            key.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        }
        key
    }

    /// Whether the token has ended.
    pub(in crate::client) fn has_expired(&self, now: Timestamp) -> bool {
        now >= self.token.expires_at
    }

    /// How long until the token ends.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Duration {
        self.token.expires_at.remaining(now).duration()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pass({:?}, {:?})", self.token, self.svid())
    }
}
