use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use mayfly_proto::node;
use mayfly_proto::node::minted_jwt::Outcome as Sent;
use mayfly_sdk::bundle::JwtBundleSet;
use mayfly_sdk::jwt::{self, Audience, Options};
use mayfly_sdk::{Clock, Reason, Refusal, Ttl};
use zeroize::Zeroizing;

use super::Life;
use super::accept::{key_id, workload_id};
use super::slot::{Accepted, Credential, Outcome};
use crate::holdings::HeldBundle;
use crate::link::NodeClient;

/// A JWT-SVID.
#[derive(Debug)]
pub(crate) struct Jwt {
    token: Zeroizing<String>,
    key_id: Option<String>,
}

/// For whom a token is. Two requests are the same if they name the same audiences, in whatever order (row WA-43); the token
/// names them in the order of the first (row J-10).
#[derive(Debug, Clone)]
pub(crate) struct JwtRequest {
    audience: Arc<[String]>,
    sorted: Arc<[String]>,
}

impl JwtRequest {
    pub(crate) fn new(audience: Vec<String>) -> Self {
        let mut sorted = audience.clone();
        sorted.sort_unstable();
        sorted.dedup();
        Self { audience: audience.into(), sorted: sorted.into() }
    }

    /// In the order of the request that made the token.
    pub(crate) fn audience(&self) -> &[String] {
        &self.audience
    }
}

impl PartialEq for JwtRequest {
    fn eq(&self, other: &Self) -> bool {
        self.sorted == other.sorted
    }
}

impl Eq for JwtRequest {}

impl Hash for JwtRequest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sorted.hash(state);
    }
}

impl Jwt {
    /// The token, a bearer credential.
    pub(crate) fn expose_token(&self) -> &str {
        &self.token
    }
}

impl Jwt {
    /// A token that a restart has kept; none if it does not hold.
    pub(super) fn restored(token: String, own: &HeldBundle) -> Option<Accepted<Self>> {
        Self::read(token, own).ok().filter(|accepted| accepted.credential.verifies(own))
    }

    /// What a token says of itself, which was verified when it came.
    fn read(token: String, own: &HeldBundle) -> Result<Accepted<Self>, Refusal> {
        let claims = jwt::insecure_claims(&token).map_err(Refusal::from)?;
        let key_id_of_token = kid(&token);
        let signer = key_id_of_token.as_deref().and_then(|kid| own.bundle().jwt.find(kid));
        let authorities = signer.and_then(|authority| key_id(authority.public_key())).into_iter();
        Ok(Accepted {
            spiffe_id: claims.spiffe_id().clone(),
            life: Life::ended(),
            serial: String::new(),
            authorities: authorities.chain(key_id_of_token.clone()).collect(),
            key_sha256: String::new(),
            credential: Self { token: Zeroizing::new(token), key_id: key_id_of_token },
        })
    }
}

impl Credential for Jwt {
    type Request = JwtRequest;
    type Item = node::MintJwtItem;
    type Issue = node::JwtIssue;
    type Made = ();

    const KIND: &'static str = "jwt_svid";

    fn ask(request: &JwtRequest, subject: node::Subject, remaining_s: u32) -> Result<(node::MintJwtItem, ()), Refusal> {
        let item = node::MintJwtItem {
            request_id: Bytes::copy_from_slice(&crate::random_id()?),
            subject: Some(subject),
            audience: request.audience.to_vec(),
            remaining_s,
        };
        Ok((item, ()))
    }

    async fn mint(
        mut client: NodeClient,
        items: Vec<node::MintJwtItem>,
    ) -> Result<Vec<Outcome<node::JwtIssue>>, tonic::Status> {
        let answer = client.mint_jwt(node::MintJwtRequest { items }).await?.into_inner();
        let outcome = |sent| match sent {
            Sent::Svid(issue) => Ok(issue),
            Sent::Refused(refused) => Err(refused),
        };
        Ok(answer.items.into_iter().map(|minted| minted.outcome.map(outcome)).collect())
    }

    fn accept(
        request: &JwtRequest,
        issue: node::JwtIssue,
        (): (),
        own: &HeldBundle,
        clock: &Clock,
    ) -> Result<Accepted<Self>, Refusal> {
        let life = Life::begin(issue.lifetime_s, issue.renew_after_s, clock);
        let id = workload_id(&issue.spiffe_id, own.trust_domain())?;
        let first = request.audience.first().cloned().unwrap_or_default();
        // By the issuer's clock: if ours is wrong, a valid token must still be taken.
        let expires = jwt::insecure_claims(&issue.token).map_err(Refusal::from)?.expires_at();
        let issued = expires.saturating_sub(Ttl::from_s(issue.lifetime_s));
        let bundles = JwtBundleSet::from_iter([own.bundle().jwt.clone()]);
        let audience = Audience::new(first).map_err(Refusal::from)?;
        let svid =
            jwt::verify(&issue.token, &bundles, &audience, issued, &Options::default()).map_err(Refusal::from)?;
        if svid.spiffe_id() != &id || svid.audience() != &*request.audience {
            return Err(Refusal::new(
                Reason::MessageInvalid,
                "the issuer sent a token for another subject or audience",
            ));
        }
        Ok(Accepted { spiffe_id: id, life, serial: issue.jti, ..Self::read(issue.token, own)? })
    }

    fn verifies(&self, own: &HeldBundle) -> bool {
        self.key_id.as_deref().is_none_or(|kid| own.bundle().jwt.find(kid).is_some())
    }
}

/// The `kid` of a token that was verified.
fn kid(token: &str) -> Option<String> {
    mayfly_sdk::jws::Unverified::parse(token).ok()?.key_id().map(ToOwned::to_owned)
}
