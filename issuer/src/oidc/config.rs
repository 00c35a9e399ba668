use std::path::Path;

use mayfly_sdk::{Ttl, jws::JwsAlgorithm, settings::Problem};

use super::fetch::JwksUrl;

/// The longest life that a token may have, whatever is configured.
pub(crate) const LONGEST_TOKEN_LIFE: Ttl = Ttl::from_s(86_400);

/// What is configured of any identity provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Described<'a> {
    /// The `iss` of its tokens.
    pub(crate) issuer: &'a str,
    /// A file with its keys.
    pub(crate) jwks_file: Option<&'a Path>,
    /// The address of its keys.
    pub(crate) jwks_url: Option<&'a str>,
    /// Who may vouch for that address.
    pub(crate) jwks_ca: Option<&'a Path>,
    /// How its tokens may be signed.
    pub(crate) algorithms: &'a [String],
    /// The longest time that a token may have left.
    pub(crate) token_life: Ttl,
}

impl Described<'_> {
    /// What is wrong with the provider of the table at `place`, each by its key.
    pub(crate) fn check(&self, place: &str, problems: &mut Vec<Problem>) {
        let mut problem = |key: &str, what: String, remedy: &str| {
            problems.push(Problem::new(format!("{place}{key}"), what, remedy));
        };
        if self.issuer.is_empty() {
            problem(".issuer", "is not set".to_owned(), "write the `iss` of the provider's tokens, to the letter");
        }
        match (self.jwks_file, self.jwks_url) {
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
        for algorithm in self.algorithms {
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
pub(crate) fn read_algorithm(name: &str) -> Option<JwsAlgorithm> {
    name.parse().ok().filter(|algorithm| *algorithm != JwsAlgorithm::Es512)
}

/// Those that are accepted where nothing is configured.
pub(crate) fn default_algorithms() -> Vec<String> {
    ["RS256", "ES256", "ES384", "PS256"].map(str::to_owned).to_vec()
}
