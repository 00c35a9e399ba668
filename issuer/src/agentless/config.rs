use std::{collections::HashSet, path::PathBuf};

use mayfly_sdk::{Selector, Ttl, jws::JwsAlgorithm, settings::Problem};
use serde::{Deserialize, Serialize};

use super::fetch::JwksUrl;

/// The longest life that a token may have, whatever is configured.
const LONGEST_TOKEN_LIFE: Ttl = Ttl::from_s(86_400);

/// One identity provider: a table `[agentless.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// The `iss` of its tokens, to the letter; required.
    pub issuer: String,
    /// A file with its keys (a JWK Set); read again every few minutes.
    pub jwks_file: Option<PathBuf>,
    /// `https://` address of its keys (a JWK Set); not followed anywhere else.
    pub jwks_url: Option<String>,
    /// PEM file of the certificate authorities that may vouch for that address; none: those of the machine.
    pub jwks_ca: Option<PathBuf>,
    /// The algorithms with which its tokens may be signed.
    pub algorithms: Vec<String>,
    /// The longest time that a token may have left.
    pub token_life: Ttl,
    /// Whether a token must have a `jti`. Without, a token that has none is known by what its signature is about.
    pub require_jti: bool,
}

impl Default for ProviderConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            jwks_file: None,
            jwks_url: None,
            jwks_ca: None,
            algorithms: ["RS256", "ES256", "ES384", "PS256"].map(str::to_owned).to_vec(),
            token_life: Ttl::from_s(3600),
            require_jti: true,
        }
    }
}

impl ProviderConfig {
    /// What is wrong with these providers, each by its key.
    #[must_use]
    pub fn problems(all: &std::collections::BTreeMap<String, Self>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut issuers = HashSet::new();
        for (name, provider) in all {
            provider.check(name, &mut problems);
            if !issuers.insert(&provider.issuer) {
                let what = "is the issuer of another provider too, so that nobody could tell them apart";
                problems.push(Problem::new(format!("agentless.{name}.issuer"), what, "keep one of the two"));
            }
        }
        problems
    }

    fn check(&self, name: &str, problems: &mut Vec<Problem>) {
        let mut problem = |key: &str, what: String, remedy: &str| {
            problems.push(Problem::new(format!("agentless.{name}{key}"), what, remedy));
        };
        if Selector::new("agentless", name, "x").is_err() {
            problem("", "is not a name".to_owned(), "use 1 to 64 of the characters a-z 0-9 _ -");
        }
        if self.issuer.is_empty() {
            problem(".issuer", "is not set".to_owned(), "write the `iss` of the provider's tokens, to the letter");
        }
        match (&self.jwks_file, &self.jwks_url) {
            (None, None) => problem("", "has no keys".to_owned(), "set jwks_file or jwks_url"),
            (Some(_), Some(_)) => problem(".jwks_url", "is set beside jwks_file".to_owned(), "keep one of the two"),
            (None, Some(url)) => {
                if let Err(what) = JwksUrl::parse(url) {
                    problem(".jwks_url", what, "write https://HOST[:PORT]/PATH");
                }
            }
            (Some(_), None) => {}
        }
        if self.jwks_ca.is_some() && self.jwks_url.is_none() {
            problem(".jwks_ca", "is set without jwks_url".to_owned(), "remove it");
        }
        if self.algorithms.is_empty() {
            problem(".algorithms", "is empty".to_owned(), "remove it to take the default");
        }
        for algorithm in &self.algorithms {
            if read_algorithm(algorithm).is_none() {
                let remedy = "use RS256, RS384, RS512, PS256, PS384, PS512, ES256 or ES384";
                problem(".algorithms", format!("{algorithm:?} is none that is accepted"), remedy);
            }
        }
        if self.token_life.is_zero() || self.token_life > LONGEST_TOKEN_LIFE {
            problem(".token_life", format!("{} is out of range", self.token_life), "use up to 24h");
        }
    }
}

/// The algorithm of this name; none for one that the verifier lacks.
pub(super) fn read_algorithm(name: &str) -> Option<JwsAlgorithm> {
    name.parse().ok().filter(|algorithm| *algorithm != JwsAlgorithm::Es512)
}
