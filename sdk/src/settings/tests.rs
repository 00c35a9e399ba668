use std::ffi::OsString;
use std::io::Write;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Example {
    trust_domain: String,
    listen: std::net::SocketAddr,
    issuers: Vec<String>,
    ttl: Lifetimes,
    labels: std::collections::BTreeMap<String, String>,
    public_url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Lifetimes {
    x509: u32,
    jwt: u32,
    allow_short_ttl: bool,
}

impl Default for Example {
    fn default() -> Self {
        Self {
            trust_domain: "example.org".into(),
            listen: "0.0.0.0:8443".parse().unwrap(),
            issuers: Vec::new(),
            ttl: Lifetimes::default(),
            labels: std::collections::BTreeMap::new(),
            public_url: None,
        }
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { x509: 900, jwt: 300, allow_short_ttl: false }
    }
}

impl Settings for Example {
    fn check(&self) -> Vec<Problem> {
        if self.ttl.x509 < 60 && !self.ttl.allow_short_ttl {
            return vec![Problem::new("ttl.x509", "is shorter than 60 s", "set `ttl.allow_short_ttl` or at least 60")];
        }
        Vec::new()
    }
}

fn load_with(text: &str, env: &[(&str, &str)], overrides: &[Override]) -> Result<Example, Vec<String>> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let directory = format!("{}:", file.path().display());
    load_from(Some(file.path()), "MAYFLY_ISSUER", env, overrides)
        .map_err(|problems| problems.iter().map(|problem| problem.to_string().replace(&directory, "f:")).collect())
}

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(load_with("", &[], &[]).unwrap(), Example::default());
    assert_eq!(load_from::<Example>(None, "MAYFLY_ISSUER", [], &[]).unwrap(), Example::default());
}

#[test]
fn a_later_source_wins() {
    let flag = Override { flag: "--trust-domain".into(), key: "trust_domain".into(), value: "flag".into() };
    let env =
        [("MAYFLY_ISSUER__TRUST_DOMAIN", "env"), ("MAYFLY_ISSUER__TTL__X509", "120"), ("MAYFLY_AGENT__TTL__X509", "1")];
    let read = load_with("trust_domain = 'file'\n[ttl]\nx509 = 60\njwt = 70", &env, &[flag]).unwrap();
    assert_eq!((read.trust_domain.as_str(), read.ttl.x509, read.ttl.jwt), ("flag", 120, 70));
}

#[test]
fn the_environment_takes_the_form_that_the_key_needs() {
    let env = [
        ("MAYFLY_ISSUER__TRUST_DOMAIN", "12"),
        ("MAYFLY_ISSUER__ISSUERS", "['a', 'b']"),
        ("MAYFLY_ISSUER__TTL__ALLOW_SHORT_TTL", "true"),
        ("MAYFLY_ISSUER__LISTEN", "127.0.0.1:0"),
        ("MAYFLY_ISSUER__PUBLIC_URL", "https://issuer.example"),
        ("MAYFLY_ISSUER__LABELS__REGION", "eu"),
    ];
    let read = load_with("", &env, &[]).unwrap();
    assert_eq!(read.trust_domain, "12");
    assert_eq!(read.issuers, ["a", "b"]);
    assert!(read.ttl.allow_short_ttl);
    assert_eq!(read.listen.port(), 0);
    assert_eq!(read.public_url.as_deref(), Some("https://issuer.example"));
    assert_eq!(read.labels["region"], "eu");
}

#[test]
fn all_problems_are_reported_together_with_line_and_nearest_key() {
    let text =
        "trustdomain = 'x'\nlisten = 'nowhere'\n\n[ttl]\nx509 = 5\njwt = 'long'\nx590 = 1\n[labels]\nany = 'thing'\n";
    let found = load_with(text, &[("MAYFLY_ISSUER__TTL__JTW", "60")], &[]).unwrap_err();
    assert_eq!(
        found,
        [
            "f:1: trustdomain: unknown key; did you mean `trust_domain`?",
            "f:2: listen: invalid socket address syntax; the default is \"0.0.0.0:8443\"",
            "f:6: ttl.jwt: invalid type: string \"long\", expected u32; the default is 300",
            "f:7: ttl.x590: unknown key; did you mean `ttl.x509`?",
            "MAYFLY_ISSUER__TTL__JTW: ttl.jtw: unknown key; did you mean `ttl.jwt`?",
            "f:5: ttl.x509: is shorter than 60 s; set `ttl.allow_short_ttl` or at least 60",
        ]
    );
}

#[test]
fn a_key_in_the_wrong_table_is_sent_to_the_right_one() {
    let found = load_with("x509 = 60\n[ttl]\ntrust_domain = 'x'\n", &[], &[]).unwrap_err();
    assert_eq!(found[1], "f:3: ttl.trust_domain: unknown key; did you mean `trust_domain`?");
    assert_eq!(found[0], "f:1: x509: unknown key; did you mean `ttl.x509`?");
}

#[test]
fn a_table_given_as_a_value_is_explained() {
    let found = load_with("ttl = 5\n", &[], &[]).unwrap_err();
    assert_eq!(
        found,
        [
            "f:1: ttl: is a table of keys and has no value of its own; set one of `ttl.allow_short_ttl`, `ttl.jwt`, `ttl.x509`"
        ]
    );
}

#[test]
fn syntax_errors_name_their_line_and_hide_no_other() {
    let found = load_with("listen = \n\nissuers = [1\n", &[], &[]).unwrap_err();
    assert!(found.len() >= 2, "{found:?}");
    assert!(found[0].starts_with("f:1: ") && found[0].ends_with("; correct the TOML syntax"), "{found:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let error = load_from::<Example>(Some(Path::new("/nonexistent/f.toml")), "X", [], &[]).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/f.toml: cannot be read: "), "{error}");
}

#[test]
fn a_sample_must_hold_every_key_with_its_default() {
    let right = "# The name.\ntrust_domain = \"example.org\"\nlisten = \"0.0.0.0:8443\"\nissuers = []\n# public_url = \"https://x\"\n\
                 [labels]\n[ttl]\nx509 = 900\njwt = 300\n# allow_short_ttl = false\n";
    compare_sample(&Example::default(), right).unwrap();
    let wrong = right.replace("jwt = 300", "jwt = 301").replace("issuers = []\n", "");
    let found = compare_sample(&Example::default(), &wrong).unwrap_err().to_string();
    assert_eq!(
        found,
        "default: issuers: is not in the sample; add it with its default, []\ndefault: ttl.jwt: is 301 in the sample; the default is 300"
    );
}

#[test]
fn every_key_is_listed_with_its_default() {
    let keys = keys(&Example::default());
    assert!(keys.contains(&("ttl.x509".into(), "900".into())));
    assert!(keys.contains(&("public_url".into(), "null".into())));
    assert_eq!(keys.len(), 8);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_never_panics(text in "\\PC{0,80}|[a-z_.=\\[\\]{}\"'0-9\n ]{0,120}") {
        let refused = load_with(&text, &[], &[]);
        if let Err(problems) = refused {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn any_environment_value_is_read_or_refused(value in "\\PC{0,40}") {
        let refused = load_with("", &[("MAYFLY_ISSUER__TTL__X509", &value), ("MAYFLY_ISSUER__ISSUERS", &value)], &[]);
        prop_assert!(refused.is_ok() || refused.is_err_and(|problems| !problems.is_empty()));
        let read = load_with("", &[("MAYFLY_ISSUER__TRUST_DOMAIN", &value)], &[]).unwrap();
        prop_assert_eq!(read.trust_domain, value);
    }

    #[test]
    fn one_slip_in_a_key_finds_the_key_meant(at in 0usize..12, with in "[a-z]") {
        let mut key = "trust_domain".to_owned();
        key.replace_range(at..=at, &with);
        prop_assume!(key != "trust_domain");
        let found = load_with(&format!("{key} = 'x'"), &[], &[]).unwrap_err();
        prop_assert!(found[0].ends_with("did you mean `trust_domain`?"), "{:?}", found);
    }
}
