//! Clients that never rest, and what they were given.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use mayfly_rig::{Rig, mayfly};
use mayfly_sdk::{
    client::{Endpoint, Source, WitContext, WorkloadClient, X509Context},
    jwt::Audience,
};
use tokio::runtime::Runtime;

/// What clients hold, so far.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Holdings>);

/// Everything that was acknowledged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holdings {
    /// Serial numbers and `jti`s, hexadecimal.
    pub(crate) svids: BTreeSet<String>,
    /// `jti`s of WIT-SVIDs.
    pub(crate) wits: BTreeSet<String>,
    /// Names of entries.
    pub(crate) entries: Vec<String>,
    /// The SPIFFE IDs that join tokens are for.
    pub(crate) tokens: Vec<String>,
}

impl Held {
    pub(crate) fn snapshot(&self) -> Holdings {
        self.0.lock().unwrap().clone()
    }
}

/// The clients; they end when it is dropped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    runtime: Option<Runtime>,
    commands: Vec<JoinHandle<()>>,
}

impl Load {
    /// Two workloads' worth of calls at the agent `a`, and two administrators.
    pub(crate) fn start(rig: &Rig, held: &Arc<Held>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let endpoint: Endpoint = rig.endpoint("a").parse().unwrap();
        for caller in 0..4 {
            runtime.spawn(ever_new_audiences(endpoint.clone(), caller, Arc::clone(held)));
        }
        runtime.spawn(every_rotation(endpoint.clone(), Arc::clone(held)));
        runtime.spawn(every_wit(endpoint, Arc::clone(held)));
        let stop = Arc::new(AtomicBool::new(false));
        let commands = [Administrator::edit_entries, Administrator::make_tokens].map(|work| {
            let administrator = Administrator {
                socket: rig.admin_socket(),
                entry: rig.entry("NAME", ", \"unix:path:/nowhere\""),
                held: Arc::clone(held),
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    work(&administrator, n);
                }
            })
        });
        Self { stop, runtime: Some(runtime), commands: commands.into() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
        for command in self.commands.drain(..) {
            command.join().ok();
        }
    }
}

async fn ever_new_audiences(endpoint: Endpoint, caller: u32, held: Arc<Held>) {
    let client = WorkloadClient::new(&endpoint);
    for n in 0_u64.. {
        let audience = Audience::new(format!("audience-{caller}-{n}")).unwrap();
        match client.fetch_jwt_svids(&[audience], None).await {
            Ok(svids) => {
                let jtis = svids.iter().map(|svid| svid.claims().claims()["jti"].as_str().unwrap().to_owned());
                held.0.lock().unwrap().svids.extend(jtis);
            }
            Err(_no_issuer) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn every_rotation(endpoint: Endpoint, held: Arc<Held>) {
    let source = Source::<X509Context>::start(endpoint);
    let mut changes = source.changes();
    while let Some(change) = changes.next().await {
        if let Ok(context) = change {
            let serials = context.svids().iter().map(|hinted| hex::encode(hinted.svid.serial()));
            held.0.lock().unwrap().svids.extend(serials);
        }
    }
}

async fn every_wit(endpoint: Endpoint, held: Arc<Held>) {
    let source = Source::<WitContext>::start(endpoint);
    let mut changes = source.changes();
    while let Some(change) = changes.next().await {
        if let Ok(context) = change {
            let jtis = context.svids().iter().map(|hinted| hinted.svid.claims().claims()["jti"].as_str().unwrap());
            held.0.lock().unwrap().wits.extend(jtis.map(str::to_owned));
        }
    }
}

struct Administrator {
    socket: PathBuf,
    /// An entry named NAME, that no workload matches.
    entry: String,
    held: Arc<Held>,
}

impl Administrator {
    fn edit_entries(&self, n: u32) {
        let name = format!("entry-{n}");
        let document = format!("owner: test\nentries:\n{}", self.entry.replace("NAME", &name));
        if self.run(&["entry", "apply", "-f", "-"], &document).is_some() {
            self.held.0.lock().unwrap().entries.push(name);
        }
    }

    fn make_tokens(&self, n: u32) {
        let name = format!("token-{n}");
        if let Some(answer) = self.run(&["join-token", "create", "--spiffe-id", &name], "") {
            let id = answer["spiffe_id"].as_str().unwrap().to_owned();
            self.held.0.lock().unwrap().tokens.push(id);
        }
        std::thread::sleep(Duration::from_millis(100));
    }

    /// What the command answered, if it succeeded.
    fn run(&self, args: &[&str], input: &str) -> Option<serde_json::Value> {
        let mut child = Command::new(mayfly())
            .args(["--output", "json"])
            .args(args)
            .env("MAYFLY_ADMIN_SOCKET", &self.socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It may have ended without reading, since nobody serves the socket.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }
}
