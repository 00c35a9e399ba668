use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;

use super::*;
use crate::workload::running::Running;

fn this_process() -> Arc<HeldProcess> {
    Arc::new(HeldProcess::of_pid(std::process::id().try_into().unwrap()).unwrap())
}

fn selector(text: &str) -> Selector {
    text.parse().unwrap()
}

/// Says nothing until it may.
#[derive(Debug)]
struct Slow(Mutex<Receiver<()>>);

impl Slow {
    fn new() -> (Sender<()>, Arc<Self>) {
        let (may, receiver) = channel();
        (may, Arc::new(Self(Mutex::new(receiver))))
    }
}

impl Attestor for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn attest(&self, _: &HeldProcess, _: &Needs) -> Facts {
        let mut facts = Facts::none("slow");
        facts.add("quick", "value");
        facts
    }

    fn slow_keys(&self) -> &'static [&'static str] {
        &["key", "other"]
    }

    fn attest_slowly(&self, _: &HeldProcess, key: &'static str) -> Facts {
        let mut facts = Facts::none("slow");
        if key == "key" && self.0.lock().recv().is_ok() {
            facts.add("key", "value");
        }
        facts
    }
}

/// Has the process exec while it is being looked at.
#[derive(Debug)]
struct Meanwhile(Mutex<std::process::ChildStdin>);

impl Attestor for Meanwhile {
    fn name(&self) -> &'static str {
        "meanwhile"
    }

    fn attest(&self, process: &HeldProcess, _: &Needs) -> Facts {
        self.0.lock().write_all(b"\n").unwrap();
        while process.same_executable() == Program::Same {
            std::thread::yield_now();
        }
        Facts::none("meanwhile")
    }
}

#[tokio::test]
async fn a_slow_fact_stays_open_and_no_other() {
    let (may, slow) = Slow::new();
    let attestors = Attestors { patience: Duration::from_millis(50), ..Attestors::of(vec![slow]) };
    let found = attestors.attest(&this_process(), &Needs::everything()).await.unwrap();
    assert!(matches!(found.judge(&[selector("slow:key:value")]), Verdict::Undetermined(_)));
    assert_eq!(found.judge(&[selector("slow:quick:value")]), Verdict::Holds);
    assert_eq!(found.judge(&[selector("slow:other:value")]), Verdict::Fails);
    may.send(()).unwrap();
}

#[tokio::test]
async fn a_slow_fact_that_nobody_needs_is_not_waited_for() {
    let (_may, slow) = Slow::new();
    let found =
        Attestors::of(vec![slow]).attest(&this_process(), &Needs::default().and("slow", "other")).await.unwrap();
    assert_eq!(found.undetermined, []);
}

#[tokio::test]
async fn what_a_slow_attestor_says_in_time_counts() {
    let (may, slow) = Slow::new();
    may.send(()).unwrap();
    let found = Attestors::of(vec![slow]).attest(&this_process(), &Needs::everything()).await.unwrap();
    assert_eq!(found.judge(&[selector("slow:key:value")]), Verdict::Holds);
}

#[tokio::test]
async fn nothing_is_believed_of_a_process_that_changed_meanwhile() {
    let mut child = Running::shell();
    let process = child.held();
    let attestors =
        Attestors::of(vec![Arc::new(Unix::default()), Arc::new(Meanwhile(Mutex::new(child.0.stdin.take().unwrap())))]);
    assert_eq!(attestors.attest(&process, &Needs::everything()).await, Err(AttestError::OtherProgram));
    drop(child);
    assert_eq!(Attestors::new().attest(&process, &Needs::everything()).await, Err(AttestError::Dead));
}

#[tokio::test]
async fn the_three_answers_are_kept_apart() {
    let attestation = Attestation {
        facts: ["unix:uid:1", "unix:gid:2"].map(selector).into(),
        undetermined: vec![
            Undetermined {
                value: Some("/bin/app".to_owned()),
                ..Undetermined::passing("unix", "path", "because".to_owned())
            },
            Undetermined::passing("docker", "label", "no answer".to_owned()),
        ],
    };
    let judge = |texts: &[&str]| {
        let selectors: Vec<_> = texts.iter().map(|text| selector(text)).collect();
        match attestation.judge(&selectors) {
            Verdict::Holds => "holds",
            Verdict::Fails => "fails",
            Verdict::Undetermined(_) => "undetermined",
        }
    };
    assert_eq!(judge(&["unix:uid:1", "unix:gid:2"]), "holds");
    assert_eq!(judge(&["unix:uid:1", "unix:gid:3"]), "fails");
    assert_eq!(judge(&["unix:uid:1", "unix:path:/bin/app"]), "undetermined");
    assert_eq!(judge(&["unix:uid:1", "unix:path:/bin/other"]), "fails");
    assert_eq!(judge(&["docker:label:any:thing"]), "undetermined");
    assert_eq!(judge(&["docker:label:any:thing", "unix:uid:3"]), "fails", "whatever docker would say");
    assert_eq!(judge(&[]), "holds");
}
