//! What an operator can set. Every key is optional; `deploy/agent.toml` lists each with its default.

mod check;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use mayfly_sdk::TrustDomain;
pub use mayfly_sdk::settings::{Log, LogFormat};
use serde::{Deserialize, Serialize};

use crate::link::MachineFiles;

/// Settings of the node agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The trust domain that this node belongs to.
    pub trust_domain: TrustDomain,
    /// Where the node key and the node's own SVID are kept (directory, 0700).
    pub state_dir: PathBuf,
    /// Where the sockets and the warm state are (directory; gone after a boot). `api.sock` is made in it.
    pub runtime_dir: PathBuf,
    /// The Workload API's socket; none: `RUNTIME_DIR/api.sock`.
    pub socket: Option<PathBuf>,
    /// Whom to attest to.
    pub issuer: Issuer,
    /// A file with the join token as `mayfly join-token create` prints it: read at first contact, and again when it changes.
    pub join_token_file: Option<PathBuf>,
    /// The certificate that this machine has from elsewhere (PEM, leaf first), to attest with in place of a join token.
    pub machine_certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub machine_key: Option<PathBuf>,
    /// A SPIFFE bundle (JSON) that verifies the issuer at first contact, for attestors whose evidence pins nothing.
    pub bootstrap_bundle: Option<PathBuf>,
    /// How identities survive a restart of the agent.
    pub warm_restart: WarmRestart,
    /// The file that holds the key of the warm state with `warm_restart = "file"`; none: `STATE_DIR/warm.key`.
    pub warm_restart_key: Option<PathBuf>,
    /// What one user may use up.
    pub limits: Limits,
    /// Envoy's secret discovery.
    pub sds: Sds,
    /// Metrics and health.
    pub metrics: Metrics,
    /// Log output.
    pub log: Log,
}

/// Whom to attest to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Issuer {
    /// `host:port` of each issuer of the trust domain; tried in turn when one does not answer.
    pub addresses: Vec<String>,
}

/// How identities survive a restart of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarmRestart {
    /// Sealed under a key that the kernel keeps for this user.
    Keyring,
    /// Sealed under a key that systemd keeps in memory (`FileDescriptorStoreMax=1` in the unit).
    Systemd,
    /// Sealed under a key in a file: whoever reads both files has the keys of this node's workloads.
    File,
    /// Not at all: a restart during an outage leaves workloads without identities until the issuer is back.
    Off,
}

/// What one user may use up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections to the Workload API at a time, for each uid.
    pub connections_per_uid: u32,
    /// Open streams at a time, for each uid.
    pub streams_per_uid: u32,
    /// Calls that wait for an answer at a time, for each uid.
    pub calls_per_uid: u32,
    /// JWT-SVIDs kept, over all users.
    pub jwt_svids: u32,
}

/// Envoy's secret discovery: the names that stand for what a proxy need not know by name. SPIFFE IDs are names by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sds {
    /// The caller's first X.509-SVID.
    pub default_svid_name: String,
    /// The bundle of the own trust domain.
    pub default_bundle_name: String,
    /// The bundles of the own trust domain and of those that the caller's entries federate with.
    pub all_bundles_name: String,
    /// Whether bundles go out for Envoy's SPIFFE validator, which holds each trust domain to its own bundle. Without it a bundle is a
    /// plain `trusted_ca`, whose owner can certify any name.
    pub spiffe_cert_validation: bool,
}

/// Metrics and health.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address of `/metrics`, `/live` and `/ready`; loopback only.
    pub listen: SocketAddr,
}

impl Config {
    /// The Workload API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.runtime_dir.join("api.sock"))
    }

    /// What the node attests with in place of a join token.
    pub(crate) fn machine_files(&self) -> Option<MachineFiles> {
        let (certificate, key) = self.machine_certificate.clone().zip(self.machine_key.clone())?;
        Some(MachineFiles { certificate, key })
    }

    /// The file that holds the key of the warm state with `warm_restart = "file"`.
    #[must_use]
    pub fn warm_restart_key(&self) -> PathBuf {
        self.warm_restart_key.clone().unwrap_or_else(|| self.state_dir.join("warm.key"))
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self { addresses: vec!["127.0.0.1:8443".to_owned()] }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_per_uid: 1000, streams_per_uid: 4096, calls_per_uid: 1024, jwt_svids: 8192 }
    }
}

impl Default for Sds {
    fn default() -> Self {
        Self {
            default_svid_name: "default".to_owned(),
            default_bundle_name: "ROOTCA".to_owned(),
            all_bundles_name: "ALL".to_owned(),
            spiffe_cert_validation: true,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9465)) }
    }
}
