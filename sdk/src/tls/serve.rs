//! Accepted connections in tonic: its handlers find [`PeerInfo`] in the request's extensions.

use tonic::transport::server::Connected;

use super::{PeerInfo, TlsConnection};

impl<S> Connected for TlsConnection<S> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info().clone()
    }
}
