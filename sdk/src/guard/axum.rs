//! axum's own types: connections that it accepts, the caller as an argument of handlers, refusals as responses.

use std::future::pending;
use std::io;

use axum::extract::FromRequestParts;
use axum::extract::connect_info::Connected;
use axum::response::IntoResponse;
use axum::serve::IncomingStream;
use http::StatusCode;
use http::request::Parts;

use super::{Caller, Denied};
use crate::tls::{Incoming, PeerInfo, TlsConnection};

/// mTLS connections as `axum::serve` takes them. Serve with `into_make_service_with_connect_info::<PeerInfo>()`, so that
/// the layer knows its peers.
#[derive(Debug)]
pub struct Listener(Incoming);

impl Listener {
    /// The connections of an acceptor.
    #[must_use]
    pub const fn new(incoming: Incoming) -> Self {
        Self(incoming)
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsConnection;
    type Addr = PeerInfo;

    async fn accept(&mut self) -> (TlsConnection, PeerInfo) {
        match self.0.accept().await {
            Some(connection) => {
                let info = connection.info().clone();
                (connection, info)
            }
            // The acceptor was told to stop: no more will come.
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<PeerInfo> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Connected<IncomingStream<'_, Listener>> for PeerInfo {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    /// 500 where no [`super::TaskLayer`] stands before the handler.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> axum::response::Response {
        self.into_http()
    }
}
