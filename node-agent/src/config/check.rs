use std::net::ToSocketAddrs;

use mayfly_sdk::settings::{Directories, Problem, Settings};

use super::{Config, Issuer, Limits, Log, Metrics, Sds, WarmRestart};

impl Config {
    /// The defaults, with these directories.
    #[must_use]
    pub fn within(directories: Directories) -> Self {
        Self {
            trust_domain: default_trust_domain(),
            state_dir: directories.state,
            runtime_dir: directories.runtime,
            socket: None,
            issuer: Issuer::default(),
            join_token_file: None,
            machine_certificate: None,
            machine_key: None,
            bootstrap_bundle: None,
            warm_restart: WarmRestart::Keyring,
            warm_restart_key: None,
            limits: Limits::default(),
            sds: Sds::default(),
            metrics: Metrics::default(),
            log: Log::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::within(Directories::of("agent"))
    }
}

impl Settings for Config {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.issuer.addresses.is_empty() {
            problems.push(Problem::new("issuer.addresses", "is empty", "name at least one issuer as host:port"));
        }
        for address in self.issuer.addresses.iter().filter(|address| !is_host_and_port(address)) {
            problems.push(Problem::new(
                "issuer.addresses",
                format!("`{address}` is not an address"),
                "write host:port, such as issuer.example.org:8443 or [2001:db8::1]:8443",
            ));
        }
        let paths = [
            ("state_dir", Some(&self.state_dir)),
            ("runtime_dir", Some(&self.runtime_dir)),
            ("socket", self.socket.as_ref()),
        ];
        for (key, path) in paths {
            if path.is_some_and(|path| !path.is_absolute()) {
                problems.push(Problem::new(key, "is not an absolute path", "begin it with /"));
            }
        }
        if self.warm_restart_key.is_some() && self.warm_restart != WarmRestart::File {
            problems.push(Problem::new(
                "warm_restart_key",
                "is set, and warm_restart is not \"file\"",
                "set warm_restart = \"file\", or remove the key",
            ));
        }
        self.check_machine(&mut problems);
        problems.extend(self.sds.check());
        let limits = [
            ("limits.connections_per_uid", self.limits.connections_per_uid),
            ("limits.streams_per_uid", self.limits.streams_per_uid),
            ("limits.calls_per_uid", self.limits.calls_per_uid),
            ("limits.jwt_svids", self.limits.jwt_svids),
        ];
        for (key, _) in limits.into_iter().filter(|(_, value)| *value == 0) {
            problems.push(Problem::new(key, "is 0, which would serve nobody", "give a number from 1"));
        }
        problems
    }
}

impl Config {
    /// A certificate needs its key, and a bundle: it says nothing about the issuer.
    fn check_machine(&self, problems: &mut Vec<Problem>) {
        let mut problem = |key: &str, what: &str, remedy: &str| problems.push(Problem::new(key, what, remedy));
        match (&self.machine_certificate, &self.machine_key) {
            (None, None) => return,
            (Some(_), None) => problem("machine_key", "is not set, and machine_certificate is", "set both"),
            (None, Some(_)) => problem("machine_certificate", "is not set, and machine_key is", "set both"),
            (Some(_), Some(_)) => {}
        }
        if self.bootstrap_bundle.is_none() {
            let what = "is not set, and a machine's certificate says nothing about the issuer";
            problem("bootstrap_bundle", what, "name a file with what `mayfly bundle show` prints at the issuer");
        }
        if self.join_token_file.is_some() {
            let what = "is set beside machine_certificate";
            problem("join_token_file", what, "keep one of the two: a node attests in one way");
        }
    }
}

impl Sds {
    fn check(&self) -> Vec<Problem> {
        let names = [
            ("sds.default_svid_name", &self.default_svid_name),
            ("sds.default_bundle_name", &self.default_bundle_name),
            ("sds.all_bundles_name", &self.all_bundles_name),
        ];
        let mut problems = Vec::new();
        for (at, (key, name)) in names.into_iter().enumerate() {
            if name.is_empty() || name.starts_with("spiffe://") || name == "*" {
                let what = format!("`{name}` cannot stand for a secret");
                problems.push(Problem::new(key, what, "choose a name that is not empty, not `*` and not a SPIFFE ID"));
            }
            if let Some((other, _)) = names.iter().take(at).find(|(_, earlier)| *earlier == name) {
                problems.push(Problem::new(key, format!("is the same as {other}"), "give each its own name"));
            }
        }
        problems
    }
}

/// Whether the form is right; whether somebody answers there is found out when it is dialled.
fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let named = !host.is_empty() && !host.contains([':', '/', ' ', '[', ']']);
    port.parse::<u16>().is_ok_and(|port| port != 0) && (named || (bracketed && address.to_socket_addrs().is_ok()))
}

#[expect(clippy::expect_used, reason = "a constant, which a test parses")]
fn default_trust_domain() -> mayfly_sdk::TrustDomain {
    "example.org".parse().expect("a legal trust domain")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn for_root() -> Config {
        Config::within(Directories {
            state: PathBuf::from("/var/lib/mayfly/agent"),
            runtime: PathBuf::from("/run/mayfly/agent"),
        })
    }

    #[test]
    fn the_sample_lists_every_key_with_its_default() {
        let sample = include_str!("../../../deploy/agent.toml");
        mayfly_sdk::settings::compare_sample(&for_root(), sample).unwrap();
    }

    #[test]
    fn the_defaults_hold() {
        assert_eq!(for_root().check(), Vec::new());
    }

    /// Rows: WE-2.
    #[test]
    fn the_workload_api_is_not_served_over_tcp() {
        for address in ["tcp://0.0.0.0:8081", "tcp://127.0.0.1:8081", "0.0.0.0:8081"] {
            let config = Config { socket: Some(PathBuf::from(address)), ..for_root() };
            let keys: Vec<_> = config.check().into_iter().map(|problem| problem.key).collect();
            assert_eq!(keys, ["socket"], "{address}");
        }
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let config = Config {
            state_dir: PathBuf::from("state"),
            issuer: Issuer { addresses: vec!["nowhere".to_owned(), "host:0".to_owned(), "[::1]:8443".to_owned()] },
            warm_restart_key: Some(PathBuf::from("/x")),
            sds: Sds { default_bundle_name: "default".to_owned(), all_bundles_name: String::new(), ..Sds::default() },
            ..for_root()
        };
        let keys: Vec<_> = config.check().into_iter().map(|problem| problem.key).collect();
        let expected = [
            "issuer.addresses",
            "issuer.addresses",
            "state_dir",
            "warm_restart_key",
            "sds.default_bundle_name",
            "sds.all_bundles_name",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_machines_certificate_needs_its_key_and_a_bundle_and_no_token() {
        let keys = |config: Config| config.check().into_iter().map(|problem| problem.key).collect::<Vec<_>>();
        let path = |name: &str| Some(PathBuf::from(name));
        let whole = Config {
            machine_certificate: path("/c"),
            machine_key: path("/k"),
            bootstrap_bundle: path("/b"),
            ..for_root()
        };
        assert_eq!(keys(whole.clone()), [""; 0]);
        assert_eq!(keys(Config { machine_key: None, ..whole.clone() }), ["machine_key"]);
        assert_eq!(keys(Config { machine_certificate: None, ..whole.clone() }), ["machine_certificate"]);
        assert_eq!(keys(Config { bootstrap_bundle: None, ..whole.clone() }), ["bootstrap_bundle"]);
        assert_eq!(keys(Config { join_token_file: path("/t"), ..whole }), ["join_token_file"]);
    }
}
