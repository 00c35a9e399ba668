//! What a layer asks for, and where it stands among axum's routes.

use ::axum::Router;
use ::axum::routing::get;

use super::serving::{World, bearer};

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
    let agent = world.instance(super::serving::AGENT);
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
