//! Who is served first when many ask at once: whoever has the least lifetime left.
//!
//! How much that is, a node says itself. So the urgency of a node counts for as many of its calls as are its fair part of those that
//! run at once; the further ones come after the calls of nodes that have fewer, and a node has a share of the queue only.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
};

use mayfly_sdk::{
    SpiffeId,
    reason::{Reason, Refusal},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// One caller has this part of the queue, and this part of what runs at once before it comes after the others.
const SHARE: usize = 8;
const FAIR: usize = 4;

/// A bounded gate in front of signing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admission {
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    queue: usize,
    /// How many calls of one caller wait.
    share: usize,
    /// How many calls of one caller are as urgent as it says.
    fair: usize,
}

#[derive(Debug)]
struct State {
    free: usize,
    arrivals: u64,
    waiting: BinaryHeap<Waiting>,
    /// Of each caller with calls, how many.
    of_caller: HashMap<SpiffeId, Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    running: usize,
    waiting: usize,
}

/// Ordered by how many the caller has beyond what is fair, by urgency, then by arrival; `Reverse` makes the heap give the smallest
/// first.
#[derive(Debug)]
struct Waiting {
    rank: Reverse<(usize, u32, u64)>,
    caller: SpiffeId,
    grant: oneshot::Sender<Permit>,
}

/// The right to sign one batch; dropping it lets the next caller in.
#[derive(Debug)]
pub struct Permit {
    gate: Option<Arc<Gate>>,
    caller: SpiffeId,
}

impl Admission {
    /// At most `running` callers at once and `queue` waiting.
    #[must_use]
    pub fn new(running: usize, queue: usize) -> Self {
        let running = running.max(1);
        let state = State { free: running, arrivals: 0, waiting: BinaryHeap::new(), of_caller: HashMap::new() };
        let (share, fair) = (queue.div_ceil(SHARE), running.div_ceil(FAIR));
        Self { gate: Arc::new(Gate { state: Mutex::new(state), queue, share, fair }) }
    }

    /// Waits for a turn. `caller` is the node, or the origin of a caller without one; `remaining_s` is the least remaining
    /// lifetime in its batch, seconds.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] when the queue is full, or the caller's share of it: come back later.
    pub async fn enter(&self, caller: &SpiffeId, remaining_s: u32) -> Result<Permit, Refusal> {
        let turn = {
            let gate = &self.gate;
            let mut state = gate.state.lock();
            if state.free > 0 {
                state.free -= 1;
                state.of_caller.entry(caller.clone()).or_default().running += 1;
                return Ok(Permit { gate: Some(Arc::clone(gate)), caller: caller.clone() });
            }
            if state.waiting.len() >= gate.queue {
                return Err(Refusal::new(
                    Reason::Overloaded,
                    "the issuer has as many minting calls waiting as it accepts",
                ));
            }
            if state.of_caller.get(caller).is_some_and(|calls| calls.waiting >= gate.share) {
                let what = format!("{caller} has {} minting calls waiting already", gate.share);
                return Err(Refusal::new(Reason::Overloaded, what));
            }
            state.arrivals += 1;
            let arrival = state.arrivals;
            let calls = state.of_caller.entry(caller.clone()).or_default();
            let beyond = (calls.running + calls.waiting) / gate.fair;
            calls.waiting += 1;
            let (grant, turn) = oneshot::channel();
            let rank = Reverse((beyond, remaining_s, arrival));
            state.waiting.push(Waiting { rank, caller: caller.clone(), grant });
            turn
        };
        turn.await.map_err(|_closed| Refusal::new(Reason::Overloaded, "the issuer is shutting down"))
    }
}

impl State {
    /// A call of this caller has ended; the next one that runs, if any waits.
    fn next(&mut self, ended: &SpiffeId) -> Option<Waiting> {
        if let Some(calls) = self.of_caller.get_mut(ended) {
            calls.running -= 1;
            if calls.running + calls.waiting == 0 {
                self.of_caller.remove(ended);
            }
        }
        let next = self.waiting.pop();
        match &next {
            Some(next) => {
                if let Some(calls) = self.of_caller.get_mut(&next.caller) {
                    calls.waiting -= 1;
                    calls.running += 1;
                }
            }
            None => self.free += 1,
        }
        next
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        let mut ended = self.caller.clone();
        loop {
            let next = gate.state.lock().next(&ended);
            let Some(Waiting { caller, grant, .. }) = next else { return };
            match grant.send(Self { gate: Some(Arc::clone(&gate)), caller: caller.clone() }) {
                Ok(()) => return,
                // That caller is gone: take the turn back without running this drop again.
                Err(mut unclaimed) => unclaimed.gate = None,
            }
            ended = caller;
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

    fn node(name: &str) -> SpiffeId {
        format!("spiffe://example.org/mayfly/node/test/{name}").parse().unwrap()
    }

    fn is_empty(admission: &Admission, running: usize) -> bool {
        let state = admission.gate.state.lock();
        state.free == running && state.of_caller.is_empty() && state.waiting.is_empty()
    }

    /// Has these wait, of each its caller and what it says is left, and then all of them run: the order in which they did.
    async fn order(
        admission: &Admission,
        running: Permit,
        waiting: &[(&'static str, u32)],
    ) -> Vec<(&'static str, u32)> {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut callers = tokio::task::JoinSet::new();
        for (count, (name, remaining_s)) in waiting.iter().copied().enumerate() {
            let (admission, order) = (admission.clone(), Arc::clone(&order));
            let gate = Arc::clone(&admission.gate);
            callers.spawn(async move {
                let permit = admission.enter(&node(name), remaining_s).await.unwrap();
                order.lock().push((name, remaining_s));
                drop(permit);
            });
            while gate.state.lock().waiting.len() <= count {
                tokio::task::yield_now().await;
            }
        }
        drop(running);
        callers.join_all().await;
        Arc::into_inner(order).unwrap().into_inner()
    }

    #[tokio::test]
    async fn the_least_remaining_lifetime_is_served_first() {
        let admission = Admission::new(1, 8);
        let running = admission.enter(&node("one"), 0).await.unwrap();
        let order = order(&admission, running, &[("two", 300), ("three", 20), ("four", 100)]).await;
        assert_eq!(order, [("three", 20), ("four", 100), ("two", 300)]);
        assert!(is_empty(&admission, 1));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_caller_that_left_gives_its_turn_on() {
        let admission = Admission::new(1, 1);
        let [one, other] = [node("one"), node("other")];
        let running = admission.enter(&one, 0).await.unwrap();
        let mut gone = Box::pin(admission.enter(&one, 1));
        assert!(futures_util::poll!(&mut gone).is_pending());
        assert_eq!(admission.enter(&other, 0).await.unwrap_err().reason, Reason::Overloaded);
        drop(gone);
        drop(running);
        let again = admission.enter(&other, 5).await.unwrap();
        drop(again);
        assert!(is_empty(&admission, 1));
    }

    #[tokio::test]
    async fn a_node_that_says_that_all_is_urgent_has_its_share_and_the_others_go_first() {
        let admission = Admission::new(1, 24);
        let greedy = node("greedy");
        let running = admission.enter(&greedy, 0).await.unwrap();
        {
            let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(admission.enter(&greedy, 0))).collect();
            for call in &mut waiting[..3] {
                assert!(futures_util::poll!(call).is_pending());
            }
            let refusal = waiting.pop().unwrap().await.unwrap_err();
            assert!(refusal.reason == Reason::Overloaded && refusal.what.contains("greedy"), "{refusal:?}");
            assert!(futures_util::poll!(Box::pin(admission.enter(&node("one"), 300))).is_pending());
        }
        drop(running);
        assert!(is_empty(&admission, 1));

        let running = admission.enter(&greedy, 0).await.unwrap();
        let waiting = [("greedy", 0), ("greedy", 0), ("one", 300), ("one", 10), ("other", 200)];
        let order = order(&admission, running, &waiting).await;
        assert_eq!(order, [("other", 200), ("one", 300), ("greedy", 0), ("one", 10), ("greedy", 0)]);
        assert!(is_empty(&admission, 1));
    }
}
