//! An issuer and a node agent as two child processes of this one, for `dev` and `demo`: their directory, ports, settings, start and end.
//!
//! ```text
//! DIR/issuer.toml  DIR/issuer/    state, and admin/admin.sock   DIR/issuer.log
//! DIR/agent.toml   DIR/agent/     state, and token              DIR/agent.log
//!                  DIR/run/       api.sock
//! ```

mod child;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mayfly_proto::admin;
use mayfly_sdk::client::Endpoint;
use tokio::time::{Instant, sleep};

pub(crate) use child::Child;

use crate::admin::AdminArgs;
use crate::failure::{Exit, Failure};

/// How long a daemon may take until it answers.
const START: Duration = Duration::from_secs(20);
/// How often it is asked meanwhile.
const ASK: Duration = Duration::from_millis(25);
/// Ports that were free may be taken before they are bound again: how often other ones are tried.
const PORTS: u32 = 3;

/// The programs that the daemons are; none: this one.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Programs {
    /// The build that is the issuer
    #[arg(long, value_name = "PATH", hide = true)]
    issuer_program: Option<PathBuf>,
    /// The build that is the node agent
    #[arg(long, value_name = "PATH", hide = true)]
    agent_program: Option<PathBuf>,
}

impl Programs {
    /// Whether one of them is of another build, which may know less.
    pub(crate) fn are_foreign(&self) -> bool {
        self.issuer_program.is_some() || self.agent_program.is_some()
    }
}

/// A trust domain on this machine.
#[derive(Debug)]
pub(crate) struct Local {
    dir: PathBuf,
    trust_domain: String,
    /// Further lines of the two files of settings.
    issuer_settings: String,
    agent_settings: String,
    ports: [SocketAddr; 4],
    pub(crate) programs: Programs,
    pub(crate) issuer: Option<Child>,
    pub(crate) agent: Option<Child>,
}

impl Local {
    /// In `dir`, which is made (0700) where it is missing. Nothing runs yet.
    pub(crate) fn new(dir: &Path, trust_domain: &str) -> Result<Self, Failure> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| fs::canonicalize(dir));
        let dir = made.map_err(|error| directory(dir, &error))?;
        let ports = free_ports().map_err(|error| directory(&dir, &error))?;
        Ok(Self {
            dir,
            trust_domain: trust_domain.to_owned(),
            issuer_settings: String::new(),
            agent_settings: String::new(),
            ports,
            programs: Programs::default(),
            issuer: None,
            agent: None,
        })
    }

    /// With these further settings, lines of TOML.
    pub(crate) fn with_settings(self, issuer: &str, agent: &str) -> Self {
        Self { issuer_settings: issuer.to_owned(), agent_settings: agent.to_owned(), ..self }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The issuer's admin socket.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.dir.join("issuer/admin/admin.sock")
    }

    pub(crate) fn admin(&self) -> AdminArgs {
        AdminArgs::at(self.admin_socket())
    }

    /// The Workload API's address as workloads are told it.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.dir.join("run/api.sock").display())
    }

    /// The same for the SDK.
    pub(crate) fn sdk_endpoint(&self) -> Result<Endpoint, Failure> {
        self.endpoint()
            .parse()
            .map_err(|refusal| Failure::refused("the Workload API's address cannot be used", &refusal))
    }

    /// Starts the issuer, and waits until it answers; on other ports where the first ones were taken meanwhile.
    pub(crate) async fn start_issuer_on_new_ports(&mut self) -> Result<(), Failure> {
        let mut started = self.start_issuer().await;
        for _ in 1..PORTS {
            if !started.as_ref().is_err_and(|failure| failure.why.contains("in use")) {
                break;
            }
            self.ports = free_ports().map_err(|error| directory(&self.dir, &error))?;
            started = self.start_issuer().await;
        }
        started
    }

    /// Starts the issuer, and waits until it answers.
    pub(crate) async fn start_issuer(&mut self) -> Result<(), Failure> {
        let [node, metrics, _, web] = self.ports;
        let mut settings = self.lines(&[
            ("state_dir", &self.dir.join("issuer").display()),
            ("listen", &node),
            ("admin_socket", &self.admin_socket().display()),
            ("metrics.listen", &metrics),
        ]);
        // Another build may be of 0.1, which had no such listener.
        if self.programs.issuer_program.is_none() {
            // Writing to memory does not fail.
            writeln!(settings, "web.listen = {}", quoted(&web)).ok();
        }
        let config = self.file("issuer.toml", &format!("{settings}{}", self.issuer_settings))?;
        let mut child =
            Child::daemon("issuer", self.programs.issuer_program.as_deref(), &config, &self.dir.join("issuer.log"))?;
        let until = Instant::now() + START;
        loop {
            let asked = async {
                self.admin()
                    .connect()
                    .await?
                    .get_status(admin::GetStatusRequest {})
                    .await
                    .map_err(|status| Failure::status("", &status))
            };
            match asked.await {
                Ok(_) => break,
                Err(failure) if Instant::now() > until => return Err(late("issuer", &failure.why)),
                Err(_) => child.must_run()?,
            }
            sleep(ASK).await;
        }
        self.issuer = Some(child);
        Ok(())
    }

    /// Starts the agent. Its socket may take a moment.
    pub(crate) fn start_agent(&mut self) -> Result<(), Failure> {
        let [node, _, metrics, _] = self.ports;
        let settings = self.lines(&[
            ("state_dir", &self.dir.join("agent").display()),
            ("runtime_dir", &self.dir.join("run").display()),
            ("join_token_file", &self.token_file().display()),
            ("metrics.listen", &metrics),
        ]);
        let addresses = format!("issuer.addresses = [{}]\n", quoted(&node));
        let config = self.file("agent.toml", &format!("{settings}{addresses}{}", self.agent_settings))?;
        self.agent =
            Some(Child::daemon("agent", self.programs.agent_program.as_deref(), &config, &self.dir.join("agent.log"))?);
        Ok(())
    }

    /// Makes a join token for a node of this name and puts it where the agent reads it. The node's SPIFFE ID to be.
    pub(crate) async fn enrol(&self, node: &str) -> Result<String, Failure> {
        let request = admin::CreateJoinTokenRequest { spiffe_id: node.to_owned(), ..Default::default() };
        let answer = self.admin().connect().await?.create_join_token(request).await;
        let answer = answer.map_err(|status| Failure::status("no join token was made", &status))?.into_inner();
        self.file("agent-token", &format!("{}\n", answer.token))?;
        Ok(answer.spiffe_id)
    }

    /// Makes the entries of this owner what `document` says.
    pub(crate) async fn apply(&self, document: String) -> Result<(), Failure> {
        let request =
            admin::ApplyEntriesRequest { document: document.into_bytes().into(), prune: true, dry_run: false };
        let answer = self.admin().connect().await?.apply_entries(request).await;
        answer.map(|_| ()).map_err(|status| Failure::status("the entries were not applied", &status))
    }

    /// Ends both daemons, the agent first, so that the issuer sees it go.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        for child in [self.agent.take(), self.issuer.take()].into_iter().flatten() {
            child.stop().await?;
        }
        Ok(())
    }

    fn token_file(&self) -> PathBuf {
        self.dir.join("agent-token")
    }

    fn lines(&self, settings: &[(&str, &dyn std::fmt::Display)]) -> String {
        let mut lines = format!("# Written by mayfly.\ntrust_domain = {}\n", quoted(&self.trust_domain));
        for (key, value) in settings {
            // Writing to memory does not fail.
            writeln!(lines, "{key} = {}", quoted(value)).ok();
        }
        lines
    }

    /// Writes a file that nobody else reads (0600), by rename.
    pub(crate) fn file(&self, name: &str, content: &str) -> Result<PathBuf, Failure> {
        let path = self.dir.join(name);
        replace_file(&path, content).map_err(|error| directory(&path, &error))?;
        Ok(path)
    }
}

fn replace_file(path: &Path, content: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    io::Write::write_all(&mut file, content.as_bytes())?;
    fs::rename(temporary, path)
}

/// A TOML string; JSON's escapes are TOML's.
fn quoted(value: &dyn std::fmt::Display) -> String {
    serde_json::Value::String(value.to_string()).to_string()
}

/// Four loopback ports that were free a moment ago.
fn free_ports() -> io::Result<[SocketAddr; 4]> {
    let listen = || TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
    let listeners = [listen()?, listen()?, listen()?, listen()?];
    let [a, b, c, d] = listeners;
    Ok([a.local_addr()?, b.local_addr()?, c.local_addr()?, d.local_addr()?])
}

fn directory(path: &Path, error: &io::Error) -> Failure {
    let what = format!("{} cannot be used", path.display());
    Failure::input(what, error.to_string(), "give a directory that this user may write")
}

fn late(name: &str, why: &str) -> Failure {
    let what = format!("the {name} does not answer after {} s", START.as_secs());
    Failure::new(Exit::Unavailable, "unavailable", what, why, "read its log; on a slow machine, try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_toml_whatever_the_directory_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a \"b\" \\ ü");
        let local = Local::new(&odd, "dev.example").unwrap();
        let lines = local.lines(&[("state_dir", &local.dir().join("issuer").display())]);
        let quoted = serde_json::to_string(local.dir().join("issuer").to_str().unwrap()).unwrap();
        assert_eq!(lines, format!("# Written by mayfly.\ntrust_domain = \"dev.example\"\nstate_dir = {quoted}\n"));
    }

    #[test]
    fn ports_differ() {
        let ports = free_ports().unwrap();
        assert_eq!(ports.iter().collect::<std::collections::HashSet<_>>().len(), ports.len());
    }
}
