//! Bundles alone, for those who verify and have no identity of that kind: a few lines for each kind.

use std::collections::HashMap;

use mayfly_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, WitBundlesRequest, WitBundlesResponse, X509BundlesRequest,
    X509BundlesResponse,
};
use tonic::{Status, Streaming};

use super::context::{bundle_key, invalid};
use super::{Material, WorkloadClient};
use crate::bundle::{
    BundleError, BundleSet, JwtBundle, JwtBundleSet, OfTrustDomain, WitBundle, WitBundleSet, X509Bundle, X509BundleSet,
};
use crate::id::TrustDomain;
use crate::reason::Refusal;

/// Bundles in one message.
pub(super) const MAX_BUNDLES: usize = 200;

impl Material for X509BundleSet {
    type Message = X509BundlesResponse;
    const CALL: &'static str = "FetchX509Bundles";

    async fn open(client: &WorkloadClient) -> Result<Streaming<X509BundlesResponse>, Status> {
        client.api().fetch_x509_bundles(X509BundlesRequest {}).await.map(tonic::Response::into_inner)
    }

    fn decode(message: X509BundlesResponse) -> Result<Self, Refusal> {
        set(&message.bundles, X509Bundle::from_der)
    }
}

impl Material for JwtBundleSet {
    type Message = JwtBundlesResponse;
    const CALL: &'static str = "FetchJWTBundles";

    async fn open(client: &WorkloadClient) -> Result<Streaming<JwtBundlesResponse>, Status> {
        client.api().fetch_jwt_bundles(JwtBundlesRequest {}).await.map(tonic::Response::into_inner)
    }

    fn decode(message: JwtBundlesResponse) -> Result<Self, Refusal> {
        set(&message.bundles, JwtBundle::from_jwks)
    }
}

impl Material for WitBundleSet {
    type Message = WitBundlesResponse;
    const CALL: &'static str = "FetchWITBundles";

    async fn open(client: &WorkloadClient) -> Result<Streaming<WitBundlesResponse>, Status> {
        client.api().fetch_wit_bundles(WitBundlesRequest {}).await.map(tonic::Response::into_inner)
    }

    fn decode(message: WitBundlesResponse) -> Result<Self, Refusal> {
        set(&message.bundles, WitBundle::from_jwks)
    }
}

/// The bundles of a message, each for the trust domain that it is keyed by, and never two for one.
pub(super) fn set<B: OfTrustDomain, V: AsRef<[u8]>>(
    bundles: &HashMap<String, V>,
    read: impl Fn(TrustDomain, &[u8]) -> Result<B, BundleError>,
) -> Result<BundleSet<B>, Refusal> {
    if bundles.len() > MAX_BUNDLES {
        return Err(invalid(&format!("it has {} bundles; at most {MAX_BUNDLES} are read", bundles.len())));
    }
    bundles
        .iter()
        .map(|(key, bytes)| {
            let trust_domain = bundle_key(key)?;
            read(trust_domain, bytes.as_ref()).map_err(|error| invalid(&format!("the bundle of {key}: {error}")))
        })
        .collect()
}
