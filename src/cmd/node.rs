//! `mayfly node`: enrolled machines.

use std::io::{self, Write};

use clap::Subcommand;
use mayfly_proto::admin;
use serde::Serialize;

use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Items, Out, View};
use crate::runtime;

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// List nodes
    List {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Show one node
    Show(One),
    /// Forget a node: it must attest anew, with a new join token
    Evict(One),
    /// Refuse a node for good, and cut its connections now
    Ban(One),
}

#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// SPIFFE ID of the node, such as `spiffe://T/mayfly/node/join_token/ID`
    spiffe_id: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// A node as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    spiffe_id: String,
    attestor: String,
    /// active, frozen, banned.
    state: String,
    connected: bool,
    selectors: Vec<String>,
    generation: u64,
    key_sha256: String,
    attested_at: Option<String>,
    renewed_at: Option<String>,
    svid_not_after: Option<String>,
    /// Last revision that every workload stream of the node has, `epoch.n`.
    acknowledged: Option<String>,
    clock_skew_ms: i64,
    build: String,
    /// Entries that the node cannot serve.
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    entry_uid: String,
    reason: String,
    what: String,
}

/// What was done to a node.
#[derive(Debug, Serialize)]
struct Done {
    spiffe_id: String,
    /// evicted, banned.
    state: &'static str,
}

impl Node {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            match self {
                Self::List { admin } => list(&admin, out).await,
                Self::Show(one) => one.show(out).await,
                Self::Evict(one) => one.evict(out).await,
                Self::Ban(one) => one.ban(out).await,
            }
        })
    }
}

async fn list(admin: &AdminArgs, out: Out) -> Result<(), Failure> {
    let mut client = admin.connect().await?;
    let mut request = admin::ListNodesRequest::default();
    let mut items = Vec::new();
    loop {
        let page = client.list_nodes(request.clone()).await;
        let page = page.map_err(|status| Failure::status("the nodes were not listed", &status))?.into_inner();
        items.extend(page.items.into_iter().map(Shown::from));
        if page.next_page_token.is_empty() {
            return Ok(out.show(&Items { items })?);
        }
        request.page_token = page.next_page_token;
    }
}

impl One {
    async fn show(self, out: Out) -> Result<(), Failure> {
        let what = format!("the node {} is not shown", self.spiffe_id);
        let answer = self.admin.connect().await?.get_node(admin::GetNodeRequest { spiffe_id: self.spiffe_id }).await;
        let answer = answer.map_err(|status| Failure::status(&what, &status))?.into_inner();
        let node = answer.node.ok_or_else(|| Failure::bug(&what, "the issuer answered without a node"))?;
        Ok(out.show(&Shown::from(node))?)
    }

    async fn evict(self, out: Out) -> Result<(), Failure> {
        let request = admin::EvictNodeRequest { spiffe_id: self.spiffe_id.clone() };
        let answer = self.admin.connect().await?.evict_node(request).await;
        answer.map_err(|status| Failure::status(format!("the node {} was not evicted", self.spiffe_id), &status))?;
        Ok(out.show(&Done { spiffe_id: self.spiffe_id, state: "evicted" })?)
    }

    async fn ban(self, out: Out) -> Result<(), Failure> {
        let request = admin::BanNodeRequest { spiffe_id: self.spiffe_id.clone() };
        let answer = self.admin.connect().await?.ban_node(request).await;
        answer.map_err(|status| Failure::status(format!("the node {} was not banned", self.spiffe_id), &status))?;
        Ok(out.show(&Done { spiffe_id: self.spiffe_id, state: "banned" })?)
    }
}

impl From<admin::Node> for Shown {
    fn from(node: admin::Node) -> Self {
        let problems = node.problems.into_iter();
        Self {
            spiffe_id: node.spiffe_id,
            attestor: node.attestor,
            state: node.state,
            connected: node.connected,
            selectors: node.selectors,
            generation: node.generation,
            key_sha256: node.key_sha256,
            attested_at: output::time(node.attested_at),
            renewed_at: output::time(node.renewed_at),
            svid_not_after: output::time(node.svid_not_after),
            acknowledged: output::revision(node.acknowledged.as_ref()),
            clock_skew_ms: node.clock_skew_ms,
            build: node.build,
            problems: problems
                .map(|it| Problem { entry_uid: it.entry_uid, reason: it.reason, what: it.what })
                .collect(),
        }
    }
}

impl View for Items<Shown> {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let row = |node: &Shown| {
            let connected = if node.connected { "connected" } else { "away" };
            let acknowledged = output::or_dash(node.acknowledged.as_ref());
            [
                node.state.clone(),
                connected.to_owned(),
                acknowledged,
                node.problems.len().to_string(),
                node.spiffe_id.clone(),
            ]
        };
        output::table(
            w,
            ["STATE", "STREAM", "ACKNOWLEDGED", "PROBLEMS", "SPIFFE ID"],
            &self.items.iter().map(row).collect::<Vec<_>>(),
        )
    }
}

impl View for Shown {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "{}", self.spiffe_id)?;
        writeln!(w, "  state         {}{}", self.state, if self.connected { ", connected" } else { ", away" })?;
        writeln!(w, "  attestor      {}", self.attestor)?;
        writeln!(w, "  selectors     {}", self.selectors.join(", "))?;
        writeln!(w, "  node key      sha256:{} (generation {})", self.key_sha256, self.generation)?;
        writeln!(w, "  attested      {}", output::or_dash(self.attested_at.as_ref()))?;
        writeln!(w, "  renewed       {}", output::or_dash(self.renewed_at.as_ref()))?;
        writeln!(w, "  valid until   {}", output::or_dash(self.svid_not_after.as_ref()))?;
        writeln!(w, "  acknowledged  {}", output::or_dash(self.acknowledged.as_ref()))?;
        writeln!(w, "  clock skew    {} ms", self.clock_skew_ms)?;
        writeln!(w, "  build         {}", self.build)?;
        for problem in &self.problems {
            writeln!(w, "  problem       entry {}: {} [{}]", problem.entry_uid, problem.what, problem.reason)?;
        }
        Ok(())
    }
}

impl View for Done {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "{} {}", self.state, self.spiffe_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Shown {
        Shown::from(admin::Node {
            spiffe_id: "spiffe://example.org/mayfly/node/join_token/a".into(),
            attestor: "join_token".into(),
            state: "active".into(),
            selectors: vec!["node:attestor:join_token".into()],
            generation: 3,
            key_sha256: "ab12".into(),
            attested_at: 1_800_000_000,
            renewed_at: 0,
            svid_not_after: 1_800_003_600,
            connected: true,
            acknowledged: Some(admin::Revision { epoch: 1, n: 7 }),
            clock_skew_ms: -12,
            build: "mayfly 0.1.0".into(),
            problems: vec![admin::EntryProblem {
                entry_uid: "u1".into(),
                reason: "missing_fact".into(),
                what: "no unix.user".into(),
            }],
        })
    }

    #[test]
    fn a_node_is_shown_in_both_forms() {
        assert_eq!(
            output::golden(&example()),
            "spiffe://example.org/mayfly/node/join_token/a\n  state         active, connected\n  attestor      join_token\n  selectors     \
             node:attestor:join_token\n  node key      sha256:ab12 (generation 3)\n  attested      2027-01-15T08:00:00Z\n  renewed       -\n  \
             valid until   2027-01-15T09:00:00Z\n  acknowledged  1.7\n  clock skew    -12 ms\n  build         mayfly 0.1.0\n  problem       entry \
             u1: no unix.user [missing_fact]\n{\"spiffe_id\":\"spiffe://example.org/mayfly/node/join_token/a\",\"attestor\":\"join_token\",\"state\":\
             \"active\",\"connected\":true,\"selectors\":[\"node:attestor:join_token\"],\"generation\":3,\"key_sha256\":\"ab12\",\"attested_at\":\
             \"2027-01-15T08:00:00Z\",\"renewed_at\":null,\"svid_not_after\":\"2027-01-15T09:00:00Z\",\"acknowledged\":\"1.7\",\"clock_skew_ms\":-12,\
             \"build\":\"mayfly 0.1.0\",\"problems\":[{\"entry_uid\":\"u1\",\"reason\":\"missing_fact\",\"what\":\"no unix.user\"}]}\n"
        );
    }

    #[test]
    fn nodes_are_listed() {
        let list = output::golden(&Items { items: vec![example()] });
        assert!(
            list.starts_with(
                "STATE   STREAM     ACKNOWLEDGED  PROBLEMS  SPIFFE ID\nactive  connected  1.7           1         \
                 spiffe://example.org/mayfly/node/join_token/a\n{\"items\":[{"
            ),
            "{list}"
        );
    }

    #[test]
    fn a_ban_is_shown_in_both_forms() {
        let done = Done { spiffe_id: "spiffe://example.org/mayfly/node/join_token/a".into(), state: "banned" };
        assert_eq!(
            output::golden(&done),
            "banned spiffe://example.org/mayfly/node/join_token/a\n{\"spiffe_id\":\"spiffe://example.org/mayfly/node/join_token/a\",\"state\":\"banned\"}\n"
        );
    }
}
