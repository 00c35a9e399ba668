use std::env;
use std::path::PathBuf;

use mayfly_sdk::TrustDomain;

use super::{Config, Issuer, Limits, Log, Metrics, WarmRestart};

impl Config {
    /// The defaults of a daemon that runs as root, as `deploy/agent.toml` lists them.
    #[must_use]
    pub fn for_root() -> Self {
        Self::in_directories(PathBuf::from("/var/lib/mayfly/agent"), PathBuf::from("/run/mayfly/agent"))
    }

    /// The defaults of an ordinary user: below `$XDG_STATE_HOME` (else `~/.local/state`) and `$XDG_RUNTIME_DIR` (else `STATE_DIR/run`).
    #[must_use]
    pub fn for_user() -> Self {
        let state_home = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        let state_dir = state_home.unwrap_or_else(env::temp_dir).join("mayfly/agent");
        let runtime_dir =
            absolute("XDG_RUNTIME_DIR").map_or_else(|| state_dir.join("run"), |dir| dir.join("mayfly/agent"));
        Self::in_directories(state_dir, runtime_dir)
    }

    fn in_directories(state_dir: PathBuf, runtime_dir: PathBuf) -> Self {
        Self {
            trust_domain: default_trust_domain(),
            state_dir,
            runtime_dir,
            socket: None,
            issuer: Issuer::default(),
            join_token_file: None,
            bootstrap_bundle: None,
            warm_restart: WarmRestart::Keyring,
            warm_restart_key: None,
            limits: Limits::default(),
            metrics: Metrics::default(),
            log: Log::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        if nix::unistd::geteuid().is_root() { Self::for_root() } else { Self::for_user() }
    }
}

#[expect(clippy::expect_used, reason = "a constant that a test parses")]
fn default_trust_domain() -> TrustDomain {
    "example.org".parse().expect("a legal trust domain")
}

/// A directory from the environment; relative ones are ignored, as the XDG specification says.
#[expect(clippy::disallowed_methods, reason = "this is configuration")]
fn absolute(name: &str) -> Option<PathBuf> {
    env::var(name).ok().map(PathBuf::from).filter(|path| path.is_absolute())
}
