//! Over the socket, as an Envoy comes: without the header of the Workload API.

use std::time::Duration;

use mayfly_proto::node;
use mayfly_proto::sds as wire;
use mayfly_proto::sds::secret::Type;
use mayfly_proto::sds::secret_discovery_service_client::SecretDiscoveryServiceClient;
use mayfly_sdk::x509::X509Svid;
use prost::Message as _;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::SECRET_TYPE;
use crate::fake_issuer::FakeIssuer;
use crate::test_node::entry;
use crate::workload_api::server::tests::{Served, served};

const WEB: &str = "spiffe://example.org/web";

struct Stream<Q, A> {
    requests: Sender<Q>,
    answers: Streaming<A>,
}

impl<Q, A> Stream<Q, A> {
    async fn ask(&self, request: Q) {
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> Result<A, Status> {
        let answer = tokio::time::timeout(Duration::from_secs(20), self.answers.message()).await;
        answer.expect("an answer in time").map(|answer| answer.expect("a stream that goes on"))
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn whole(of: &[&str]) -> wire::DiscoveryRequest {
    wire::DiscoveryRequest { resource_names: names(of), type_url: SECRET_TYPE.to_owned(), ..Default::default() }
}

fn delta(more: &[&str], fewer: &[&str]) -> wire::DeltaDiscoveryRequest {
    wire::DeltaDiscoveryRequest {
        resource_names_subscribe: names(more),
        resource_names_unsubscribe: names(fewer),
        ..Default::default()
    }
}

async fn state(
    served: &Served,
    first: wire::DiscoveryRequest,
) -> Stream<wire::DiscoveryRequest, wire::DiscoveryResponse> {
    let (requests, receiver) = channel(8);
    requests.send(first).await.unwrap();
    let mut client = SecretDiscoveryServiceClient::new(served.channel.clone());
    let answers = client.stream_secrets(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    Stream { requests, answers }
}

async fn deltas(
    served: &Served,
    first: wire::DeltaDiscoveryRequest,
) -> Stream<wire::DeltaDiscoveryRequest, wire::DeltaDiscoveryResponse> {
    let (requests, receiver) = channel(8);
    requests.send(first).await.unwrap();
    let mut client = SecretDiscoveryServiceClient::new(served.channel.clone());
    let answers = client.delta_secrets(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    Stream { requests, answers }
}

async fn fetch(served: &Served, request: wire::DiscoveryRequest) -> Result<Vec<wire::Secret>, Status> {
    let mut client = SecretDiscoveryServiceClient::new(served.channel.clone());
    client.fetch_secrets(request).await.map(|answer| secrets(&answer.into_inner()))
}

fn secrets(answer: &wire::DiscoveryResponse) -> Vec<wire::Secret> {
    assert_eq!(answer.type_url, SECRET_TYPE);
    answer.resources.iter().map(read).collect()
}

fn read(resource: &prost_types::Any) -> wire::Secret {
    assert_eq!(resource.type_url, SECRET_TYPE);
    wire::Secret::decode(resource.value.as_slice()).unwrap()
}

fn named(secrets: &[wire::Secret]) -> Vec<&str> {
    secrets.iter().map(|secret| secret.name.as_str()).collect()
}

fn inline(source: Option<&wire::DataSource>) -> Vec<u8> {
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(wire::data_source::Specifier::InlineBytes(bytes)) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn spiffe_id(secret: &wire::Secret) -> String {
    let Some(Type::TlsCertificate(certificate)) = &secret.r#type else { panic!("{}", secret.name) };
    let chain = mayfly_sdk::pem::read_certificates(&inline(certificate.certificate_chain.as_ref())).unwrap();
    let key = inline(certificate.private_key.as_ref());
    let (_, key) = x509_parser::pem::parse_x509_pem(&key).unwrap();
    let chain: Vec<u8> = chain.iter().flat_map(|der| der.to_vec()).collect();
    X509Svid::from_der(&chain, &key.contents).unwrap().spiffe_id().to_string()
}

fn trust_domains(secret: &wire::Secret) -> Vec<String> {
    let Some(Type::ValidationContext(context)) = &secret.r#type else { panic!("{}", secret.name) };
    assert_eq!(context.trusted_ca, None, "whoever is in it could certify any name");
    let config = context.custom_validator_config.as_ref().unwrap();
    assert_eq!(config.name, "envoy.tls.cert_validator.spiffe");
    let settings = config.typed_config.as_ref().unwrap();
    let settings = wire::SpiffeCertValidatorConfig::decode(settings.value.as_slice()).unwrap();
    for domain in &settings.trust_domains {
        assert!(!mayfly_sdk::pem::read_certificates(&inline(domain.trust_bundle.as_ref())).unwrap().is_empty());
    }
    settings.trust_domains.into_iter().map(|domain| domain.name).collect()
}

/// Adds the foreign trust domain `other.org`, and the entry `web` federates with it.
async fn federate(served: &Served) {
    let foreign = FakeIssuer::start(mayfly_sdk::Clock::system()).await;
    let other = node::Bundle { trust_domain: "other.org".to_owned(), ..foreign.state.authority.wire_bundle(1) };
    served.node.issuer.state.change(|delta| delta.bundles = vec![other]);
    served.node.put(node::Entry { federates_with: vec!["other.org".to_owned()], issuance: 2, ..entry("web") }).await;
}

#[tokio::test]
async fn a_proxy_gets_what_it_names_and_each_change_of_it() {
    let served = served().await;
    let mut stream = state(&served, whole(&["default", WEB, "ROOTCA", "ALL", "spiffe://example.org"])).await;
    let first = stream.next().await.unwrap();
    let found = secrets(&first);
    assert_eq!(named(&found), ["ALL", "ROOTCA", "default", "spiffe://example.org", WEB]);
    assert_eq!((spiffe_id(&found[2]), spiffe_id(&found[4])), (WEB.to_owned(), WEB.to_owned()));
    assert_eq!(
        (trust_domains(&found[0]), trust_domains(&found[1])),
        (names(&["example.org"]), names(&["example.org"]))
    );
    assert!(!first.version_info.is_empty() && !first.nonce.is_empty());
    // An acknowledgement asks for nothing; the next message is that of the change.
    let acknowledged = wire::DiscoveryRequest {
        version_info: first.version_info.clone(),
        response_nonce: first.nonce.clone(),
        ..whole(&["default", WEB, "ROOTCA", "ALL", "spiffe://example.org"])
    };
    stream.ask(acknowledged).await;
    federate(&served).await;
    let mut last = stream.next().await.unwrap();
    while trust_domains(&secrets(&last)[0]).len() < 2 {
        last = stream.next().await.unwrap();
    }
    assert_ne!((&last.version_info, &last.nonce), (&first.version_info, &first.nonce));
    assert_eq!(trust_domains(&secrets(&last)[0]), ["example.org", "other.org"]);
    assert_eq!(trust_domains(&secrets(&last)[1]), ["example.org"]);
    served.node.stop.cancel();
    drop(stream);
    served.halt().await;
}

#[tokio::test]
async fn names_may_change_on_an_open_stream_and_stale_or_rejecting_answers_bring_nothing() {
    let served = served().await;
    let mut stream = state(&served, whole(&["default"])).await;
    let first = stream.next().await.unwrap();
    let rejecting = wire::DiscoveryRequest {
        response_nonce: first.nonce.clone(),
        error_detail: Some(wire::Status { code: 13, message: "\u{1b}[31mno".repeat(1000) }),
        ..whole(&["default"])
    };
    stream.ask(rejecting).await;
    // Of names that the caller has: one that was taken would be answered, and not refused.
    stream.ask(wire::DiscoveryRequest { response_nonce: "77".to_owned(), ..whole(&[WEB]) }).await;
    // The barrier: had either been answered, or the stale one been taken, this would not be next.
    stream.ask(wire::DiscoveryRequest { response_nonce: first.nonce.clone(), ..whole(&["ROOTCA"]) }).await;
    let second = stream.next().await.unwrap();
    assert_eq!(named(&secrets(&second)), ["ROOTCA"]);
    // What was the last nonce is an old one now.
    assert_ne!(second.nonce, first.nonce);
    stream.ask(wire::DiscoveryRequest { response_nonce: first.nonce, ..whole(&[WEB]) }).await;
    stream.ask(wire::DiscoveryRequest { response_nonce: second.nonce, ..whole(&["ALL"]) }).await;
    assert_eq!(named(&secrets(&stream.next().await.unwrap())), ["ALL"]);
    drop(stream);
    served.halt().await;
}

#[tokio::test]
async fn what_is_not_the_callers_is_refused_by_name() {
    let served = served().await;
    served.node.put(node::Entry { selectors: vec!["unix:uid:4000000".to_owned()], ..entry("foreign") }).await;
    for name in ["spiffe://example.org/foreign", "spiffe://other.org", "spiffe://other.org/x", "nonsense"] {
        let status = state(&served, whole(&["default", name])).await.next().await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{name}");
        assert!(status.message().contains(name), "{}", status.message());
        assert_eq!(fetch(&served, whole(&[name])).await.unwrap_err().code(), Code::PermissionDenied, "{name}");
    }
    let everything = fetch(&served, whole(&[])).await.unwrap();
    assert_eq!(named(&everything), ["spiffe://example.org", WEB]);
    served.halt().await;
}

#[tokio::test]
async fn a_withdrawn_identity_ends_the_stream() {
    let served = served().await;
    let mut stream = state(&served, whole(&[WEB])).await;
    stream.next().await.unwrap();
    served.node.issuer.state.remove("web");
    assert_eq!(stream.next().await.unwrap_err().code(), Code::PermissionDenied);
    let status = fetch(&served, whole(&["ROOTCA"])).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "nobody without an identity is served");
    drop(stream);
    served.halt().await;
}

#[tokio::test]
async fn only_differences_go_out_on_an_incremental_stream() {
    let served = served().await;
    let mut stream = deltas(&served, delta(&["default", "ROOTCA", "nonsense"], &[])).await;
    let first = stream.next().await.unwrap();
    let got: Vec<_> = first.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!((got, first.removed_resources), (vec!["ROOTCA", "default"], names(&["nonsense"])));
    assert_eq!(spiffe_id(&read(first.resources[1].resource.as_ref().unwrap())), WEB);
    // An acknowledgement, fewer names, and one that it has: that one alone is sent again.
    stream.ask(wire::DeltaDiscoveryRequest { response_nonce: first.nonce, ..delta(&[], &[]) }).await;
    stream.ask(delta(&[], &["default", "nonsense"])).await;
    for _ in 0..2 {
        stream.ask(delta(&["ROOTCA"], &[])).await;
        let again = stream.next().await.unwrap();
        let got: Vec<_> = again.resources.iter().map(|resource| resource.name.as_str()).collect();
        assert_eq!((got, again.removed_resources), (vec!["ROOTCA"], Vec::new()));
    }
    stream.ask(delta(&["spiffe://example.org/late"], &[])).await;
    assert_eq!(stream.next().await.unwrap().removed_resources, ["spiffe://example.org/late"]);
    served.node.put(entry("late")).await;
    let late = stream.next().await.unwrap();
    assert_eq!(spiffe_id(&read(late.resources[0].resource.as_ref().unwrap())), "spiffe://example.org/late");
    served.node.issuer.state.remove("late");
    assert_eq!(stream.next().await.unwrap().removed_resources, ["spiffe://example.org/late"]);
    drop(stream);
    served.halt().await;
}

#[tokio::test]
async fn renewed_certificates_and_changed_bundles_go_out_by_themselves_in_both_forms() {
    let served = served().await;
    let mut svids = state(&served, whole(&["default"])).await;
    let mut bundles = state(&served, whole(&["ALL"])).await;
    let mut svid_deltas = deltas(&served, delta(&["default"], &[])).await;
    let mut bundle_deltas = deltas(&served, delta(&["ALL"], &[])).await;
    let content = |answer: wire::DeltaDiscoveryResponse| read(answer.resources[0].resource.as_ref().unwrap());
    let before = secrets(&svids.next().await.unwrap());
    assert_eq!(before, [content(svid_deltas.next().await.unwrap())]);
    let alone = secrets(&bundles.next().await.unwrap());
    assert_eq!(trust_domains(&alone[0]), ["example.org"]);
    assert_eq!(alone, [content(bundle_deltas.next().await.unwrap())]);
    // The certificate is made anew, and there is another trust domain to believe.
    federate(&served).await;
    let after = secrets(&svids.next().await.unwrap());
    assert_eq!(spiffe_id(&after[0]), WEB);
    assert_ne!(after, before, "another certificate under the same name");
    assert_eq!(after, [content(svid_deltas.next().await.unwrap())]);
    assert_eq!(trust_domains(&secrets(&bundles.next().await.unwrap())[0]), ["example.org", "other.org"]);
    assert_eq!(trust_domains(&content(bundle_deltas.next().await.unwrap())), ["example.org", "other.org"]);
    served.node.stop.cancel();
    drop((svids, bundles, svid_deltas, bundle_deltas));
    served.halt().await;
}

#[tokio::test]
async fn a_name_is_answered_by_a_certificate_that_bears_it_and_by_no_other() {
    const RENAMED: &str = "spiffe://example.org/renamed";
    let served = served().await;
    let mut stream = state(&served, whole(&["default"])).await;
    stream.next().await.unwrap();
    // The entry gets another name while nothing is issued: what is held bears the old one.
    let busy = node::Refused { reason: "overloaded".to_owned(), retry_after_ms: 10, ..node::Refused::default() };
    served.node.issuer.state.knobs.lock().refuse_mint = Some(busy);
    let renamed = node::Entry { spiffe_id: RENAMED.to_owned(), issuance: 2, ..entry("web") };
    served.node.put(renamed).await;
    let refused = fetch(&served, whole(&[RENAMED])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "it is the caller's, and not made yet: {}", refused.message());
    served.node.issuer.state.knobs.lock().refuse_mint = None;
    // The next attempt to issue it may be some seconds away.
    let given = async {
        loop {
            match fetch(&served, whole(&[RENAMED])).await {
                Ok(found) => return found,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{}", status.message()),
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_mins(1), given).await.expect("it is issued");
    assert_eq!((named(&found), spiffe_id(&found[0])), (vec![RENAMED], RENAMED.to_owned()));
    drop(stream);
    served.halt().await;
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_an_invalid_argument() {
    let served = served().await;
    let many: Vec<_> = (0..200).map(|n| format!("n{n}")).collect();
    let other =
        wire::DiscoveryRequest { type_url: "type.googleapis.com/envoy.Cluster".to_owned(), ..whole(&["default"]) };
    let long = "x".repeat(3000);
    for request in [other, wire::DiscoveryRequest { resource_names: many, ..whole(&[]) }, whole(&[&long]), whole(&[""])]
    {
        assert_eq!(fetch(&served, request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    served.halt().await;
}

#[tokio::test]
async fn a_proxy_without_spiffe_validators_gets_one_bundle_at_a_time() {
    use prost_types::{Struct, Value, value::Kind};
    let served = served().await;
    let declines = Value { kind: Some(Kind::BoolValue(true)) };
    let metadata = Struct { fields: [("disable_spiffe_cert_validation".to_owned(), declines)].into() };
    let node = Some(wire::Node { metadata: Some(metadata), ..Default::default() });
    let found = fetch(&served, wire::DiscoveryRequest { node: node.clone(), ..whole(&["ROOTCA"]) }).await.unwrap();
    let Some(Type::ValidationContext(context)) = &found[0].r#type else { panic!("{found:?}") };
    assert!(context.trusted_ca.is_some() && context.custom_validator_config.is_none());
    let status = fetch(&served, wire::DiscoveryRequest { node, ..whole(&["ALL"]) }).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::InvalidArgument,
        "several trust domains in one trusted_ca could speak for each other"
    );
    served.halt().await;
}
