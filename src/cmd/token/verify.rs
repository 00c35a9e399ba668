//! `mayfly token verify`: whether a task token is good at this moment, as the issuer knows it.

use std::io::{self, Write};
use std::path::PathBuf;

use mayfly_proto::task as wire;
use mayfly_sdk::pem;
use serde::Serialize;
use serde_json::Value;

use super::{from_stdin, visible};
use crate::cmd::entry::read_document;
use crate::endpoint::EndpointArgs;
use crate::failure::Failure;
use crate::output::{Out, View};

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The URI of the resource that the token must be for; an entry of this process must serve it
    #[arg(long, short, value_name = "URI")]
    audience: String,
    /// PEM file of the certificate that whoever presented the token has; without it the binding is not checked
    #[arg(long, value_name = "FILE")]
    peer_cert: Option<PathBuf>,
    /// The token; - for standard input, which other processes do not see
    token: String,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// A token that is good now.
#[derive(Debug, Serialize)]
struct Verdict {
    valid: bool,
    /// `checked` or `not checked`.
    binding: &'static str,
    claims: Value,
}

impl Verify {
    pub(super) async fn run(self, out: Out) -> Result<(), Failure> {
        let peer_certificate = self.peer_certificate()?.into();
        let token = if self.token == "-" { from_stdin()? } else { self.token };
        let request = wire::ValidateRequest { token, audience: self.audience, peer_certificate };
        let answer = self.endpoint.tasks().await?.validate(request).await;
        let refused = |status| Failure::status("the token is not good", &status).into_refusal();
        let wire::ValidateResponse { claims, binding_checked } = answer.map_err(refused)?.into_inner();
        let claims = serde_json::from_str(&claims).map_err(|error| Failure::bug("the claims were not read", error))?;
        Ok(out.show(&Verdict::of(claims, binding_checked))?)
    }

    /// DER; empty where none was given.
    fn peer_certificate(&self) -> Result<Vec<u8>, Failure> {
        let Some(path) = &self.peer_cert else { return Ok(Vec::new()) };
        let unreadable = |why: String| {
            Failure::input("the certificate was not read", why, "give the peer's certificate as PEM, leaf first")
        };
        let chain = pem::read_certificates(&read_document(path)?).map_err(|error| unreadable(error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| unreadable("there is none in the file".to_owned()))?;
        Ok(leaf.to_vec())
    }
}

impl Verdict {
    fn of(claims: Value, binding_checked: bool) -> Self {
        Self { valid: true, binding: if binding_checked { "checked" } else { "not checked" }, claims }
    }
}

impl View for Verdict {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let end = self.claims.get("exp").and_then(Value::as_i64).and_then(crate::output::time);
        writeln!(w, "valid until {}", crate::output::or_dash(end.as_ref()))?;
        writeln!(w, "binding: {}", self.binding)?;
        writeln!(w, "claims {}", visible(&serde_json::to_string_pretty(&self.claims)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output;

    #[test]
    fn a_verdict_says_whether_the_binding_was_checked() {
        let verdict = |checked| output::golden(&Verdict::of(json!({"exp": 1_800_000_300}), checked));
        assert_eq!(
            verdict(false),
            "valid until 2027-01-15T08:05:00Z\nbinding: not checked\nclaims {\n  \"exp\": 1800000300\n}\n\
             {\"valid\":true,\"binding\":\"not checked\",\"claims\":{\"exp\":1800000300}}\n"
        );
        assert!(verdict(true).contains("\"binding\":\"checked\""));
    }
}
