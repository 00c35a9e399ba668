use std::{fs, path::Path, time::Duration};

use mayfly_rig::{Rig, eventually, install, mayfly};
use nix::sys::signal::Signal;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::{
    not_run,
    puppet::{Puppet, copy},
    svid, text, x509,
};

/// SVIDs of 6 s rotate every 3 s.
const SHORT: [(&str, &str); 2] = [("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"6s\"")];

fn by_path(rig: &Rig, name: &str, path: &Path) {
    rig.apply(&rig.entry(name, &format!(", \"unix:path:{}\"", path.display())));
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn two_copies_of_one_program_are_told_apart_by_their_path() {
    let rig = Rig::started(&[]);
    for name in ["left", "right", "neither"] {
        install(&mayfly(), &rig.dir().join(name));
    }
    for name in ["left", "right"] {
        by_path(&rig, name, &rig.dir().join(name));
    }
    for name in ["left", "right"] {
        let shown = x509(&rig.dir().join(name), &rig, "a").expect("it is entitled");
        assert_eq!(shown["spiffe_id"], format!("spiffe://test.example/{name}"));
    }
    let refused = svid(&rig.dir().join("neither"), &rig, "a", &["x509", "fetch"]);
    assert_eq!(refused.status.code(), Some(77), "{}", text(&refused.stderr));
}

/// Rows: WA-4, WE-18.
#[test]
fn a_process_that_execs_another_program_gets_nothing_more() {
    let rig = Rig::started(&SHORT);
    let program = copy(&rig, "puppet");
    // What it becomes would be entitled too, had it connected itself.
    rig.apply(&rig.entry("puppet", ""));
    let mut puppet = Puppet::connected(&program, &rig);
    runtime().block_on(async {
        let mut api = puppet.client();
        let mut stream = api.x509().await.unwrap();
        let first = stream.message().await.unwrap().unwrap();
        assert_eq!(first.svids[0].spiffe_id, "spiffe://test.example/puppet");
        let next = timeout(Duration::from_secs(10), stream.message()).await.expect("it rotates").unwrap().unwrap();
        assert_ne!(next.svids[0].x509_svid, first.svids[0].x509_svid);

        puppet.exec();
        let new = api.identities().await;
        assert!(new.is_err(), "on a new stream: {new:?}");
        let then = timeout(Duration::from_secs(10), stream.message()).await.expect("the next rotation is noticed");
        assert!(then.is_err(), "on the old stream: {then:?}");
    });
}

/// Rows: WE-18.
#[test]
fn a_process_id_that_is_used_again_gets_nothing() {
    let rig = Rig::started(&SHORT);
    let (dead, other) = (copy(&rig, "dead"), copy(&rig, "other"));
    // The successor is entitled to the same, had it connected itself.
    rig.apply(&rig.entry("anyone", ""));
    // Accepted while it lives, and only after it is dead.
    for accepted_later in [false, true] {
        if accepted_later {
            rig.signal_agent("a", Signal::SIGSTOP);
        }
        let mut puppet = Puppet::connected(&dead, &rig);
        runtime().block_on(async {
            let mut api = puppet.client();
            if !accepted_later {
                assert_eq!(api.identities().await.unwrap(), ["spiffe://test.example/anyone"]);
            }
            let id = puppet.id();
            puppet.end();
            let successor = process_with_id(id, || {
                // It waits for a test name that nobody has, on standard input that stays open.
                let mut command = std::process::Command::new(&other);
                command.args(["--exact", "attacks::processes::waits", "--ignored"]);
                command
            });
            if successor.is_none() {
                not_run("no process could be given a process id that was used before");
            }
            rig.signal_agent("a", Signal::SIGCONT);
            let got = timeout(Duration::from_secs(10), api.identities()).await.expect("the agent answers");
            assert!(got.is_err(), "accepted later: {accepted_later}; {got:?}");
            if let Some(mut successor) = successor {
                successor.kill().unwrap();
                successor.wait().unwrap();
            }
        });
    }
    let alive = eventually("others are served as before", 10, || Puppet::try_identities(&other, &rig));
    assert_eq!(alive, ["spiffe://test.example/anyone"]);
}

impl Puppet {
    fn try_identities(program: &Path, rig: &Rig) -> Option<Vec<String>> {
        let mut puppet = Self::connected(program, rig);
        runtime().block_on(async { puppet.client().identities().await.ok() })
    }
}

/// A process of this program that has this id, with standard input to write to; none: the kernel did not let us, or gave it to others each
/// time.
pub(crate) fn process_with_id(id: u32, program: impl Fn() -> std::process::Command) -> Option<std::process::Child> {
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (id - 1).to_string()).ok()?;
        let mut child =
            program().stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
        if child.id() == id {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    None
}

#[test]
#[ignore = "a process that other tests start"]
fn waits() {
    std::io::Read::read(&mut std::io::stdin(), &mut [0]).unwrap();
}
