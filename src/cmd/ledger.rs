//! `mayfly ledger`: the record of what was attested, issued, refused, rotated.

use std::io::{self, Write};

use clap::Subcommand;
use mayfly_proto::admin;
use serde::Serialize;

use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Out, View};
use crate::runtime;

#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Print the newest records, one a line
    Tail(Tail),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Tail {
    /// How many to begin with, at most 10000
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    last: u32,
    /// Then print each new record as it becomes durable
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// A record as it is shown; what does not apply to its kind is null.
#[derive(Debug, Serialize)]
struct Shown {
    event_id: String,
    time: String,
    kind: String,
    authority: Option<String>,
    key_sha256: Option<String>,
    node: Option<String>,
    instance: Option<String>,
    entry_uid: Option<String>,
    entry_revision: Option<String>,
    request_id: Option<String>,
    released_sha256: Option<String>,
    spiffe_id: Option<String>,
    actor: Option<String>,
    detail: Option<String>,
    reason: Option<String>,
    policy: Option<String>,
    digest: String,
}

impl Ledger {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        let Self::Tail(tail) = self;
        runtime::client(tail.run(out))
    }
}

impl Tail {
    async fn run(self, out: Out) -> Result<(), Failure> {
        let failed = |status: tonic::Status| Failure::status("the ledger cannot be read", &status);
        let request = admin::TailLedgerRequest { last: self.last, follow: self.follow };
        let mut answers = self.admin.connect().await?.tail_ledger(request).await.map_err(failed)?.into_inner();
        let told = async {
            while let Some(answer) = answers.message().await.map_err(failed)? {
                for record in answer.records {
                    out.show(&Shown::from(record))?;
                }
            }
            Ok(())
        };
        tokio::select! {
            ended = told => ended,
            () = output::reader_gone() => Ok(()),
        }
    }
}

impl From<admin::LedgerRecord> for Shown {
    fn from(record: admin::LedgerRecord) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            event_id: record.event_id,
            time: output::time_ms(record.time_ms),
            kind: record.kind,
            authority: some(record.authority),
            key_sha256: some(record.key_sha256),
            node: some(record.node),
            instance: some(record.instance),
            entry_uid: some(record.entry_uid),
            entry_revision: output::revision(record.entry_revision.as_ref()),
            request_id: some(record.request_id),
            released_sha256: some(record.released_sha256),
            spiffe_id: some(record.spiffe_id),
            actor: some(record.actor),
            detail: some(record.detail),
            reason: some(record.reason),
            policy: some(record.policy),
            digest: record.digest,
        }
    }
}

impl View for Shown {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        write!(w, "{}  {:<20}", self.time, self.kind)?;
        for part in [&self.spiffe_id, &self.actor, &self.detail].into_iter().flatten() {
            write!(w, "  {part}")?;
        }
        writeln!(w, "  {}", self.event_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_in_both_forms() {
        let record = admin::LedgerRecord {
            event_id: "0190".into(),
            kind: "x509_issued".into(),
            time_ms: 1_800_000_000_042,
            authority: "a1".into(),
            node: "spiffe://example.org/mayfly/node/join_token/a".into(),
            entry_uid: "u1".into(),
            entry_revision: Some(admin::Revision { epoch: 1, n: 7 }),
            spiffe_id: "spiffe://example.org/web".into(),
            digest: "d1".into(),
            ..Default::default()
        };
        assert_eq!(
            output::golden(&Shown::from(record)),
            "2027-01-15T08:00:00.042Z  x509_issued           spiffe://example.org/web  0190\n{\"event_id\":\"0190\",\"time\":\
             \"2027-01-15T08:00:00.042Z\",\"kind\":\"x509_issued\",\"authority\":\"a1\",\"key_sha256\":null,\"node\":\
             \"spiffe://example.org/mayfly/node/join_token/a\",\"instance\":null,\"entry_uid\":\"u1\",\"entry_revision\":\"1.7\",\"request_id\":null,\
             \"released_sha256\":null,\"spiffe_id\":\"spiffe://example.org/web\",\"actor\":null,\"detail\":null,\"reason\":null,\"policy\":null,\"digest\":\"d1\"}\n"
        );
    }
}
