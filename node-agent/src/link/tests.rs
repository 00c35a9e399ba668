use std::path::Path;
use std::time::Duration;

use mayfly_proto::node as wire;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::fake_issuer::FakeIssuer;

/// A link that runs against an issuer, in a directory of its own.
struct Running {
    view: LinkView,
    streams: Streams,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    fn start(directory: &Path, issuer: &FakeIssuer) -> Self {
        let streams = Streams::new();
        let settings = LinkSettings {
            trust_domain: "example.org".parse().unwrap(),
            addresses: vec![issuer.address.to_string()],
            join_token_file: Some(directory.join("token")),
            machine: None,
            bootstrap_bundle: None,
            boot_id: "boot".to_owned(),
        };
        let state = Directory::open(&directory.join("state")).unwrap();
        let (_, ends) = watch::channel(None);
        let clock = issuer.state.clock.clone();
        let (link, view) =
            Link::new(settings, state, Held::nothing(), streams.clone(), ends, mpsc::unbounded_channel().0, clock)
                .unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(link.run(stop.clone()));
        Self { view, streams, stop, tasks }
    }

    async fn until(&self, what: impl Fn(&LinkState) -> bool) -> LinkState {
        let mut status = self.view.status.clone();
        let waited = tokio::time::timeout(Duration::from_secs(20), status.wait_for(|status| what(&status.state)));
        let state = waited.await.map(|status| status.unwrap().state.clone());
        state.unwrap_or_else(|_| panic!("still {:?}", self.view.status.borrow().state))
    }

    async fn in_sync(&self) {
        self.until(|state| matches!(state, LinkState::InSync { .. })).await;
    }

    async fn halt(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn issuer_and_token() -> (FakeIssuer, TempDir) {
    let issuer = FakeIssuer::start(Clock::system()).await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), issuer.token()).unwrap();
    (issuer, directory)
}

fn entry(uid: &str) -> wire::Entry {
    wire::Entry {
        uid: uid.to_owned(),
        spiffe_id: format!("spiffe://example.org/{uid}"),
        selectors: vec!["unix:uid:0".to_owned()],
        ..wire::Entry::default()
    }
}

#[tokio::test]
async fn a_new_node_attests_by_its_token_and_is_in_sync() {
    let (issuer, directory) = issuer_and_token().await;
    issuer.state.put(entry("web"));
    let link = Running::start(directory.path(), &issuer);
    link.in_sync().await;
    assert!(link.view.holdings.borrow().entry("web").is_some());
    assert!(link.view.issuer.borrow().is_some());
    issuer.state.acknowledged(2).await;
    issuer.state.put(entry("db"));
    issuer.state.acknowledged(3).await;
    assert!(link.view.holdings.borrow().entry("db").is_some());
    link.halt().await;
}

#[tokio::test]
async fn an_enrolled_node_comes_back_without_its_token_and_resumes() {
    let (mut issuer, directory) = issuer_and_token().await;
    let link = Running::start(directory.path(), &issuer);
    link.in_sync().await;
    std::fs::remove_file(directory.path().join("token")).unwrap();
    issuer = issuer.restart().await;
    link.until(|state| !matches!(state, LinkState::InSync { .. })).await;
    link.in_sync().await;
    let held = wire::Revision { epoch: 1, n: 1 };
    assert_eq!(issuer.state.seen.lock().syncs, [None, Some(held)], "the second session resumes from what is held");
    link.halt().await;
    let link = Running::start(directory.path(), &issuer);
    link.in_sync().await;
    assert_eq!(issuer.state.seen.lock().attests, 1);
    link.halt().await;
}

#[tokio::test]
async fn a_used_token_is_a_state_that_says_what_to_do_and_a_new_token_ends_it() {
    let (issuer, directory) = issuer_and_token().await;
    issuer.state.knobs.lock().refuse_attest = Some(Refusal::new(Reason::JoinTokenUsed, "the token was used"));
    std::fs::write(directory.path().join("token"), format!("old.{}", issuer.state.authority.pin())).unwrap();
    let link = Running::start(directory.path(), &issuer);
    let LinkState::Refused(why) = link.until(|state| matches!(state, LinkState::Refused(_))).await else { panic!() };
    assert_eq!(why.reason, Reason::JoinTokenUsed);
    issuer.state.knobs.lock().refuse_attest = None;
    std::fs::write(directory.path().join("token"), issuer.token()).unwrap();
    link.in_sync().await;
    link.halt().await;
}

#[tokio::test]
async fn without_a_token_the_node_waits_for_one() {
    let (issuer, directory) = issuer_and_token().await;
    std::fs::remove_file(directory.path().join("token")).unwrap();
    let link = Running::start(directory.path(), &issuer);
    link.until(|state| matches!(state, LinkState::Unenrolled(_))).await;
    std::fs::write(directory.path().join("token"), issuer.token()).unwrap();
    link.in_sync().await;
    link.halt().await;
}

#[tokio::test]
async fn another_root_than_the_pinned_one_is_refused() {
    let (issuer, directory) = issuer_and_token().await;
    std::fs::write(directory.path().join("token"), format!("s3cret.{}", "0".repeat(64))).unwrap();
    let link = Running::start(directory.path(), &issuer);
    let LinkState::Refused(why) = link.until(|state| matches!(state, LinkState::Refused(_))).await else { panic!() };
    assert_eq!(why.reason, Reason::PinMismatch);
    assert_eq!(issuer.state.seen.lock().attests, 0);
    link.halt().await;
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_repeated_with_the_same_id() {
    let (issuer, directory) = issuer_and_token().await;
    {
        let mut knobs = issuer.state.knobs.lock();
        (knobs.node_renew_after_s, knobs.lose_renewals) = (0, 2);
    }
    let link = Running::start(directory.path(), &issuer);
    let seen = || issuer.state.seen.lock().renewals.clone();
    while seen().len() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    issuer.state.knobs.lock().node_renew_after_s = 1800;
    let renewals = seen();
    assert!(renewals[..3].iter().all(|renewal| *renewal == renewals[0]), "{renewals:?}");
    // Make before break: another stream, from what is held, and no reattestation.
    while issuer.state.seen.lock().syncs.len() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    link.in_sync().await;
    {
        let seen = issuer.state.seen.lock();
        assert_eq!((seen.attests, seen.reattests), (1, 0));
        assert!(seen.syncs[1].is_some());
    }
    link.halt().await;
}

#[tokio::test]
async fn a_node_whose_svid_has_expired_comes_back_by_its_key() {
    let (mut issuer, directory) = issuer_and_token().await;
    {
        let mut knobs = issuer.state.knobs.lock();
        (knobs.node_lifetime_s, knobs.node_renew_after_s) = (1, 1000);
    }
    let link = Running::start(directory.path(), &issuer);
    link.until(|state| !matches!(state, LinkState::Starting)).await;
    while issuer.state.seen.lock().attests < 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    link.halt().await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    issuer.state.knobs.lock().node_lifetime_s = 3600;
    issuer = issuer.restart().await;
    let link = Running::start(directory.path(), &issuer);
    link.in_sync().await;
    {
        let seen = issuer.state.seen.lock();
        assert_eq!(seen.reattests, 1);
        assert_eq!(seen.node_keys[0], seen.node_keys[1], "the key stays");
    }
    link.halt().await;
}

#[tokio::test]
async fn a_frozen_node_enrols_anew_with_another_key() {
    let (mut issuer, directory) = issuer_and_token().await;
    let link = Running::start(directory.path(), &issuer);
    link.in_sync().await;
    issuer.state.knobs.lock().refuse_sync = Some(Refusal::new(Reason::NodeFrozen, "the node is frozen"));
    issuer = issuer.restart().await;
    link.until(|state| matches!(state, LinkState::Refused(why) if why.reason == Reason::NodeFrozen)).await;
    issuer.state.knobs.lock().refuse_sync = None;
    assert_eq!(issuer.state.seen.lock().attests, 1, "the token that was used is not tried again");
    std::fs::write(directory.path().join("token"), format!("s3cret2.{}", issuer.state.authority.pin())).unwrap();
    link.in_sync().await;
    {
        let seen = issuer.state.seen.lock();
        assert_eq!(seen.attests, 2);
        assert_ne!(seen.node_keys[0], seen.node_keys[1], "whoever has a copy of the old key is locked out");
    }
    link.halt().await;
}

#[tokio::test]
async fn a_gap_is_answered_with_a_request_for_everything() {
    let (issuer, directory) = issuer_and_token().await;
    let link = Running::start(directory.path(), &issuer);
    link.in_sync().await;
    let (from, revision) = (wire::Revision { epoch: 1, n: 7 }, wire::Revision { epoch: 1, n: 8 });
    issuer.state.snapshot.lock().revision = Some(revision);
    let delta = wire::Delta { from: Some(from), revision: Some(revision), ..wire::Delta::default() };
    let push = wire::SyncResponse { message: Some(session::Update::Delta(delta)) };
    issuer.state.pushes.send(push).unwrap();
    issuer.state.acknowledged(8).await;
    assert_eq!(issuer.state.seen.lock().syncs, [None, None]);
    link.halt().await;
}

#[tokio::test]
async fn an_acknowledgement_waits_for_the_last_open_stream() {
    let (issuer, directory) = issuer_and_token().await;
    let link = Running::start(directory.path(), &issuer);
    link.in_sync().await;
    issuer.state.acknowledged(1).await;
    let open = link.streams.open();
    issuer.state.put(entry("web"));
    let mut holdings = link.view.holdings.clone();
    holdings.wait_for(|holdings| holdings.revision().n == 2).await.unwrap();
    // A barrier: a report comes after whatever acknowledgement there might have been.
    issuer.state.put(wire::Entry { required_features: vec!["none".to_owned()], ..entry("odd") });
    let mut reports = issuer.state.reports.subscribe();
    let reported = reports.wait_for(|reports| !reports.is_empty()).await.unwrap();
    assert_eq!(reported[0].problems[0].reason, "feature_missing");
    drop(reported);
    assert!(issuer.state.acknowledged.borrow().iter().all(|revision| revision.n < 2));
    open.written(mayfly_sdk::Revision { epoch: 1, n: 3 });
    issuer.state.acknowledged(3).await;
    link.halt().await;
}

#[tokio::test]
async fn a_clock_that_differs_is_measured() {
    let (issuer, directory) = issuer_and_token().await;
    issuer.state.knobs.lock().hello_skew_ms = 60_000;
    let link = Running::start(directory.path(), &issuer);
    link.in_sync().await;
    let skew_ms = link.view.status.borrow().clock_skew_ms.unwrap();
    assert!((59_000..=61_000).contains(&skew_ms), "{skew_ms}");
    link.halt().await;
}
