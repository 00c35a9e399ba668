//! `mayfly join-token`: tokens that enrol one node each.

use std::io::{self, Write};

use clap::Subcommand;
use mayfly_proto::admin;
use mayfly_sdk::Ttl;
use serde::Serialize;

use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Out, View};
use crate::runtime;

#[derive(Debug, Subcommand)]
pub(crate) enum JoinToken {
    /// Make a token; it is shown once and kept nowhere
    Create(Create),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// How long it may be used, such as 10m [default: the issuer's]
    #[arg(long)]
    ttl: Option<Ttl>,
    /// Name of the node, the last segment of its SPIFFE ID [default: made by the issuer]
    #[arg(long, value_name = "NAME")]
    spiffe_id: Option<String>,
    /// A further selector of the node, `type:key:value`; may be repeated
    #[arg(long = "selector", value_name = "SELECTOR")]
    selectors: Vec<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Serialize)]
struct Created {
    token: String,
    expires_at: Option<String>,
    spiffe_id: String,
}

impl JoinToken {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        let Self::Create(create) = self;
        runtime::client(create.run(out))
    }
}

impl Create {
    async fn run(self, out: Out) -> Result<(), Failure> {
        let request = admin::CreateJoinTokenRequest {
            ttl_s: self.ttl.map_or(0, Ttl::as_s),
            spiffe_id: self.spiffe_id.unwrap_or_default(),
            selectors: self.selectors,
        };
        let answer = self.admin.connect().await?.create_join_token(request).await;
        let answer = answer.map_err(|status| Failure::status("no join token was made", &status))?.into_inner();
        let created =
            Created { token: answer.token, expires_at: output::time(answer.expires_at), spiffe_id: answer.spiffe_id };
        Ok(out.show(&created)?)
    }
}

impl View for Created {
    /// The token alone, to be redirected into a file.
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "{}", self.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_token_alone() {
        let created = Created {
            token: "secret.pin".into(),
            expires_at: output::time(1_800_000_600),
            spiffe_id: "spiffe://example.org/mayfly/node/join_token/a".into(),
        };
        assert_eq!(
            output::golden(&created),
            "secret.pin\n{\"token\":\"secret.pin\",\"expires_at\":\"2027-01-15T08:10:00Z\",\"spiffe_id\":\
             \"spiffe://example.org/mayfly/node/join_token/a\"}\n"
        );
    }
}
