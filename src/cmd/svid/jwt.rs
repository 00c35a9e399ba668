//! `mayfly svid jwt fetch` and `validate`.

use std::io::{self, Write};

use mayfly_sdk::SpiffeId;
use mayfly_sdk::client::{FetchedJwt, ValidatedJwt};
use mayfly_sdk::jwt::Audience;
use serde::Serialize;
use serde_json::Value;

use crate::cmd::token;
use crate::endpoint::EndpointArgs;
use crate::failure::Failure;
use crate::output::{Items, Out, View};

#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {
    #[command(flatten)]
    pub(super) asked: Asked,
}

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// For whom the token is; may be repeated
    #[arg(long = "audience", short, value_name = "AUDIENCE", required = true)]
    audiences: Vec<String>,
    /// Only of this identity [default: of each that this process has]
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// The audience that the token must be for
    #[arg(long, short)]
    audience: String,
    /// The token; - for standard input, which other processes do not see
    token: String,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// A token as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    spiffe_id: String,
    hint: Option<String>,
    audience: Vec<String>,
    expires_at: String,
    pub(super) token: String,
}

/// What a token says that holds.
#[derive(Debug, Serialize)]
struct Verdict {
    valid: bool,
    spiffe_id: String,
    audience: Vec<String>,
    expires_at: String,
    claims: Value,
}

impl Fetch {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let items = self.asked.fetch().await?.iter().map(Shown::of).collect();
        Ok(out.show(&Items { items })?)
    }
}

impl Asked {
    pub(super) async fn fetch(&self) -> Result<Vec<FetchedJwt>, Failure> {
        let audiences: Result<Vec<_>, _> = self.audiences.iter().map(|audience| self::audience(audience)).collect();
        let fetched = self.endpoint.client()?.fetch_jwt_svids(&audiences?, self.spiffe_id.as_ref()).await;
        fetched.map_err(|refusal| Failure::refused("no JWT-SVID was fetched", &refusal))
    }
}

impl Validate {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let token = if self.token == "-" { token::from_stdin()? } else { self.token };
        let validated = self.endpoint.client()?.validate_jwt_svid(&audience(&self.audience)?, &token).await;
        let validated =
            validated.map_err(|refusal| Failure::refused("the JWT-SVID does not hold", &refusal).into_refusal())?;
        Ok(out.show(&Verdict::of(&validated))?)
    }
}

fn audience(name: &str) -> Result<Audience, Failure> {
    Audience::new(name).map_err(|error| {
        Failure::input(format!("`{name}` is not an audience"), error.to_string(), "name who the token is for")
    })
}

impl Shown {
    pub(super) fn of(jwt: &FetchedJwt) -> Self {
        Self {
            spiffe_id: jwt.spiffe_id().to_string(),
            hint: jwt.hint().map(ToOwned::to_owned),
            audience: jwt.claims().audience().to_vec(),
            expires_at: jwt.claims().expires_at().to_string(),
            token: jwt.expose_token().to_owned(),
        }
    }
}

impl View for Items<Shown> {
    /// The tokens alone, one a line.
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        self.items.iter().try_for_each(|it| writeln!(w, "{}", it.token))
    }
}

impl Verdict {
    fn of(validated: &ValidatedJwt) -> Self {
        let claims = validated.claims();
        Self {
            valid: true,
            spiffe_id: validated.spiffe_id().to_string(),
            audience: claims.audience().to_vec(),
            expires_at: claims.expires_at().to_string(),
            claims: Value::Object(claims.claims().clone()),
        }
    }
}

impl View for Verdict {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "valid: {} for {} until {}", self.spiffe_id, self.audience.join(", "), self.expires_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output;

    #[test]
    fn the_text_of_a_token_is_the_token_alone() {
        let shown = Shown {
            spiffe_id: "spiffe://example.org/web".into(),
            hint: None,
            audience: vec!["db".into()],
            expires_at: "2027-01-15T08:05:00Z".into(),
            token: "a.b.c".into(),
        };
        assert_eq!(
            output::golden(&Items { items: vec![shown] }),
            "a.b.c\n{\"items\":[{\"spiffe_id\":\"spiffe://example.org/web\",\"hint\":null,\"audience\":[\"db\"],\"expires_at\":\
             \"2027-01-15T08:05:00Z\",\"token\":\"a.b.c\"}]}\n"
        );
    }

    #[test]
    fn a_verdict_is_shown_in_both_forms() {
        let verdict = Verdict {
            valid: true,
            spiffe_id: "spiffe://example.org/web".into(),
            audience: vec!["db".into(), "cache".into()],
            expires_at: "2027-01-15T08:05:00Z".into(),
            claims: serde_json::json!({ "sub": "spiffe://example.org/web" }),
        };
        assert_eq!(
            output::golden(&verdict),
            "valid: spiffe://example.org/web for db, cache until 2027-01-15T08:05:00Z\n{\"valid\":true,\"spiffe_id\":\"spiffe://example.org/web\",\
             \"audience\":[\"db\",\"cache\"],\"expires_at\":\"2027-01-15T08:05:00Z\",\"claims\":{\"sub\":\"spiffe://example.org/web\"}}\n"
        );
    }
}
