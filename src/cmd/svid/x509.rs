//! `mayfly svid x509 fetch` and `watch`.

use std::io::{self, Write};
use std::path::PathBuf;

use mayfly_sdk::client::{HintedSvid, Source, X509Context};
use mayfly_sdk::{Clock, Reason, Refusal, SpiffeId, X509Svid};
use serde::Serialize;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::agentless::AgentlessArgs;
use super::hook::Hook;
use super::{Access, hex, write_files};
use crate::endpoint::EndpointArgs;
use crate::failure::Failure;
use crate::output::{self, Items, Out, View};
use crate::runtime;

#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    agentless: AgentlessArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    target: Target,
    /// Run this program, with its arguments and without a shell, after each time that the files were written
    #[arg(long, value_name = "CMD", requires = "write")]
    on_update: Option<Hook>,
}

/// Which identity, and where it goes.
#[derive(Debug, clap::Args)]
struct Target {
    /// Only this identity [default for --write: the first]
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    /// Write svid.pem, key.pem (0600) and bundle.pem into this directory
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// An SVID as it is shown: never its key.
#[derive(Debug, Serialize)]
struct Shown {
    spiffe_id: String,
    hint: Option<String>,
    /// Hex.
    serial: String,
    not_before: String,
    not_after: String,
    /// Leaf first.
    chain_pem: String,
    /// The X.509 authorities of the SVID's trust domain.
    bundle_pem: String,
    /// The files, where `--write` was given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    written: Vec<PathBuf>,
}

impl Fetch {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let context = if let Some(context) = self.agentless.fetch(self.target.spiffe_id.as_ref()).await? {
            context
        } else {
            let context = self.target.endpoint.client()?.fetch::<X509Context>().await;
            context.map_err(|refusal| Failure::refused("no X.509-SVID was fetched", &refusal))?
        };
        Ok(out.show(&self.target.shown(&context)?)?)
    }
}

impl Watch {
    /// An outage of the agent is waited out, and so is a withdrawal, for it may end. What is on disk stays there meanwhile.
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let (stop, _signals) = runtime::stop_on_signals()?;
        let (swapped, swaps) = watch::channel(0_u64);
        let (mut hooks, halt) = (JoinSet::new(), stop.child_token());
        if let Some((hook, dir)) = self.on_update.zip(self.target.write.clone()) {
            hooks.spawn(hook.follow(dir.into(), swaps, halt.clone(), out.format));
        }
        let source = Source::<X509Context>::start(self.target.endpoint.endpoint()?);
        let mut changes = source.changes();
        let watched = async {
            while let Some(change) = changes.next().await {
                match change {
                    Ok(context) => match self.target.shown(&context) {
                        Ok(shown) => {
                            swapped.send_modify(|n| *n += 1);
                            out.show(&shown)?;
                        }
                        // What is on disk is still whole; a full disk may have room at the next renewal.
                        Err(failure) if *swapped.borrow() > 0 => failure.report(out.format),
                        Err(failure) => return Err(failure),
                    },
                    Err(refusal) => {
                        Failure::refused("the X.509-SVIDs of this process were withdrawn", &refusal).report(out.format);
                    }
                }
            }
            // No more will come although nobody ended it: the agent will never answer this call.
            let refusal = source
                .status()
                .refusal
                .unwrap_or_else(|| Refusal::new(Reason::Unavailable, "the node agent ended the stream"));
            Err(Failure::refused("the X.509-SVIDs of this process are not watched any more", &refusal))
        };
        let ended = tokio::select! {
            ended = watched => ended,
            () = stop.cancelled() => Ok(()),
            () = output::reader_gone() => Ok(()),
        };
        source.shutdown().await;
        halt.cancel();
        while hooks.join_next().await.is_some() {}
        ended
    }
}

impl Target {
    /// What is to be shown of a context, after it was written where that was asked for.
    fn shown(&self, context: &X509Context) -> Result<Items<Shown>, Failure> {
        let wanted = |it: &&HintedSvid| self.spiffe_id.as_ref().is_none_or(|id| it.svid.spiffe_id() == id);
        let mut items: Vec<_> =
            context.svids().iter().filter(wanted).map(|it| (&it.svid, Shown::of(it, context))).collect();
        let Some((first, shown)) = items.first_mut() else {
            let wanted = self.spiffe_id.as_ref().map(ToString::to_string).unwrap_or_default();
            let why = format!("this process has {}, and not {wanted}", names(context));
            return Err(Failure::input(
                "no such X.509-SVID was fetched",
                why,
                "ask for one that this process has, or change its entry",
            ));
        };
        if let Some(dir) = &self.write {
            shown.written = write_files(dir, first, &shown.bundle_pem, &self.access, Clock::system().now())?;
        }
        Ok(Items { items: items.into_iter().map(|(_, shown)| shown).collect() })
    }
}

fn names(context: &X509Context) -> String {
    context.svids().iter().map(|it| it.svid.spiffe_id().to_string()).collect::<Vec<_>>().join(", ")
}

impl Shown {
    fn of(hinted: &HintedSvid, context: &X509Context) -> Self {
        let svid: &X509Svid = &hinted.svid;
        let bundle = context.bundles().get(svid.spiffe_id().trust_domain());
        Self {
            spiffe_id: svid.spiffe_id().to_string(),
            hint: hinted.hint.clone(),
            serial: hex(svid.serial()),
            not_before: svid.validity().not_before().to_string(),
            not_after: svid.validity().not_after().to_string(),
            chain_pem: svid.chain_pem(),
            bundle_pem: bundle.map(mayfly_sdk::X509Bundle::to_pem).unwrap_or_default(),
            written: Vec::new(),
        }
    }
}

impl View for Items<Shown> {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        for it in &self.items {
            let hint = it.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            writeln!(w, "{}{hint}", it.spiffe_id)?;
            writeln!(w, "  serial  {}", it.serial)?;
            writeln!(w, "  valid   {} to {}", it.not_before, it.not_after)?;
            for path in &it.written {
                writeln!(w, "  wrote   {}", path.display())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn svids_are_shown_in_both_forms_and_their_keys_in_none() {
        let shown = Shown {
            spiffe_id: "spiffe://example.org/web".into(),
            hint: Some("internal".into()),
            serial: "0190ab".into(),
            not_before: "2027-01-15T07:59:00Z".into(),
            not_after: "2027-01-15T08:15:00Z".into(),
            chain_pem: "C\n".into(),
            bundle_pem: "B\n".into(),
            written: vec!["/tmp/d/svid.pem".into()],
        };
        assert_eq!(
            output::golden(&Items { items: vec![shown] }),
            "spiffe://example.org/web (internal)\n  serial  0190ab\n  valid   2027-01-15T07:59:00Z to 2027-01-15T08:15:00Z\n  wrote   \
             /tmp/d/svid.pem\n{\"items\":[{\"spiffe_id\":\"spiffe://example.org/web\",\"hint\":\"internal\",\"serial\":\"0190ab\",\"not_before\":\
             \"2027-01-15T07:59:00Z\",\"not_after\":\"2027-01-15T08:15:00Z\",\"chain_pem\":\"C\\n\",\"bundle_pem\":\"B\\n\",\"written\":\
             [\"/tmp/d/svid.pem\"]}]}\n"
        );
    }
}
