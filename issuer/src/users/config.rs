use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use mayfly_sdk::{Clock, Refusal, Ttl, settings::Problem, task::User};
use serde::{Deserialize, Serialize};

use crate::oidc::{self, Described, default_algorithms};

/// The longest that any task may last.
const LONGEST: Ttl = Ttl::from_s(8 * 3600);
/// The least that a task may last.
const SHORTEST: Ttl = Ttl::from_s(30);

/// One identity provider of users: a table `[users.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserProviderConfig {
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
    /// What its tokens name as their audience to be for this issuer; empty: the `iss` of task tokens.
    pub audience: String,
    /// The longest time that a token may have left.
    pub token_life: Ttl,
    /// How long a task on behalf of one of its users may last.
    pub longest_deadline: Ttl,
}

/// What names this issuer, and so can name no provider of users.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// The trust domain.
    pub trust_domain: &'a str,
    /// `https://HOST`; empty: there is none.
    pub public_url: &'a str,
}

/// A provider, and what its tokens must say.
#[derive(Debug)]
pub(super) struct UserProvider {
    pub(super) oidc: oidc::Provider,
    pub(super) audience: String,
    pub(super) longest_deadline: Ttl,
}

impl Default for UserProviderConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            jwks_file: None,
            jwks_url: None,
            jwks_ca: None,
            algorithms: default_algorithms(),
            audience: String::new(),
            token_life: Ttl::from_s(3600),
            longest_deadline: Ttl::from_s(3600),
        }
    }
}

impl UserProviderConfig {
    /// What is wrong with these providers, each by its key.
    #[must_use]
    pub fn problems(all: &BTreeMap<String, Self>, own: Own<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut issuers = HashSet::new();
        for (name, provider) in all {
            provider.check(name, own, &mut problems);
            if !issuers.insert(&provider.issuer) {
                let what = "is the issuer of another provider too, so that nobody could tell their users apart";
                problems.push(Problem::new(format!("users.{name}.issuer"), what, "keep one of the two"));
            }
        }
        problems
    }

    fn check(&self, name: &str, own: Own<'_>, problems: &mut Vec<Problem>) {
        let place = format!("users.{name}");
        self.described().check(&place, problems);
        let mut problem = |key: &str, what: &str, remedy: &str| {
            problems.push(Problem::new(format!("{place}{key}"), what, remedy));
        };
        if User::new(name, "x").is_err() {
            problem("", "is not a name", "use 1 to 64 of the characters a-z 0-9 -");
        }
        let url = own.public_url.trim_end_matches('/');
        let issuer = self.issuer.trim_end_matches('/');
        let within = |name: &str| issuer == name || issuer.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
        if (!url.is_empty() && within(url)) || within(&format!("spiffe://{}", own.trust_domain)) {
            problem(".issuer", "is this issuer itself, whose tokens are of workloads", "name a provider of users");
        }
        let audience = self.audience.strip_prefix("spiffe://").unwrap_or(&self.audience);
        if !self.audience.is_empty() && audience == own.trust_domain {
            let remedy =
                "have tokens made for another audience: those for the trust domain are of callers without a node agent";
            problem(".audience", "is the trust domain", remedy);
        }
        if !(SHORTEST..=LONGEST).contains(&self.longest_deadline) {
            problem(".longest_deadline", "is out of range", "use 30s to 8h");
        }
    }

    fn described(&self) -> Described<'_> {
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

impl UserProvider {
    pub(super) fn new(name: &str, config: &UserProviderConfig, audience: &str, clock: &Clock) -> Result<Self, Refusal> {
        let audience = if config.audience.is_empty() { audience } else { &config.audience };
        Ok(Self {
            oidc: oidc::Provider::new("users", name, &config.described(), clock)?,
            audience: audience.to_owned(),
            longest_deadline: config.longest_deadline,
        })
    }
}
