//! `mayfly agent`: the node side.

use std::error::Error;

use clap::Subcommand;
use mayfly_node_agent::Config;
use mayfly_sdk::settings::Log;
use tokio_util::sync::CancellationToken;

use crate::daemon::{Daemon, RunArgs, SettingsArgs};
use crate::failure::Failure;
use crate::output::Out;

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Run until SIGTERM
    Run(RunArgs),
    /// Read the settings, report every problem, and show what is in force
    Check(SettingsArgs),
}

impl Agent {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        match self {
            Self::Run(run) => run.run::<Config>(),
            Self::Check(check) => check.check::<Config>(out),
        }
    }
}

impl Daemon for Config {
    const NAME: &'static str = "agent";
    const ENVIRONMENT: &'static str = "MAYFLY_AGENT";

    fn log(&self) -> &Log {
        &self.log
    }

    async fn run(self, stop: CancellationToken) -> Result<(), Box<dyn Error>> {
        Ok(mayfly_node_agent::run(self, stop).await?)
    }
}
