//! `mayfly dev`: a trust domain on this machine for as long as this runs, with an identity for whoever started it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mayfly_sdk::client::{Source, X509Context};
use mayfly_sdk::settings::Directories;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{User, getuid};
use serde::Serialize;

use crate::failure::{Exit, Failure};
use crate::local::{Child, Local};
use crate::output::{Out, View};
use crate::runtime;

/// How long the first identity may take.
const FIRST_IDENTITY: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// Where everything is kept, from one run to the next [default: dev in the state directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Name of the trust domain; a directory keeps the one that it began with
    #[arg(long, value_name = "NAME", default_value = "dev.example")]
    trust_domain: String,
}

/// What is there to use.
#[derive(Debug, Serialize)]
struct Ready {
    trust_domain: String,
    /// Of the user who started this.
    spiffe_id: String,
    dir: PathBuf,
    /// A file for the shell: two exports.
    env: PathBuf,
    spiffe_endpoint_socket: String,
    admin_socket: PathBuf,
}

impl Dev {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            let (stop, _signals) = runtime::stop_on_signals()?;
            let dir = self.dir.clone().unwrap_or_else(|| Directories::of("dev").state);
            let mut local = Local::new(&dir, &self.trust_domain)?.with_settings("tasks.allow_serves_any = true\n", "");
            let _only_one = lock(local.dir())?;
            fs::remove_file(local.dir().join("env")).ok();

            let served = async {
                out.show(&prepare(&mut local).await?)?;
                Err(watch(&mut local).await)
            };
            let ended = stop.run_until_cancelled(served).await.unwrap_or(Ok(()));
            fs::remove_file(local.dir().join("env")).ok();
            local.stop().await.and(ended)
        })
    }
}

/// Two of them in one directory would take each other's sockets away.
fn lock(dir: &Path) -> Result<Flock<File>, Failure> {
    let failed = |why: String| {
        let what = format!("{} is in use", dir.display());
        Failure::new(Exit::Unavailable, "in_use", what, why, "end the other mayfly dev, or give another --dir")
    };
    let file = File::create(dir.join("lock")).map_err(|error| failed(error.to_string()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| failed(format!("another mayfly dev holds it ({error})")))
}

async fn prepare(local: &mut Local) -> Result<Ready, Failure> {
    local.start_issuer_on_new_ports().await?;
    let node = local.enrol("dev").await?;
    local.start_agent()?;
    let spiffe_id = format!("spiffe://{}/user/{}", local.trust_domain(), user());
    let entry = serde_json::json!({
        "owner": "dev",
        "entries": [{
            "name": "dev-user",
            "spiffe_id": spiffe_id,
            "node": [node],
            "selectors": [format!("unix:uid:{}", getuid())],
            "task": {"audiences": ["*"], "scopes": ["*"], "authorization_details": ["*"], "delegable": ["*"]},
            "serves": ["*"],
        }],
    });
    local.apply(entry.to_string()).await?;

    let source = Source::<X509Context>::start(local.sdk_endpoint()?);
    let first = tokio::select! {
        first = source.ready(FIRST_IDENTITY) => first.map_err(|refusal| Failure::refused("no identity arrived", &refusal)),
        failure = watch(local) => Err(failure),
    };
    source.shutdown().await;
    first?;

    let (endpoint, admin) = (local.endpoint(), local.admin_socket());
    let exports = format!(
        "export SPIFFE_ENDPOINT_SOCKET={}\nexport MAYFLY_ADMIN_SOCKET={}\n",
        shell(&endpoint),
        shell(&admin.display().to_string())
    );
    let env = local.file("env", &exports)?;
    Ok(Ready {
        trust_domain: local.trust_domain().to_owned(),
        spiffe_id,
        dir: local.dir().to_owned(),
        env,
        spiffe_endpoint_socket: endpoint,
        admin_socket: admin,
    })
}

/// Waits until one of the two ends although nobody asked it to.
async fn watch(local: &mut Local) -> Failure {
    async fn end(child: Option<&mut Child>) -> Failure {
        match child {
            Some(child) => child.unexpected_end().await,
            None => std::future::pending().await,
        }
    }
    let (issuer, agent) = (local.issuer.as_mut(), local.agent.as_mut());
    tokio::select! {
        failure = end(issuer) => failure,
        failure = end(agent) => failure,
    }
}

/// The name of this user as a segment of a SPIFFE ID.
fn user() -> String {
    let uid = getuid();
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect()
}

/// A word for the shell.
fn shell(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:".contains(c));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

impl View for Ready {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "{} is up; you are {}", self.trust_domain, self.spiffe_id)?;
        writeln!(w)?;
        writeln!(w, "  in another shell:  . {}", shell(&self.env.display().to_string()))?;
        writeln!(w, "                     mayfly svid x509 fetch")?;
        writeln!(w)?;
        writeln!(w, "logs are in {}; ^C ends everything", self.dir.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output;

    #[test]
    fn what_is_there_is_shown_in_both_forms() {
        let ready = Ready {
            trust_domain: "dev.example".into(),
            spiffe_id: "spiffe://dev.example/user/ann".into(),
            dir: "/d".into(),
            env: "/d/env".into(),
            spiffe_endpoint_socket: "unix:///d/run/api.sock".into(),
            admin_socket: "/d/issuer/admin/admin.sock".into(),
        };
        assert_eq!(
            output::golden(&ready),
            "dev.example is up; you are spiffe://dev.example/user/ann\n\n  in another shell:  . /d/env\n                     mayfly svid x509 \
             fetch\n\nlogs are in /d; ^C ends everything\n{\"trust_domain\":\"dev.example\",\"spiffe_id\":\"spiffe://dev.example/user/ann\",\"dir\":\
             \"/d\",\"env\":\"/d/env\",\"spiffe_endpoint_socket\":\"unix:///d/run/api.sock\",\"admin_socket\":\"/d/issuer/admin/admin.sock\"}\n"
        );
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(shell("unix:///d/api.sock"), "unix:///d/api.sock");
        assert_eq!(shell("/it's here"), r"'/it'\''s here'");
    }

    #[test]
    fn a_directory_is_used_once_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert_eq!(lock(dir.path()).unwrap_err().reason, "in_use");
        drop(held);
        lock(dir.path()).unwrap();
    }
}
