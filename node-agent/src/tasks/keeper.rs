use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Job, Tasks};
use crate::link::TaskNews;

/// What works behind [`Tasks`]: renews, abandons, and listens to the issuer.
pub(crate) struct Keeper {
    tasks: Tasks,
    jobs: mpsc::UnboundedReceiver<Job>,
    news: mpsc::UnboundedReceiver<TaskNews>,
}

impl Keeper {
    pub(super) fn new(
        tasks: Tasks,
        jobs: mpsc::UnboundedReceiver<Job>,
        news: mpsc::UnboundedReceiver<TaskNews>,
    ) -> Self {
        Self { tasks, jobs, news }
    }

    /// Runs until `stop`. What is under way then is dropped: the issuer goes by what it hears when the agent is back.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(job) = self.jobs.recv() => { running.spawn(job); }
                Some(news) = self.news.recv() => self.tasks.learn(news),
                Some(ended) = running.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "the work on a task ended by itself; report it");
                }
            }
        }
        running.shutdown().await;
    }
}
