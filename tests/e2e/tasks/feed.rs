//! What services are told of the tasks whose tokens they may meet: at once, without a gap, and not a word where nothing is known.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mayfly_proto::task::{Revocations, WatchRevocationsRequest, task_service_client::TaskServiceClient};
use mayfly_rig::Rig;
use mayfly_sdk::Refusal;
use serde_json::Value;
use tonic::{Request, Status, Streaming, transport::Endpoint};

use super::{FILES, MAIL, begun, file, json, rig, run, shown};

/// A service that listens.
struct Listener {
    stream: Streaming<Revocations>,
    at: (u64, u64),
}

async fn watch(rig: &Rig, audience: &str) -> Result<Streaming<Revocations>, Status> {
    let channel =
        Endpoint::from_shared(format!("unix:{}", rig.socket("a").display())).unwrap().connect().await.unwrap();
    let mut request = Request::new(WatchRevocationsRequest { audience: audience.to_owned() });
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    Ok(TaskServiceClient::new(channel).watch_revocations(request).await?.into_inner())
}

impl Listener {
    /// It, and whom it is told of first.
    async fn new(rig: &Rig) -> (Self, Vec<(String, String)>) {
        let mut stream = watch(rig, FILES).await.unwrap();
        let first = stream.message().await.unwrap().unwrap();
        assert!(first.whole && !first.more, "{first:?}");
        let issuer = first.issuer.as_ref().expect("the keys come with the first message");
        assert_eq!(issuer.iss, format!("spiffe://{}/mayfly/task", rig.trust_domain));
        assert!(issuer.jwks.contains("\"kid\""), "{}", issuer.jwks);
        (Self { stream, at: (first.epoch, first.n) }, events(&first))
    }

    /// The next message with news; a whole one is news.
    async fn news(&mut self) -> Revocations {
        loop {
            let message = self.stream.message().await.unwrap().expect("the stream goes on");
            let counted = u64::try_from(message.events.len()).unwrap();
            if message.whole {
                assert_ne!(message.epoch, self.at.0);
            } else {
                assert_eq!((message.epoch, message.n), (self.at.0, self.at.1 + counted), "no gap");
            }
            self.at = (message.epoch, message.n);
            if message.whole || counted > 0 {
                return message;
            }
        }
    }
}

fn events(message: &Revocations) -> Vec<(String, String)> {
    message.events.iter().map(|event| (event.task.clone(), event.state.clone())).collect()
}

fn said(task: &str, state: &str) -> Vec<(String, String)> {
    vec![(task.to_owned(), state.to_owned())]
}

#[test]
fn services_are_told_what_becomes_of_tasks_and_hear_nothing_where_nothing_is_known() {
    let mut rig = rig(&[]);
    let (root, other) = (begun(&rig, &[]), begun(&rig, &[]));
    let (task, other) = (root["task"]["id"].as_str().unwrap(), other["task"]["id"].as_str().unwrap());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (mut listener, before) = Listener::new(&rig).await;
        assert_eq!(before, []);
        assert!(rig.run(&["task", "suspend", task]).status.success());
        let suspended = listener.news().await;
        assert_eq!((events(&suspended), suspended.events[0].forget_at), (said(task, "suspended"), 0));
        assert!(rig.run(&["task", "resume", task]).status.success());
        assert_eq!(events(&listener.news().await), said(task, "open"));
        json(&rig, &["task", "complete", task]);
        let completed = listener.news().await;
        assert_eq!(events(&completed), said(task, "completed"));
        // The life of a token, and a minute for clocks that differ.
        let kept_s = completed.events[0].forget_at - completed.said_at / 1000;
        assert!((350..=365).contains(&kept_s), "{kept_s}");
        // Whoever comes later is told as well.
        assert_eq!(Listener::new(&rig).await.1, said(task, "completed"));
        // There is a sign of life without news.
        let quiet = listener.stream.message().await.unwrap().unwrap();
        assert_eq!((quiet.whole, quiet.n, quiet.events.len()), (false, listener.at.1, 0));

        // While no issuer runs there is none.
        rig.kill_issuer();
        let silence = tokio::time::timeout(Duration::from_secs(7), listener.stream.message()).await;
        assert!(silence.is_err(), "{silence:?}");
        // Whoever comes long after is not told either what was known then.
        tokio::time::sleep(Duration::from_secs(15)).await;
        let late = watch(&rig, FILES).await.unwrap().message().await;
        assert_eq!(late.map_err(|status| Refusal::from_status(&status).reason.code()).unwrap_err(), "unavailable");
        rig.start_issuer();
        let whole = listener.news().await;
        assert!(whole.whole && whole.epoch > completed.epoch, "{whole:?}");
        assert_eq!(events(&whole), said(task, "completed"), "the other one is open still");
        assert!(rig.run(&["task", "revoke", other]).status.success());
        assert_eq!(events(&listener.news().await), said(other, "revoked"));
    });
}

/// Three hops deep and twenty agents wide: told of, and refused, as one.
#[test]
fn a_tree_of_tasks_is_suspended_resumed_and_ended_as_one() {
    let rig = rig(&[]);
    let writer = format!("spiffe://{}/writer", rig.trust_domain);
    let part = |above: &Value| {
        let parent = file(&rig, "parent", above["token"].as_str().unwrap());
        let wish = ["--purpose", "a part", "--audience", FILES, "--scope", "read", "--delegable", FILES];
        let whose = ["--spiffe-id", &writer, "--parent-token-file", shown(&parent)];
        json(&rig, &[&["task", "delegate"], &wish[..], &whose].concat())
    };
    let root = begun(&rig, &[]);
    let first = part(&root);
    let second = part(&first);
    let third: Vec<Value> = (0..18).map(|_| part(&second)).collect();
    let tree: Vec<&Value> = [&root, &first, &second].into_iter().chain(&third).collect();
    let stands = |state: &str| -> BTreeMap<String, String> {
        tree.iter().map(|task| (task["task"]["id"].as_str().unwrap().to_owned(), state.to_owned())).collect()
    };
    let verify = |task: &Value| {
        let output = run(&rig, &["token", "verify", "--audience", FILES, task["token"].as_str().unwrap()]);
        output.status.success()
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (mut listener, before) = Listener::new(&rig).await;
        assert_eq!(before, []);
        let root = root["task"]["id"].as_str().unwrap();
        for (verb, state, good) in
            [("suspend", "suspended", false), ("resume", "open", true), ("complete", "completed", false)]
        {
            if verb == "complete" {
                json(&rig, &["task", "complete", root]);
            } else {
                assert!(rig.run(&["task", verb, root]).status.success());
            }
            let mut told = BTreeMap::new();
            while told.len() < tree.len() {
                told.extend(events(&listener.news().await));
            }
            assert_eq!(told, stands(state));
            assert_eq!(tree.iter().filter(|task| verify(task)).count(), if good { tree.len() } else { 0 }, "{state}");
        }
    });
}

#[test]
fn who_does_not_serve_an_audience_is_told_nothing_of_it() {
    let rig = rig(&[]);
    begun(&rig, &[]);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let refused = |outcome: Result<Option<Revocations>, Status>| {
            outcome.map_err(|status| Refusal::from_status(&status).reason.code()).unwrap_err()
        };
        for (audience, why) in [(MAIL, "audience_not_served"), ("", "invalid_argument")] {
            let outcome = match watch(&rig, audience).await {
                Ok(mut stream) => stream.message().await,
                Err(status) => Err(status),
            };
            assert_eq!(refused(outcome), why);
        }
        // Not any more, either.
        let (mut listener, _) = Listener::new(&rig).await;
        rig.apply(&rig.entry("files", ""));
        let asked = Instant::now();
        let ended = loop {
            match listener.stream.message().await {
                Ok(Some(_)) => assert!(asked.elapsed() < Duration::from_mins(1), "it goes on"),
                ended => break ended,
            }
        };
        assert_eq!(refused(ended), "audience_not_served");
    });
}
