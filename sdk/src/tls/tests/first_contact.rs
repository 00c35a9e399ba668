//! The pinned first contact: one hash is all the trust there is.

use super::fixture::{End, Met, chain, meet};
use crate::reason::Reason;
use crate::time::Clock;
use crate::tls::{ClientAuth, ClientTls, Options, ServerTls, SpkiPin};
use crate::x509::fixture::{Domain, Made, NOW, at, leaf, signed};

const ISSUER: &str = "spiffe://td/mayfly/issuer/one";

struct Issuer {
    domain: Domain,
    leaf: Made,
}

impl Issuer {
    fn named(id: &str) -> Self {
        let domain = Domain::new();
        Self { leaf: signed(leaf(id), &domain.intermediate), domain }
    }

    fn pin(&self) -> SpkiPin {
        SpkiPin::of_certificate(&self.domain.root.der.as_slice().into()).unwrap()
    }

    async fn is_met(&self, pin: SpkiPin) -> Met {
        present(&[&self.leaf, &self.domain.intermediate, &self.domain.root], pin).await
    }
}

async fn present(certificates: &[&Made], pin: SpkiPin) -> Met {
    let clock = Clock::manual(NOW).0;
    let end = End::new(chain(certificates), &Domain::new().bundles);
    let server: ServerTls = end.server(ClientAuth::Off, &clock, &Options::grpc());
    let client = ClientTls::first_contact(pin, "td".parse().unwrap(), &clock, &Options::grpc()).unwrap();
    meet(&client, &server).await
}

#[tokio::test]
async fn the_right_pin_leads_to_the_issuer() {
    let issuer = Issuer::named(ISSUER);
    let (client, server) = issuer.is_met(issuer.pin()).await.well();
    assert_eq!(client.info().peer().unwrap().spiffe_id().as_str(), ISSUER);
    assert!(server.info().peer().is_none());
}

#[tokio::test]
async fn a_wrong_pin_is_refused() {
    let (issuer, other) = (Issuer::named(ISSUER), Issuer::named(ISSUER));
    assert_eq!(issuer.is_met(other.pin()).await.refused_by_client(), Reason::PinMismatch);
    // The chain of a peer that does not send its root cannot be judged.
    let rootless = present(&[&issuer.leaf, &issuer.domain.intermediate], issuer.pin()).await;
    assert_eq!(rootless.refused_by_client(), Reason::PinMismatch);
}

#[tokio::test]
async fn a_forger_who_sends_the_true_root_along_is_refused() {
    let (issuer, forger) = (Issuer::named(ISSUER), Issuer::named(ISSUER));
    let sent = [&forger.leaf, &forger.domain.intermediate, &forger.domain.root, &issuer.domain.root];
    assert_eq!(present(&sent, issuer.pin()).await.refused_by_client(), Reason::X509SvidUntrusted);
}

#[tokio::test]
async fn only_an_issuer_of_this_trust_domain_is_met() {
    for id in ["spiffe://td/mayfly/node/join_token/1", "spiffe://td/mayfly/issuer", "spiffe://td/workload"] {
        let node = Issuer::named(id);
        assert_eq!(node.is_met(node.pin()).await.refused_by_client(), Reason::UnauthorizedPeer, "{id}");
    }
    let foreign = Issuer::named("spiffe://other/mayfly/issuer/one");
    assert_eq!(foreign.is_met(foreign.pin()).await.refused_by_client(), Reason::UnknownTrustDomain);
}

#[tokio::test]
async fn the_times_count_at_first_contact_too() {
    let mut issuer = Issuer::named(ISSUER);
    let mut expired = leaf(ISSUER);
    expired.not_after = at(-1);
    issuer.leaf = signed(expired, &issuer.domain.intermediate);
    assert_eq!(issuer.is_met(issuer.pin()).await.refused_by_client(), Reason::Expired);
}
