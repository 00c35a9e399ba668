//! HTTP and TLS of the endpoint, by curl and OpenSSL, and by those who mean harm.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mayfly_rig::{Rig, eventually, http_get};

use super::{issuer, text, url};

/// What curl says with these arguments: the head and the body.
fn curl(rig: &Rig, args: &[&str], path: &str) -> String {
    let url = format!("{}{path}", url(rig));
    text(&Command::new("curl").args(["-sS", "-k", "-i", "--max-time", "20"]).args(args).arg(url).output().unwrap())
}

/// Rows: BD-1, BD-6, FD-1, FD-2, FD-6.
#[test]
fn curl_reads_the_document_and_only_with_get_and_only_there() {
    let rig = issuer(&[]);
    let answer = curl(&rig, &[], "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.contains("content-type: application/json\r\n") && head.contains("cache-control: no-cache"), "{head}");
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(document["keys"].is_array() && document["spiffe_sequence"].is_u64(), "{body}");
    assert_eq!(document["spiffe_refresh_hint"], 300);

    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let condition = format!("If-None-Match: {etag}");
    assert!(curl(&rig, &["-H", &condition], "").starts_with("HTTP/1.1 304"));
    assert!(rig.run(&["authority", "prepare", "jwt"]).status.success());
    assert!(curl(&rig, &["-H", &condition], "").starts_with("HTTP/1.1 200"), "a new key is seen at once");

    for path in ["bundle", "index.html", "%2e%2e/", "?"] {
        let status = if path == "?" { "200" } else { "404" };
        assert!(curl(&rig, &[], path).starts_with(&format!("HTTP/1.1 {status}")), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let refused = curl(&rig, &["-X", method], "");
        assert!(refused.starts_with("HTTP/1.1 405") && refused.to_lowercase().contains("allow: get"), "{refused}");
    }
    let metrics = http_get(&format!("{}:9464", rig.ip()), "/metrics").unwrap();
    assert!(metrics.contains("mayfly_issuer_web_answers_total{status=\"405\"} 5"), "{metrics}");
}

/// Rows: FD-3, FD-4.
#[test]
fn openssl_is_asked_for_no_certificate_and_gets_aead_suites_of_tls_1_2_and_1_3_only() {
    let rig = issuer(&[]);
    let address = rig.web_address();
    let dial = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address]).args(args).stdin(Stdio::null());
        text(&command.output().unwrap())
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let said = dial(&[version]);
        assert!(said.contains("No client certificate CA names sent") && said.contains("GCM"), "{version}: {said}");
        assert!(!said.contains("Requested Signature Algorithms"), "a certificate was asked for: {said}");
    }
    // The weakest security level, so that it is the server that refuses.
    for refused in
        [["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"]]
    {
        let said = dial(&refused);
        assert!(said.contains("alert") && said.contains("Cipher is (NONE)"), "{refused:?}: {said}");
    }
}

/// A TLS connection by OpenSSL, which sends what it is given.
struct Dialled(Child);

impl Dialled {
    fn new(rig: &Rig) -> Self {
        let address = rig.web_address();
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-connect", &address]);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn send(&mut self, bytes: &[u8]) {
        // The other end may have closed already, which is what is asked for.
        self.0.stdin.as_mut().unwrap().write_all(bytes).ok();
    }

    /// What came until the other end closed.
    fn rest(&mut self) -> String {
        let mut said = Vec::new();
        self.0.stdout.take().unwrap().read_to_end(&mut said).ok();
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn heads_that_are_too_large_or_too_slow_end_their_connection() {
    let rig = issuer(&[]);
    let mut large = Dialled::new(&rig);
    let mut head = "GET / HTTP/1.1\r\nHost: h\r\n".to_owned();
    write!(head, "X: {}\r\n\r\n", "x".repeat(64 * 1024)).unwrap();
    large.send(head.as_bytes());
    assert!(large.rest().starts_with("HTTP/1.1 431"));
    let mut many = Dialled::new(&rig);
    many.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(100)).as_bytes());
    assert!(many.rest().starts_with("HTTP/1.1 431"));
    let begun = Instant::now();
    let mut slow = Dialled::new(&rig);
    slow.send(b"GET / HTTP/1.1\r\nHo");
    let said = slow.rest();
    // After 5 s, and not with the connection, whose place it would hold for 30 s.
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(curl(&rig, &[], "").starts_with("HTTP/1.1 200"));
}

#[test]
fn those_who_connect_and_say_nothing_keep_nobody_out() {
    let rig = issuer(&[("web.connections", "8"), ("limits.handshakes", "8")]);
    let _mute: Vec<_> = (0..40).map(|_| TcpStream::connect(rig.web_address()).unwrap()).collect();
    let _idle: Vec<_> = (0..20).map(|_| Dialled::new(&rig)).collect();
    eventually("somebody else is answered", 60, || curl(&rig, &[], "").starts_with("HTTP/1.1 200").then_some(()));
}
