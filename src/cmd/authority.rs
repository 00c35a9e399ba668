//! `mayfly authority`: signing keys and their states.

use std::io::{self, Write};

use clap::Subcommand;
use mayfly_proto::admin;
use serde::Serialize;

use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Items, Out, View};
use crate::runtime;

#[derive(Debug, Subcommand)]
pub(crate) enum Authority {
    /// List authorities
    List {
        /// Only of this kind
        #[arg(long)]
        kind: Option<Kind>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Make the next key of a kind, and publish it
    Prepare {
        kind: Kind,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Sign with a prepared key from now on
    Activate {
        /// Id of the authority
        // Those of token keys are base64url and may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Do not wait until every node has it
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Stop using a key, and replace everything that it signed
    Taint(One),
    /// Take a key out of the bundle: nothing that it signed is valid any more
    Revoke(One),
}

#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// Id of the authority
    #[arg(allow_hyphen_values = true)]
    id: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What a key signs.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Intermediates
    X509Root,
    /// X.509-SVIDs
    X509Intermediate,
    /// JWT-SVIDs
    Jwt,
    /// WIT-SVIDs
    Wit,
}

impl Kind {
    fn on_the_wire(self) -> String {
        match self {
            Self::X509Root => "x509_root",
            Self::X509Intermediate => "x509_intermediate",
            Self::Jwt => "jwt",
            Self::Wit => "wit",
        }
        .to_owned()
    }
}

/// An authority as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    kind: String,
    state: String,
    algorithm: String,
    issuer: String,
    prepared_at: Option<String>,
    activated_at: Option<String>,
    not_after: Option<String>,
    activate_by: Option<String>,
    /// Nodes in sync that have not acknowledged it.
    waiting_for: Vec<String>,
}

/// An authority after a change.
#[derive(Debug, Serialize)]
struct Changed {
    authority: Shown,
    revision: Option<String>,
}

impl Authority {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            match self {
                Self::List { kind, admin } => list(kind, &admin, out).await,
                Self::Prepare { kind, admin } => {
                    let request = admin::PrepareAuthorityRequest { kind: kind.on_the_wire() };
                    let answer = admin.connect().await?.prepare_authority(request).await;
                    changed("no authority was prepared", answer, out)
                }
                Self::Activate { id, force, admin } => {
                    let answer =
                        admin.connect().await?.activate_authority(admin::ActivateAuthorityRequest { id, force }).await;
                    changed("the authority was not activated", answer, out)
                }
                Self::Taint(One { id, admin }) => {
                    let answer = admin.connect().await?.taint_authority(admin::TaintAuthorityRequest { id }).await;
                    changed("the authority was not tainted", answer, out)
                }
                Self::Revoke(One { id, admin }) => {
                    let answer = admin.connect().await?.revoke_authority(admin::RevokeAuthorityRequest { id }).await;
                    changed("the authority was not revoked", answer, out)
                }
            }
        })
    }
}

async fn list(kind: Option<Kind>, admin: &AdminArgs, out: Out) -> Result<(), Failure> {
    let request = admin::ListAuthoritiesRequest { kind: kind.map(Kind::on_the_wire).unwrap_or_default() };
    let answer = admin.connect().await?.list_authorities(request).await;
    let answer = answer.map_err(|status| Failure::status("the authorities were not listed", &status))?.into_inner();
    Ok(out.show(&Items { items: answer.items.into_iter().map(Shown::from).collect() })?)
}

fn changed(
    what: &str,
    answer: Result<tonic::Response<admin::AuthorityResponse>, tonic::Status>,
    out: Out,
) -> Result<(), Failure> {
    let answer = answer.map_err(|status| Failure::status(what, &status))?.into_inner();
    let authority = answer.authority.ok_or_else(|| Failure::bug(what, "the issuer answered without an authority"))?;
    Ok(out.show(&Changed { authority: Shown::from(authority), revision: output::revision(answer.revision.as_ref()) })?)
}

impl From<admin::Authority> for Shown {
    fn from(authority: admin::Authority) -> Self {
        Self {
            id: authority.id,
            kind: authority.kind,
            state: authority.state,
            algorithm: authority.algorithm,
            issuer: authority.issuer,
            prepared_at: output::time(authority.prepared_at),
            activated_at: output::time(authority.activated_at),
            not_after: output::time(authority.not_after),
            activate_by: output::time(authority.activate_by),
            waiting_for: authority.waiting_for,
        }
    }
}

impl View for Items<Shown> {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let row =
            |it: &Shown| [it.kind.clone(), it.state.clone(), output::or_dash(it.not_after.as_ref()), it.id.clone()];
        output::table(w, ["KIND", "STATE", "NOT AFTER", "ID"], &self.items.iter().map(row).collect::<Vec<_>>())?;
        for it in self.items.iter().filter(|it| !it.waiting_for.is_empty()) {
            let by = output::or_dash(it.activate_by.as_ref());
            writeln!(w, "{} waits until {by} at the latest for {}", it.id, it.waiting_for.join(", "))?;
        }
        Ok(())
    }
}

impl View for Changed {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let it = &self.authority;
        writeln!(w, "{} {} is {}, revision {}", it.kind, it.id, it.state, output::or_dash(self.revision.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Shown {
        Shown::from(admin::Authority {
            id: "k1".into(),
            kind: "jwt".into(),
            state: "prepared".into(),
            algorithm: "ES256".into(),
            issuer: "issuer".into(),
            prepared_at: 1_800_000_000,
            activated_at: 0,
            not_after: 1_800_086_400,
            activate_by: 1_800_014_400,
            waiting_for: vec!["spiffe://example.org/mayfly/node/join_token/a".into()],
        })
    }

    const JSON: &str = "{\"id\":\"k1\",\"kind\":\"jwt\",\"state\":\"prepared\",\"algorithm\":\"ES256\",\"issuer\":\"issuer\",\"prepared_at\":\
        \"2027-01-15T08:00:00Z\",\"activated_at\":null,\"not_after\":\"2027-01-16T08:00:00Z\",\"activate_by\":\"2027-01-15T12:00:00Z\",\
        \"waiting_for\":[\"spiffe://example.org/mayfly/node/join_token/a\"]}";

    #[test]
    fn authorities_are_listed_with_the_nodes_that_they_wait_for() {
        assert_eq!(
            output::golden(&Items { items: vec![example()] }),
            format!(
                "KIND  STATE     NOT AFTER             ID\njwt   prepared  2027-01-16T08:00:00Z  k1\nk1 waits until 2027-01-15T12:00:00Z at the \
                 latest for spiffe://example.org/mayfly/node/join_token/a\n{{\"items\":[{JSON}]}}\n"
            )
        );
    }

    #[test]
    fn a_change_is_shown_in_both_forms() {
        let changed = Changed { authority: example(), revision: Some("1.4".into()) };
        assert_eq!(
            output::golden(&changed),
            format!("jwt k1 is prepared, revision 1.4\n{{\"authority\":{JSON},\"revision\":\"1.4\"}}\n")
        );
    }
}
