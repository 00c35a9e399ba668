//! What calls are made with: a pass of the moment, and another one when that was refused.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::task::Followed;
use super::{Pass, Task};
use crate::reason::Refusal;

/// How long a call that was refused waits for a newer token of its task: the agent renews by itself, and a message of it may
/// just be on its way.
const NEWER: Duration = Duration::from_millis(500);

/// Whatever has something to present.
pub trait Presents: Send + Sync + 'static {
    /// What to present now.
    fn present(&self) -> impl Future<Output = Result<Arc<Pass>, Refusal>> + Send;

    /// Another one, after a server refused this one (401, `Unauthenticated`); none where there is no better. However many ask at
    /// once, they are answered by one refresh.
    fn after(&self, refused: &Pass) -> impl Future<Output = Option<Arc<Pass>>> + Send;

    /// A server took it.
    fn accepted(&self, _pass: &Pass) {}
}

/// The passes of a task. The task stays whose it was: when it is dropped, it ends, and so do these.
#[derive(Clone)]
pub struct TaskPasses(Arc<Followed>);

impl Task {
    /// Its passes, for the layers of clients.
    #[must_use]
    pub fn passes(&self) -> TaskPasses {
        TaskPasses(Arc::clone(self.followed()))
    }
}

impl Presents for TaskPasses {
    async fn present(&self) -> Result<Arc<Pass>, Refusal> {
        self.0.current()
    }

    async fn after(&self, refused: &Pass) -> Option<Arc<Pass>> {
        self.0.other_than(refused, NEWER).await
    }
}

impl std::fmt::Debug for TaskPasses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TaskPasses(..)")
    }
}
