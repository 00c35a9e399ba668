//! Who is served first when many ask at once: whoever has the least lifetime left.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use mayfly_sdk::reason::{Reason, Refusal};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A bounded gate in front of signing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admission {
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    queue: usize,
}

#[derive(Debug)]
struct State {
    free: usize,
    arrivals: u64,
    waiting: BinaryHeap<Waiting>,
}

/// Ordered by urgency, then by arrival; `Reverse` makes the heap give the smallest first.
#[derive(Debug)]
struct Waiting {
    rank: Reverse<(u32, u64)>,
    grant: oneshot::Sender<Permit>,
}

/// The right to sign one batch; dropping it lets the next caller in.
#[derive(Debug)]
pub struct Permit {
    gate: Option<Arc<Gate>>,
}

impl Admission {
    /// At most `running` callers at once and `queue` waiting.
    #[must_use]
    pub fn new(running: usize, queue: usize) -> Self {
        let state = State { free: running.max(1), arrivals: 0, waiting: BinaryHeap::new() };
        Self { gate: Arc::new(Gate { state: Mutex::new(state), queue }) }
    }

    /// Waits for a turn. `remaining_s` is the least remaining lifetime in the caller's batch, seconds.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] when the queue is full: come back later.
    pub async fn enter(&self, remaining_s: u32) -> Result<Permit, Refusal> {
        let turn = {
            let mut state = self.gate.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Permit { gate: Some(Arc::clone(&self.gate)) });
            }
            if state.waiting.len() >= self.gate.queue {
                return Err(Refusal::new(
                    Reason::Overloaded,
                    "the issuer has as many minting calls waiting as it accepts",
                ));
            }
            state.arrivals += 1;
            let (grant, turn) = oneshot::channel();
            let rank = Reverse((remaining_s, state.arrivals));
            state.waiting.push(Waiting { rank, grant });
            turn
        };
        turn.await.map_err(|_closed| Refusal::new(Reason::Overloaded, "the issuer is shutting down"))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        loop {
            let next = {
                let mut state = gate.state.lock();
                let next = state.waiting.pop();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some(next) = next else { return };
            match next.grant.send(Self { gate: Some(Arc::clone(&gate)) }) {
                Ok(()) => return,
                // That caller is gone: take the turn back without running this drop again.
                Err(mut unclaimed) => unclaimed.gate = None,
            }
        }
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_least_remaining_lifetime_is_served_first() {
        let admission = Admission::new(1, 8);
        let running = admission.enter(0).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut callers = tokio::task::JoinSet::new();
        for remaining_s in [300, 20, 100] {
            let (admission, order) = (admission.clone(), Arc::clone(&order));
            callers.spawn(async move {
                let permit = admission.enter(remaining_s).await.unwrap();
                order.lock().push(remaining_s);
                drop(permit);
            });
        }
        while admission.gate.state.lock().waiting.len() < 3 {
            tokio::task::yield_now().await;
        }
        drop(running);
        callers.join_all().await;
        assert_eq!(*order.lock(), [20, 100, 300]);
        assert_eq!(admission.gate.state.lock().free, 1);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_caller_that_left_gives_its_turn_on() {
        let admission = Admission::new(1, 1);
        let running = admission.enter(0).await.unwrap();
        let mut gone = Box::pin(admission.enter(1));
        assert!(futures_util::poll!(&mut gone).is_pending());
        assert_eq!(admission.enter(0).await.unwrap_err().reason, Reason::Overloaded);
        drop(gone);
        drop(running);
        let _again = admission.enter(5).await.unwrap();
    }
}
