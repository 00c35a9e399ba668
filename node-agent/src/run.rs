//! The components together: made in the order in which they need each other, run until one of them ends or all are told to stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mayfly_sdk::ops::{Ops, OpsError};
use mayfly_sdk::{Clock, supervisor};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use crate::config::Config;
use crate::directory::{Directory, DirectoryError};
use crate::hardening::{self, BootId};
use crate::identity::{Identities, Minters};
use crate::link::{self, Link, LinkError, LinkSettings, LinkView};
use crate::listener::{self, BindError, Listener};
use crate::metrics;
use crate::revocations::Revocations;
use crate::streams::Streams;
use crate::tasks::{Keeper, Tasks};
use crate::warm::{self, Warm};
use crate::workload::{Attestors, Instances};
use crate::workload_api::{CallLimits, Calls, Serve, ServeError, Served, Shared, WorkloadApi, serve};

/// How long streams and connections may take to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);

/// Why the node agent did not start, or stopped by itself. The operator's to mend; each text says what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What the node remembers of its enrolment cannot be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The local socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The listener of metrics and health cannot be had.
    #[error(transparent)]
    Ops(#[from] OpsError),
    /// The local socket is no longer served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The kernel refuses what the agent cannot do without.
    #[error("the kernel refuses to {doing}: {cause}; mount /proc, and see the limits of this service")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        cause: io::Error,
    },
    /// A component ended although nobody told it to: a bug.
    #[error("a component of the node agent ended by itself: {0}; report it, with the log of this moment")]
    Ended(String),
}

/// Runs the node agent until `stop`. It returns early only for what an operator must mend on this machine; whatever the issuer or the
/// network does is waited out.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    hardening::harden().map_err(kernel("protect this process"))?;
    let stop = stop.child_token();
    let mut tasks = start(config, &stop).await?;
    supervisor::ready();
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) if stop.is_cancelled() => Ok(()),
            Ok(Ok(())) => Err(RunError::Ended("it returned".to_owned())),
            Err(panicked) => Err(RunError::Ended(panicked.to_string())),
        },
    };
    supervisor::stopping();
    stop.cancel();
    let drained = tokio::time::timeout(DRAIN_WITHIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("connections did not end in time and are cut");
    }
    tasks.shutdown().await;
    tracing::info!("node agent stopped");
    ended
}

/// Everything that runs, made and not yet started.
struct Components {
    link: Link,
    minters: Minters,
    streams: Streams,
    instances: Arc<Instances>,
    served: Served,
    tasks: Tasks,
    keeper: Keeper,
    warm: Option<(Warm, warm::Subject)>,
    ops: Ops,
    registry: Arc<Registry>,
    view: LinkView,
    serve: Serve,
}

/// Makes everything, and starts it.
async fn start(config: Config, stop: &CancellationToken) -> Result<JoinSet<Result<(), RunError>>, RunError> {
    let ops = Ops::bind(config.metrics.listen, false).await?;
    Ok(Components::make(config, ops, stop)?.spawn(stop))
}

impl Components {
    fn make(config: Config, ops: Ops, stop: &CancellationToken) -> Result<Self, RunError> {
        let clock = Clock::system();
        let directory = Directory::open(&config.state_dir)?;
        let boot = BootId::current().map_err(kernel("tell which boot this is"))?;
        let instances = Arc::new(Instances::new(boot).map_err(kernel("watch processes"))?);
        let (streams, served) = (Streams::new(), Served::default());
        let (soonest_end, ends) = watch::channel(None);
        let (task_news, news) = mpsc::unbounded_channel();

        let warm = Warm::open(config.warm_restart, &config.runtime_dir, &config.warm_restart_key(), boot);
        let enrolled = link::enrolled_as(&directory)?;
        let kept = warm.as_ref().zip(enrolled.as_deref()).and_then(|(warm, node)| warm.load(node));
        let held = kept.as_ref().map_or_else(link::Held::nothing, |kept| link::Held {
            holdings: kept.holdings.clone(),
            out_of_sync: kept.out_of_sync,
        });
        let (link, view) =
            Link::new(link_settings(&config, boot), directory, held, streams.clone(), ends, task_news, clock.clone())?;
        let most_jwt_svids = usize::try_from(config.limits.jwt_svids).unwrap_or(usize::MAX);
        let (identities, minters) = Identities::new(&config.trust_domain, &view, most_jwt_svids, soonest_end, &clock);
        let (tasks, keeper) = Tasks::new(&view, &identities, &instances, news, &clock);
        let subject = warm::Subject {
            trust_domain: config.trust_domain.clone(),
            link: view.clone(),
            identities: identities.clone(),
            instances: Arc::clone(&instances),
            served: served.clone(),
            tasks: tasks.clone(),
            clock: clock.clone(),
        };
        if let Some(kept) = kept {
            kept.take_up(&subject);
        }
        let registry = metrics::registry(&view, &streams, &minters, &identities, &tasks, &clock);
        let limits =
            listener::Limits { connections_per_uid: config.limits.connections_per_uid, ..listener::Limits::default() };
        // Bound last: whoever finds the socket is served.
        let listener = Listener::bind(config.socket(), limits)?;
        tracing::info!(
            trust_domain = %config.trust_domain, node = enrolled, socket = %listener.path().display(), metrics = %ops.address(),
            "node agent started"
        );
        let api = WorkloadApi::new(Shared {
            trust_domain: config.trust_domain,
            link: view.clone(),
            identities: identities.clone(),
            streams: streams.clone(),
            revocations: Revocations::new(&view, &clock),
            tasks: tasks.clone(),
            attestors: Attestors::new(),
            instances: Arc::clone(&instances),
            served: served.clone(),
            calls: Calls::new(CallLimits {
                streams_per_uid: config.limits.streams_per_uid,
                calls_per_uid: config.limits.calls_per_uid,
            }),
            clock,
            stop: stop.clone(),
        });
        let serve = Serve { listener, api, sds: config.sds, health: HealthReporter::new(), stop: stop.clone() };
        let warm = warm.map(|warm| (warm, subject));
        Ok(Self { link, minters, streams, instances, served, tasks, keeper, warm, ops, registry, view, serve })
    }

    fn spawn(self, stop: &CancellationToken) -> JoinSet<Result<(), RunError>> {
        let mut components = JoinSet::new();
        let mut run = |component: BoxFuture<'static, ()>| {
            components.spawn(async move {
                component.await;
                Ok(())
            });
        };
        let (mut deaths, served, tasks) = (self.instances.deaths(), self.served, self.tasks);
        let halt = stop.clone();
        run(Box::pin(async move {
            while let Some(Some(dead)) = halt.run_until_cancelled(deaths.recv()).await {
                served.remove(dead);
                tasks.instance_ended(dead);
            }
        }));
        let (instances, halt) = (self.instances, stop.clone());
        run(Box::pin(async move { instances.run(halt).await }));
        run(Box::pin(self.streams.run(stop.clone())));
        run(Box::pin(self.link.run(stop.clone())));
        run(Box::pin(self.minters.run(stop.clone())));
        run(Box::pin(self.keeper.run(stop.clone())));
        if let Some((warm, subject)) = self.warm {
            run(Box::pin(warm.run(subject, stop.clone())));
        }
        let (ops, registry, ready, halt) = (self.ops, self.registry, metrics::readiness(&self.view), stop.clone());
        components
            .spawn(async move { ops.run(registry, ready, halt).await.map_err(kernel("serve metrics and health")) });
        components.spawn(async move { Ok(serve(self.serve).await?) });
        components
    }
}

fn link_settings(config: &Config, boot: BootId) -> LinkSettings {
    LinkSettings {
        trust_domain: config.trust_domain.clone(),
        addresses: config.issuer.addresses.clone(),
        join_token_file: config.join_token_file.clone(),
        machine: config.machine_files(),
        bootstrap_bundle: config.bootstrap_bundle.clone(),
        boot_id: boot.to_string(),
    }
}

fn kernel(doing: &'static str) -> impl Fn(io::Error) -> RunError {
    move |cause| RunError::Kernel { doing, cause }
}
