//! `mayfly health`: how the daemons on this machine are.

use std::io::{self, Write};

use mayfly_proto::admin;
use serde::Serialize;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::admin::{self as admin_socket, AdminArgs};
use crate::endpoint::EndpointArgs;
use crate::failure::{Exit, Failure};
use crate::output::{self, Out, View};
use crate::runtime;

#[derive(Debug, clap::Args)]
pub(crate) struct Health {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// Each daemon that is here; null for one that is not.
#[derive(Debug, Serialize)]
struct Shown {
    issuer: Option<Issuer>,
    agent: Option<Agent>,
}

#[derive(Debug, Serialize)]
struct Issuer {
    trust_domain: String,
    revision: Option<String>,
    entries: u64,
    nodes: u64,
    connected: u64,
    build: String,
    root_spki_sha256: String,
}

#[derive(Debug, Serialize)]
struct Agent {
    serving: bool,
}

impl Health {
    /// A daemon whose socket was named, or exists, must answer; at least one there must be.
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            let issuer =
                if self.admin.is_given() || self.admin.path().exists() { Some(self.issuer().await?) } else { None };
            let agent = if self.endpoint.is_given() || self.endpoint.path()?.exists() {
                Some(self.agent().await?)
            } else {
                None
            };
            if issuer.is_none() && agent.is_none() {
                let why =
                    format!("neither {} nor {} exists", self.admin.path().display(), self.endpoint.path()?.display());
                let remedy = "start one, or say where its socket is with MAYFLY_ADMIN_SOCKET or SPIFFE_ENDPOINT_SOCKET";
                return Err(Failure::new(
                    Exit::Unavailable,
                    "unavailable",
                    "no issuer and no node agent was found",
                    why,
                    remedy,
                ));
            }
            let serving = agent.as_ref().is_none_or(|agent| agent.serving);
            out.show(&Shown { issuer, agent })?;
            if serving {
                return Ok(());
            }
            let remedy = "ask /ready of the agent's metrics address why, or read its log";
            Err(Failure::new(
                Exit::Unavailable,
                "unavailable",
                "the node agent is not ready",
                "it has no identities to serve yet",
                remedy,
            ))
        })
    }

    async fn issuer(&self) -> Result<Issuer, Failure> {
        let answer = self.admin.connect().await?.get_status(admin::GetStatusRequest {}).await;
        let status =
            answer.map_err(|status| Failure::status("the issuer does not say how it is", &status))?.into_inner();
        Ok(Issuer {
            trust_domain: status.trust_domain,
            revision: output::revision(status.revision.as_ref()),
            entries: status.entries,
            nodes: status.nodes,
            connected: status.connected,
            build: status.build,
            root_spki_sha256: status.root_spki_sha256,
        })
    }

    async fn agent(&self) -> Result<Agent, Failure> {
        let path = self.endpoint.path()?;
        let channel = admin_socket::channel(&path).await.map_err(|error| self.endpoint.unreachable(&error))?;
        let answer = HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await;
        let answer = answer.map_err(|status| Failure::status("the node agent does not say how it is", &status))?;
        Ok(Agent { serving: answer.into_inner().status() == ServingStatus::Serving })
    }
}

impl View for Shown {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        if let Some(it) = &self.issuer {
            let revision = output::or_dash(it.revision.as_ref());
            writeln!(w, "issuer of {}: serving, revision {revision}", it.trust_domain)?;
            writeln!(w, "  entries {}, nodes {}, of which connected {}", it.entries, it.nodes, it.connected)?;
            writeln!(w, "  root sha256:{}, {}", it.root_spki_sha256, it.build)?;
        }
        if let Some(it) = &self.agent {
            writeln!(w, "node agent: {}", if it.serving { "serving" } else { "not ready" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_shown_in_both_forms() {
        let shown = Shown {
            issuer: Some(Issuer {
                trust_domain: "example.org".into(),
                revision: Some("1.7".into()),
                entries: 4,
                nodes: 2,
                connected: 1,
                build: "mayfly 0.1.0".into(),
                root_spki_sha256: "ab".into(),
            }),
            agent: Some(Agent { serving: true }),
        };
        assert_eq!(
            output::golden(&shown),
            "issuer of example.org: serving, revision 1.7\n  entries 4, nodes 2, of which connected 1\n  root sha256:ab, mayfly 0.1.0\nnode agent: serving\n\
             {\"issuer\":{\"trust_domain\":\"example.org\",\"revision\":\"1.7\",\"entries\":4,\"nodes\":2,\"connected\":1,\"build\":\"mayfly 0.1.0\",\
             \"root_spki_sha256\":\"ab\"},\"agent\":{\"serving\":true}}\n"
        );
    }
}
