//! Administration over the network, by a workload with grants, and by those who have none or too few.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    process::{Child, Command, Output, Stdio},
};

use mayfly_rig::{Rig, eventually, mayfly};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Lives of the test's SVIDs, where nothing is said.
const LONG: &[(&str, &str)] = &[];

/// A trust domain with remote administration, and a workload of this user with these grants.
fn rig(settings: &[(&str, &str)], grants: &str) -> Rig {
    let mut rig = Rig::new(settings);
    rig.set("admin.listen", &format!("\"{}\"", address(&rig)));
    rig.start_issuer();
    rig.start_agent("a");
    grant(&rig, grants);
    rig
}

fn address(rig: &Rig) -> String {
    format!("{}:8446", rig.ip())
}

/// Gives this user's workload these grants, and no others.
fn grant(rig: &Rig, grants: &str) {
    let entry = rig.entry("lead", "");
    rig.apply_file(&format!("owner: ops\nentries:\n{entry}    admin: [{grants}]\n"), &[]);
}

/// The command, as a remote administrator runs it.
fn command(rig: &Rig, args: &[&str]) -> Command {
    let mut command = Command::new(mayfly());
    command.args(["--output", "json"]).args(args).args(["--issuer", &address(rig)]);
    command.env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a")).env_remove("MAYFLY_ADMIN_SOCKET");
    command
}

fn remote(rig: &Rig, args: &[&str]) -> Output {
    command(rig, args).stdin(Stdio::null()).output().unwrap()
}

fn apply(rig: &Rig, document: &str) -> Output {
    let mut child = command(rig, &["entry", "apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

fn denied(output: &Output) {
    assert_eq!(output.status.code(), Some(77), "{}", text(output));
    assert!(text(output).contains("permission_denied"), "{}", text(output));
}

/// A file of the owner with one entry below the trust domain.
fn file(rig: &Rig, owner: &str, path: &str) -> String {
    let name = path.replace('/', "-");
    format!("owner: {owner}\nentries:\n{}", rig.entry(&name, "").replace(&format!("/{name}\n"), &format!("/{path}\n")))
}

fn ledger(rig: &Rig) -> String {
    text(&rig.run(&["--output", "json", "ledger", "tail", "-n", "1000"]))
}

#[test]
fn every_noun_is_administrated_from_elsewhere_and_recorded_with_its_actor() {
    let rig = rig(LONG, r#"{verbs: ["*:*"]}"#);
    for args in [
        &["entry", "list"][..],
        &["entry", "show", "lead"],
        &["node", "list"],
        &["join-token", "create"],
        &["bundle", "show"],
        &["bundle", "list"],
        &["ledger", "tail"],
        &["authority", "list"],
        &["authority", "prepare", "jwt"],
    ] {
        succeeds(&remote(&rig, args));
    }
    succeeds(&apply(&rig, &file(&rig, "team", "web")));
    succeeds(&remote(&rig, &["entry", "delete", "web"]));
    let actor = format!("\"actor\":\"spiffe://{}/lead\"", rig.trust_domain);
    let ledger = ledger(&rig);
    for kind in ["admin_called", "entry_created", "entry_deleted", "join_token_created", "authority_prepared"] {
        let kind = format!("\"kind\":\"{kind}\"");
        assert!(ledger.lines().any(|line| line.contains(&kind) && line.contains(&actor)), "{kind}: {ledger}");
    }
}

#[test]
fn a_team_administrates_its_own_and_sees_nothing_else() {
    let rig = Rig::new(LONG);
    let prefix = format!("spiffe://{}/team", rig.trust_domain);
    drop(rig);
    let rig = self::rig(LONG, &format!(r#"{{verbs: ["entry:*", "node:*"], id_prefix: "{prefix}", owner: team}}"#));
    succeeds(&apply(&rig, &file(&rig, "team", "team/web")));
    for (owner, path) in [("team", "teamx/web"), ("team", "other"), ("ops", "team/web2")] {
        denied(&apply(&rig, &file(&rig, owner, path)));
    }
    let listed = text(&remote(&rig, &["entry", "list"]));
    assert!(listed.contains("team-web") && !listed.contains("lead"), "{listed}");
    for verb in ["show", "delete"] {
        let hidden = text(&remote(&rig, &["entry", verb, "lead"]));
        let absent = text(&remote(&rig, &["entry", verb, "nothing"]));
        assert_eq!(hidden.replace("lead", "nothing"), absent);
    }
    assert!(text(&remote(&rig, &["node", "list"])).contains("\"items\":[]"));
    denied(&remote(&rig, &["join-token", "create"]));
    denied(&remote(&rig, &["authority", "list"]));
    denied(&remote(&rig, &["ledger", "tail"]));
    let grants = file(&rig, "team", "team/sub").trim_end().to_owned() + "\n    admin: [{verbs: [\"entry:list\"]}]\n";
    denied(&apply(&rig, &grants));
    assert!(ledger(&rig).contains("\"kind\":\"refused\""));
    succeeds(&remote(&rig, &["entry", "delete", "team-web"]));
}

#[test]
fn a_quota_of_an_owner_holds_for_remote_administrators() {
    let rig = rig(&[("limits.entries_per_owner", "2")], r#"{verbs: ["entry:*"]}"#);
    succeeds(&apply(&rig, &file(&rig, "team", "a")));
    succeeds(&apply(&rig, &file(&rig, "team", "b")));
    let refused = apply(&rig, &file(&rig, "team", "c"));
    assert!(!refused.status.success(), "{}", text(&refused));
    succeeds(&apply(&rig, &file(&rig, "another", "c")));
}

/// `ledger tail --follow` as a remote administrator runs it.
struct Tail {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Tail {
    fn start(rig: &Rig) -> Self {
        let mut command = command(rig, &["ledger", "tail", "--follow"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut tail = Self { child, lines };
        tail.lines.next().expect("a first record").unwrap();
        tail
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Reads until the issuer ends it.
    fn until_its_end(mut self) {
        for line in &mut self.lines {
            line.unwrap();
        }
        assert!(!self.child.wait().unwrap().success());
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_grant_that_is_taken_away_ends_open_streams_and_the_next_call() {
    let rig = rig(LONG, r#"{verbs: ["ledger:tail", "entry:list"]}"#);
    let tail = Tail::start(&rig);
    grant(&rig, r#"{verbs: ["entry:list"]}"#);
    tail.until_its_end();
    denied(&remote(&rig, &["ledger", "tail"]));
    succeeds(&remote(&rig, &["entry", "list"]));

    grant(&rig, r#"{verbs: ["ledger:tail"]}"#);
    // A client that does not leave by itself when its stream ends.
    let tail = Tail::start(&rig);
    tail.signal(Signal::SIGSTOP);
    assert!(rig.run(&["entry", "delete", "lead"]).status.success());
    eventually("its connection is closed", 20, || {
        rig.issuer_log().contains("its peer holds no grant any more").then_some(())
    });
    tail.signal(Signal::SIGCONT);
    tail.until_its_end();
}

#[test]
fn a_stream_ends_with_the_svid_that_it_was_opened_with() {
    let settings = [("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"6s\""), ("ttl.jwt", "\"6s\"")];
    let rig = rig(&settings, r#"{verbs: ["ledger:tail"]}"#);
    Tail::start(&rig).until_its_end();
    // The next SVID is there already.
    succeeds(&remote(&rig, &["ledger", "tail"]));
}

/// A TLS client of the administration's address with this chain and key; what it is answered to an HTTP/2 preface.
fn openssl(rig: &Rig, credentials: Option<[&str; 2]>) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address(rig), "-alpn", "h2", "-ign_eof"]);
    if let Some([chain, key]) = credentials {
        command.args(["-cert", chain, "-cert_chain", chain, "-key", key]);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").ok();
    text(&child.wait_with_output().unwrap())
}

/// Refused in the handshake.
fn shut_out(rig: &Rig, credentials: Option<[&str; 2]>) {
    let said = openssl(rig, credentials);
    assert!(said.contains("alert"), "{said}");
}

/// Writes the identity of this user's workload out.
fn written(rig: &Rig, to: &str) -> [String; 2] {
    let dir = rig.dir().join(to);
    let fetched = Command::new(mayfly())
        .args(["svid", "x509", "fetch", "--write"])
        .arg(&dir)
        .env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"))
        .output()
        .unwrap();
    succeeds(&fetched);
    ["svid.pem", "key.pem"].map(|name| dir.join(name).to_str().unwrap().to_owned())
}

fn as_strs(paths: &[String; 2]) -> [&str; 2] {
    [&paths[0], &paths[1]]
}

#[test]
fn strangers_the_ungranted_the_expired_and_other_trust_domains_do_not_finish_a_handshake() {
    let settings = [("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"6s\""), ("ttl.jwt", "\"6s\"")];
    let rig = rig(&settings, r#"{verbs: ["*:*"]}"#);
    shut_out(&rig, None);

    // Of the same name, by an authority of its own.
    let mut other = Rig::new(&[]);
    other.trust_domain = rig.trust_domain.clone();
    other.start_issuer();
    other.start_agent("a");
    grant(&other, r#"{verbs: ["*:*"]}"#);
    shut_out(&rig, Some(as_strs(&written(&other, "identity"))));
    let mut foreign = Rig::new(&[]);
    foreign.trust_domain = "other.example".into();
    foreign.start_issuer();
    foreign.start_agent("a");
    grant(&foreign, r#"{verbs: ["*:*"]}"#);
    shut_out(&rig, Some(as_strs(&written(&foreign, "identity"))));

    let mine = written(&rig, "identity");
    std::thread::sleep(std::time::Duration::from_secs(8));
    shut_out(&rig, Some(as_strs(&mine)));
    succeeds(&remote(&rig, &["entry", "list"]));

    rig.apply_file(&format!("owner: ops\nentries:\n{}", rig.entry("lead", "")), &[]);
    shut_out(&rig, Some(as_strs(&written(&rig, "ungranted"))));
    assert!(!remote(&rig, &["entry", "list"]).status.success());
}

#[test]
fn those_who_connect_and_say_nothing_keep_no_administrator_out() {
    let rig = rig(&[("limits.handshakes", "8"), ("admin.connections", "4")], r#"{verbs: ["entry:list"]}"#);
    let _mute: Vec<_> = (0..60).map(|_| TcpStream::connect(address(&rig)).unwrap()).collect();
    eventually("an administrator is answered", 60, || remote(&rig, &["entry", "list"]).status.success().then_some(()));
}
