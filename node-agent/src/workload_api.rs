//! The SPIFFE Workload API, as this node serves it.
//!
//! ```text
//! header ─> limits ─> who calls? ─attest─> Entitlement (entries) ─> leases on credentials ─> message ─┐
//!                                               ^                                                     │ only if it differs
//!                                               └── holdings or a credential has changed <── stream <─┘ from the last one
//! ```
//!
//! - Each message of a stream is the full state; the caller is looked at again before each one.
//! - A healthy stream never ends with OK: clients in Python and Java would not come back.
//! - Unknown (no identity), denied and undetermined are three answers: `PermissionDenied` only where it is known that there is no identity.

mod bundles;
mod caller;
mod claims;
mod entitlement;
mod gate;
mod hints;
mod jwt;
mod leases;
mod limits;
mod sds;
mod server;
mod stream;
mod svids;
mod tasks;
#[cfg(test)]
mod tests;
mod validate;
mod wit;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use mayfly_proto::workload as wire;
use mayfly_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi;
use mayfly_sdk::{Clock, TrustDomain};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use self::bundles::{JwtBundles, X509Bundles};
use self::caller::Caller;
pub(crate) use self::entitlement::Served;
pub(crate) use self::limits::{CallLimits, Calls};
pub use self::sds::fuzz_secret_requests;
pub use self::server::ServeError;
pub(crate) use self::server::{Serve, serve};
use self::stream::follow;
use self::svids::X509Svids;
use self::wit::{WitBundles, WitSvids};
use crate::identity::Identities;
use crate::link::LinkView;
use crate::revocations::Revocations;
use crate::streams::Streams;
use crate::tasks::Tasks;
use crate::workload::{Attestors, Instances};

/// The Workload API.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadApi(Arc<Shared>);

/// What every call needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) link: LinkView,
    pub(crate) identities: Identities,
    pub(crate) streams: Streams,
    pub(crate) revocations: Revocations,
    pub(crate) tasks: Tasks,
    pub(crate) attestors: Attestors,
    pub(crate) instances: Arc<Instances>,
    /// Which instances were given something.
    pub(crate) served: Served,
    pub(crate) calls: Calls,
    pub(crate) clock: Clock,
    /// The agent is shutting down.
    pub(crate) stop: CancellationToken,
}

impl WorkloadApi {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// What Envoy's secret discovery and the task service share with it.
    fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

/// A stream of a server's messages.
pub(crate) type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Messages<wire::X509svidResponse>;
    type FetchX509BundlesStream = Messages<wire::X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<wire::JwtBundlesResponse>;
    type FetchWITSVIDStream = Messages<wire::WitsvidResponse>;
    type FetchWITBundlesStream = Messages<wire::WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<wire::X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        Ok(Response::new(follow(&self.0, Caller::of(&request)?, X509Svids::default())?))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<wire::X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Ok(Response::new(follow(&self.0, Caller::of(&request)?, X509Bundles)?))
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<wire::JwtsvidRequest>,
    ) -> Result<Response<wire::JwtsvidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let _call = self.0.calls.call(caller.uid())?;
        Ok(Response::new(jwt::fetch(&self.0, &caller, request.into_inner()).await?))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<wire::JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Ok(Response::new(follow(&self.0, Caller::of(&request)?, JwtBundles)?))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<wire::ValidateJwtsvidRequest>,
    ) -> Result<Response<wire::ValidateJwtsvidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let _call = self.0.calls.call(caller.uid())?;
        Ok(Response::new(validate::validate(&self.0, &caller, request.into_inner()).await?))
    }

    async fn fetch_witsvid(
        &self,
        request: Request<wire::WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        self.0.has_wit()?;
        let caller = Caller::of(&request)?;
        Ok(Response::new(follow(&self.0, caller, WitSvids::of(request.into_inner())?)?))
    }

    async fn fetch_wit_bundles(
        &self,
        request: Request<wire::WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        self.0.has_wit()?;
        Ok(Response::new(follow(&self.0, Caller::of(&request)?, WitBundles)?))
    }
}
