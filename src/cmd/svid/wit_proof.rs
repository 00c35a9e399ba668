//! `mayfly svid wit prove` and `validate`: a WIT-SVID is shown and believed together with a proof of possession, for one request.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use mayfly_sdk::bundle::WitBundleSet;
use mayfly_sdk::wit::{Carrier, ProofRequest, TargetUri, Validator, VerifiedCaller, WitError};
use mayfly_sdk::{Clock, SpiffeId, Ttl};
use serde::Serialize;
use serde_json::Value;

use super::wit::Asked;
use crate::cmd::entry::read_document;
use crate::endpoint::EndpointArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Out, View};

#[derive(Debug, clap::Args)]
pub(crate) struct Prove {
    /// The request that the proof is for, as `https://HOST[:PORT]/PATH`
    #[arg(long, value_name = "URL")]
    url: String,
    /// How long the proof is good, at most 10m
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    ttl: Ttl,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// The request that the proof must be for, as `https://HOST[:PORT]/PATH`
    #[arg(long, value_name = "URL")]
    url: String,
    /// The identity that it must be
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    /// File of the request's headers, `Name: value` a line; - for standard input, which other processes do not see
    headers: PathBuf,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// The headers of one request.
#[derive(Debug, Serialize)]
struct Proven {
    headers: BTreeMap<&'static str, String>,
}

/// Who makes the request.
#[derive(Debug, Serialize)]
struct Verdict {
    valid: bool,
    spiffe_id: String,
    expires_at: String,
    claims: Value,
}

impl Prove {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        const WHAT: &str = "no proof was made";
        let request = ProofRequest::new(target(&self.url)?).with_life(self.ttl);
        let request = request.map_err(|error| Failure::refused(WHAT, &error.into()))?;
        let context = self.asked.fetch().await?;
        let wanted = self.asked.wanted(&context)?;
        let Some(first) = wanted.first() else { return Ok(()) };
        let proof = first.svid.prove(&request, Clock::system().now());
        let proof = proof.map_err(|error| Failure::refused(WHAT, &error.into()))?;
        Ok(out.show(&Proven { headers: proof.headers(Carrier::default()).into() })?)
    }
}

impl Validate {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        const WHAT: &str = "nobody is proven to make this request";
        let document = read_document(&self.headers)?;
        let headers = headers(&document)?;
        let target = target(&self.url)?;
        let bundles = self.endpoint.client()?.fetch::<WitBundleSet>().await;
        let bundles = bundles.map_err(|refusal| Failure::refused("no bundles were fetched", &refusal))?;
        let caller = Validator::default().verify(headers, &[target], &bundles, Clock::system().now());
        let caller = caller.map_err(|error: WitError| Failure::refused(WHAT, &error.into()).into_refusal())?;
        if let Some(wanted) = self.spiffe_id.filter(|wanted| wanted != caller.spiffe_id()) {
            let why = format!("it is {}, and not {wanted}", caller.spiffe_id());
            let reason = mayfly_sdk::Reason::UnauthorizedPeer;
            return Err(Failure::new(Exit::Refused, reason.code(), WHAT, why, reason.remedy()));
        }
        Ok(out.show(&Verdict::of(&caller))?)
    }
}

fn target(url: &str) -> Result<TargetUri, Failure> {
    url.parse().map_err(|error: mayfly_sdk::wit::ProofError| {
        Failure::input(
            format!("`{url}` is not the URL of a request"),
            error.to_string(),
            "write it as https://db.example.org/rows: token and proof go over TLS only",
        )
    })
}

/// Name and value of each line; empty lines do not count.
fn headers(document: &[u8]) -> Result<Vec<(&str, &[u8])>, Failure> {
    let input = |why| Failure::input("the headers were not read", why, "give one header a line: `Name: value`");
    let text = str::from_utf8(document).map_err(|_not_utf8| input("they are not text"))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let pairs = lines.map(|line| line.split_once(':').map(|(name, value)| (name.trim(), value.trim().as_bytes())));
    pairs.collect::<Option<Vec<_>>>().ok_or_else(|| input("a line has no colon"))
}

impl View for Proven {
    /// As `curl -H @FILE` reads them.
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        self.headers.iter().try_for_each(|(name, value)| writeln!(w, "{name}: {value}"))
    }
}

impl Verdict {
    fn of(caller: &VerifiedCaller) -> Self {
        Self {
            valid: true,
            spiffe_id: caller.spiffe_id().to_string(),
            expires_at: caller.expires_at().to_string(),
            claims: Value::Object(caller.claims().clone()),
        }
    }
}

impl View for Verdict {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "valid: {} until {}", self.spiffe_id, self.expires_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output;

    #[test]
    fn headers_are_shown_as_other_programs_read_them() {
        let proven = Proven {
            headers: [("Workload-Identity-Token", "a.b.c".into()), ("Authorization", "WPT d.e.f".into())].into(),
        };
        assert_eq!(
            output::golden(&proven),
            "Authorization: WPT d.e.f\nWorkload-Identity-Token: a.b.c\n{\"headers\":{\"Authorization\":\"WPT d.e.f\",\"Workload-Identity-Token\":\
             \"a.b.c\"}}\n"
        );
        let read = headers(b"Authorization: WPT d.e.f\r\n\nWorkload-Identity-Token:a.b.c\n").unwrap();
        assert_eq!(read, [("Authorization", &b"WPT d.e.f"[..]), ("Workload-Identity-Token", b"a.b.c")]);
        assert_eq!(headers(b"a.b.c").unwrap_err().exit, Exit::BadInput);
    }

    #[test]
    fn a_verdict_is_shown_in_both_forms() {
        let verdict = Verdict {
            valid: true,
            spiffe_id: "spiffe://example.org/web".into(),
            expires_at: "2027-01-15T08:15:00Z".into(),
            claims: serde_json::json!({ "sub": "spiffe://example.org/web" }),
        };
        assert_eq!(
            output::golden(&verdict),
            "valid: spiffe://example.org/web until 2027-01-15T08:15:00Z\n{\"valid\":true,\"spiffe_id\":\"spiffe://example.org/web\",\"expires_at\":\
             \"2027-01-15T08:15:00Z\",\"claims\":{\"sub\":\"spiffe://example.org/web\"}}\n"
        );
    }
}
