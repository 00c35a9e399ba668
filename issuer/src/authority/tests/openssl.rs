//! OpenSSL's opinion of what is issued.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use mayfly_sdk::{KeyAlgorithm, Ttl};

use super::opened::World;

fn write(directory: &Path, name: &str, der: &[u8]) {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    std::fs::write(directory.join(name), pem).unwrap();
}

fn openssl(directory: &Path, arguments: &str) -> String {
    let run = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output();
    let run = run.expect("this test runs the openssl command: apt-get install openssl");
    let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "openssl {arguments}: {text}");
    text
}

/// Rows.
#[tokio::test]
async fn openssl_verifies_the_chain_and_reads_what_was_planned() {
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::EcP521, KeyAlgorithm::Rsa2048] {
        let mut world = World::new();
        world.settings.x509_key = algorithm;
        let issuer = world.start().await.unwrap();
        let svid = issuer.authorities.sign_x509(&world.leaf(Ttl::from_s(900))).await.unwrap();
        let directory = world.directory.path();
        write(directory, "root.pem", issuer.authorities.snapshot().root_certificate().unwrap());
        write(directory, "intermediate.pem", &svid.intermediates[0]);
        write(directory, "leaf.pem", &svid.der);

        let at = world.clock.now().unix_s();
        for purpose in ["sslserver", "sslclient"] {
            openssl(
                directory,
                &format!(
                    "verify -x509_strict -attime {at} -purpose {purpose} -CAfile root.pem -untrusted intermediate.pem leaf.pem"
                ),
            );
        }
        let leaf = openssl(directory, "x509 -in leaf.pem -noout -text");
        for expected in [
            "X509v3 Subject Alternative Name: critical",
            "URI:spiffe://td.test/a/workload, DNS:a.example.org, DNS:b.example.org, DNS:c.example.org",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "X509v3 Extended Key Usage: \n                TLS Web Server Authentication, TLS Web Client Authentication",
            "X509v3 Basic Constraints: critical\n                CA:FALSE",
            "X509v3 Subject Key Identifier",
            "X509v3 Authority Key Identifier",
            "Subject: \n",
        ] {
            assert!(leaf.contains(expected), "{algorithm}: {expected}\n{leaf}");
        }
        let intermediate = openssl(directory, "x509 -in intermediate.pem -noout -text");
        let root = openssl(directory, "x509 -in root.pem -noout -text");
        for (text, constraint) in [(&intermediate, "CA:TRUE, pathlen:0"), (&root, "CA:TRUE")] {
            for expected in [
                "URI:spiffe://td.test",
                "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n",
                constraint,
            ] {
                assert!(text.contains(expected), "{algorithm}: {expected}\n{text}");
            }
            assert!(!text.contains("Extended Key Usage"), "{text}");
        }
        assert!(root.contains("Subject: O = Mayfly, CN = root "), "{root}");
        assert!(intermediate.contains("Subject: O = Mayfly, CN = intermediate "), "{intermediate}");
    }
}
