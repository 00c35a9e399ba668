//! Tasks of nodes that nobody hears of: suspended beside whatever administrators do, and open again once each instance is known to live.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mayfly_rig::{Rig, eventually, mayfly};
use serde_json::Value;

use crate::attacks::text;
use crate::task_rules::{FILES, Node, id, on_runtime, reading, rig};

const AFTER: (&str, &str) = ("tasks.silent_after", "\"2s\"");

pub(crate) fn state(rig: &Rig, id: &str) -> String {
    rig.json(&["task", "show", id])["state"].as_str().unwrap().to_owned()
}

async fn becomes(rig: &Rig, id: &str, wanted: &str) {
    in_time(&format!("{id} is {wanted}"), || state(rig, id) == wanted).await;
}

/// Waits without keeping this runtime's connections from being served, or closed.
async fn in_time(what: &str, mut held: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !held() {
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What was recorded of a task, by kind.
fn recorded(rig: &Rig, id: &str) -> Vec<String> {
    let tail = String::from_utf8(rig.run(&["--output", "json", "ledger", "tail", "-n", "1000"]).stdout).unwrap();
    let records = tail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_task = records.filter(|record| record["detail"].as_str().is_some_and(|detail| detail.contains(id)));
    of_task.map(|record| record["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn tasks_of_a_silent_node_are_suspended_and_opened_by_it_alone_and_never_against_an_administrator() {
    let mut rig = rig(&[AFTER]);
    rig.start_agent("b");
    on_runtime(async {
        let (mut a, mut b) = (Node::of(&rig, "a").await, Node::of(&rig, "b").await);
        let (planner, reader) = (a.holder("planner", 1).await, b.holder("reader", 2).await);
        let other = b.holder("planner", 3).await;
        rig.kill_agent("b");
        let (in_sync_a, mut in_sync_b) = (a.rogue.task_states(&rig).await, b.rogue.task_states(&rig).await);
        let root = a.begin(&planner, reading()).await.unwrap();
        let child = b.delegate(&root, &reader, reading()).await.unwrap();
        let apart = b.begin(&other, reading()).await.unwrap();

        // One node falls silent: its tasks, and what is below them elsewhere.
        drop(in_sync_a);
        becomes(&rig, id(&root), "suspended").await;
        assert_eq!((state(&rig, id(&child)), state(&rig, id(&apart))), ("suspended".into(), "open".into()));
        assert_eq!(recorded(&rig, id(&root)), ["task_suspended"]);
        assert_eq!(a.rogue.renew(&planner.subject, &planner.svid, id(&root)).await.unwrap_err(), "task_suspended");
        assert_eq!(b.delegate(&root, &reader, reading()).await.unwrap_err(), "parent_not_open");

        // Neither an administrator nor another node says that the instance lives, nor this one before it is in sync.
        assert_eq!(rig.run(&["task", "resume", id(&root)]).status.code(), Some(65));
        b.rogue.confirm(&[id(&root), id(&child)]).await.unwrap();
        assert_eq!(a.rogue.confirm(&[id(&root)]).await.unwrap_err(), "unavailable");
        assert_eq!(state(&rig, id(&root)), "suspended");

        // An administrator suspends it too: what the node says lifts the one, and he the other.
        rig.json(&["task", "suspend", id(&root)]);
        let mut in_sync_a = a.rogue.task_states(&rig).await;
        assert!(in_sync_a.next().await.states.iter().any(|task| task.id == id(&root) && task.state == "suspended"));
        a.rogue.confirm(&[id(&root)]).await.unwrap();
        assert_eq!((state(&rig, id(&root)), state(&rig, id(&child))), ("suspended".into(), "suspended".into()));
        rig.json(&["task", "resume", id(&root)]);
        assert_eq!((state(&rig, id(&root)), state(&rig, id(&child))), ("open".into(), "open".into()));
        a.rogue.renew(&planner.subject, &planner.svid, id(&root)).await.unwrap();

        // The other way round: he lifts his while the node is silent, and the task opens with the node.
        rig.json(&["task", "suspend", id(&root)]);
        drop(in_sync_a);
        let told = || rig.issuer_log().matches("tasks were suspended: their node is silent").count() > 1;
        in_time("the silence is noticed", told).await;
        assert_eq!(rig.run(&["task", "resume", id(&root)]).status.code(), Some(65));
        assert_eq!(state(&rig, id(&root)), "suspended");
        let mut in_sync_a = a.rogue.task_states(&rig).await;
        in_sync_a.next().await;
        a.rogue.confirm(&[id(&root)]).await.unwrap();
        assert_eq!((state(&rig, id(&root)), state(&rig, id(&child))), ("open".into(), "open".into()));

        // The nodes of others heard of it at each turn.
        let first = in_sync_b.next().await;
        assert!(first.whole, "{first:?}");
    });
}

#[test]
fn silence_is_kept_over_a_restart_of_the_issuer_and_time_without_one_does_not_count() {
    let mut rig = rig(&[AFTER]);
    let (root, apart) = {
        let mut begun = (String::new(), String::new());
        on_runtime(async {
            let mut a = Node::of(&rig, "a").await;
            let planner = a.holder("planner", 1).await;
            begun.0 = id(&a.begin(&planner, reading()).await.unwrap()).to_owned();
            becomes(&rig, &begun.0, "suspended").await;
            rig.stop_issuer();
            rig.set("tasks.silent_after", "\"1h\"");
            rig.start_issuer();
            // Suspended before, suspended after.
            assert_eq!(state(&rig, &begun.0), "suspended");
            let mut a = Node::of(&rig, "a").await;
            begun.1 = id(&a.begin(&planner, reading()).await.unwrap()).to_owned();
        });
        begun
    };
    // No issuer for longer than a node may be silent: that says nothing about the node.
    rig.stop_issuer();
    rig.set("tasks.silent_after", "\"4s\"");
    thread::sleep(Duration::from_secs(5));
    rig.start_issuer();
    assert_eq!((state(&rig, &apart), state(&rig, &root)), ("open".into(), "suspended".into()));
    // It goes on to be silent: then it counts.
    on_runtime(becomes(&rig, &apart, "suspended"));
}

#[test]
fn an_agent_that_was_cut_off_takes_its_tasks_up_again_by_itself() {
    let mut rig = Rig::new(&[AFTER]);
    rig.start_issuer();
    let wire = Wire::to(&rig.issuer_address());
    rig.set_agent("a", "issuer.addresses", &format!("[\"{}\"]", wire.address));
    rig.start_agent("a");
    let task = format!("    task: {{audiences: [\"{FILES}\"], scopes: [read]}}\n");
    rig.apply(&(rig.entry("planner", "") + &task));
    let args = ["--output", "json", "task", "begin", "--purpose", "p", "--audience", FILES, "--scope", "read"];
    let begun: Value = eventually("a task is begun", 20, || {
        let mut command = Command::new(mayfly());
        let output = command.args(args).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a")).output().unwrap();
        output.status.success().then(|| serde_json::from_str(&text(&output.stdout)).unwrap())
    });
    let root = begun["task"]["id"].as_str().unwrap();
    wire.cut();
    on_runtime(becomes(&rig, root, "suspended"));
    wire.mend();
    on_runtime(becomes(&rig, root, "open"));
    assert_eq!(recorded(&rig, root), ["task_suspended", "task_resumed"]);
}

/// What lies between an agent and its issuer, and can be cut.
struct Wire {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cut: bool,
    streams: Vec<TcpStream>,
}

impl Wire {
    fn to(issuer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, issuer) = (Arc::clone(&state), issuer.to_owned());
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let mut state = shared.lock().unwrap();
                let Ok(far) = TcpStream::connect(&issuer) else { continue };
                if state.cut {
                    continue;
                }
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    thread::spawn(move || {
                        io::copy(&mut from, &mut to).ok();
                        to.shutdown(Shutdown::Both).ok();
                    });
                }
                state.streams.extend([near, far]);
            }
        });
        Self { address, state }
    }

    fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.cut = true;
        for stream in state.streams.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    fn mend(&self) {
        self.state.lock().unwrap().cut = false;
    }
}
