use std::{collections::HashSet, path::PathBuf};

use mayfly_sdk::{Selector, Ttl, settings::Problem};
use serde::{Deserialize, Serialize};

use crate::oidc::{Described, default_algorithms};

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
            algorithms: default_algorithms(),
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
        let place = format!("agentless.{name}");
        if Selector::new("agentless", name, "x").is_err() {
            problems.push(Problem::new(&place, "is not a name", "use 1 to 64 of the characters a-z 0-9 _ -"));
        }
        self.described().check(&place, problems);
    }

    /// What every identity provider has.
    pub(super) fn described(&self) -> Described<'_> {
        Described {
            issuer: &self.issuer,
            jwks_file: self.jwks_file.as_deref(),
            jwks_url: self.jwks_url.as_deref(),
            jwks_ca: self.jwks_ca.as_deref(),
            algorithms: &self.algorithms,
            token_life: self.token_life,
        }
    }
}
