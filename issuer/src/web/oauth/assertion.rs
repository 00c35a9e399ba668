//! A client without a certificate of its own: it names itself by a JWT-SVID (RFC 7523, the OAuth profile of SPIFFE), which is a bearer token
//! and therefore stands beside a proof of possession (RFC 9449). What is issued is bound to the key of that proof.
//!
//! A JWT-SVID is good for the key of the first proof that it came with, and for no other: whoever finds one that was used has nothing.

use axum::http::HeaderMap;
use mayfly_sdk::dpop::{self, DpopRequest, HeldProof};
use mayfly_sdk::jwt::{self, Audience, JwtError, JwtSvid};
use mayfly_sdk::{JwtBundleSet, Reason, Refusal, Serial, Timestamp};

use super::{Call, client::Client, form::Form};
use crate::ledger::{Digest, Kind};
use crate::mint::{ShownKey, sha256};
use crate::store::{AssertionBinding, BindAssertion};

/// The `client_assertion_type` of a JWT-SVID.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
/// The longest life of a JWT-SVID that is taken, seconds.
const LONGEST_S: i64 = 300;

impl Call {
    /// The workload that a form asserts to come from, and the key that it proves to have.
    ///
    /// # Errors
    /// What is wrong with the JWT-SVID or the proof; [`Reason::InsufficientAttestation`] where the ledger has no record of the
    /// JWT-SVID for one process; what keeps a node's workload from an identity.
    pub(super) async fn asserted(&self, form: &Form, headers: &HeaderMap) -> Result<Client, Refusal> {
        let wrong = |what: &str| Refusal::new(Reason::InvalidArgument, what);
        if form.required("client_assertion_type")? != ASSERTION_TYPE {
            return Err(wrong("the client_assertion_type is that of a JWT-SVID (jwt-spiffe)"));
        }
        let minter = &self.oauth.minter;
        let now = minter.directory.clock().now();
        let assertion = form.required("client_assertion")?;
        let svid = self.believed(assertion, now)?;
        let proof = self.proof(headers)?;
        let thumbprint = proof.thumbprint();

        let unknown = |what: &str| Refusal::new(Reason::InsufficientAttestation, what);
        let no_record = || unknown("the ledger has no record of this JWT-SVID");
        let jti = svid.claims().get("jti").and_then(|jti| jti.as_str()).ok_or_else(no_record)?;
        let jti: Serial = jti.parse().ok().ok_or_else(no_record)?;
        let record = minter.directory.store().find(jti).await?.ok_or_else(no_record)?.record;
        let digest = sha256(&[assertion.as_bytes()]);
        if record.kind != Kind::JwtSvidIssued || record.released_sha256 != Some(digest) {
            return Err(no_record());
        }
        let (Some(node), Some(entry)) = (record.node, record.entry_uid) else {
            return Err(unknown("this JWT-SVID was issued to no workload of a node"));
        };
        let key = ShownKey::Proof { spiffe_id: svid.spiffe_id().clone(), thumbprint };
        let client = self.living(&node, entry.parse()?, record.instance, svid.spiffe_id(), key)?;
        self.use_with(digest, thumbprint, svid.expires_at()).await?;
        // Last: nobody but whom we know fills the memory of proofs.
        self.oauth.proofs.use_up(proof)?;
        Ok(client)
    }

    /// A JWT-SVID of ours, for this authorization server, that lives 5 minutes at the most.
    fn believed(&self, assertion: &str, now: Timestamp) -> Result<JwtSvid, Refusal> {
        let minter = &self.oauth.minter;
        let snapshot = minter.authorities.snapshot();
        let bundles = JwtBundleSet::from_iter([snapshot.bundle().bundle().jwt.clone()]);
        let audience = Audience::new(&*minter.task_iss)?;
        // Whatever is wrong with it, it is the client that is not who it says.
        let untrusted = |error: JwtError| match error.reason() {
            Reason::JwtSvidInvalid => Refusal::from(error),
            _ => Refusal::new(Reason::JwtSvidUntrusted, error.to_string()),
        };
        let svid = jwt::verify(assertion, &bundles, &audience, now, &jwt::Options::default()).map_err(untrusted)?;
        let life = svid.issued_at().map(|at| svid.expires_at().seconds_since(at));
        if svid.audience().len() != 1 || !life.is_some_and(|life| (1..=LONGEST_S).contains(&life)) {
            let what = "a JWT-SVID that names a client is for this authorization server alone, and lives 5 minutes at the most";
            return Err(Refusal::new(Reason::JwtSvidInvalid, what));
        }
        Ok(svid)
    }

    /// The one proof, for this endpoint.
    fn proof(&self, headers: &HeaderMap) -> Result<HeldProof, Refusal> {
        let invalid = |what: &str| Refusal::new(Reason::ProofInvalid, what);
        let mut proofs = headers.get_all(dpop::HEADER).iter();
        let (Some(proof), None) = (proofs.next(), proofs.next()) else {
            return Err(invalid("a JWT-SVID is no proof of who shows it: send one DPoP proof with the request"));
        };
        let proof = proof.to_str().ok().ok_or_else(|| invalid("the DPoP proof is not plain text"))?;
        let target = self.oauth.public_token_endpoint.as_ref().ok_or_else(|| invalid("there is no public URL"))?;
        Ok(self.oauth.proofs.verify(proof, &DpopRequest { method: "POST", target, token: None })?)
    }

    /// Uses the JWT-SVID with this key, and from then on with no other.
    async fn use_with(&self, assertion: Digest, key: Digest, expires_at: Timestamp) -> Result<(), Refusal> {
        let store = self.oauth.minter.directory.store();
        let binding = match store.assertion(&assertion, &key).await? {
            Some(known) => known,
            None => store.bind_assertion(BindAssertion { assertion, key, expires_at }).await?,
        };
        match binding {
            AssertionBinding::ThisKey => Ok(()),
            AssertionBinding::AnotherKey => {
                Err(Refusal::new(Reason::TokenUsed, "this JWT-SVID was used with another key before"))
            }
            AssertionBinding::Full => {
                Err(Refusal::new(Reason::Overloaded, "the issuer remembers as many used JWT-SVIDs as it can"))
            }
        }
    }
}
