//! The issuer's configuration: `issuer.toml`, every key optional but `trust_domain`.

mod check;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use mayfly_sdk::{
    TrustDomain, Ttl,
    settings::{Directories, Log},
};
use serde::{Deserialize, Serialize};

use crate::{agentless::ProviderConfig, authority, registry::Rules, task, users::UserProviderConfig};

/// Everything an operator can set. `deploy/issuer.toml` lists each key with its default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The trust domain that this issuer serves; required.
    pub trust_domain: String,
    /// This issuer's name: it is `spiffe://T/mayfly/issuer/<name>`.
    pub name: String,
    /// Where the store and the wrapping key lie (mode 0700).
    pub state_dir: PathBuf,
    /// Node gRPC, TLS 1.3.
    pub listen: SocketAddr,
    /// Local administration; its directory is made with mode 0700.
    pub admin_socket: PathBuf,
    /// Administration over the network.
    pub admin: AdminConfig,
    /// The key that seals what is stored; default `STATE/wrapping.key`, made once.
    pub wrapping_key: Option<PathBuf>,
    /// Who may enrol as a node, apart from those with a join token.
    pub attest: AttestConfig,
    /// Identity providers whose tokens get an SVID without a node agent, by name.
    pub agentless: BTreeMap<String, ProviderConfig>,
    /// Identity providers on behalf of whose users tasks may be begun, by name.
    pub users: BTreeMap<String, UserProviderConfig>,
    /// Lifetimes of what is issued.
    pub ttl: TtlConfig,
    /// Lifetimes of signing keys.
    pub authority: authority::Settings,
    /// WIT-SVIDs, which are off by default: the standard is incubating.
    pub wit: WitConfig,
    /// Tasks of agents.
    pub tasks: TasksConfig,
    /// Bounds.
    pub limits: LimitsConfig,
    /// Metrics and health.
    pub metrics: MetricsConfig,
    /// HTTPS for everybody.
    pub web: WebConfig,
    /// Where others fetch this trust domain's bundle: on the HTTPS listener.
    pub bundle_endpoint: BundleEndpointConfig,
    /// The database.
    pub store: StoreConfig,
    /// Log output.
    pub log: Log,
}

/// Who may enrol as a node, apart from those with a join token.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttestConfig {
    /// PEM file of the certificate authorities whose machines enrol by the certificates that they have; none: nobody does.
    pub x509pop_ca: Option<PathBuf>,
}

/// Lifetimes of what is issued.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TtlConfig {
    /// X.509-SVIDs of entries that set none.
    pub x509: Ttl,
    /// JWT-SVIDs of entries that set none.
    pub jwt: Ttl,
    /// Task tokens: at least 30 s, at most 15 min.
    pub task: Ttl,
    /// Node SVIDs, and the issuer's own.
    pub node: Ttl,
    /// Join tokens that are created without a lifetime.
    pub join_token: Ttl,
    /// How long after its SVID expired a node may re-attest by its enrolled key.
    pub reattest: Ttl,
    /// Whether lifetimes under 60 s are allowed (demonstrations and tests).
    pub allow_short_ttl: bool,
}

/// Tasks of agents.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TasksConfig {
    /// How long a task may last where neither its entry nor whoever begins it says.
    pub deadline: Ttl,
    /// How long any task may last; at most 8 h.
    pub longest_deadline: Ttl,
    /// The most tasks that one instance may have open at a time.
    pub per_instance: usize,
    /// The most tasks that the instances of one node may have open at a time, all together; at most 200,000.
    pub per_node: usize,
    /// The most tasks that one root may have below it.
    pub per_root: usize,
    /// Tasks that one instance may begin a second, and five times as many at once.
    pub begins_per_instance: u32,
    /// Tasks that the instances of one node may begin a second, all together, and five times as many at once.
    pub begins_per_node: u32,
    /// After how long the tasks of a node that is not in sync are suspended; time in which no issuer runs does not count.
    pub silent_after: Ttl,
    /// Whether an entry may serve any audience (`serves: ["*"]`): for development only.
    pub allow_serves_any: bool,
}

/// WIT-SVIDs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WitConfig {
    /// Whether WIT-SVIDs are issued, and the keys that verify them published to nodes and workloads.
    pub enabled: bool,
}

/// Bounds on what others may cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// TLS handshakes under way at once.
    pub handshakes: usize,
    /// Connections at once.
    pub connections: usize,
    /// Items in one minting call.
    pub mint_batch: usize,
    /// Minting calls that wait at once; above it callers are told to come back.
    pub mint_queue: usize,
    /// Entries of one owner.
    pub entries_per_owner: usize,
    /// Different SPIFFE IDs that one node may have one entry's template rendered to.
    pub renderings_per_node: usize,
}

/// Metrics and health.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Loopback address of `/metrics`, `/live`, `/ready`; empty: none.
    pub listen: String,
}

/// HTTPS: one listener that never asks for a client certificate, and one that always does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    /// Address of the listener; empty: none.
    pub listen: String,
    /// PEM chain, leaf first, for the profile `https_web`; read again when it changes.
    pub certificate: Option<PathBuf>,
    /// PEM key of that chain's leaf.
    pub key: Option<PathBuf>,
    /// Connections at once. Each lasts 30 s at most; when all are taken, the oldest gives way once it is 2 s old.
    pub connections: usize,
    /// `https://HOST` under which relying parties reach this trust domain; sets the `iss` of JWT-SVIDs. Empty: none.
    pub public_url: String,
    /// Address at which workloads call the OAuth endpoints with their X.509-SVIDs, where there is a public URL; empty: none.
    pub mtls_listen: String,
    /// `https://HOST:PORT` under which they reach it. Empty: the host of the public URL, and the port of the address.
    pub mtls_url: String,
}

/// Where others fetch this trust domain's bundle (SPIFFE Federation 5).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BundleEndpointConfig {
    /// How those who fetch it know that it is ours.
    pub profile: Profile,
    /// The path of its URL. Every other path is 404.
    pub path: String,
    /// Whether the document has the keys that verify WIT-SVIDs. Deployed SPIRE refuses a whole bundle that has one.
    pub wit: bool,
}

/// A profile of the bundle endpoint (SPIFFE Federation 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// The listener presents the issuer's own X.509-SVID, `spiffe://T/mayfly/issuer/<name>`.
    #[default]
    HttpsSpiffe,
    /// The listener presents a certificate that web clients trust, from files.
    HttpsWeb,
}

/// Administration over the network: mTLS, for workloads with `admin` grants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Address of the listener; empty: none.
    pub listen: String,
    /// Connections at once.
    pub connections: usize,
}

/// The database.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `full`; `off` loses acknowledged records in a power cut and exists for the test that shows it.
    pub synchronous: String,
}

impl Default for Config {
    fn default() -> Self {
        let directories = Directories::of("issuer");
        Self {
            trust_domain: String::new(),
            name: "issuer".into(),
            state_dir: directories.state,
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            admin_socket: directories.runtime.join("admin/admin.sock"),
            admin: AdminConfig::default(),
            wrapping_key: None,
            attest: AttestConfig::default(),
            agentless: BTreeMap::new(),
            users: BTreeMap::new(),
            ttl: TtlConfig::default(),
            authority: authority::Settings::default(),
            wit: WitConfig::default(),
            tasks: TasksConfig::default(),
            limits: LimitsConfig::default(),
            metrics: MetricsConfig::default(),
            web: WebConfig::default(),
            bundle_endpoint: BundleEndpointConfig::default(),
            store: StoreConfig::default(),
            log: Log::default(),
        }
    }
}

impl Default for TtlConfig {
    fn default() -> Self {
        Self {
            x509: Ttl::from_s(15 * 60),
            jwt: Ttl::from_s(5 * 60),
            task: Ttl::from_s(5 * 60),
            node: Ttl::from_s(3600),
            join_token: Ttl::from_s(10 * 60),
            reattest: Ttl::from_s(30 * 86_400),
            allow_short_ttl: false,
        }
    }
}

impl Default for TasksConfig {
    fn default() -> Self {
        Self {
            deadline: Ttl::from_s(3600),
            longest_deadline: Ttl::from_s(8 * 3600),
            per_instance: 100,
            per_node: 20_000,
            per_root: 1000,
            begins_per_instance: 20,
            begins_per_node: 500,
            silent_after: Ttl::from_s(120),
            allow_serves_any: false,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            handshakes: 256,
            connections: 20_000,
            mint_batch: 500,
            mint_queue: 4096,
            entries_per_owner: 1_000_000,
            renderings_per_node: 1000,
        }
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9464".into() }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: String::new(), connections: 64 }
    }
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8444".into(),
            certificate: None,
            key: None,
            connections: 256,
            public_url: String::new(),
            mtls_listen: "0.0.0.0:8445".into(),
            mtls_url: String::new(),
        }
    }
}

impl WebConfig {
    /// The hosts of the URLs, which the issuer's own SVID carries.
    #[must_use]
    pub fn hosts(&self) -> Hosts {
        let mtls = self.mtls().map(|(_, url)| url).unwrap_or_default();
        let mut hosts = Hosts::default();
        for url in [self.public_url.as_str(), &mtls] {
            let Some(host) = url.strip_prefix("https://") else { continue };
            let host = without_port(host.trim_end_matches('/'));
            match host.trim_start_matches('[').trim_end_matches(']').parse() {
                Ok(address) if !hosts.addresses.contains(&address) => hosts.addresses.push(address),
                Ok(_) => {}
                Err(_not_an_address) => hosts.names.push(host.to_ascii_lowercase()),
            }
        }
        hosts.names.dedup();
        hosts
    }

    /// Where workloads call with their X.509-SVIDs, and under which URL, once [`Settings::check`](mayfly_sdk::settings::Settings::check) has passed.
    #[must_use]
    pub fn mtls(&self) -> Option<(SocketAddr, String)> {
        let address: SocketAddr = self.mtls_listen.parse().ok()?;
        let host = self.public_url.trim_end_matches('/').strip_prefix("https://")?;
        if !self.mtls_url.is_empty() {
            return Some((address, self.mtls_url.trim_end_matches('/').to_owned()));
        }
        Some((address, format!("https://{}:{}", without_port(host), address.port())))
    }

    /// Where to listen, once [`Settings::check`](mayfly_sdk::settings::Settings::check) has passed; none: nowhere.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }
}

/// Under which names and addresses the HTTPS listeners are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// DNS names.
    pub names: Vec<String>,
    /// Addresses, where a URL has one in place of a name.
    pub addresses: Vec<IpAddr>,
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host)
}

impl Default for BundleEndpointConfig {
    fn default() -> Self {
        Self { profile: Profile::default(), path: "/".into(), wit: false }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { synchronous: "full".into() }
    }
}

impl Config {
    /// The trust domain, once [`Settings::check`](mayfly_sdk::settings::Settings::check) has passed.
    ///
    /// # Errors
    /// It is not set, or not a legal name.
    pub fn trust_domain(&self) -> Result<TrustDomain, mayfly_sdk::Refusal> {
        Ok(TrustDomain::from_name(&self.trust_domain)?)
    }

    /// What entries may ask for.
    ///
    /// # Errors
    /// The trust domain is not set, or not a legal name.
    pub fn rules(&self) -> Result<Rules, mayfly_sdk::Refusal> {
        Ok(Rules {
            default_x509_ttl: self.ttl.x509,
            default_jwt_ttl: self.ttl.jwt,
            longest_x509_ttl: self.authority.longest_x509_ttl().min(Rules::LONGEST_TTL),
            longest_wit_ttl: self.longest_wit_ttl().min(Rules::LONGEST_TTL),
            longest_jwt_ttl: self.authority.longest_jwt_ttl().min(Rules::LONGEST_TTL),
            allow_short_ttl: self.ttl.allow_short_ttl,
            allow_serves_any: self.tasks.allow_serves_any,
            entries_per_owner: self.limits.entries_per_owner,
            renderings_per_node: self.limits.renderings_per_node,
            ..Rules::new(self.trust_domain()?)
        })
    }

    /// How many tasks there may be, and how long they may last.
    #[must_use]
    pub fn task_limits(&self) -> task::Limits {
        task::Limits {
            per_instance: self.tasks.per_instance,
            per_node: self.tasks.per_node,
            per_root: self.tasks.per_root,
            begins_per_instance: self.tasks.begins_per_instance,
            begins_per_node: self.tasks.begins_per_node,
            deadline: self.tasks.deadline,
            longest_deadline: self.tasks.longest_deadline,
            token: self.ttl.task,
        }
    }

    /// The `iss` of task tokens. Without a public URL nobody fetches keys, and it is a name that nothing else has.
    #[must_use]
    pub fn task_issuer(&self, trust_domain: &TrustDomain) -> String {
        match self.web.public_url.trim_end_matches('/') {
            "" => format!("spiffe://{trust_domain}/mayfly/task"),
            url => format!("{url}/task"),
        }
    }

    /// What concerns the signing keys.
    #[must_use]
    pub fn authority_settings(&self) -> authority::Settings {
        authority::Settings { wit: self.wit.enabled, wit_shown: self.bundle_endpoint.wit, ..self.authority.clone() }
    }

    /// The longest life of WIT-SVIDs; where there are none, they limit nothing.
    fn longest_wit_ttl(&self) -> Ttl {
        if self.wit.enabled { self.authority.longest_wit_ttl() } else { Rules::LONGEST_TTL }
    }

    /// Where the wrapping key lies.
    #[must_use]
    pub fn wrapping_key_path(&self) -> PathBuf {
        self.wrapping_key.clone().unwrap_or_else(|| self.state_dir.join("wrapping.key"))
    }
}
