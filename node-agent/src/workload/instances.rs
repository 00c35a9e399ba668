//! Which running process is which: a random id for each, for as long as it lives.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use mayfly_sdk::instance::InstanceId;
use mayfly_sdk::reason::Refusal;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::boot::BootId;
use super::pidfd::Deaths;
use super::{HeldProcess, Undetermined};

/// What makes a process one and no other, on one machine and for all time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceKey {
    /// The process id in the node agent's PID namespace.
    pub pid: i32,
    /// Clock ticks from boot to the start of the process.
    pub start_time: u64,
    /// The kernel's own number of the process, where it has one.
    pub number: Option<u64>,
    /// That boot.
    pub boot: BootId,
}

/// Why a process has no instance id.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Nobody is there to be told.
    #[error("the process has ended")]
    Dead,
    /// It has no pid here, so that it could not be told from others.
    #[error("{}", .0.why)]
    Undetermined(Undetermined),
    /// The kernel has no room for another watch, or no random bytes.
    #[error("the process cannot be watched: {0}")]
    Kernel(String),
}

/// The instances that live, by process.
#[derive(Debug)]
pub struct Instances {
    boot: BootId,
    deaths: Deaths,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    ids: HashMap<InstanceKey, InstanceId>,
    lives: HashSet<InstanceId>,
    /// By the number that the kernel reports a death with.
    watched: HashMap<u64, (InstanceKey, Arc<HeldProcess>)>,
    next: u64,
    listeners: Vec<UnboundedSender<InstanceId>>,
}

impl Instances {
    /// None yet. To be called on a tokio runtime.
    ///
    /// # Errors
    /// The kernel's, when it has no descriptor left.
    pub fn new(boot: BootId) -> io::Result<Self> {
        Ok(Self { boot, deaths: Deaths::new()?, live: Mutex::default() })
    }

    /// The id of this process: a new one when it is first seen.
    ///
    /// # Errors
    /// [`InstanceError`].
    pub fn id_of(&self, process: &Arc<HeldProcess>) -> Result<InstanceId, InstanceError> {
        self.admit(process, None)
    }

    /// Every live instance, to be kept over a restart of the node agent.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(InstanceKey, InstanceId)> {
        self.live.lock().ids.iter().map(|(key, id)| (*key, *id)).collect()
    }

    /// Whether this instance lives, as far as is known.
    #[must_use]
    pub fn lives(&self, id: InstanceId) -> bool {
        self.live.lock().lives.contains(&id)
    }

    /// Takes up what [`snapshot`](Self::snapshot) gave before the restart: those of this boot that still live keep their ids. Whoever has the
    /// process id of one of them now and is another process is not taken for it.
    pub fn restore(&self, kept: impl IntoIterator<Item = (InstanceKey, InstanceId)>) {
        for (key, id) in kept.into_iter().filter(|(key, _)| key.boot == self.boot) {
            let Ok(process) = HeldProcess::of_pid(key.pid) else { continue };
            // What was kept by a build that did not know the number has the start time alone.
            let is_another = key.number.is_some_and(|number| process.number() != Some(number));
            if process.start_time() == key.start_time && !is_another {
                drop(self.admit(&Arc::new(process), Some(id)));
            }
        }
    }

    /// The ids of instances that die from now on, in order; none is lost.
    #[must_use]
    pub fn deaths(&self) -> UnboundedReceiver<InstanceId> {
        let (listener, deaths) = unbounded_channel();
        self.live.lock().listeners.push(listener);
        deaths
    }

    /// Forgets instances as they die, until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        while let Some(dead) = stop.run_until_cancelled(self.deaths.next()).await {
            match dead {
                Ok(dead) => dead.into_iter().for_each(|token| self.forget(token)),
                Err(error) => {
                    tracing::error!(%error, "deaths of workloads are not reported");
                    stop.cancelled().await;
                }
            }
        }
    }

    fn admit(&self, process: &Arc<HeldProcess>, id: Option<InstanceId>) -> Result<InstanceId, InstanceError> {
        if process.pid() == 0 {
            return Err(InstanceError::Undetermined(Undetermined::other_pid_namespace("unix", "pid")));
        }
        let key = InstanceKey {
            pid: process.pid(),
            start_time: process.start_time(),
            number: process.number(),
            boot: self.boot,
        };
        let mut live = self.live.lock();
        if let Some(id) = live.ids.get(&key) {
            return Ok(*id);
        }
        let id =
            id.map_or_else(InstanceId::generate, Ok).map_err(|Refusal { what, .. }| InstanceError::Kernel(what))?;
        if !process.alive() {
            return Err(InstanceError::Dead);
        }
        let token = live.next;
        live.next += 1;
        self.deaths.watch(process, token).map_err(|error| InstanceError::Kernel(error.to_string()))?;
        live.ids.insert(key, id);
        live.lives.insert(id);
        live.watched.insert(token, (key, Arc::clone(process)));
        Ok(id)
    }

    fn forget(&self, token: u64) {
        let mut live = self.live.lock();
        let Some((key, process)) = live.watched.remove(&token) else { return };
        self.deaths.unwatch(&process);
        if let Some(id) = live.ids.remove(&key) {
            live.lives.remove(&id);
            live.listeners.retain(|listener| listener.send(id).is_ok());
        }
    }
}

#[cfg(test)]
mod tests;
