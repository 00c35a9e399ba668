//! `mayfly task watch`.

use std::time::Duration;

use mayfly_proto::task as wire;
use mayfly_sdk::task::TaskState;
use tokio::time::sleep;

use super::Target;
use super::shown::{Now, TaskShown};
use crate::endpoint::EndpointArgs;
use crate::failure::{Exit, Failure};
use crate::output::{self, Out, time};
use crate::runtime;

/// Pauses while nobody answers: from, up to.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// The task
    id: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

impl Watch {
    /// An outage of the agent is waited out. What is on disk stays there meanwhile, and when the task has ended.
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let (stop, _signals) = runtime::stop_on_signals()?;
        tokio::select! {
            ended = self.follow(out) => ended,
            () = stop.cancelled() => Ok(()),
            () = output::reader_gone() => Ok(()),
        }
    }

    async fn follow(&self, out: Out) -> Result<(), Failure> {
        let mut backoff = BACKOFF.0;
        loop {
            match self.until_it_ends(out, &mut backoff).await {
                Err(failure) if failure.exit == Exit::Unavailable && !failure.is_closed_output() => {
                    failure.report(out.format);
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
                ended => return ended,
            }
        }
    }

    async fn until_it_ends(&self, out: Out, backoff: &mut Duration) -> Result<(), Failure> {
        let failed = |status| Failure::status("the task is not watched", &status);
        let request = wire::WatchRequest { id: self.id.clone() };
        let mut changes = self.endpoint.tasks().await?.watch(request).await.map_err(failed)?.into_inner();
        while let Some(change) = changes.message().await.map_err(failed)? {
            *backoff = BACKOFF.0;
            if self.show(change, out)? {
                return Ok(());
            }
        }
        Err(failed(tonic::Status::unavailable("the node agent ended the stream")))
    }

    /// Prints a change. Whether it is the last one.
    fn show(&self, change: wire::WatchResponse, out: Out) -> Result<bool, Failure> {
        let wire::WatchResponse { task, token, no_new_work } = change;
        let task = TaskShown::of(&task.unwrap_or_default());
        let ended = task.state.parse().is_ok_and(TaskState::is_final);
        let written = token.as_ref().map(|token| self.target.write(token)).transpose()?.unwrap_or_default();
        let expires_at = token.as_ref().and_then(|token| time(token.expires_at));
        out.show(&Now { task, token: token.map(|token| token.token), expires_at, no_new_work, written })?;
        Ok(ended)
    }
}
