//! `mayfly issuer`: the control plane.

use std::error::Error;
use std::io::{self, Write};

use clap::Subcommand;
use mayfly_issuer::Config;
use mayfly_sdk::settings::Log;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::daemon::{Daemon, RunArgs, SettingsArgs};
use crate::failure::{Exit, Failure};
use crate::output::{Out, View};
use crate::runtime;

#[derive(Debug, Subcommand)]
pub(crate) enum Issuer {
    /// Run until SIGTERM
    Run(RunArgs),
    /// Read the settings, report every problem, and show what is in force
    Check(SettingsArgs),
    /// Say that the store was restored from a backup, before the issuer runs on it: nodes take everything anew
    Restored(SettingsArgs),
}

/// What a restored store counts from.
#[derive(Debug, Serialize)]
struct Restored {
    revision: String,
}

impl Issuer {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        match self {
            Self::Run(run) => run.run::<Config>(),
            Self::Check(check) => check.check::<Config>(out),
            Self::Restored(settings) => {
                let config = settings.read::<Config>()?;
                runtime::daemon(async {
                    let begun = mayfly_issuer::restored(config).await.map_err(|error| {
                        let what = "no new epoch was begun in the store";
                        let remedy = "correct that, stop the issuer, and repeat the command";
                        Failure::new(Exit::Unavailable, "not_restored", what, error.to_string(), remedy)
                    })?;
                    Ok(out.show(&Restored { revision: begun.to_string() })?)
                })
            }
        }
    }
}

impl Daemon for Config {
    const NAME: &'static str = "issuer";
    const ENVIRONMENT: &'static str = "MAYFLY_ISSUER";

    fn log(&self) -> &Log {
        &self.log
    }

    async fn run(self, stop: CancellationToken) -> Result<(), Box<dyn Error>> {
        Ok(mayfly_issuer::run(self, stop).await?)
    }
}

impl View for Restored {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "a new epoch has begun, at revision {}: nodes take everything anew", self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::golden;

    #[test]
    fn what_a_restored_store_counts_from_is_shown() {
        let shown = Restored { revision: "1520000.0".into() };
        assert_eq!(
            golden(&shown),
            "a new epoch has begun, at revision 1520000.0: nodes take everything anew\n{\"revision\":\"1520000.0\"}\n"
        );
    }
}
