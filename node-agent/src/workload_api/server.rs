//! Everything that the local socket serves.

#[cfg(test)]
pub(super) mod tests;

use mayfly_proto::sds::secret_discovery_service_server::SecretDiscoveryServiceServer;
use mayfly_proto::task::task_service_server::TaskServiceServer;
use mayfly_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Builder;

use super::WorkloadApi;
use super::gate::Gate;
use super::sds::SecretApi;
use super::tasks::TaskApi;
use crate::config::Sds;
use crate::listener::{Listener, configure};

/// The longest request that is read, in bytes: a token of the greatest length, and a little.
const MAX_REQUEST_BYTES: usize = 80 * 1024;
/// The same of the task service: a grant and a token of the greatest length each, and a little.
const MAX_TASK_REQUEST_BYTES: usize = 96 * 1024;
/// The name that reflection and health know the Workload API by.
const SERVICE: &str = "SpiffeWorkloadAPI";
/// The same for Envoy's secret discovery.
const SECRETS: &str = "envoy.service.secret.v3.SecretDiscoveryService";

/// The same for tasks.
const TASKS: &str = "mayfly.task.v1.TaskService";

/// What serving needs.
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) listener: Listener,
    pub(crate) api: WorkloadApi,
    pub(crate) sds: Sds,
    pub(crate) health: HealthReporter,
    /// Streams have been told to end; connections are closed when they are idle.
    pub(crate) stop: CancellationToken,
}

/// Serves until `stop`. Health, reflection and Envoy's secret discovery stand beside the Workload API and need no security
/// header (row WE-11; Envoy configurations written for SPIRE send none).
///
/// # Errors
/// The socket failed for good, or reflection cannot be set up.
pub(crate) async fn serve(serve: Serve) -> Result<(), ServeError> {
    let Serve { listener, api, sds, health, stop } = serve;
    let secrets = SecretDiscoveryServiceServer::new(SecretApi::new(api.shared(), sds));
    let secrets = secrets.max_decoding_message_size(MAX_REQUEST_BYTES);
    let tasks = TaskServiceServer::new(TaskApi::new(api.shared())).max_decoding_message_size(MAX_TASK_REQUEST_BYTES);
    let workload = SpiffeWorkloadApiServer::new(api).max_decoding_message_size(MAX_REQUEST_BYTES);
    health.set_service_status(SERVICE, tonic_health::ServingStatus::Serving).await;
    health.set_service_status(TASKS, tonic_health::ServingStatus::Serving).await;
    health.set_service_status(SECRETS, tonic_health::ServingStatus::Serving).await;
    configure(Server::builder())
        .add_service(tonic::service::interceptor::InterceptedService::new(workload, Gate))
        .add_service(tonic::service::interceptor::InterceptedService::new(tasks, Gate))
        .add_service(secrets)
        .add_service(HealthServer::new(tonic_health::server::HealthService::from_health_reporter(health)))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(listener.incoming(), stop.cancelled_owned())
        .await?;
    Ok(())
}

fn reflection() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(mayfly_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(SERVICE)
        .with_service_name(TASKS)
        .with_service_name(SECRETS)
        .with_service_name("grpc.health.v1.Health")
}

/// Why the socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors that this binary carries do not hold together: a bug.
    #[error("reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server ended.
    #[error("the local socket is no longer served: {0}")]
    Transport(#[from] tonic::transport::Error),
}
