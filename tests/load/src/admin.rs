//! The issuer's admin API on a connection that is open, so that no figure holds the start of a command.

use std::time::Instant;

use hyper_util::rt::TokioIo;
use mayfly_proto::admin::{
    ApplyEntriesRequest, CreateJoinTokenRequest, DeleteEntryRequest, GetStatusRequest,
    admin_service_client::AdminServiceClient,
};
use mayfly_rig::Rig;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::machine::percentile;

/// How many empty calls are timed.
const EMPTY_CALLS: usize = 200;

/// An administrator.
#[derive(Debug, Clone)]
pub(crate) struct Admin(AdminServiceClient<Channel>);

impl Admin {
    /// Connects to the issuer's admin socket.
    pub(crate) async fn connect(rig: &Rig) -> Self {
        Self(AdminServiceClient::new(over(&rig.admin_socket()).await))
    }

    /// Applies entries (a YAML list) of the owner `test`.
    pub(crate) async fn apply(&mut self, entries: &str) {
        let document = format!("owner: test\nentries:\n{entries}").into();
        self.0.apply_entries(ApplyEntriesRequest { document, ..ApplyEntriesRequest::default() }).await.unwrap();
    }

    /// Deletes an entry by its name.
    pub(crate) async fn delete(&mut self, name: &str) {
        let request = DeleteEntryRequest { entry: name.to_owned() };
        self.0.delete_entry(request).await.unwrap();
    }

    /// A join token for the node `name`.
    pub(crate) async fn join_token(&mut self, name: &str) -> String {
        let request = CreateJoinTokenRequest { spiffe_id: name.to_owned(), ..CreateJoinTokenRequest::default() };
        self.0.create_join_token(request).await.unwrap().into_inner().token
    }

    /// The median of an empty call, milliseconds.
    pub(crate) async fn empty_call_ms(&mut self) -> f64 {
        let mut times = Vec::with_capacity(EMPTY_CALLS);
        for _ in 0..EMPTY_CALLS {
            let begun = Instant::now();
            self.0.get_status(GetStatusRequest {}).await.unwrap();
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        percentile(&mut times, 0.5)
    }
}

/// A connection to a Unix socket.
pub(crate) async fn over(path: &std::path::Path) -> Channel {
    let mut stream = Some(TokioIo::new(UnixStream::connect(path).await.unwrap()));
    let connector = tower::service_fn(move |_| {
        std::future::ready(stream.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)))
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
}
