//! The rig's issuer.

use std::{fmt::Write as _, path::PathBuf, process::Command};

use nix::sys::signal::Signal;

use crate::{Daemon, Rig, eventually};

impl Rig {
    /// Starts the issuer, and waits until it answers.
    pub fn start_issuer(&mut self) {
        self.launch_issuer();
        eventually("the issuer answers", 60, || {
            self.issuer_runs();
            self.run(&["health"]).status.success().then_some(())
        });
    }

    /// Starts the issuer without waiting.
    pub fn launch_issuer(&mut self) {
        let config = self.file("issuer.toml", &self.issuer_config());
        let mut command = Command::new(&self.program);
        command.args(["issuer", "run", "--config"]).arg(config).envs(self.environment.clone());
        self.issuer = Some(Daemon::start(command, self.dir().join("issuer.log")));
    }

    /// Changes one setting of the issuer; it holds from its next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.insert(key.into(), value.into());
    }

    /// The issuer's address for nodes.
    pub fn issuer_address(&self) -> String {
        format!("{}:8443", self.ip())
    }

    /// The issuer's address for HTTPS.
    pub fn web_address(&self) -> String {
        format!("{}:8444", self.ip())
    }

    /// Where workloads call its OAuth endpoints, if it has a public URL.
    #[must_use]
    pub fn mtls_address(&self) -> String {
        format!("{}:8445", self.ip())
    }

    /// The issuer's admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.dir().join("issuer-admin/admin.sock")
    }

    /// The issuer's state directory.
    pub fn issuer_state(&self) -> PathBuf {
        self.dir().join("issuer")
    }

    /// Stops the issuer as an operator would.
    pub fn stop_issuer(&mut self) {
        let status = self.issuer.take().expect("an issuer runs").stop();
        assert!(status.success(), "the issuer ended with {status}");
    }

    /// Kills the issuer.
    pub fn kill_issuer(&mut self) {
        self.issuer.take().expect("an issuer runs").kill();
    }

    /// Sends the issuer a signal.
    pub fn signal_issuer(&self, signal: Signal) {
        self.issuer.as_ref().expect("an issuer runs").signal(signal);
    }

    /// The issuer's process id.
    pub fn issuer_id(&self) -> u32 {
        self.issuer.as_ref().expect("an issuer runs").id()
    }

    /// What the issuer logged.
    pub fn issuer_log(&self) -> String {
        std::fs::read_to_string(self.dir().join("issuer.log")).unwrap_or_default()
    }

    fn issuer_runs(&mut self) {
        let issuer = self.issuer.as_mut().expect("an issuer was started");
        assert!(issuer.is_running(), "the issuer ended: {}", issuer.log());
    }

    fn issuer_config(&self) -> String {
        let mut lines = format!(
            "trust_domain = \"{}\"\nstate_dir = \"{}\"\nlisten = \"{}\"\nadmin_socket = \"{}\"\n",
            self.trust_domain,
            self.issuer_state().display(),
            self.issuer_address(),
            self.admin_socket().display(),
        );
        if !self.settings.contains_key("metrics.listen") {
            writeln!(lines, "metrics.listen = \"{}:9464\"", self.ip()).unwrap();
        }
        if !self.settings.contains_key("web.listen") {
            writeln!(lines, "web.listen = \"{}\"", self.web_address()).unwrap();
        }
        if self.settings.contains_key("web.public_url") && !self.settings.contains_key("web.mtls_listen") {
            writeln!(lines, "web.mtls_listen = \"{}\"", self.mtls_address()).unwrap();
        }
        // An empty value leaves a setting out, for issuers of a build that does not know it.
        for (key, value) in self.settings.iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(lines, "{key} = {value}").unwrap();
        }
        lines
    }
}
