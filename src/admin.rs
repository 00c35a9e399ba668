//! The issuer's administration: its socket on this machine, or its address in the network.

mod remote;

use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use mayfly_proto::admin::admin_service_client::AdminServiceClient;
use mayfly_sdk::Reason;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::failure::{Exit, Failure};

/// The longest answer that is taken, bytes: a page of entries with their documents.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Where the issuer is administrated.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AdminArgs {
    /// The issuer's admin socket [default: where an issuer of this user has it]
    #[arg(long, env = "MAYFLY_ADMIN_SOCKET", value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// An issuer elsewhere, `HOST:PORT` of its `admin.listen`, called with the identity from `SPIFFE_ENDPOINT_SOCKET`; goes before the socket
    #[arg(long, env = "MAYFLY_ADMIN_ISSUER", value_name = "ADDR")]
    issuer: Option<String>,
}

impl AdminArgs {
    /// An admin socket at this path.
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { admin_socket: Some(socket), issuer: None }
    }

    /// Whether somebody said where it is.
    pub(crate) fn is_given(&self) -> bool {
        self.admin_socket.is_some() || self.issuer.is_some()
    }

    /// Where the socket is.
    pub(crate) fn path(&self) -> PathBuf {
        let given = self.admin_socket.clone().unwrap_or_else(|| mayfly_issuer::Config::default().admin_socket);
        given.to_str().and_then(|text| text.strip_prefix("unix://")).map(PathBuf::from).unwrap_or(given)
    }

    /// Opens the socket, or a connection with the caller's identity.
    pub(crate) async fn connect(&self) -> Result<AdminServiceClient<Channel>, Failure> {
        let channel = if let Some(issuer) = &self.issuer {
            remote::channel(issuer).await?
        } else {
            let path = self.path();
            channel(&path).await.map_err(|error| unreachable(&path, &error))?
        };
        Ok(AdminServiceClient::new(channel).max_decoding_message_size(LONGEST_ANSWER))
    }
}

/// A gRPC channel over this one connection: when it ends, calls fail, and the command with them.
pub(crate) async fn channel(path: &Path) -> io::Result<Channel> {
    let mut stream = Some(UnixStream::connect(path).await?);
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        async move { stream.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.map_err(io::Error::other)
}

fn unreachable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("the issuer's admin socket {} cannot be opened", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(
            Exit::Refused,
            Reason::PermissionDenied.code(),
            what,
            error.to_string(),
            "run this as root or as the user that the issuer runs as",
        ),
        _ => Failure::new(
            Exit::Unavailable,
            Reason::Unavailable.code(),
            what,
            error.to_string(),
            "start the issuer, or say where its socket is with --admin-socket or MAYFLY_ADMIN_SOCKET",
        ),
    }
}
