//! `mayfly svid x509 validate`: would a peer that has this process's bundles accept this certificate chain, now.

use std::io::{self, Write};
use std::path::PathBuf;

use mayfly_sdk::bundle::X509BundleSet;
use mayfly_sdk::x509::{self, Usage};
use mayfly_sdk::{Clock, Refusal, SpiffeId, VerifiedPeer, pem};
use serde::Serialize;

use super::hex;
use crate::cmd::entry::read_document;
use crate::endpoint::EndpointArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Out, View};

#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// PEM file of the chain, leaf first; - for standard input
    chain: PathBuf,
    /// The identity that it must have
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Debug, Serialize)]
struct Shown {
    valid: bool,
    spiffe_id: String,
    serial: String,
    not_after: String,
}

impl Validate {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        const WHAT: &str = "the X.509-SVID does not hold";
        let text = read_document(&self.chain)?;
        let chain = pem::read_certificates(&text).map_err(|error| {
            Failure::input("the X.509-SVID was not read", error.to_string(), "give the chain as PEM, leaf first")
        })?;
        let bundles = self.endpoint.client()?.fetch::<X509BundleSet>().await;
        let bundles = bundles.map_err(|refusal| Failure::refused("no bundles were fetched", &refusal))?;
        let now = Clock::system().now();
        // One that is good for a server, a client, or both, is good.
        let peer = x509::verify(&chain, &bundles, now, Usage::Server)
            .or_else(|_| x509::verify(&chain, &bundles, now, Usage::Client));
        let peer = peer
            .map_err(|error| Failure::refused(WHAT, &Refusal::new(error.reason(), error.to_string())).into_refusal())?;
        if let Some(wanted) = self.spiffe_id.filter(|wanted| wanted != peer.spiffe_id()) {
            let why = format!("it is of {}, and not of {wanted}", peer.spiffe_id());
            let reason = mayfly_sdk::Reason::UnauthorizedPeer;
            return Err(Failure::new(Exit::Refused, reason.code(), WHAT, why, reason.remedy()));
        }
        Ok(out.show(&Shown::of(&peer))?)
    }
}

impl Shown {
    fn of(peer: &VerifiedPeer) -> Self {
        Self {
            valid: true,
            spiffe_id: peer.spiffe_id().to_string(),
            serial: hex(peer.serial()),
            not_after: peer.validity().not_after().to_string(),
        }
    }
}

impl View for Shown {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "valid: {} until {}", self.spiffe_id, self.not_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output;

    #[test]
    fn a_verdict_is_shown_in_both_forms() {
        let shown = Shown {
            valid: true,
            spiffe_id: "spiffe://example.org/web".into(),
            serial: "01".into(),
            not_after: "2027-01-15T08:15:00Z".into(),
        };
        assert_eq!(
            output::golden(&shown),
            "valid: spiffe://example.org/web until 2027-01-15T08:15:00Z\n{\"valid\":true,\"spiffe_id\":\"spiffe://example.org/web\",\"serial\":\"01\",\
             \"not_after\":\"2027-01-15T08:15:00Z\"}\n"
        );
    }
}
