//! Administration over the network: mTLS with the X.509-SVID that the Workload API gives this process, as it is at each handshake.

use std::error::Error as _;
use std::time::Duration;

use mayfly_sdk::client::{Endpoint as WorkloadApi, Source, X509Context};
use mayfly_sdk::tls::{Authorizer, ClientTls, Connector, Options};
use mayfly_sdk::{Clock, Reason, Refusal};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::Service as _;

use crate::failure::{Exit, Failure};

/// How long the Workload API may take for the first identity.
const IDENTITY: Duration = Duration::from_secs(10);

/// A channel to the issuer at `HOST:PORT`, which must prove that it is an issuer of the caller's own trust domain.
pub(super) async fn channel(address: &str) -> Result<Channel, Failure> {
    let refused = |refusal: Refusal| Failure::refused(format!("the issuer at {address} was not called"), &refusal);
    let endpoint = address_of(address)?;
    let source = Source::<X509Context>::start(WorkloadApi::from_env().map_err(refused)?);
    let context = source.ready(IDENTITY).await.map_err(refused)?;
    let issuers = Authorizer::issuer_of(context.default_svid().spiffe_id().trust_domain().clone());
    let tls = ClientTls::new(source.credentials(), source.trust(), issuers, &Clock::system(), &Options::grpc());
    let connector = Connector::new(tls.map_err(refused)?);
    let connector = tower::service_fn(move |uri: Uri| {
        // The source goes on as long as the channel does: a later connection presents a later SVID.
        let _followed = &source;
        connector.clone().call(uri)
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| unreachable(address, &error))
}

fn address_of(address: &str) -> Result<Endpoint, Failure> {
    let invalid = |why: String| {
        Failure::input("the issuer was not called", why, "write --issuer HOST:PORT, the address of its `admin.listen`")
    };
    let uri: Uri = format!("http://{address}").parse().map_err(|error| invalid(format!("`{address}`: {error}")))?;
    if uri.port_u16().is_none() || uri.path() != "/" || uri.query().is_some() || address.contains('@') {
        return Err(invalid(format!("`{address}` is not a host with a port")));
    }
    Ok(Endpoint::from(uri))
}

fn unreachable(address: &str, error: &tonic::transport::Error) -> Failure {
    let what = format!("the issuer at {address} was not called");
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return Failure::refused(what, refusal);
        }
        cause = inner.source();
    }
    let remedy = "see that `admin.listen` of the issuer is this address, and that an entry with this caller's SPIFFE ID has a grant in `admin`";
    Failure::new(Exit::Unavailable, Reason::Unavailable.code(), what, error.to_string(), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for right in ["issuer.example:8446", "10.0.0.1:8446", "[::1]:8446"] {
            assert!(address_of(right).is_ok(), "{right}");
        }
        for wrong in ["issuer", "https://issuer:1", "issuer:1/x", "", "me@issuer:1", "issuer:1?x"] {
            assert_eq!(address_of(wrong).unwrap_err().exit, Exit::BadInput, "{wrong}");
        }
    }
}
