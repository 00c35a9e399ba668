//! The node agent's socket, as `SPIFFE_ENDPOINT_SOCKET` names it.

use std::io;
use std::path::PathBuf;

use mayfly_proto::task::task_service_client::TaskServiceClient;
use mayfly_sdk::Reason;
use mayfly_sdk::client::{Endpoint, WorkloadClient};
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::failure::{Exit, Failure};

/// The security header of every call (Workload Endpoint 6.2).
const HEADER: &str = "workload.spiffe.io";

/// Calls of the task API.
pub(crate) type Tasks = TaskServiceClient<InterceptedService<Channel, Header>>;
type Header = fn(Request<()>) -> Result<Request<()>, Status>;

/// Where the Workload API is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EndpointArgs {
    /// The Workload API's address, `unix:///PATH`, a path, or `tcp://IP:PORT` [default: where a node agent of this user has it]
    #[arg(long, env = "SPIFFE_ENDPOINT_SOCKET", value_name = "SOCKET")]
    socket: Option<String>,
}

impl EndpointArgs {
    /// As the environment says, for a process that takes no arguments.
    pub(crate) fn from_env() -> Self {
        Self { socket: mayfly_sdk::client::Endpoint::from_env().ok().map(|endpoint| endpoint.to_string()) }
    }

    /// Whether somebody said where the socket is.
    pub(crate) fn is_given(&self) -> bool {
        self.socket.is_some()
    }

    /// Where the socket is.
    pub(crate) fn path(&self) -> Result<PathBuf, Failure> {
        let Some(given) = &self.socket else { return Ok(mayfly_node_agent::Config::default().socket()) };
        let path = match given.split_once(':') {
            Some(("unix", path)) => path.strip_prefix("//").unwrap_or(path),
            Some(("tcp", _)) => "",
            _ => given,
        };
        if path.starts_with('/') {
            return Ok(path.into());
        }
        let why = format!("`{given}` is not the address of a Unix socket with an absolute path");
        Err(Failure::input("the Workload API was not called", why, "write it as unix:///run/mayfly/agent/api.sock"))
    }

    /// The same for the SDK.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, Failure> {
        let given = match &self.socket {
            Some(tcp) if tcp.starts_with("tcp:") => tcp.clone(),
            _ => format!("unix://{}", self.path()?.display()),
        };
        given.parse().map_err(|refusal| Failure::refused("the Workload API was not called", &refusal))
    }

    /// A client for single calls.
    pub(crate) fn client(&self) -> Result<WorkloadClient, Failure> {
        Ok(WorkloadClient::new(&self.endpoint()?))
    }

    /// A client of the task API, over one connection: when that ends, calls fail.
    pub(crate) async fn tasks(&self) -> Result<Tasks, Failure> {
        let path = self.path()?;
        let channel = crate::admin::channel(&path).await.map_err(|error| self.unreachable(&error))?;
        Ok(TaskServiceClient::with_interceptor(channel, with_header as Header))
    }

    /// What it means that the socket does not answer.
    pub(crate) fn unreachable(&self, error: &io::Error) -> Failure {
        let path = self.path().map(|path| path.display().to_string()).unwrap_or_default();
        Failure::new(
            Exit::Unavailable,
            Reason::Unavailable.code(),
            format!("the Workload API at {path} cannot be reached"),
            error.to_string(),
            "start the node agent, or say where its socket is with --socket or SPIFFE_ENDPOINT_SOCKET",
        )
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of tonic's interceptors")]
fn with_header(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.metadata_mut().insert(HEADER, MetadataValue::from_static("true"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_a_path_or_a_unix_uri() {
        let path =
            |given: &str| EndpointArgs { socket: Some(given.to_owned()) }.path().map(|path| path.display().to_string());
        assert_eq!(path("unix:///run/a.sock").unwrap(), "/run/a.sock");
        assert_eq!(path("unix:/run/a.sock").unwrap(), "/run/a.sock");
        assert_eq!(path("/run/a.sock").unwrap(), "/run/a.sock");
        for wrong in ["tcp://127.0.0.1:80", "run/a.sock", "unix:run/a.sock", ""] {
            assert_eq!(path(wrong).unwrap_err().exit, Exit::BadInput, "{wrong}");
        }
    }
}
