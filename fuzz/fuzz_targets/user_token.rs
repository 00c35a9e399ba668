//! Tokens of users and logout tokens, as text and as claims that their provider has signed: whoever is read out of one is a user of that
//! provider, and of nobody else.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_fuzz::{key, signed};
use mayfly_issuer::users::{UserProviderConfig, Users};
use mayfly_sdk::key::PrivateKey;
use mayfly_sdk::{Clock, Timestamp, jwk};
use tokio::runtime::{Builder, Runtime};

static KEY: LazyLock<PrivateKey> = LazyLock::new(key);
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
static USERS: LazyLock<Users> = LazyLock::new(|| {
    let mut members = jwk::members(KEY.public_key());
    members.insert("kid".to_owned(), "one".into());
    let jwks = serde_json::json!({ "keys": [members] }).to_string();
    let file = std::env::temp_dir().join(format!("mayfly-fuzz-{}", std::process::id()));
    std::fs::write(&file, jwks).expect("a file");
    let config = UserProviderConfig {
        issuer: "https://login.example.org".to_owned(),
        jwks_file: Some(file.clone()),
        ..UserProviderConfig::default()
    };
    let (clock, _hand) = Clock::manual(Timestamp::from_unix_s(1_790_000_000));
    let users = Users::new(&[("corp".to_owned(), config)].into(), "https://issuer.example.org/task", clock);
    let users = users.expect("a provider");
    // The keys are read at the first token, and never again within the time that stands still here.
    drop(RUNTIME.block_on(users.verify(&signed(&KEY, HEADER, r#"{"iss":"https://login.example.org"}"#))));
    std::fs::remove_file(file).expect("it is there");
    users
});
const HEADER: &str = r#"{"alg":"ES256","kid":"one","typ":"JWT"}"#;

fuzz_target!(|text: &str| {
    let (users, signed) = (&*USERS, signed(&KEY, HEADER, text));
    RUNTIME.block_on(async {
        assert!(users.verify(text).await.is_err(), "nobody has signed it");
        if let Ok(verified) = users.verify(&signed).await {
            assert_eq!(verified.user.provider(), "corp");
            assert!(verified.subject().to_string().starts_with("user:corp:"));
        }
        drop(users.verify_logout("corp", &signed).await);
    });
});
