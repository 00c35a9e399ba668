//! Rotation under binding: SVIDs are replaced every 10 s, by force, while two instances of one SPIFFE ID call a service without a pause.
//! 40 s; with `MAYFLY_TESTS=full` 10 minutes.
//!
//! The service and the node agent are the real ones, and the callers are processes with the SDK.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test root, which tells its figures"
)]

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mayfly_rig::{Daemon, Rig, eventually};
use mayfly_sdk::client::{Endpoint, Pass, Presents, Task, TaskHttp, TaskPasses, TaskRequest};
use mayfly_sdk::tls::{Authorizer, Options};
use mayfly_sdk::{Clock, Refusal, SpiffeId};
use serde_json::{Value, json};

const FILES: &str = "https://files.example.org/";
const AXUM: &str = env!("CARGO_BIN_EXE_axum_service");

const URL: &str = "MAYFLY_TEST_URL";
const SERVICE: &str = "MAYFLY_TEST_SERVICE";
/// Where a caller writes its token for the other one to steal, and its account at the end.
const OWN: &str = "MAYFLY_TEST_OWN";
const OTHER: &str = "MAYFLY_TEST_OTHER";

/// Calls of one process at a time, and its pause between two.
const AT_A_TIME: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
const ROTATES_EVERY: Duration = Duration::from_secs(10);

fn duration() -> Duration {
    let full = std::env::var_os("MAYFLY_TESTS").is_some_and(|forms| forms == "full");
    Duration::from_secs(if full { 600 } else { 40 })
}

#[test]
fn no_call_is_refused_while_svids_rotate_and_every_token_of_the_other_instance_is() {
    let rig = Rig::started(&[]);
    apply(&rig, 0);
    let (_service, address) = service(&rig);
    let mut callers = [Caller::start(&rig, &address, "one", "two"), Caller::start(&rig, &address, "two", "one")];
    eventually("both call", 60, || callers.iter_mut().all(Caller::calls).then_some(()));
    let (begun, mut rotations) = (Instant::now(), 0);
    while begun.elapsed() < duration() {
        std::thread::sleep(ROTATES_EVERY);
        rotations += 1;
        apply(&rig, rotations);
    }
    let accounts = callers.map(Caller::end);
    let shown = format!("{rotations} rotations in {} s: {accounts:?}", begun.elapsed().as_secs());
    println!("{shown}");
    for account in &accounts {
        let count = |name: &str| account[name].as_u64().unwrap();
        assert_eq!((count("refused"), &account["first_refusal"]), (0, &Value::Null), "{shown}");
        assert_eq!(count("swapped_and_taken"), 0, "{shown}");
        // The last one may still be on its way.
        assert!(count("svids") >= rotations, "{shown}");
        assert!(count("calls") > 10 * rotations && count("swapped_and_refused") > rotations, "{shown}");
    }
}

/// What is issued by the entry of the callers changes, so that what they have is replaced at once.
fn apply(rig: &Rig, turn: u64) {
    let entry = |name: &str, program: &Path, more: &str| {
        rig.entry(name, &format!(", \"unix:path:{}\"", program.display())) + &format!("    {more}\n")
    };
    let files = entry("files", Path::new(AXUM), &format!("serves: [\"{FILES}\"]"));
    let caller = format!("x509_ttl: {}s\n    task: {{audiences: [\"{FILES}\"], scopes: [read]}}", 120 + turn % 2);
    rig.apply(&(files + &entry("caller", &std::env::current_exe().unwrap(), &caller)));
}

fn service(rig: &Rig) -> (Daemon, String) {
    let mut command = Command::new(AXUM);
    command.arg(format!("{}:0", rig.ip())).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a")).stdin(Stdio::null());
    let mut daemon = Daemon::start(command, rig.dir().join("service.log"));
    let address = eventually("the service listens", 40, || {
        assert!(daemon.is_running(), "{}", daemon.log());
        daemon.log().lines().next().map(str::to_owned)
    });
    (daemon, address)
}

/// A process that calls until its standard input is closed.
struct Caller {
    process: Child,
    own: PathBuf,
}

impl Caller {
    fn start(rig: &Rig, address: &str, own: &str, other: &str) -> Self {
        let file = |name: &str| rig.dir().join(name);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "calls", "--ignored", "--nocapture"]).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
        command.env(URL, format!("https://{address}/pages/1"));
        command.env(SERVICE, format!("spiffe://{}/files", rig.trust_domain));
        command.env(OWN, file(own)).env(OTHER, file(other)).stdin(Stdio::piped()).stdout(Stdio::null());
        Self { process: command.spawn().unwrap(), own: file(own) }
    }

    fn calls(&mut self) -> bool {
        assert!(self.process.try_wait().unwrap().is_none(), "a caller has ended");
        self.own.exists()
    }

    /// Its account.
    fn end(mut self) -> Value {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
        serde_json::from_slice(&std::fs::read(self.own.with_extension("account")).unwrap()).unwrap()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// What one process has seen.
#[derive(Default)]
struct Account {
    calls: AtomicU64,
    refused: AtomicU64,
    first_refusal: Mutex<Option<String>>,
    /// DER of each certificate that its tokens were bound to.
    svids: Mutex<HashSet<Vec<u8>>>,
    swapped_and_refused: AtomicU64,
    swapped_and_taken: AtomicU64,
}

impl Account {
    fn refused(&self, why: String) {
        self.refused.fetch_add(1, Relaxed);
        self.first_refusal.lock().unwrap().get_or_insert(why);
    }
}

/// The passes of a task, of which none may be refused: nothing is tried a second time.
struct Strict(TaskPasses, Arc<Account>);

impl Presents for Strict {
    async fn present(&self) -> Result<Arc<Pass>, Refusal> {
        self.0.present().await
    }

    async fn after(&self, _refused: &Pass) -> Option<Arc<Pass>> {
        self.1.refused("401".to_owned());
        None
    }
}

#[test]
#[ignore = "a process that the other test starts"]
fn calls() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let told_to_stop = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let (own, account) = (file(OWN), Arc::new(Account::default()));
        let task = begin().await;
        let http = TaskHttp::new(Strict(task.passes(), account.clone()), Authorizer::exact(service_id())).unwrap();
        let http = Arc::new(http);
        let mut working = tokio::task::JoinSet::new();
        for _ in 0..AT_A_TIME {
            working.spawn(call(http.clone(), account.clone()));
        }
        working.spawn(publish(task.passes(), account.clone()));
        working.spawn(steal(task.passes(), account.clone()));
        tokio::select! {
            Some(ended) = working.join_next() => panic!("it goes on until it is told to stop: {ended:?}"),
            _ = told_to_stop => {}
        }
        working.shutdown().await;
        let count = |of: &AtomicU64| of.load(Relaxed);
        let shown = json!({
            "calls": count(&account.calls), "refused": count(&account.refused),
            "first_refusal": *account.first_refusal.lock().unwrap(), "svids": account.svids.lock().unwrap().len(),
            "swapped_and_refused": count(&account.swapped_and_refused),
            "swapped_and_taken": count(&account.swapped_and_taken), "task": task.id(),
        });
        std::fs::write(own.with_extension("account"), shown.to_string()).unwrap();
        task.complete().await.unwrap();
    });
}

/// Begins its task, as soon as the entry is known.
async fn begin() -> Task {
    let endpoint = Endpoint::from_env().unwrap();
    loop {
        let request = TaskRequest::new("to read without a pause", FILES).scope(["read"]);
        match Task::begin(&endpoint, request).await {
            Ok(task) => return task,
            Err(_not_yet) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Calls the service, again and again.
async fn call(http: Arc<TaskHttp<Strict>>, account: Arc<Account>) {
    loop {
        match http.send(http.get(url())).await {
            Ok(answer) if answer.status() == 200 => {}
            Ok(answer) => account.refused(format!("{answer:?}")),
            Err(error) => account.refused(format!("{error:?}")),
        }
        account.calls.fetch_add(1, Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Leaves its token where the other one finds it.
async fn publish(passes: TaskPasses, account: Arc<Account>) {
    let own = file(OWN);
    loop {
        match passes.present().await {
            Ok(pass) => {
                account.svids.lock().unwrap().insert(pass.svid().unwrap().chain_der());
                std::fs::write(own.with_extension("new"), pass.expose_token()).unwrap();
                std::fs::rename(own.with_extension("new"), &own).unwrap();
            }
            Err(refusal) => account.refused(format!("{refusal:?}")),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Presents the other one's token over connections of its own.
async fn steal(passes: TaskPasses, account: Arc<Account>) {
    let other = file(OTHER);
    loop {
        if let (Ok(pass), Ok(token)) = (passes.present().await, std::fs::read_to_string(&other)) {
            let options = Options::default().alpn(["http/1.1"]);
            let tls = pass.client_tls(Authorizer::exact(service_id()), &Clock::system(), &options).unwrap();
            let tls = Arc::unwrap_or_clone(tls.rustls());
            let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
            match client.get(url()).bearer_auth(token).send().await {
                Ok(answer) if answer.status() == 401 => &account.swapped_and_refused,
                _ => &account.swapped_and_taken,
            }
            .fetch_add(1, Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn url() -> String {
    std::env::var(URL).unwrap()
}

fn service_id() -> SpiffeId {
    std::env::var(SERVICE).unwrap().parse().unwrap()
}

fn file(which: &str) -> PathBuf {
    std::env::var_os(which).expect("only the other test starts this").into()
}
