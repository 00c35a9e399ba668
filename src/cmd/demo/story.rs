//! The steps of the demonstration, and how each is checked.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mayfly_proto::admin;
use mayfly_sdk::Clock;
use nix::unistd::getuid;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::report::{self, Seen};
use super::steps::Steps;
use crate::failure::{Exit, Failure};
use crate::local::{Child, Local, Programs};
use crate::output::Out;

const TRUST_DOMAIN: &str = "demo.example";
/// Life of an SVID, seconds: short, so that a minute shows many. It is renewed at about half of it.
const TTL_S: i64 = 12;
/// How long the issuer stays away.
const OUTAGE: Duration = Duration::from_secs(4);
/// How soon a workload must know that its identity was withdrawn. Far more than it takes: a busy machine is no failure.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A workload under observation.
pub(super) struct Workload {
    pub(super) child: Child,
    seen: watch::Receiver<Seen>,
}

/// Everything that the demonstration began; it ends when this is dropped.
pub(super) struct Stage {
    pub(super) local: Local,
    /// The node's SPIFFE ID.
    pub(super) node: String,
    serve: Workload,
    call: Workload,
    pub(super) readers: JoinSet<()>,
}

/// Tells the story; fails at the first step that does not hold.
pub(super) async fn tell(programs: Programs, out: Out) -> Result<(), Failure> {
    let mut steps = Steps::new(out);
    let dir = tempfile::Builder::new().prefix("mayfly-demo-").tempdir()?;
    match tell_in(dir.path(), programs, &mut steps).await {
        Ok(()) => steps.end(),
        Err(failure) if failure.is_closed_output() => Err(failure),
        Err(mut failure) => {
            failure.remedy = format!("{}; the logs are in {}", failure.remedy, dir.keep().display());
            Err(failure)
        }
    }
}

async fn tell_in(dir: &Path, programs: Programs, steps: &mut Steps) -> Result<(), Failure> {
    let all_know_tasks = !programs.are_foreign();
    let mut stage = Stage::set(dir, programs, steps).await?;
    stage.rotation(steps).await?;
    stage.outage(steps).await?;
    stage.withdrawal(steps).await?;
    stage.ledger(steps).await?;
    if all_know_tasks {
        stage.tasks(steps).await?;
    }
    stage.clear().await
}

/// ^C.
pub(super) fn interrupted() -> Failure {
    Failure::new(
        Exit::Unavailable,
        "interrupted",
        "the demonstration was ended before its last step",
        "a signal",
        "run it again",
    )
}

impl Stage {
    async fn set(dir: &Path, programs: Programs, steps: &mut Steps) -> Result<Self, Failure> {
        let settings = format!("ttl.x509 = \"{TTL_S}s\"\nttl.allow_short_ttl = true\n");
        // The directory is gone in a minute, so the key of the warm state may lie in it.
        let mut local = Local::new(dir, TRUST_DOMAIN)?.with_settings(&settings, "warm_restart = \"file\"\n");
        local.programs = programs;
        local.start_issuer_on_new_ports().await?;
        let node = local.enrol("demo").await?;
        local.start_agent()?;
        steps.held("an issuer and a node agent run, each a process of its own")?;

        let programs = ["serve", "call"].map(|name| copy_of_this(local.dir(), name));
        let [serve, call] = programs;
        let (serve, call) = (serve?, call?);
        local.apply(entries(&node, &[("serve", &serve), ("call", &call)])).await?;
        let mut readers = JoinSet::new();
        let mut serve = Workload::start("serve", &serve, &["serve", "--peer", &id("call")], &local, &mut readers)?;
        let address =
            serve.until("it takes connections", |seen| seen.address.is_some()).await?.address.unwrap_or_default();
        let mut call =
            Workload::start("call", &call, &["call", &address, "--peer", &id("serve")], &local, &mut readers)?;
        for (workload, name) in [(&mut serve, "serve"), (&mut call, "call")] {
            workload.until("it has its own identity", |seen| seen.spiffe_id == id(name)).await?;
        }
        steps.held(format!(
            "two copies of one program, told apart by their path: {} and {}",
            id("serve"),
            id("call")
        ))?;
        let seen = call.until("20 calls succeeded", |seen| seen.good >= 20).await?;
        no_failures(&seen)?;
        check(seen.peer == id("serve"), "the caller knows whom it calls", &seen)?;
        steps.held("they talk mTLS, 20 new connections a second, each end sure of the other")?;
        Ok(Self { local, node, serve, call, readers })
    }

    async fn rotation(&mut self, steps: &mut Steps) -> Result<(), Failure> {
        for workload in [&mut self.serve, &mut self.call] {
            workload.until("two renewals", |seen| seen.serials.len() >= 3).await?;
        }
        let seen = self.call.now();
        no_failures(&seen)?;
        steps.held(format!(
            "identities that live {TTL_S} s were renewed twice on both sides; {} calls, 0 failed",
            seen.good
        ))
    }

    async fn outage(&mut self, steps: &mut Steps) -> Result<(), Failure> {
        // From soon after a renewal of both, so that what they hold outlives the outage.
        let fresh_ms = TTL_S * 1000 * 6 / 10;
        for _ in 0..200 {
            let left = |workload: &Workload| workload.now().not_after_ms - Clock::system().now_ms();
            if left(&self.serve).min(left(&self.call)) >= fresh_ms {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let before = [self.serve.now().serials, self.call.now().serials];
        if let Some(issuer) = self.local.issuer.take() {
            issuer.stop().await?;
        }
        steps.held("the issuer is stopped")?;
        let away = sleep(OUTAGE);
        if let Some(agent) = self.local.agent.take() {
            agent.stop().await?;
        }
        self.local.start_agent()?;
        let probed = self.probe().await?;
        check(
            before.iter().flatten().any(|serial| *serial == probed),
            "the restarted agent has the identities that it had",
            &probed,
        )?;
        steps.held("meanwhile the node agent was restarted, and serves what it held, without the issuer")?;
        away.await;
        let calls = self.call.now();
        no_failures(&calls)?;
        self.local.start_issuer().await?;
        steps.held(format!("the issuer is back after {} s; {} calls, 0 failed", OUTAGE.as_secs(), calls.good))?;
        for (workload, before) in [(&mut self.serve, &before[0]), (&mut self.call, &before[1])] {
            workload.until("a renewal after the outage", |seen| seen.serials.len() > before.len()).await?;
        }
        let calls = self.call.now();
        no_failures(&calls)?;
        steps.held(format!("both were renewed again; {} calls, 0 failed", calls.good))
    }

    /// A new process of the caller's program asks the agent for its identity: the serial of what it gets.
    async fn probe(&self) -> Result<String, Failure> {
        let mut command = Command::new(self.local.dir().join("call"));
        command
            .args(["demo-workload", "probe", "--peer", &id("serve")])
            .env("SPIFFE_ENDPOINT_SOCKET", self.local.endpoint());
        let output = timeout(LIMIT, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
        let text = match output {
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(Err(error)) => return Err(did_not_hold("a new process is served", &error.to_string())),
            Err(_) => return Err(did_not_hold("a new process is served", "it waited in vain")),
        };
        let reports = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut serials = reports.filter_map(|report| match report {
            report::Report::Svid { serial, .. } => Some(serial),
            _ => None,
        });
        serials.next().ok_or_else(|| did_not_hold("a new process is served", "it reported no identity"))
    }

    async fn withdrawal(&mut self, steps: &mut Steps) -> Result<(), Failure> {
        let request = admin::DeleteEntryRequest { entry: "call".to_owned() };
        let deleted = self.local.admin().connect().await?.delete_entry(request).await;
        deleted.map_err(|status| Failure::status("the entry was not withdrawn", &status))?;
        let withdrawn = Instant::now();
        let seen = self.call.until("it is told that it has no identity", |seen| seen.withdrawn.is_some()).await?;
        let reason = seen.withdrawn.clone().unwrap_or_default();
        check(["no_identity", "permission_denied"].contains(&reason.as_str()), "the caller is told why", &reason)?;
        let after = withdrawn.elapsed().as_millis();
        check(after < TOLD_WITHIN.as_millis(), "the caller is told at once", &after)?;
        steps.held(format!("the caller's entry is withdrawn, and it is told {after} ms later [{reason}]"))?;
        self.serve.until("the peer is refused", |seen| seen.refused.iter().any(|reason| reason == "expired")).await?;
        steps.held("the copy of the SVID that it kept is dead within seconds: the peer refuses it [expired]")
    }

    /// Everything that the workloads held stands in the ledger.
    async fn ledger(&mut self, steps: &mut Steps) -> Result<(), Failure> {
        let failed = |status: tonic::Status| Failure::status("the ledger cannot be read", &status);
        let request = admin::TailLedgerRequest { last: 10_000, follow: false };
        let mut answers = self.local.admin().connect().await?.tail_ledger(request).await.map_err(failed)?.into_inner();
        let mut recorded = HashSet::new();
        while let Some(answer) = answers.message().await.map_err(failed)? {
            recorded.extend(answer.records.into_iter().map(|record| record.event_id));
        }
        let held = [self.serve.now().serials, self.call.now().serials].concat();
        let missing: Vec<_> = held.iter().filter(|serial| !recorded.contains(*serial)).collect();
        check(missing.is_empty(), "every SVID stands in the ledger", &missing)?;
        steps.held(format!("each of the {} SVIDs that the two held stands in the ledger", held.len()))
    }

    async fn clear(mut self) -> Result<(), Failure> {
        self.call.child.stop().await?;
        self.serve.child.stop().await?;
        self.local.stop().await
    }
}

impl Workload {
    pub(super) fn start(
        name: &str,
        program: &Path,
        arguments: &[&str],
        local: &Local,
        readers: &mut JoinSet<()>,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.arg("demo-workload").args(arguments).args(["--with-parent", &std::process::id().to_string()]);
        command.env("SPIFFE_ENDPOINT_SOCKET", local.endpoint()).stdout(Stdio::piped());
        let mut child = Child::start(name, &mut command, &local.dir().join(format!("{name}.log")))?;
        let (sender, seen) = watch::channel(Seen::default());
        if let Some(stdout) = child.take_stdout() {
            readers.spawn(report::follow(stdout, sender));
        }
        Ok(Self { child, seen })
    }

    fn now(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what it reported satisfies `hold`.
    pub(super) async fn until(&mut self, what: &str, hold: impl Fn(&Seen) -> bool) -> Result<Seen, Failure> {
        let waited = timeout(LIMIT, self.seen.wait_for(|seen| seen.ended || hold(seen))).await;
        let Some(seen) = waited.ok().and_then(Result::ok).map(|seen| seen.clone()) else {
            return Err(did_not_hold(what, &format!("not within {} s: {:?}", LIMIT.as_secs(), self.now())));
        };
        if seen.ended {
            return Err(self.child.unexpected_end().await);
        }
        Ok(seen)
    }
}

pub(super) fn id(name: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/{name}")
}

fn entries(node: &str, workloads: &[(&str, &PathBuf)]) -> String {
    let entry = |(name, program): &(&str, &PathBuf)| {
        serde_json::json!({
            "name": name,
            "spiffe_id": id(name),
            "node": [node],
            "selectors": [format!("unix:uid:{}", getuid()), format!("unix:path:{}", program.display())],
        })
    };
    serde_json::json!({ "owner": "demo", "entries": workloads.iter().map(entry).collect::<Vec<_>>() }).to_string()
}

pub(super) fn copy_of_this(dir: &Path, name: &str) -> Result<PathBuf, Failure> {
    let copy = dir.join(name);
    std::env::current_exe().and_then(|this| fs::copy(this, &copy))?;
    Ok(copy)
}

fn no_failures(seen: &Seen) -> Result<(), Failure> {
    check(
        seen.failed == 0,
        "no call fails",
        &format!("{} of {} failed: {}", seen.failed, seen.good + seen.failed, seen.why),
    )
}

pub(super) fn check(holds: bool, what: &str, seen: &impl std::fmt::Debug) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(did_not_hold(what, &format!("{seen:?}"))) }
}

fn did_not_hold(what: &str, why: &str) -> Failure {
    Failure::new(
        Exit::Bug,
        "step_did_not_hold",
        format!("this did not hold: {what}"),
        why,
        "report it with this output",
    )
}
