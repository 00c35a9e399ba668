//! Calls of the Workload API, each with the header that keeps forged requests of browsers and the like out.

use std::error::Error;

use mayfly_proto::task::task_service_client::TaskServiceClient;
use mayfly_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use mayfly_proto::workload::{JwtsvidRequest, ValidateJwtsvidRequest};
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::jwt::{self, FetchedJwt, ValidatedJwt};
use super::{Endpoint, Material};
use crate::id::SpiffeId;
use crate::jwt::Audience;
use crate::reason::{Reason, Refusal};

/// The security header (Workload Endpoint 6.2; row WE-6).
const HEADER: &str = "workload.spiffe.io";

/// The longest message that is read, in bytes: many foreign bundles.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// The generated client with the security header on every call.
pub(super) type Api = SpiffeWorkloadApiClient<InterceptedService<Channel, Header>>;

/// The same for the task API, on the same socket.
pub(crate) type TaskApi = TaskServiceClient<InterceptedService<Channel, Header>>;

type Header = fn(Request<()>) -> Result<Request<()>, Status>;

/// A client of the Workload API for single calls. Cheap to clone; clones share a connection, which is made at the first
/// call and made anew whenever it broke. To follow changes, use a [`super::Source`].
#[derive(Debug, Clone)]
pub struct WorkloadClient {
    channel: Channel,
    endpoint: Endpoint,
}

impl WorkloadClient {
    /// A client of the Workload API at this address. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(endpoint: &Endpoint) -> Self {
        Self { channel: endpoint.lazy_channel(), endpoint: endpoint.clone() }
    }

    /// The state of this moment: the first message of the stream that a [`super::Source`] would follow.
    ///
    /// # Errors
    /// What the agent answered, `unavailable` when nobody answers, `message_invalid` when its answer does not hold.
    pub async fn fetch<M: Material>(&self) -> Result<M, Refusal> {
        let mut stream = M::open(self).await.map_err(|status| self.refusal(&status))?;
        match stream.message().await {
            Ok(Some(message)) => M::decode(message),
            Ok(None) => Err(Refusal::new(Reason::Unavailable, "the agent ended the stream before it said anything")),
            Err(status) => Err(self.refusal(&status)),
        }
    }

    /// JWT-SVIDs for these audiences: of all identities of the caller (the default one first), or of the one that is
    /// named. They were not verified: they come from the agent, which is trusted, and are for somebody else to verify.
    ///
    /// # Errors
    /// `invalid_argument` without an audience; what the agent answered; `message_invalid` when its answer does not hold.
    pub async fn fetch_jwt_svids(
        &self,
        audiences: &[Audience],
        id: Option<&SpiffeId>,
    ) -> Result<Vec<FetchedJwt>, Refusal> {
        if audiences.is_empty() {
            return Err(Refusal::new(Reason::InvalidArgument, "a JWT-SVID needs at least one audience"));
        }
        let request = JwtsvidRequest {
            audience: audiences.iter().map(|audience| audience.as_str().to_owned()).collect(),
            spiffe_id: id.map(ToString::to_string).unwrap_or_default(),
        };
        match self.api().fetch_jwtsvid(request).await {
            Ok(response) => jwt::fetched(response.into_inner(), audiences),
            Err(status) => Err(self.refusal(&status)),
        }
    }

    /// Asks the agent whether a JWT-SVID holds for this audience (row WA-50).
    ///
    /// # Errors
    /// Why it does not hold, as the agent says; `message_invalid` when the agent's answer is not about this token.
    pub async fn validate_jwt_svid(&self, audience: &Audience, token: &str) -> Result<ValidatedJwt, Refusal> {
        let request = ValidateJwtsvidRequest { audience: audience.as_str().to_owned(), svid: token.to_owned() };
        match self.api().validate_jwtsvid(request).await {
            Ok(response) => jwt::validated(&response.into_inner(), token),
            Err(status) => Err(self.refusal(&status)),
        }
    }

    /// The refusal of a status; where nobody answered, with the address and what the kernel said.
    pub(crate) fn refusal(&self, status: &Status) -> Refusal {
        let mut error: &(dyn Error + 'static) = status;
        let mut unreachable = false;
        while let Some(source) = error.source() {
            unreachable |= source.is::<tonic::transport::Error>();
            error = source;
        }
        if unreachable {
            return Refusal::new(Reason::PeerUnreachable, format!("nobody answers at {}: {error}", self.endpoint));
        }
        Refusal::from_status(status)
    }

    pub(crate) fn task_api(&self) -> TaskApi {
        TaskServiceClient::with_interceptor(self.channel.clone(), with_header as Header)
            .max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn api(&self) -> Api {
        SpiffeWorkloadApiClient::with_interceptor(self.channel.clone(), with_header as Header)
            .max_decoding_message_size(MAX_MESSAGE)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of tonic's interceptors")]
fn with_header(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.metadata_mut().insert(HEADER, MetadataValue::from_static("true"));
    Ok(request)
}
