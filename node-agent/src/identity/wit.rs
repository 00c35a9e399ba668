use bytes::Bytes;
use mayfly_proto::node;
use mayfly_proto::node::minted_wit::Outcome as Sent;
use mayfly_sdk::bundle::WitBundleSet;
use mayfly_sdk::{Clock, KeyAlgorithm, PrivateKey, Reason, Refusal, Ttl, WitSvid, json, jwk};

use super::Life;
use super::accept::{key_id, workload_id};
use super::secret::{SecretBytes, locked};
use super::slot::{Accepted, Credential, Outcome};
use crate::holdings::HeldBundle;
use crate::link::NodeClient;

/// A WIT-SVID in the form in which workloads get it, made once and shared.
#[derive(Debug)]
pub(crate) struct Wit {
    /// No secret: of no use without the key.
    token: String,
    /// Text of a JWK (row WA-63), in a locked page that is wiped when the last user is gone.
    key: SecretBytes,
    /// What signed it.
    key_id: String,
}

impl Wit {
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The private key as the text of a JWK. A copy that is written to a workload's stream is out of our hands.
    pub(crate) fn key(&self) -> &Bytes {
        &self.key
    }

    /// An SVID that a restart has kept; none if it does not hold.
    pub(super) fn restored(token: String, key: &[u8], lifetime_s: u32, own: &HeldBundle) -> Option<Accepted<Self>> {
        let key = jwk::private_key(&json::object(key).ok()?).ok()?;
        Self::check(token, key, lifetime_s, own).ok()
    }

    /// Checks a token and key that the issuer or a warm restart brought. It has no life and no serial yet.
    ///
    /// # Errors
    /// What does not hold.
    fn check(token: String, key: PrivateKey, lifetime_s: u32, own: &HeldBundle) -> Result<Accepted<Self>, Refusal> {
        let svid = WitSvid::new(&token, key).map_err(Refusal::from)?;
        let id = workload_id(svid.spiffe_id().as_str(), own.trust_domain())?;
        // By the issuer's clock: if ours is wrong, a valid SVID must still be taken.
        let issued = svid.expires_at().saturating_sub(Ttl::from_s(lifetime_s));
        let trust = WitBundleSet::from(own.bundle().wit.clone());
        svid.check_issued(&trust, issued).map_err(Refusal::from)?;
        let kid = svid.claims().key_id().to_owned();
        let signer = own.bundle().wit.find(&kid).and_then(|authority| key_id(authority.public_key()));
        let text = jwk::private_text(svid.key()).map_err(Refusal::from)?;
        Ok(Accepted {
            spiffe_id: id,
            life: Life::ended(),
            serial: String::new(),
            authorities: signer.into_iter().chain([kid.clone()]).collect(),
            key_sha256: hex::encode(svid.key().public_key().spki_sha256()),
            credential: Self { token, key: locked(text.as_bytes())?, key_id: kid },
        })
    }
}

impl Credential for Wit {
    type Request = ();
    type Item = node::MintWitItem;
    type Issue = node::WitIssue;
    type Made = PrivateKey;

    const KIND: &'static str = "wit_svid";

    fn ask((): &(), subject: node::Subject, remaining_s: u32) -> Result<(node::MintWitItem, PrivateKey), Refusal> {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256)?;
        let item = node::MintWitItem {
            request_id: Bytes::copy_from_slice(&crate::random_id()?),
            subject: Some(subject),
            public_key: key.public_key_spki().into(),
            remaining_s,
        };
        Ok((item, key))
    }

    async fn mint(
        mut client: NodeClient,
        items: Vec<node::MintWitItem>,
    ) -> Result<Vec<Outcome<node::WitIssue>>, tonic::Status> {
        let answer = client.mint_wit(node::MintWitRequest { items }).await?.into_inner();
        let outcome = |sent| match sent {
            Sent::Svid(issue) => Ok(issue),
            Sent::Refused(refused) => Err(refused),
        };
        Ok(answer.items.into_iter().map(|minted| minted.outcome.map(outcome)).collect())
    }

    fn accept(
        (): &(),
        issue: node::WitIssue,
        key: PrivateKey,
        own: &HeldBundle,
        clock: &Clock,
    ) -> Result<Accepted<Self>, Refusal> {
        let life = Life::begin(issue.lifetime_s, issue.renew_after_s, clock);
        let accepted = Self::check(issue.token, key, issue.lifetime_s, own)?;
        if accepted.spiffe_id.as_str() != issue.spiffe_id {
            let what = format!("the issuer named {} and signed a token of {}", issue.spiffe_id, accepted.spiffe_id);
            return Err(Refusal::new(Reason::MessageInvalid, what));
        }
        Ok(Accepted { life, serial: issue.jti, ..accepted })
    }

    fn verifies(&self, own: &HeldBundle) -> bool {
        own.bundle().wit.find(&self.key_id).is_some()
    }
}
