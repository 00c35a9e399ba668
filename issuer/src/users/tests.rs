use std::collections::BTreeMap;

use mayfly_sdk::Ttl;

use super::*;

fn config(issuer: &str) -> UserProviderConfig {
    UserProviderConfig {
        issuer: issuer.into(),
        jwks_file: Some("/nonexistent".into()),
        ..UserProviderConfig::default()
    }
}

fn keys(all: &[(&str, UserProviderConfig)]) -> Vec<String> {
    let own = Own { trust_domain: "td", public_url: "https://issuer.example/" };
    let all: BTreeMap<_, _> = all.iter().map(|(name, config)| ((*name).to_owned(), config.clone())).collect();
    UserProviderConfig::problems(&all, own).into_iter().map(|problem| problem.key).collect()
}

#[test]
fn each_wrong_setting_is_told_by_its_key() {
    let good = config("https://corp.example");
    let with = |change: &dyn Fn(&mut UserProviderConfig)| {
        let mut config = good.clone();
        change(&mut config);
        keys(&[("corp", config)])
    };
    let none: [&str; 0] = [];
    assert_eq!(with(&|_| {}), none);
    assert_eq!(with(&|it| it.audience = "https://issuer.example/task".into()), none);
    for name in ["C", "a_b", "a:b", "", &"x".repeat(65)] {
        assert_eq!(keys(&[(name, good.clone())]), [format!("users.{name}")]);
    }
    assert_eq!(with(&|it| it.jwks_file = None), ["users.corp"]);
    assert_eq!(with(&|it| it.issuer.clear()), ["users.corp.issuer"]);
    assert_eq!(with(&|it| it.algorithms = vec!["HS256".into()]), ["users.corp.algorithms"]);
    assert_eq!(with(&|it| it.token_life = Ttl::ZERO), ["users.corp.token_life"]);
    // This issuer is no provider of users, and its tokens no users' tokens.
    for own in [
        "https://issuer.example",
        "https://issuer.example/task",
        "https://issuer.example/svid",
        "spiffe://td/mayfly/task",
    ] {
        assert_eq!(with(&|it| it.issuer = own.into()), ["users.corp.issuer"], "{own}");
    }
    assert_eq!(with(&|it| it.issuer = "https://issuer.example.org".into()), none);
    for audience in ["td", "spiffe://td"] {
        assert_eq!(with(&|it| it.audience = audience.into()), ["users.corp.audience"]);
    }
    for (deadline, problems) in [(29, 1), (30, 0), (28_800, 0), (28_801, 1)] {
        assert_eq!(with(&|it| it.longest_deadline = Ttl::from_s(deadline)).len(), problems, "{deadline}");
    }
    assert_eq!(keys(&[("a", good.clone()), ("b", good.clone())]), ["users.b.issuer"]);
}

#[tokio::test]
async fn so_many_tokens_are_looked_at_and_no_more() {
    let users =
        Users::new(&[("corp".to_owned(), config("https://corp.example"))].into(), "aud", Clock::system()).unwrap();
    let places: Vec<_> = (0..CALLERS).map(|_| users.enter().unwrap()).collect();
    assert_eq!(users.verify("x").await.unwrap_err().reason, Reason::Overloaded);
    assert_eq!(users.verify_logout("corp", "x").await.unwrap_err().reason, Reason::Overloaded);
    drop(places);
    assert_eq!(users.verify("x").await.unwrap_err().reason, Reason::TokenInvalid);
    assert_eq!(users.verify_logout("other", "x").await.unwrap_err().reason, Reason::NotFound);
    assert!(users.knows("corp") && !users.knows("other"));
}
