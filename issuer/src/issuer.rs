//! One issuer: its parts, started in order and ended together.

use std::{net::SocketAddr, sync::Arc};

use mayfly_proto::{admin::admin_service_server::AdminServiceServer, node::node_service_server::NodeServiceServer};
use mayfly_sdk::{
    Clock, Refusal, SpiffeId,
    ops::{Ops, OpsError, Readiness},
    settings::{Problems, Settings as _},
    socket::BindError,
    supervisor,
    tls::{Acceptor, Authorizer, ClientAuth, Options as TlsOptions, ServerTls},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{
    agentless::Agentless,
    api::{
        admin::{self, Admin, authorize::AuthorizeLayer},
        node::{BoundUnproven, Nodes},
    },
    attest::{Attestors, MachineAuthorities, NodeLifetimes},
    authority::{self, Authorities, AuthorityError, Rotation},
    config::Config,
    directory::{Directory, SlotsOf},
    identity::OwnIdentity,
    metrics::Metrics,
    mint::{Admission, KeptRefusals, LiveKeys, Minter, VerifiedSvids},
    store::{Durability, Options as StoreOptions, Store, StoreError},
    task::{Silence, Tasks},
    users::Users,
    web::{Web, WebError},
};

/// Bytes of one message from a node: a batch of 500 items with their facts.
const NODE_MESSAGE: usize = 4 * 1024 * 1024;
/// Bytes of one message from an administrator: a file of entries.
const ADMIN_MESSAGE: usize = 33 * 1024 * 1024;
/// Connections at once of one node. It needs one, and two while it renews its own SVID.
const CONNECTIONS_OF_NODE: usize = 32;
/// Streams at once on one connection.
const STREAMS: u32 = 64;
/// The same for remote administrators.
const REMOTE_STREAMS: u32 = 16;
/// How long a call of a remote administrator may take until its answer begins.
const REMOTE_CALL: std::time::Duration = std::time::Duration::from_mins(1);
/// Bytes of one call's headers.
const HEADERS: u32 = 16 * 1024;

/// Why an issuer did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The settings contradict each other: the operator's move.
    #[error("{0}")]
    Settings(Problems),
    /// The store could not be opened: the operator's move.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The authorities could not be opened: the operator's move.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The admin socket could not be bound: the operator's move.
    #[error(transparent)]
    AdminSocket(#[from] BindError),
    /// The metrics address could not be bound: the operator's move.
    #[error(transparent)]
    Ops(#[from] OpsError),
    /// The node address could not be bound: the operator's move.
    #[error("cannot listen on {address} for nodes: {source}; set `listen` to an address of this machine that is free")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The address for remote administration could not be bound: the operator's move.
    #[error(
        "cannot listen on {address} for administration: {source}; set `admin.listen` to an address of this machine that is free"
    )]
    ListenAdmin {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The HTTPS listener could not be had: the operator's move.
    #[error(transparent)]
    Web(#[from] WebError),
    /// What is stored cannot be used, or TLS cannot be set up.
    #[error("{}; {}", .0.what, .0.reason.remedy())]
    Refused(#[from] Refusal),
    /// A part ended by itself: ours.
    #[error("the {part} ended by itself: {what}")]
    Ended {
        /// Which part.
        part: &'static str,
        /// What it said.
        what: String,
    },
}

/// What a part said when it ended, and which one.
type Ended = (&'static str, Result<(), String>);

/// Runs an issuer until `stop` is cancelled, or until one of its parts ends.
///
/// # Errors
/// [`RunError`] says what kept it from starting, or which part ended.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let mut problems = Problems::default();
    config.check().into_iter().for_each(|problem| problems.push(problem));
    if !problems.is_empty() {
        return Err(RunError::Settings(problems));
    }
    let clock = Clock::system();
    let durability = if config.store.synchronous == "off" { Durability::Off } else { Durability::Full };
    let options = StoreOptions { durability, ..StoreOptions::new(config.trust_domain()?) };
    let (store, loaded) = Store::open(&config.state_dir, options, clock.clone()).await?;
    let outcome = serve(&config, store.clone(), loaded, clock, &stop).await;
    store.shut().await;
    outcome
}

async fn serve(
    config: &Config,
    store: Store,
    mut loaded: crate::store::Loaded,
    clock: Clock,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let own_bundle = loaded.bundles.iter().find(|row| row.trust_domain.as_str() == config.trust_domain).cloned();
    let stored = authority::Stored { slots: loaded.slots.clone(), bundle: own_bundle, revision: loaded.revision };
    let silences = loaded.silences.clone();
    let tasks = Tasks::load(std::mem::take(&mut loaded.tasks), store.clone(), clock.clone(), config.task_limits())?;
    let directory = Directory::load(store, loaded, config.rules()?, clock.clone()).await?;
    let place = authority::Place {
        trust_domain: config.trust_domain()?,
        issuer: config.name.clone(),
        wrapping_key: config.wrapping_key_path(),
    };
    let slots = Arc::new(SlotsOf(Arc::clone(&directory)));
    let (authorities, rotation) =
        authority::open(place, config.authority_settings(), stored, slots.clone(), slots, clock).await?;
    let identity = OwnIdentity::make(
        Arc::clone(&directory),
        authorities.clone(),
        &config.name,
        config.web.hosts(),
        config.ttl.node,
    )
    .await?;
    let parts = Parts {
        config,
        directory: Arc::clone(&directory),
        authorities,
        tasks: Arc::new(tasks),
        silences,
        stop: stop.child_token(),
    };
    let outcome = parts.run(rotation, identity).await;
    directory.shut().await;
    outcome
}

struct Parts<'a> {
    config: &'a Config,
    directory: Arc<Directory>,
    authorities: Authorities,
    tasks: Arc<Tasks>,
    /// For how long nodes had been silent, seconds.
    silences: Vec<(SpiffeId, u32)>,
    stop: CancellationToken,
}

impl Parts<'_> {
    async fn run(self, rotation: Rotation, identity: OwnIdentity) -> Result<(), RunError> {
        let (metrics, registry) = Metrics::registered();
        let mut parts: JoinSet<Ended> = JoinSet::new();
        let users = Users::new(
            &self.config.users,
            &self.config.task_issuer(self.directory.trust_domain()),
            self.directory.clock().clone(),
        )?;
        let users = Arc::new(users);
        let (providers, stop) = (Arc::clone(&users), self.stop.clone());
        parts.spawn(async move {
            providers.run(stop).await;
            ("keys of users' identity providers", Ok(()))
        });
        let minter = self.minter(users);
        self.nodes(&mut parts, &identity, Arc::clone(&minter), &metrics).await?;
        self.web(&mut parts, &identity, minter, &metrics).await?;
        // After what others need: whoever gets an answer here finds the rest in its place.
        let layer = AuthorizeLayer::new(Arc::clone(&self.directory), Arc::clone(&metrics));
        self.remote_admin(&mut parts, &identity, layer.clone()).await?;
        self.admin(&mut parts, layer)?;
        self.ops(&mut parts, registry).await?;
        let stop = self.stop.clone();
        parts.spawn(async move {
            ("rotation of authorities", {
                Box::pin(rotation.run(stop)).await;
                Ok(())
            })
        });
        let stop = self.stop.clone();
        parts.spawn(async move {
            ("renewal of the issuer's svid", {
                identity.run(stop).await;
                Ok(())
            })
        });
        let (tasks, stop) = (Arc::clone(&self.tasks), self.stop.clone());
        parts.spawn(async move {
            ("end of tasks", {
                tasks.run(stop).await;
                Ok(())
            })
        });
        let after = std::time::Duration::from_secs(self.config.tasks.silent_after.as_s().into());
        let silence = Silence::new(Arc::clone(&self.directory), Arc::clone(&self.tasks), after, self.silences);
        let stop = self.stop.clone();
        parts.spawn(async move {
            ("watch on silent nodes", {
                silence.run(stop).await;
                Ok(())
            })
        });
        parts.spawn(nudge(Arc::clone(&self.directory), self.authorities.clone(), self.stop.clone()));
        tracing::info!(trust_domain = %self.directory.trust_domain(), listen = %self.config.listen, "issuer ready");
        supervisor::ready();

        let first = tokio::select! {
            // First: the parts end because of it, and then they did not end by themselves.
            biased;
            () = self.stop.cancelled() => None,
            ended = parts.join_next() => ended,
        };
        supervisor::stopping();
        self.stop.cancel();
        drain(parts).await;
        match first {
            None => Ok(()),
            Some(Ok((part, result))) => {
                Err(RunError::Ended { part, what: result.err().unwrap_or_else(|| "without an error".into()) })
            }
            Some(Err(error)) => Err(RunError::Ended { part: "issuer", what: error.to_string() }),
        }
    }

    async fn nodes(
        &self,
        parts: &mut JoinSet<Ended>,
        identity: &OwnIdentity,
        minter: Arc<Minter>,
        metrics: &Arc<Metrics>,
    ) -> Result<(), RunError> {
        let address = self.config.listen;
        let listener = TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
        let trust_domain = self.directory.trust_domain().clone();
        let tls = ServerTls::new(
            identity.credentials(),
            identity.trust(),
            // Every workload of the trust domain has an SVID, and none of them may take a node's place.
            ClientAuth::Optional(Authorizer::node_of(trust_domain)),
            self.directory.clock(),
            &TlsOptions::grpc().max_chain(4),
        )?;
        let limits = &self.config.limits;
        let acceptor = Acceptor::new(listener, tls)
            .max_handshakes(limits.handshakes)
            .max_connections(limits.connections)
            .max_of_one(limits.connections.div_ceil(2).min(CONNECTIONS_OF_NODE));
        let incoming = acceptor.incoming(self.stop.clone());
        let attestors = Attestors {
            lifetimes: NodeLifetimes { svid: self.config.ttl.node, reattest: self.config.ttl.reattest },
            machines: self.config.attest.x509pop_ca.as_deref().map(MachineAuthorities::read).transpose()?,
        };
        let agentless =
            Agentless::new(&self.config.agentless, self.directory.trust_domain(), self.directory.clock().clone())?;
        let agentless = Arc::new(agentless);
        let (providers, stop) = (Arc::clone(&agentless), self.stop.clone());
        parts.spawn(async move {
            providers.run(stop).await;
            ("keys of identity providers", Ok(()))
        });
        let batch = self.config.limits.mint_batch;
        let service = Nodes::new(minter, attestors, agentless, batch, Arc::clone(metrics), self.stop.clone());
        let service = NodeServiceServer::new(service).max_decoding_message_size(NODE_MESSAGE);
        let stop = self.stop.clone();
        let router = bounded().layer(BoundUnproven).add_service(service);
        let served = router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        parts.spawn(async move { ("node listener", served.await.map_err(|error| error.to_string())) });
        Ok(())
    }

    fn minter(&self, users: Arc<Users>) -> Arc<Minter> {
        let url = &self.config.web.public_url;
        let iss = (!url.is_empty()).then(|| Arc::from(format!("{}/svid", url.trim_end_matches('/'))));
        Arc::new(Minter {
            directory: Arc::clone(&self.directory),
            authorities: self.authorities.clone(),
            admission: Admission::new(
                std::thread::available_parallelism().map_or(2, usize::from) * 2,
                self.config.limits.mint_queue,
            ),
            live_keys: LiveKeys::default(),
            iss,
            tasks: Arc::clone(&self.tasks),
            verified: VerifiedSvids::default(),
            kept_refusals: KeptRefusals::default(),
            task_iss: self.config.task_issuer(self.directory.trust_domain()).into(),
            users,
        })
    }

    fn admin_service(&self) -> AdminServiceServer<Admin> {
        let service = Admin::new(
            Arc::clone(&self.directory),
            self.authorities.clone(),
            Arc::clone(&self.tasks),
            self.config.ttl.join_token,
            self.stop.clone(),
        );
        AdminServiceServer::new(service).max_decoding_message_size(ADMIN_MESSAGE)
    }

    async fn remote_admin(
        &self,
        parts: &mut JoinSet<Ended>,
        identity: &OwnIdentity,
        layer: AuthorizeLayer,
    ) -> Result<(), RunError> {
        // Checked with the settings; empty: there is to be none.
        let Ok(address) = self.config.admin.listen.parse() else { return Ok(()) };
        let listener = TcpListener::bind(address).await.map_err(|source| RunError::ListenAdmin { address, source })?;
        let connections = Arc::new(admin::Connections::new(Arc::clone(&self.directory)));
        let tls = ServerTls::new(
            identity.credentials(),
            identity.trust(),
            ClientAuth::Required(connections.authorizer()),
            self.directory.clock(),
            &TlsOptions::grpc().max_chain(4),
        )?;
        let acceptor = Acceptor::new(listener, tls)
            .max_handshakes(self.config.limits.handshakes)
            .max_connections(self.config.admin.connections)
            .max_anonymous(0);
        let incoming = connections.admit(acceptor.incoming(self.stop.clone()));
        let stop = self.stop.clone();
        let served = bounded()
            .max_concurrent_streams(REMOTE_STREAMS)
            .timeout(REMOTE_CALL)
            .layer(layer)
            .add_service(self.admin_service())
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        parts.spawn(async move { ("remote administration", served.await.map_err(|error| error.to_string())) });
        let stop = self.stop.clone();
        parts.spawn(async move {
            ("watch on grants", {
                connections.watch(stop).await;
                Ok(())
            })
        });
        Ok(())
    }

    fn admin(&self, parts: &mut JoinSet<Ended>, layer: AuthorizeLayer) -> Result<(), RunError> {
        let incoming = admin::incoming(&self.config.admin_socket)?;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(mayfly_proto::DESCRIPTORS)
            .build_v1()
            .map_err(|error| RunError::Ended { part: "reflection", what: error.to_string() })?;
        let (_reporter, health) = tonic_health::server::health_reporter();
        let stop = self.stop.clone();
        let served = bounded()
            .layer(layer)
            .add_service(self.admin_service())
            .add_service(reflection)
            .add_service(health)
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        parts.spawn(async move { ("admin socket", served.await.map_err(|error| error.to_string())) });
        Ok(())
    }

    async fn web(
        &self,
        parts: &mut JoinSet<Ended>,
        identity: &OwnIdentity,
        minter: Arc<Minter>,
        metrics: &Arc<Metrics>,
    ) -> Result<(), RunError> {
        let (own, trust, metrics) = (identity.credentials(), identity.trust(), Arc::clone(metrics));
        let made_of = crate::web::Parts { config: self.config, own, trust, minter, metrics };
        let web = Web::bind(made_of, &self.stop).await?;
        let Some(web) = web else { return Ok(()) };
        let stop = self.stop.clone();
        parts.spawn(async move {
            ("web listener", {
                web.run(stop).await;
                Ok(())
            })
        });
        Ok(())
    }

    async fn ops(
        &self,
        parts: &mut JoinSet<Ended>,
        registry: prometheus_client::registry::Registry,
    ) -> Result<(), RunError> {
        // Checked with the settings.
        let Ok(address) = self.config.metrics.listen.parse() else { return Ok(()) };
        let ops = Ops::bind(address, false).await?;
        let directory = Arc::clone(&self.directory);
        let ready = move || match directory.trouble() {
            None => Readiness::ready("ready", "issues, and records what it issues"),
            Some(refusal) => Readiness::not_ready(refusal.reason.code(), refusal.what),
        };
        let stop = self.stop.clone();
        parts.spawn(async move {
            ("metrics listener", ops.run(Arc::new(registry), ready, stop).await.map_err(|error| error.to_string()))
        });
        Ok(())
    }
}

/// Tells the authorities when acknowledgements may have let a successor become active.
async fn nudge(directory: Arc<Directory>, authorities: Authorities, stop: CancellationToken) -> Ended {
    let mut acknowledgements = directory.acknowledgements();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = acknowledgements.changed() => match changed {
                Ok(()) => authorities.acknowledged(),
                Err(_closed) => break,
            },
        }
    }
    ("watch on acknowledgements", Ok(()))
}

/// Waits for the parts to end, and ends them after a while.
async fn drain(mut parts: JoinSet<Ended>) {
    let all = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(std::time::Duration::from_secs(5), all).await.is_err() {
        parts.abort_all();
    }
}

/// Bounds of HTTP/2, before any call is looked at.
fn bounded() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADERS)
        .http2_max_pending_accept_reset_streams(Some(16))
        // The kernel notices nodes that vanish, and nodes ask for a sign of life of their own: a third would cost 10,000 idle
        // nodes' worth of CPU time.
        .http2_keepalive_interval(None)
}
