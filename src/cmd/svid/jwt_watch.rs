//! `mayfly svid jwt watch`: the Workload API has no stream of JWT-SVIDs, so this asks again when the node agent will have renewed them.

use std::time::Duration;

use mayfly_sdk::Clock;
use mayfly_sdk::client::FetchedJwt;
use tokio::time::sleep;

use super::jwt::{Asked, Shown};
use crate::failure::{Exit, Failure};
use crate::output::{self, Items, Out};
use crate::runtime;

/// Pauses while nobody answers: from, up to.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The shortest pause between two questions.
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    asked: Asked,
}

impl Watch {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let (stop, _signals) = runtime::stop_on_signals()?;
        tokio::select! {
            ended = self.follow(out) => ended,
            () = stop.cancelled() => Ok(()),
            () = output::reader_gone() => Ok(()),
        }
    }

    async fn follow(self, out: Out) -> Result<(), Failure> {
        let clock = Clock::system();
        let mut last = Vec::new();
        let mut backoff = BACKOFF.0;
        loop {
            let pause = match self.asked.fetch().await {
                Ok(fetched) => {
                    backoff = BACKOFF.0;
                    let items: Vec<_> = fetched.iter().map(Shown::of).collect();
                    let tokens: Vec<_> = items.iter().map(|it| it.token.clone()).collect();
                    if tokens != last {
                        last = tokens;
                        out.show(&Items { items })?;
                    }
                    fetched.iter().map(|jwt| until_renewed(jwt, &clock)).min().unwrap_or(SHORTEST)
                }
                Err(failure) if failure.exit == Exit::Unavailable => {
                    failure.report(out.format);
                    let pause = backoff;
                    backoff = (backoff * 2).min(BACKOFF.1);
                    pause
                }
                Err(failure) => return Err(failure),
            };
            sleep(pause).await;
        }
    }
}

/// The agent renews at 45 to 55 % of the life: at 60 % there is a new one.
fn until_renewed(jwt: &FetchedJwt, clock: &Clock) -> Duration {
    let now = clock.now();
    let issued = jwt.claims().issued_at().unwrap_or(now);
    let life = jwt.claims().expires_at().seconds_since(issued).max(0);
    let due = life * 6 / 10 - now.seconds_since(issued);
    Duration::from_secs(u64::try_from(due).unwrap_or(0)).max(SHORTEST)
}
