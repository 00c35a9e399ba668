//! What running either daemon has in common: its settings, its log, its end.

use std::error::Error;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mayfly_sdk::settings::{self, Log, Override, Settings};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};
use crate::logging::{self, LogArgs};
use crate::output::{Out, View};
use crate::runtime::{self, ParentArgs};

/// Where the settings are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SettingsArgs {
    /// Settings file (TOML) [default: issuer.toml or agent.toml in /etc/mayfly, where that exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Trust domain, in place of the one in the settings
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
}

/// How the daemon is run.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    parent: ParentArgs,
}

/// A daemon of which this command has two.
pub(crate) trait Daemon: Settings {
    /// `issuer`, `agent`.
    const NAME: &'static str;
    /// `MAYFLY_ISSUER`, `MAYFLY_AGENT`.
    const ENVIRONMENT: &'static str;

    /// Its log.
    fn log(&self) -> &Log;

    /// Runs it until `stop`.
    fn run(self, stop: CancellationToken) -> impl Future<Output = Result<(), Box<dyn Error>>>;
}

/// Settings that were read and hold.
#[derive(Debug, Serialize)]
struct Checked {
    valid: bool,
    file: Option<PathBuf>,
    /// Every setting with the value in force.
    settings: Value,
}

impl SettingsArgs {
    fn load<D: Daemon>(&self) -> Result<(Option<PathBuf>, D), Failure> {
        let usual = Path::new("/etc/mayfly").join(format!("{}.toml", D::NAME));
        let file = self.config.clone().or_else(|| usual.exists().then_some(usual));
        let flags = self.trust_domain.as_ref().map(|name| Override {
            flag: "--trust-domain".to_owned(),
            key: "trust_domain".to_owned(),
            value: name.clone(),
        });
        let loaded = settings::load::<D>(file.as_deref(), D::ENVIRONMENT, flags.as_slice());
        let settings = loaded
            .map_err(|problems| Failure::settings(format!("the settings of the {} do not hold", D::NAME), &problems))?;
        logging::filter(&settings.log().level)?;
        Ok((file, settings))
    }

    /// The settings, for a command that works on what is the daemon's while that does not run.
    pub(crate) fn read<D: Daemon>(&self) -> Result<D, Failure> {
        Ok(self.load::<D>()?.1)
    }

    /// `mayfly <daemon> check`.
    pub(crate) fn check<D: Daemon>(&self, out: Out) -> Result<(), Failure> {
        let (file, settings) = self.load::<D>()?;
        let settings =
            serde_json::to_value(settings).map_err(|error| Failure::bug("the settings are not shown", error))?;
        Ok(out.show(&Checked { valid: true, file, settings })?)
    }
}

impl RunArgs {
    /// `mayfly <daemon> run`.
    pub(crate) fn run<D: Daemon>(&self) -> Result<(), Failure> {
        runtime::follow_parent(&self.parent)?;
        let (_, settings) = self.settings.load::<D>()?;
        logging::start(&self.log, settings.log())?;
        runtime::daemon(async {
            let (stop, _signals) = runtime::stop_on_signals()?;
            settings.run(stop).await.map_err(|error| {
                let what = format!("the {} stopped", D::NAME);
                Failure::new(
                    Exit::Unavailable,
                    "daemon_stopped",
                    what,
                    chain(error.as_ref()),
                    "correct that and start it again",
                )
            })
        })
    }
}

/// An error and what caused it.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.dedup_by(|cause, error| error.ends_with(cause.as_str()));
    texts.join(": ")
}

impl View for Checked {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        match &self.file {
            Some(file) => writeln!(w, "{}: no problems", file.display()),
            None => writeln!(w, "no settings file; the defaults and the environment hold"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output;

    #[test]
    fn checked_settings_are_shown_in_both_forms() {
        let checked = Checked {
            valid: true,
            file: Some("/etc/mayfly/issuer.toml".into()),
            settings: serde_json::json!({ "name": "a" }),
        };
        assert_eq!(
            output::golden(&checked),
            "/etc/mayfly/issuer.toml: no problems\n{\"valid\":true,\"file\":\"/etc/mayfly/issuer.toml\",\"settings\":{\"name\":\"a\"}}\n"
        );
    }
}
