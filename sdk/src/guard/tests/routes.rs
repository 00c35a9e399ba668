//! What a layer asks for, and where it stands among axum's routes.

use ::axum::Router;
use ::axum::routing::get;

use super::serving::{AGENT, ORIGIN, World, bearer, proof};
use crate::jwk;
use crate::key::{KeyAlgorithm, PrivateKey};
use crate::task::Binding;
use crate::task::fixture::claims;
use crate::x509::fixture::NOW;

#[tokio::test]
async fn every_scope_token_that_a_layer_was_told_of_is_needed_however_it_was_told() {
    let mut world = World::new().await;
    let layer = || world.guard.layer();
    let layers = [
        ("/both", layer().scope(["read write"])),
        ("/added", layer().scope(["read"]).scope(["write"])),
        ("/spaced", layer().scope([" read  write "])),
        ("/quoted", layer().scope(["read", "wr\"ite"])),
        ("/line", layer().scope(["read\nwrite"])),
        ("/empty", layer().scope([""])),
        ("/none", layer().scope::<String>([])),
    ];
    let routes = layers.into_iter().map(|(path, layer)| Router::new().route(path, get(|| async {})).layer(layer));
    let address = world.serve(routes.fold(Router::new(), Router::merge)).await;
    let agent = world.instance(AGENT);
    let (one, both) = (world.scoped(&agent, &["read"]), world.scoped(&agent, &["read", "write", "other"]));
    for (path, with_one, with_both, named) in [
        ("/both", 403, 200, Some("read write")),
        ("/added", 403, 200, Some("read write")),
        ("/spaced", 403, 200, Some("read write")),
        // What no grant can have is had by nobody, and is not written into a header.
        ("/quoted", 403, 403, Some("read")),
        ("/line", 403, 403, None),
        ("/empty", 403, 403, None),
        ("/none", 200, 200, None),
    ] {
        let (status, answer) = world.get(&address, path, Some(&agent), &bearer(&one)).await;
        assert_eq!(status, with_one, "{path}: {answer}");
        let challenge = named.map(|named| format!("scope=\"{named}\""));
        assert_eq!(answer.contains("scope=\""), challenge.is_some(), "{path}: {answer}");
        assert!(challenge.is_none_or(|challenge| answer.contains(&challenge)), "{path}: {answer}");
        let (status, answer) = world.get(&address, path, Some(&agent), &bearer(&both)).await;
        assert_eq!(status, with_both, "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_proof_is_for_the_path_that_was_called_wherever_the_layer_stands() {
    let mut world = World::new().await;
    let layer = world.guard.layer().dpop(ORIGIN.parse().unwrap(), &world.clock);
    let page = || Router::new().route("/page", get(|| async {}));
    let within = Router::new().nest("/files", Router::new().nest("/inner", page().layer(layer.clone())));
    let around = Router::new().nest("/around", page()).layer(layer);
    let address = world.serve(within.merge(around)).await;
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let mut claims = claims(&AGENT.parse().unwrap(), b"", 1, NOW);
    claims.binding = Binding::Key(jwk::thumbprint_sha256(key.public_key()));
    let token = world.authority.token(&claims);
    for (n, (called, proved, expected)) in [
        ("/files/inner/page", "/files/inner/page", 200),
        ("/around/page", "/around/page", 200),
        ("/files/inner/page?x=1", "/files/inner/page", 200),
        // A proof for another path, which the rest of this one happens to be.
        ("/files/inner/page", "/page", 401),
        ("/files/inner/page", "/inner/page", 401),
        ("/around/page", "/page", 401),
    ]
    .into_iter()
    .enumerate()
    {
        let proof = proof(&key, &format!("{ORIGIN}{proved}"), &format!("proof-number-{n}"), &token);
        let headers = [format!("authorization: DPoP {token}"), proof];
        let (status, answer) = world.get(&address, called, None, &headers).await;
        assert_eq!(status, expected, "{called} by a proof for {proved}: {answer}");
    }
}
