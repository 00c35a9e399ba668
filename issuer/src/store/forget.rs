//! What ended long ago is forgotten, and nothing is asked of the database while there is nothing to forget.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use mayfly_sdk::Timestamp;

use super::transaction::{Tx, Work};
use super::{Store, StoreError, refusals, tasks, users};

/// When there is something to forget next, Unix seconds. Shared by its clones.
#[derive(Debug, Clone)]
pub(super) struct ForgetAt(Arc<AtomicI64>);

/// Forgets tasks that ended long ago, refusals beyond those that are kept, and logouts that no token can be older than. When there is
/// something to forget next, if ever.
#[derive(Debug, Clone, Copy)]
struct Forget;

impl ForgetAt {
    /// Nobody has looked yet.
    pub(super) fn unknown() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MIN)))
    }

    /// What leaves something behind, once that is durable: it is to be forgotten some day.
    pub(super) fn left_by<A>(&self, then: impl FnOnce(&A) + Send + 'static) -> impl FnOnce(&A) + Send + 'static {
        let next = self.clone();
        move |answer| {
            next.left();
            then(answer);
        }
    }

    fn left(&self) {
        self.0.store(i64::MIN, Ordering::Relaxed);
    }
}

impl Work for Forget {
    type Answer = Option<Timestamp>;

    async fn run(self, tx: &mut Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
        let next = [tasks::forget(tx).await?, users::forget(tx).await?, refusals::forget(tx).await?];
        Ok(next.into_iter().flatten().min())
    }
}

impl Store {
    /// Forgets what is to be forgotten at this moment, a thousand tasks at the most.
    ///
    /// # Errors
    /// The disk's.
    pub async fn forget(&self, now: Timestamp) -> Result<(), StoreError> {
        let forget_at = &self.0.forget_at.0;
        if forget_at.load(Ordering::Relaxed) > now.unix_s() {
            return Ok(());
        }
        // What is left behind from here on is looked at again.
        forget_at.store(i64::MAX, Ordering::Relaxed);
        match self.work(Forget).await {
            Ok(next) => {
                forget_at.fetch_min(next.map_or(i64::MAX, Timestamp::unix_s), Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.0.forget_at.left();
                Err(error)
            }
        }
    }
}
