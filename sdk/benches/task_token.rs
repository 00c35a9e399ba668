//! What it costs a service to verify a task token, in verifications of a bare P-256 signature: `cargo bench -p mayfly-sdk --bench task_token`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark, which reads the clock and prints"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_sdk::bundle::{X509Bundle, X509BundleSet};
use mayfly_sdk::jws::{JwsAlgorithm, Signer};
use mayfly_sdk::task::{
    Actor, Binding, Grant, Shown, Subject, TYP, TaskClaims, TaskKeys, TaskLink, TaskVerifier, Update,
};
use mayfly_sdk::x509::{self, Usage};
use mayfly_sdk::{Clock, KeyAlgorithm, PrivateKey, Revision, Serial, Ttl, VerifiedPeer};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use ring::digest::{SHA256, digest};

const AUDIENCE: &str = "https://files.example.org/mcp";
const AGENT: &str = "spiffe://example.org/agent";
/// Operations of a sample, and samples of a figure: the least counts, for whatever else runs on the machine only adds.
const OPERATIONS: u32 = 500;
const SAMPLES: u32 = 21;

fn main() {
    let clock = Clock::system();
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let peer = peer(&clock);
    let token = token(&key, &peer, &clock);
    let verifier = |remember| {
        let verifier = TaskVerifier::new(AUDIENCE, &clock).remember(remember);
        verifier.set_keys(TaskKeys::new("https://issuer.example.org/task", [key.public_key().clone()]));
        verifier.take(&Update { whole: true, at: Revision { epoch: 1, n: 0 }, events: Vec::new() }, 0).unwrap();
        move |token: &str, peer: &VerifiedPeer| {
            verifier.decide(black_box(token), Shown::Peer(black_box(peer))).verdict.unwrap();
        }
    };
    let (first, second) = (verifier(0), verifier(100));

    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // The point alone: the last 65 bytes of the SPKI.
    let spki = key.public_key().spki();
    let point = spki.get(spki.len() - 65..).unwrap();
    let bare = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    let raw = || bare.verify(black_box(input.as_bytes()), black_box(&signature)).unwrap();

    println!("a token of {} bytes", token.len());
    let raw = cost(raw);
    for (what, cost) in
        [("first sight", cost(|| first(&token, &peer))), ("second sight", cost(|| second(&token, &peer)))]
    {
        let ratio = cost.as_secs_f64() / raw.as_secs_f64();
        println!("{what}: {:.1} us, {ratio:.2} verifications of {:.1} us", us(cost), us(raw));
    }
}

fn us(cost: Duration) -> f64 {
    cost.as_secs_f64() * 1e6
}

fn cost(work: impl Fn()) -> Duration {
    let sample = || {
        let begun = Instant::now();
        (0..OPERATIONS).for_each(|_| work());
        begun.elapsed() / OPERATIONS
    };
    (0..SAMPLES).map(|_| sample()).min().unwrap()
}

/// The token of a task that was delegated once, with a scope and one constrained tool.
fn token(key: &PrivateKey, peer: &VerifiedPeer, clock: &Clock) -> String {
    let grant = format!(
        r#"{{"audience": "{AUDIENCE}", "scope": ["read", "list"], "authorization_details": [{{"type": "mcp_tool", "tool": "read_file",
            "locations": ["{AUDIENCE}"], "actions": ["call"], "constraints": {{"path": {{"subpath": "/srv/reports"}}}}}}]}}"#
    );
    let actor =
        |id: &str, n: u8| Actor { spiffe_id: id.parse().unwrap(), instance: [n; 16].as_slice().try_into().unwrap() };
    let serial = Serial::first_at;
    let planner = actor("spiffe://example.org/planner", 1);
    let claims = TaskClaims {
        issuer: "https://issuer.example.org/task".to_owned(),
        subject: Subject::Workload(planner.spiffe_id.clone()),
        chain: vec![planner, actor(AGENT, 2)],
        may_act: None,
        grant: Grant::from_json(grant.as_bytes()).unwrap(),
        binding: Binding::Certificate(digest(&SHA256, peer.certificate()).as_ref().try_into().unwrap()),
        issued_at: clock.now(),
        expires_at: clock.now().saturating_add(Ttl::from_s(900)),
        jti: serial(3),
        task: TaskLink {
            id: serial(2),
            root: serial(1),
            parent: Some(serial(1)),
            purpose: [1; 32],
            hop: 1,
            max_hops: 3,
        },
        parent_digest: Some([2; 32]),
        evidence: [3; 32],
        status: None,
    };
    let claims = serde_json::Value::Object(claims.to_json()).to_string();
    Signer::new(key, JwsAlgorithm::Es256, TYP).unwrap().sign(claims.as_bytes()).unwrap()
}

fn peer(clock: &Clock) -> VerifiedPeer {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root_key = KeyPair::generate().unwrap();
    let root = ca.self_signed(&root_key).unwrap();
    let mut leaf = CertificateParams::default();
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    leaf.subject_alt_names = vec![SanType::URI(AGENT.try_into().unwrap())];
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::from_params(&ca, &root_key)).unwrap();
    let bundles: X509BundleSet = X509Bundle::from_der("example.org".parse().unwrap(), root.der()).unwrap().into();
    x509::verify(&[leaf.der()], &bundles, clock.now(), Usage::Client).unwrap()
}
