//! A certificate authority of the web, made by OpenSSL for one test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub(super) struct Pki {
    dir: PathBuf,
    ip: String,
}

impl Pki {
    /// An authority for certificates of this address.
    pub(super) fn new(dir: &Path, ip: &str) -> Self {
        let pki = Self { dir: dir.to_owned(), ip: ip.to_owned() };
        let args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-web-root -keyout root.key -out root.pem";
        pki.openssl(args);
        pki
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("root.pem")
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.dir.join("web.pem")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.dir.join("web.key")
    }

    /// Puts a new certificate and key where the issuer reads them.
    pub(super) fn issue(&self, serial: u32) {
        fs::write(self.dir.join("ext"), format!("subjectAltName=IP:{}\nbasicConstraints=CA:FALSE\n", self.ip)).unwrap();
        self.openssl(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=web -keyout next.key -out web.csr",
        );
        self.openssl(&format!(
            "x509 -req -in web.csr -CA root.pem -CAkey root.key -days 1 -set_serial {serial} -extfile ext -out next.pem"
        ));
        for (next, at) in [("next.key", self.key()), ("next.pem", self.certificate())] {
            fs::rename(self.dir.join(next), at).unwrap();
        }
    }

    /// Leaves the certificate with a key that is not its own.
    pub(super) fn break_key(&self) {
        self.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.key");
        fs::rename(self.dir.join("other.key"), self.key()).unwrap();
    }

    fn openssl(&self, args: &str) {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(&self.dir).output().unwrap();
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The serial number of the leaf that this address presents, hexadecimal.
pub(super) fn served_serial(address: &str) -> String {
    let leaf = Command::new("openssl")
        .args(["s_client", "-connect", address, "-servername", "web"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut parser = Command::new("openssl")
        .args(["x509", "-noout", "-serial"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut parser.stdin.take().unwrap(), &leaf.stdout).unwrap();
    let parsed = parser.wait_with_output().unwrap();
    String::from_utf8_lossy(&parsed.stdout).trim().trim_start_matches("serial=").to_owned()
}
