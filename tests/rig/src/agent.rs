//! The rig's node agents, by name.

use std::{fmt::Write as _, path::PathBuf, process::Command};

use nix::sys::signal::Signal;

use crate::{Daemon, Rig, eventually};

impl Rig {
    /// Enrols and starts an agent, and waits until it is ready.
    pub fn start_agent(&mut self, name: &str) {
        self.launch_agent(name);
        self.wait_for_agent(name);
    }

    /// Changes one setting of an agent; it holds from its next start. One with a `machine_certificate` gets no join token.
    pub fn set_agent(&mut self, name: &str, key: &str, value: &str) {
        self.agent_settings.entry(name.into()).or_default().insert(key.into(), value.into());
    }

    /// Starts an agent without waiting; at its first start it gets a join token.
    pub fn launch_agent(&mut self, name: &str) {
        let state = self.agent_dir(name);
        if !state.exists() {
            std::fs::create_dir_all(&state).unwrap();
            if self.agent_setting(name, "machine_certificate").is_none() {
                let token = self.run(&["join-token", "create", "--spiffe-id", name]);
                assert!(token.status.success(), "join-token create: {}", String::from_utf8_lossy(&token.stderr));
                std::fs::write(state.join("token"), token.stdout).unwrap();
            }
        }
        let config = self.file(&format!("agent-{name}.toml"), &self.agent_config(name));
        let mut command = Command::new(&self.program);
        command.args(["agent", "run", "--config"]).arg(config).envs(self.environment.clone());
        self.agents.insert(name.into(), Daemon::start(command, self.dir().join(format!("agent-{name}.log"))));
    }

    /// Waits until an agent says that it is ready.
    pub fn wait_for_agent(&mut self, name: &str) {
        let address = format!("{}:{}", self.ip(), Self::agent_port(name));
        eventually("the agent is ready", 20, || {
            let agent = self.agents.get_mut(name).expect("an agent of this name was started");
            assert!(agent.is_running(), "the agent ended: {}", agent.log());
            http_get(&address, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")).then_some(())
        });
    }

    /// Stops an agent as an operator would.
    pub fn stop_agent(&mut self, name: &str) {
        let status = self.agents.remove(name).expect("an agent of this name runs").stop();
        assert!(status.success(), "the agent ended with {status}");
    }

    /// Kills an agent.
    pub fn kill_agent(&mut self, name: &str) {
        self.agents.remove(name).expect("an agent of this name runs").kill();
    }

    /// Sends an agent a signal.
    pub fn signal_agent(&self, name: &str, signal: Signal) {
        self.agents.get(name).expect("an agent of this name runs").signal(signal);
    }

    /// An agent's process id.
    pub fn agent_id(&self, name: &str) -> u32 {
        self.agents.get(name).expect("an agent of this name runs").id()
    }

    /// An agent's Workload API socket.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.dir().join(format!("run-{name}/agent/api.sock"))
    }

    /// The same as `SPIFFE_ENDPOINT_SOCKET`.
    pub fn endpoint(&self, name: &str) -> String {
        format!("unix://{}", self.socket(name).display())
    }

    /// An agent's state directory.
    pub fn agent_dir(&self, name: &str) -> PathBuf {
        self.dir().join(format!("agent-{name}"))
    }

    /// What an agent logged.
    pub fn agent_log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir().join(format!("agent-{name}.log"))).unwrap_or_default()
    }

    /// An agent's metrics, as text.
    pub fn agent_metrics(&self, name: &str) -> String {
        http_get(&format!("{}:{}", self.ip(), Self::agent_port(name)), "/metrics").unwrap_or_default()
    }

    /// What an agent's `/ready` answers.
    pub fn agent_ready(&self, name: &str) -> String {
        http_get(&format!("{}:{}", self.ip(), Self::agent_port(name)), "/ready").unwrap_or_default()
    }

    /// Whether an agent that was started still runs.
    pub fn agent_runs(&mut self, name: &str) -> bool {
        self.agents.get_mut(name).expect("an agent of this name was started").is_running()
    }

    fn agent_port(name: &str) -> u16 {
        // One address a rig; the agents' ports follow from their names.
        10_000 + name.bytes().fold(0_u16, |port, byte| port.wrapping_mul(31).wrapping_add(byte.into())) % 20_000
    }

    fn agent_setting(&self, name: &str, key: &str) -> Option<&String> {
        self.agent_settings.get(name)?.get(key)
    }

    fn agent_config(&self, name: &str) -> String {
        let state = self.agent_dir(name);
        let mut lines = format!(
            "trust_domain = \"{}\"\nstate_dir = \"{}\"\nruntime_dir = \"{}\"\nsocket = \"{}\"\nmetrics.listen = \"{}:{}\"\n",
            self.trust_domain,
            state.display(),
            self.dir().join(format!("run-{name}/agent")).display(),
            self.socket(name).display(),
            self.ip(),
            Self::agent_port(name),
        );
        if self.agent_setting(name, "machine_certificate").is_none() {
            writeln!(lines, "join_token_file = \"{}\"", state.join("token").display()).unwrap();
        }
        if self.agent_setting(name, "issuer.addresses").is_none() {
            writeln!(lines, "issuer.addresses = [\"{}\"]", self.issuer_address()).unwrap();
        }
        for (key, value) in self.agent_settings.get(name).into_iter().flatten() {
            writeln!(lines, "{key} = {value}").unwrap();
        }
        lines
    }
}

/// One HTTP/1.1 request to a loopback address; the whole answer, or none when nobody answers.
pub fn http_get(address: &str, path: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
