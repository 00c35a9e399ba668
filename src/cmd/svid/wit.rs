//! `mayfly svid wit fetch` and `watch`.

use std::io::{self, Write};

use mayfly_sdk::client::{HintedWit, Source, WitContext};
use mayfly_sdk::{Reason, Refusal, SpiffeId};
use serde::Serialize;

use crate::endpoint::EndpointArgs;
use crate::failure::Failure;
use crate::output::{self, Items, Out, View};
use crate::runtime;

#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    asked: Asked,
}

/// Which identity.
#[derive(Debug, clap::Args)]
pub(super) struct Asked {
    /// Only this identity [default: each that this process has; for prove the first]
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// A token as it is shown: never its key.
#[derive(Debug, Serialize)]
struct Shown {
    spiffe_id: String,
    hint: Option<String>,
    expires_at: String,
    token: String,
}

impl Fetch {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let context = self.asked.fetch().await?;
        Ok(out.show(&self.asked.shown(&context)?)?)
    }
}

impl Watch {
    /// An outage of the agent is waited out, and so is a withdrawal, for it may end.
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let (stop, _signals) = runtime::stop_on_signals()?;
        let source = Source::<WitContext>::start(self.asked.endpoint.endpoint()?);
        let mut changes = source.changes();
        let watched = async {
            while let Some(change) = changes.next().await {
                match change {
                    Ok(context) => out.show(&self.asked.shown(&context)?)?,
                    Err(refusal) => {
                        Failure::refused("the WIT-SVIDs of this process were withdrawn", &refusal).report(out.format);
                    }
                }
            }
            // No more will come although nobody ended it: the agent will never answer this call.
            let refusal = source.status().refusal;
            let refusal =
                refusal.unwrap_or_else(|| Refusal::new(Reason::Unavailable, "the node agent ended the stream"));
            Err(Failure::refused("the WIT-SVIDs of this process are not watched any more", &refusal))
        };
        let ended = tokio::select! {
            ended = watched => ended,
            () = stop.cancelled() => Ok(()),
            () = output::reader_gone() => Ok(()),
        };
        source.shutdown().await;
        ended
    }
}

impl Asked {
    pub(super) async fn fetch(&self) -> Result<WitContext, Failure> {
        let context = self.endpoint.client()?.fetch::<WitContext>().await;
        context.map_err(|refusal| Failure::refused("no WIT-SVID was fetched", &refusal))
    }

    /// The SVIDs that were asked for; at least one.
    pub(super) fn wanted<'a>(&self, context: &'a WitContext) -> Result<Vec<&'a HintedWit>, Failure> {
        let is_wanted = |it: &&HintedWit| self.spiffe_id.as_ref().is_none_or(|id| it.svid.spiffe_id() == id);
        let wanted: Vec<_> = context.svids().iter().filter(is_wanted).collect();
        if wanted.is_empty() {
            let names: Vec<_> = context.svids().iter().map(|it| it.svid.spiffe_id().to_string()).collect();
            let id = self.spiffe_id.as_ref().map(ToString::to_string).unwrap_or_default();
            return Err(Failure::input(
                "no such WIT-SVID was fetched",
                format!("this process has {}, and not {id}", names.join(", ")),
                "ask for one that this process has, or change its entry",
            ));
        }
        Ok(wanted)
    }

    fn shown(&self, context: &WitContext) -> Result<Items<Shown>, Failure> {
        Ok(Items { items: self.wanted(context)?.into_iter().map(Shown::of).collect() })
    }
}

impl Shown {
    fn of(hinted: &HintedWit) -> Self {
        Self {
            spiffe_id: hinted.svid.spiffe_id().to_string(),
            hint: hinted.hint.clone(),
            expires_at: hinted.svid.expires_at().to_string(),
            token: hinted.svid.token().to_owned(),
        }
    }
}

impl View for Items<Shown> {
    /// The tokens alone, one a line.
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        self.items.iter().try_for_each(|it| writeln!(w, "{}", it.token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_shown_in_both_forms_and_their_keys_in_none() {
        let shown = Shown {
            spiffe_id: "spiffe://example.org/web".into(),
            hint: Some("internal".into()),
            expires_at: "2027-01-15T08:15:00Z".into(),
            token: "a.b.c".into(),
        };
        assert_eq!(
            output::golden(&Items { items: vec![shown] }),
            "a.b.c\n{\"items\":[{\"spiffe_id\":\"spiffe://example.org/web\",\"hint\":\"internal\",\"expires_at\":\"2027-01-15T08:15:00Z\",\"token\":\
             \"a.b.c\"}]}\n"
        );
    }
}
