//! Who is let in: the rows of the conformance reference that show in a handshake.

use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, Side};
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::fixture::{CLIENT, End, Met, Pair, SERVER, chain, chain_of, meet};
use crate::bundle::X509BundleSet;
use crate::reason::Reason;
use crate::tls::config::provider;
use crate::tls::{Authorizer, ClientAuth, Credentials, Options, Trust, accept, peer_identity};
use crate::x509::fixture::{Domain, NOW, at, bundle, ca, leaf, self_signed, signed};

#[tokio::test]
async fn two_svids_of_one_trust_domain_meet_and_know_each_other() {
    let mut pair = Pair::new();
    pair.options = Options::grpc();
    let (client, server) = pair.meet().await.well();
    assert_eq!(client.info().peer().unwrap().spiffe_id().as_str(), SERVER);
    assert_eq!(server.info().peer().unwrap().spiffe_id().as_str(), CLIENT);
    assert_eq!(client.common_state().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = client.common_state().negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    assert_eq!((client.info().alpn(), server.info().alpn()), (Some(&b"h2"[..]), Some(&b"h2"[..])));
    assert!(client.info().binding().is_some() && client.info().binding() == server.info().binding());
}

/// Rows: X-16.
#[tokio::test]
async fn a_signing_certificate_authenticates_nobody() {
    for as_server in [true, false] {
        let pair = Pair::new();
        let mut params = ca("authority with a workload's name");
        params.subject_alt_names = leaf(if as_server { SERVER } else { CLIENT }).subject_alt_names;
        let authority = signed(params, &pair.domain.root);
        let end = if as_server { &pair.server } else { &pair.client };
        end.present(chain(&[&authority]));
        let met = pair.meet().await;
        let reason = if as_server { met.refused_by_client() } else { met.refused_by_server() };
        assert_eq!(reason, Reason::X509SvidInvalid, "X-16");
    }
}

/// Rows: X-21.
#[tokio::test]
async fn a_foreign_trust_domain_is_refused_until_its_bundle_is_there() {
    let (mut pair, foreign) = (Pair::new(), Domain::named("other"));
    pair.clients = ClientAuth::Required(Authorizer::any());
    pair.client.present(chain_of(&foreign, leaf("spiffe://other/client")));
    assert_eq!(pair.meet().await.refused_by_server(), Reason::UnknownTrustDomain, "X-21");
    let both: X509BundleSet =
        [&pair.domain, &foreign].iter().flat_map(|domain| domain.bundles.iter().cloned()).collect();
    pair.server.trust(&both);
    let (_, server) = pair.meet().await.well();
    assert_eq!(server.info().peer().unwrap().spiffe_id().as_str(), "spiffe://other/client");
}

/// Rows.
#[tokio::test]
async fn no_trust_domain_vouches_for_the_names_of_another() {
    let (mut pair, other) = (Pair::new(), Domain::named("other"));
    let both: X509BundleSet = [&pair.domain, &other].iter().flat_map(|domain| domain.bundles.iter().cloned()).collect();
    pair.clients = ClientAuth::Required(Authorizer::any());
    pair.server.trust(&both);
    pair.client.trust(&both);
    pair.meet().await.well();
    pair.client.present(chain_of(&other, leaf(CLIENT)));
    assert_eq!(pair.meet().await.refused_by_server(), Reason::X509SvidUntrusted, "X-22");
    pair.client.present(chain_of(&pair.domain, leaf("spiffe://other/client")));
    assert_eq!(pair.meet().await.refused_by_server(), Reason::X509SvidUntrusted, "X-22, the other way round");
}

/// Rows: X-23.
#[tokio::test]
async fn an_empty_bundle_trusts_nobody() {
    let pair = Pair::new();
    pair.meet().await.well();
    pair.client.trust(&bundle("td", &[]).into());
    assert_eq!(pair.meet().await.refused_by_client(), Reason::X509SvidUntrusted, "X-23");
    pair.client.trust(&X509BundleSet::new());
    assert_eq!(pair.meet().await.refused_by_client(), Reason::UnknownTrustDomain);
}

/// Rows: X-25.
#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_required_and_unknown_where_it_is_optional() {
    let mut pair = Pair::new();
    pair.client.presents.store(None);
    let met = pair.meet().await;
    assert_eq!(met.refused_by_server(), Reason::HandshakeFailed, "X-25");
    pair.clients = ClientAuth::Optional(Authorizer::any());
    let (_, server) = pair.meet().await.well();
    assert!(server.info().peer().is_none());
    // Optional is not lenient: what is presented must hold.
    pair.client.present(chain_of(&Domain::new(), leaf(CLIENT)));
    assert_eq!(pair.meet().await.refused_by_server(), Reason::X509SvidUntrusted);
    pair.clients = ClientAuth::Off;
    let (_, server) = pair.meet().await.well();
    assert!(server.info().peer().is_none());
}

/// Rows: X-26.
#[tokio::test]
async fn a_root_that_the_peer_made_itself_is_worth_nothing() {
    let pair = Pair::new();
    let own = Domain::new();
    let forged = signed(leaf(CLIENT), &own.root);
    pair.client.present(chain(&[&forged, &own.root]));
    assert_eq!(pair.meet().await.refused_by_server(), Reason::X509SvidUntrusted, "X-26");
    // With the true root beside it, too.
    pair.client.present(chain(&[&forged, &own.root, &pair.domain.root]));
    assert_eq!(pair.meet().await.refused_by_server(), Reason::X509SvidUntrusted);
}

/// Rows.
#[tokio::test]
async fn expired_certificates_are_refused_wherever_they_stand() {
    let mut expired = ca("root");
    expired.not_after = at(-1);
    let mut pair = Pair::new();
    let domain = Domain::of("td", expired, ca("intermediate"));
    pair.expects = Authorizer::any();
    pair.server = End::in_domain(&domain, SERVER);
    pair.client.trust(&domain.bundles);
    assert_eq!(
        meet(&pair.client_tls(), &pair.server_tls()).await.refused_by_client(),
        Reason::X509SvidUntrusted,
        "X-27"
    );
    let pair = Pair::new();
    let mut old = leaf(SERVER);
    old.not_after = at(-1);
    pair.server.present(chain_of(&pair.domain, old));
    assert_eq!(pair.meet().await.refused_by_client(), Reason::Expired, "X-17");
}

/// Rows: X-20.
#[tokio::test]
async fn a_certificate_for_one_role_is_refused_in_the_other() {
    let mut pair = Pair::new();
    pair.clients = ClientAuth::Required(Authorizer::any());
    for (purpose, client_is_refused) in
        [(ExtendedKeyUsagePurpose::ServerAuth, true), (ExtendedKeyUsagePurpose::ClientAuth, false)]
    {
        let only = |id| {
            let mut params = leaf(id);
            params.extended_key_usages = vec![purpose.clone()];
            chain_of(&pair.domain, params)
        };
        pair.client.present(only(CLIENT));
        pair.server.present(chain_of(&pair.domain, leaf(SERVER)));
        let met = pair.meet().await;
        assert_eq!(met.server.is_err(), client_is_refused, "X-20, client, {purpose:?}");
        pair.client.present(chain_of(&pair.domain, leaf(CLIENT)));
        pair.server.present(only(SERVER));
        let met = pair.meet().await;
        assert_eq!(met.client.is_err(), !client_is_refused, "X-20, server, {purpose:?}");
    }
}

/// Rows: X-24.
#[tokio::test]
async fn each_end_authorizes_by_spiffe_id_and_by_nothing_else() {
    let mut pair = Pair::new();
    pair.expects = Authorizer::one_of(["spiffe://td/other".parse().unwrap()]);
    assert_eq!(pair.meet().await.refused_by_client(), Reason::UnauthorizedPeer, "X-24");
    pair.expects = Authorizer::member_of("td".parse().unwrap());
    pair.meet().await.well();
    pair.clients = ClientAuth::Required(Authorizer::matcher(|id| id.path().starts_with("/admin/")));
    assert_eq!(pair.meet().await.refused_by_server(), Reason::UnauthorizedPeer);
    pair.clients = ClientAuth::Optional(Authorizer::exact("spiffe://td/other".parse().unwrap()));
    assert_eq!(pair.meet().await.refused_by_server(), Reason::UnauthorizedPeer);
}

#[tokio::test]
async fn a_chain_is_read_up_to_the_limit_and_no_further() {
    let mut pair = Pair::new();
    let leaf = signed(leaf(CLIENT), &pair.domain.intermediate);
    pair.options = Options::default().max_chain(3);
    pair.client.present(chain(&[&leaf, &pair.domain.intermediate, &pair.domain.root]));
    pair.meet().await.well();
    pair.client.present(chain(&[&leaf, &pair.domain.intermediate, &pair.domain.root, &pair.domain.root]));
    assert_eq!(pair.meet().await.refused_by_server(), Reason::X509SvidInvalid);
}

#[tokio::test]
async fn no_session_is_resumed_even_for_a_client_that_would_like_to() {
    for (options, handshakes) in [(Options::default(), 4), (Options::default().allow_tls12(), 6)] {
        let mut full = 0;
        let mut pair = Pair::new();
        pair.options = options;
        let (ours, server) = (pair.client_tls(), pair.server_tls());
        let mut eager = ours.rustls().as_ref().clone();
        eager.resumption = rustls::client::Resumption::default();
        let clients =
            [ours.rustls(), Arc::new(eager), Arc::new(only_tls12(&pair, rustls::client::Resumption::default()))];
        for (config, tries) in clients.iter().flat_map(|config| [(config, 1), (config, 2)]) {
            let (near, far) = duplex(64 * 1024);
            let name = "spiffe.invalid".try_into().unwrap();
            let (connected, accepted) =
                tokio::join!(TlsConnector::from(Arc::clone(config)).connect(name, near), accept(far, &server));
            if let (Ok(_), Ok(accepted)) = (connected, accepted) {
                assert_eq!(accepted.common_state().handshake_kind().unwrap(), HandshakeKind::Full, "{tries}");
                full += 1;
                assert!(accepted.info().peer().is_some());
            }
        }
        assert_eq!(full, handshakes);
    }
}

/// Rows: X-25.
#[tokio::test]
async fn tls_1_2_is_refused_unless_it_was_allowed() {
    let mut pair = Pair::new();
    for (options, allowed) in [(Options::default(), false), (Options::default().allow_tls12(), true)] {
        pair.options = options;
        let old = Arc::new(only_tls12(&pair, rustls::client::Resumption::disabled()));
        let (near, far) = duplex(64 * 1024);
        let name = "spiffe.invalid".try_into().unwrap();
        let server = pair.server_tls();
        let (_, accepted) = tokio::join!(TlsConnector::from(old).connect(name, near), accept(far, &server));
        assert_eq!(accepted.is_ok(), allowed, "{accepted:?}");
        if let Ok(connection) = accepted {
            assert_eq!(connection.common_state().protocol_version(), Some(ProtocolVersion::TLSv1_2));
            assert_eq!(connection.info().peer().unwrap().spiffe_id().as_str(), CLIENT);
        }
    }
    let Met { client, server } = pair.meet().await;
    assert_eq!(client.unwrap().common_state().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    drop(server);
}

#[tokio::test]
async fn the_peer_of_another_librarys_connection_can_be_asked_for() {
    let pair = Pair::new();
    let (near, far) = duplex(64 * 1024);
    let name = "spiffe.invalid".try_into().unwrap();
    let (client, server) = (pair.client_tls(), pair.server_tls());
    let (connected, accepted) = tokio::join!(
        TlsConnector::from(client.rustls()).connect(name, near),
        TlsAcceptor::from(server.rustls()).accept(far)
    );
    let (connected, accepted) = (connected.unwrap(), accepted.unwrap());
    let trust = Trust::fixed(pair.domain.bundles.clone());
    let peer = peer_identity(connected.get_ref().1, &trust, NOW, Side::Client).unwrap();
    assert_eq!(peer.spiffe_id().as_str(), SERVER);
    let peer = peer_identity(accepted.get_ref().1, &trust, NOW, Side::Server).unwrap();
    assert_eq!(peer.spiffe_id().as_str(), CLIENT);
    let nobody = Trust::fixed(X509BundleSet::new());
    assert!(peer_identity(accepted.get_ref().1, &nobody, NOW, Side::Server).is_err());
}

#[tokio::test]
async fn a_server_without_an_svid_yet_refuses_the_handshake() {
    let pair = Pair::new();
    pair.server.presents.store(None);
    let met = pair.meet().await;
    assert_eq!(met.server.unwrap_err().reason, Reason::HandshakeFailed);
    assert!(met.client.is_err());
}

#[test]
fn neither_keys_nor_chains_show_in_debug() {
    let pair = Pair::new();
    let shown = format!("{:?} {:?} {:?}", Credentials::none(), pair.client_tls(), pair.server_tls());
    assert!(!shown.contains("private") && !shown.contains("30, 82") && !shown.contains("48, 130"), "{shown}");
}

#[test]
fn a_key_that_is_not_the_leafs_is_refused() {
    let (ours, other) = (self_signed(leaf(CLIENT)), self_signed(leaf(CLIENT)));
    let der = vec![rustls::pki_types::CertificateDer::from(ours.der.clone())];
    let refusal = crate::tls::certified_key(der, &other.private_key()).unwrap_err();
    assert_eq!(refusal.reason, Reason::KeyMalformed);
}

/// A client that speaks TLS 1.2 only, with our verifier and our certificate.
fn only_tls12(pair: &Pair, resumption: rustls::client::Resumption) -> ClientConfig {
    let credentials = Credentials::following(Arc::clone(&pair.client.presents));
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&pair.client_tls().verifier) as _)
        .with_client_cert_resolver(Arc::new(credentials));
    config.resumption = resumption;
    config
}
