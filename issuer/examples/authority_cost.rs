//! What signing costs: CPU for each X.509-SVID and JWT-SVID, read back and checked, beside that of a P-256 signature in
//! the same run.
//!
//! `cargo run --release -p mayfly-issuer --example authority_cost`. CPU is user + system of the whole process.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and stops at the first surprise"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use mayfly_issuer::authority::{Acknowledgements, JwtPlan, LeafPlan, Place, Settings, Stored, open};
use mayfly_issuer::store::{Options, Store};
use mayfly_sdk::jws::Object;
use mayfly_sdk::{
    Clock, KeyAlgorithm, PrivateKey, PublicKey, Revision, Serial, SignatureAlgorithm, SpiffeId, TrustDomain, Ttl,
};
use nix::sys::resource::{UsageWho, getrusage};
use x509_parser::prelude::{FromDer, X509Certificate};

const ROUNDS: u32 = 20_000;

struct Nobody;

impl Acknowledgements for Nobody {
    fn behind(&self, _: Revision) -> Vec<SpiffeId> {
        Vec::new()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let home = tempfile::tempdir().unwrap();
    let trust_domain: TrustDomain = "bench.test".parse().unwrap();
    let clock = Clock::system();
    let (store, loaded) = Store::open(home.path(), Options::new(trust_domain.clone()), clock.clone()).await.unwrap();
    let stored = Stored::of(&loaded, &trust_domain);
    let place = Place { trust_domain, issuer: "bench".to_owned(), wrapping_key: home.path().join("wrapping.key") };
    let opened = open(place, Settings::default(), stored, Arc::new(store), Arc::new(Nobody), clock.clone()).await;
    let (authorities, _rotation) = opened.unwrap();

    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let signing = key.signing_key(SignatureAlgorithm::EcSha256Der).unwrap();
    let message = [7; 480];
    let sign = each(|| black_box(signing.sign(&message).unwrap()));
    let plan = LeafPlan {
        spiffe_id: "spiffe://bench.test/ns/production/sa/payments".parse().unwrap(),
        public_key: key.public_key().clone(),
        dns_names: vec!["payments.production.svc".to_owned()],
        ip_addresses: Vec::new(),
        ttl: Ttl::from_s(900),
        serial: Serial::generate(clock.now_ms()).unwrap(),
        now: clock.now(),
    };
    let leaf = authorities.sign_x509(&plan).await.unwrap();
    let cpu = cpu_us();
    for _ in 0..ROUNDS {
        black_box(authorities.sign_x509(&plan).await.unwrap());
    }
    let x509 = (cpu_us() - cpu) / f64::from(ROUNDS);
    let token = JwtPlan {
        spiffe_id: plan.spiffe_id.clone(),
        audience: vec!["spiffe://bench.test/ns/production/sa/ledger".to_owned()],
        ttl: Ttl::from_s(300),
        jti: plan.serial,
        iss: None,
        claims: Object::new(),
        now: plan.now,
    };
    let cpu = cpu_us();
    for _ in 0..ROUNDS {
        black_box(authorities.sign_jwt(&token).await.unwrap());
    }
    let jwt = (cpu_us() - cpu) / f64::from(ROUNDS);
    let parse = each(|| black_box(X509Certificate::from_der(&leaf.der).unwrap().1.version()));
    let spki = each(|| black_box(PublicKey::from_spki(key.public_key().spki()).unwrap()));

    println!("| what | CPU us | / signature |");
    println!("|---|---|---|");
    for (what, us) in [
        ("P-256 signature", sign),
        ("X.509-SVID signed, read back, compared", x509),
        ("of which a parser's reading alone", parse),
        ("JWT-SVID signed, read back, compared", jwt),
        ("a workload's public key read and checked, before the plan", spki),
    ] {
        println!("| {what} | {us:.2} | {:.2} |", us / sign);
    }
}

fn each<T>(mut work: impl FnMut() -> T) -> f64 {
    let cpu = cpu_us();
    for _ in 0..ROUNDS {
        work();
    }
    (cpu_us() - cpu) / f64::from(ROUNDS)
}

fn cpu_us() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let us = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), u32::try_from(time.tv_usec()).unwrap() * 1000).as_secs_f64() * 1e6
    };
    us(usage.user_time()) + us(usage.system_time())
}
