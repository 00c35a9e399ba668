//! X.509 contexts: a caller's SVIDs and the bundles that it verifies its peers with.

use std::sync::Arc;

use mayfly_proto::workload::{X509svid, X509svidRequest, X509svidResponse};
use tonic::{Status, Streaming};

use super::{Material, WorkloadClient, bundles};
use crate::bundle::{X509Bundle, X509BundleSet};
use crate::id::TrustDomain;
use crate::reason::{Reason, Refusal};
use crate::x509::X509Svid;

/// SVIDs in one message.
const MAX_SVIDS: usize = 100;

/// The X.509-SVIDs of the caller and the bundles of its own and of the foreign trust domains, of one moment.
#[derive(Debug, Clone)]
pub struct X509Context {
    default: X509Svid,
    svids: Vec<HintedSvid>,
    bundles: Arc<X509BundleSet>,
}

/// An SVID, and what it is meant for.
#[derive(Debug, Clone)]
pub struct HintedSvid {
    /// Unique in a context; `None` where the operator gave no hint.
    pub hint: Option<String>,
    /// The SVID.
    pub svid: X509Svid,
}

impl X509Context {
    /// The context of one identity that came from an issuer and not from a node agent.
    #[must_use]
    pub fn of_one(svid: X509Svid, bundles: X509BundleSet) -> Self {
        let svids = vec![HintedSvid { hint: None, svid: svid.clone() }];
        Self { default: svid, svids, bundles: Arc::new(bundles) }
    }

    /// The default identity: the first one that the agent names (Workload API 8; row WA-15).
    #[must_use]
    pub const fn default_svid(&self) -> &X509Svid {
        &self.default
    }

    /// All identities, the default one first; at least one.
    #[must_use]
    pub fn svids(&self) -> &[HintedSvid] {
        &self.svids
    }

    /// The identity with this hint. Whether to take the default one where there is none is the caller's decision.
    #[must_use]
    pub fn by_hint(&self, hint: &str) -> Option<&X509Svid> {
        self.svids.iter().find(|svid| svid.hint.as_deref() == Some(hint)).map(|hinted| &hinted.svid)
    }

    /// What peers are verified with.
    #[must_use]
    pub const fn bundles(&self) -> &Arc<X509BundleSet> {
        &self.bundles
    }
}

impl Material for X509Context {
    type Message = X509svidResponse;
    const CALL: &'static str = "FetchX509SVID";

    async fn open(client: &WorkloadClient) -> Result<Streaming<X509svidResponse>, Status> {
        client.api().fetch_x509svid(X509svidRequest {}).await.map(tonic::Response::into_inner)
    }

    /// Rows WA-8, WA-11, WA-13, WA-15. The message is taken whole or not at all: a bundle that was left out would look
    /// like one that was withdrawn. Chains are not verified against the bundle and may have expired: that is the peer's
    /// decision, by its clock.
    fn decode(message: X509svidResponse) -> Result<Self, Refusal> {
        if message.svids.len() > MAX_SVIDS {
            return Err(invalid(&format!("it has {} SVIDs; at most {MAX_SVIDS} are read", message.svids.len())));
        }
        let mut set = bundles::set(&message.federated_bundles, X509Bundle::from_der)?;
        let mut own: Vec<TrustDomain> = Vec::new();
        let mut svids: Vec<HintedSvid> = Vec::with_capacity(message.svids.len());
        for part in message.svids {
            let svid = svid_of(&part)?;
            let trust_domain = svid.spiffe_id().trust_domain().clone();
            // The SVID's own bundle stands above a federated one of the same name (row WA-25), and the first SVID's
            // above those of later ones.
            if !own.contains(&trust_domain) {
                let bundle = X509Bundle::from_der(trust_domain.clone(), &part.bundle)
                    .map_err(|error| invalid(&format!("the bundle of {}: {error}", part.spiffe_id)))?;
                set.insert(bundle);
                own.push(trust_domain);
            }
            let hint = Some(part.hint).filter(|hint| !hint.is_empty());
            if hint.is_some() && svids.iter().any(|earlier| earlier.hint == hint) {
                tracing::warn!(spiffe_id = %svid.spiffe_id(), "svid with the hint of an earlier one left out");
                continue;
            }
            svids.push(HintedSvid { hint, svid });
        }
        let Some(first) = svids.first() else {
            return Err(invalid("it has no SVID"));
        };
        Ok(Self { default: first.svid.clone(), svids, bundles: Arc::new(set) })
    }
}

/// One SVID of a message: every mandatory field is there, and they are about one identity and one key (row WA-24).
fn svid_of(part: &X509svid) -> Result<X509Svid, Refusal> {
    mandatory("spiffe_id", part.spiffe_id.as_bytes())?;
    mandatory("x509_svid", &part.x509_svid)?;
    mandatory("x509_svid_key", &part.x509_svid_key)?;
    mandatory("bundle", &part.bundle)?;
    let svid = X509Svid::from_der(&part.x509_svid, &part.x509_svid_key)
        .map_err(|error| invalid(&format!("the SVID of {}: {error}", part.spiffe_id)))?;
    if svid.spiffe_id().as_str() != part.spiffe_id {
        return Err(invalid(&format!("the certificate of {} names {}", part.spiffe_id, svid.spiffe_id())));
    }
    Ok(svid)
}

/// A mandatory field (Workload API 4.5; row WA-11).
pub(super) fn mandatory(field: &str, value: &[u8]) -> Result<(), Refusal> {
    if value.is_empty() { Err(invalid(&format!("it has no `{field}`"))) } else { Ok(()) }
}

/// The trust domain that keys a bundle: exactly `spiffe://td` (rows WA-16, ID-20).
pub(super) fn bundle_key(key: &str) -> Result<TrustDomain, Refusal> {
    match key.strip_prefix("spiffe://").map(TrustDomain::from_name) {
        Some(Ok(trust_domain)) => Ok(trust_domain),
        _ => Err(invalid(&format!("`{key}` is not the SPIFFE ID of a trust domain"))),
    }
}

/// A message that does not hold.
pub(super) fn invalid(why: &str) -> Refusal {
    Refusal::new(Reason::MessageInvalid, format!("the agent's message was discarded: {why}"))
}
