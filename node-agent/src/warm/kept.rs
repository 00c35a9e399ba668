use std::io;
use std::time::Duration;

use mayfly_proto::node;
use mayfly_sdk::InstanceId;
use prost::Message;

use super::Subject;
use crate::hardening::BootId;
use crate::holdings::{Gathering, Holdings};
use crate::identity::Kept;
use crate::tasks::KeptTasks;
use crate::workload::InstanceKey;

const VERSION: u32 = 1;

/// The warm state, as it is sealed. Field numbers are never used again.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WarmState {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    boot: Vec<u8>,
    /// SPIFFE ID.
    #[prost(string, tag = "3")]
    node: String,
    /// Milliseconds since boot, when it was written.
    #[prost(uint64, tag = "4")]
    written_ms: u64,
    /// For how long the agent was out of sync then.
    #[prost(uint64, tag = "5")]
    out_of_sync_ms: u64,
    #[prost(message, optional, tag = "6")]
    holdings: Option<node::Snapshot>,
    #[prost(message, repeated, tag = "7")]
    credentials: Vec<Kept>,
    #[prost(message, repeated, tag = "8")]
    instances: Vec<KeptInstance>,
    /// None in what a build without it has written, which leaves it where it reads it.
    #[prost(message, optional, tag = "9")]
    tasks: Option<KeptTasks>,
}

/// A running process, and whether it was given anything.
#[derive(Clone, PartialEq, Message)]
struct KeptInstance {
    #[prost(int32, tag = "1")]
    pid: i32,
    #[prost(uint64, tag = "2")]
    start_time: u64,
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    #[prost(bool, tag = "4")]
    served: bool,
    /// The kernel's own number of the process, where it has one.
    #[prost(uint64, optional, tag = "5")]
    number: Option<u64>,
}

/// What is taken up after a restart.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) holdings: Holdings,
    pub(crate) credentials: Vec<Kept>,
    pub(crate) instances: Vec<(InstanceKey, InstanceId)>,
    pub(crate) served: Vec<InstanceId>,
    pub(crate) tasks: KeptTasks,
    /// Since the state was written.
    pub(crate) elapsed: Duration,
    /// For how long the agent has not been in sync, the restart included.
    pub(crate) out_of_sync: Duration,
}

impl WarmState {
    /// The state of this moment; none before there is any.
    pub(super) fn of(subject: &Subject, boot: &BootId) -> Option<Self> {
        let now = subject.clock.monotonic();
        let (holdings, node) = {
            let holdings = subject.link.holdings.borrow();
            if holdings.is_empty() {
                return None;
            }
            (holdings.to_snapshot(), subject.link.node.borrow().clone()?)
        };
        let out_of_sync = subject.link.status.borrow().out_of_sync_for(now).unwrap_or_default();
        let instances = subject.instances.snapshot().into_iter().map(|(key, id)| KeptInstance {
            pid: key.pid,
            start_time: key.start_time,
            number: key.number,
            id: id.as_bytes().to_vec(),
            served: subject.served.contains(id),
        });
        Some(Self {
            version: VERSION,
            boot: boot.as_bytes().to_vec(),
            node,
            written_ms: since_boot_ms().ok()?,
            out_of_sync_ms: u64::try_from(out_of_sync.as_millis()).unwrap_or(u64::MAX),
            holdings: Some(holdings),
            credentials: subject.identities.keep(&subject.clock),
            instances: instances.collect(),
            tasks: Some(subject.tasks.keep()),
        })
    }

    /// Takes it up, if it is of this boot and this node.
    ///
    /// # Errors
    /// Why not, for the log.
    pub(super) fn restore(self, boot: &BootId, node: &str) -> Result<Restored, &'static str> {
        if self.version != VERSION {
            return Err("it has another version");
        }
        if self.boot != boot.as_bytes() {
            return Err("it is of another boot");
        }
        if self.node != node {
            return Err("it is of another node");
        }
        let now_ms = since_boot_ms().map_err(|_unreadable| "the time since boot cannot be read")?;
        let elapsed = Duration::from_millis(now_ms.checked_sub(self.written_ms).ok_or("it is of the future")?);
        let snapshot = self.holdings.ok_or("it holds no entries")?;
        let holdings = Gathering::default()
            .take(snapshot, &Holdings::empty())
            .ok()
            .flatten()
            .ok_or("its entries cannot be read")?;
        let (mut instances, mut served) = (Vec::new(), Vec::new());
        for kept in self.instances {
            let id = InstanceId::from_bytes(kept.id.try_into().map_err(|_length| "an instance cannot be read")?);
            let KeptInstance { pid, start_time, number, .. } = kept;
            instances.push((InstanceKey { pid, start_time, number, boot: *boot }, id));
            if kept.served {
                served.push(id);
            }
        }
        Ok(Restored {
            holdings,
            credentials: self.credentials,
            instances,
            served,
            tasks: self.tasks.unwrap_or_default(),
            elapsed,
            out_of_sync: Duration::from_millis(self.out_of_sync_ms) + elapsed,
        })
    }
}

#[cfg(test)]
impl WarmState {
    /// What a build that knew no tasks would have written.
    pub(super) fn of_before_tasks(mut self) -> Self {
        self.tasks = None;
        self.instances.iter_mut().for_each(|instance| instance.number = None);
        Self::decode(self.encode_to_vec().as_slice()).unwrap()
    }

    pub(super) fn of_version(self, version: u32) -> Self {
        Self { version, ..self }
    }
}

impl Restored {
    /// Puts everything back where it was.
    pub(crate) fn take_up(self, subject: &Subject) {
        subject.instances.restore(self.instances);
        let served = self.served.into_iter().filter(|instance| subject.instances.lives(*instance));
        served.for_each(|instance| subject.served.add(instance));
        let Some(own) = self.holdings.bundle(&subject.trust_domain) else { return };
        let credentials =
            subject.identities.restore(self.credentials, self.elapsed, &self.holdings, own, &subject.clock);
        let tasks = subject.tasks.restore(self.tasks, self.elapsed, &self.holdings, own);
        tracing::info!(
            credentials, tasks, revision = %self.holdings.revision(), elapsed_ms = self.elapsed.as_millis(),
            "warm start: identities are as they were before the restart"
        );
    }
}

/// Milliseconds since boot, time in suspend included: the same clock before and after a restart of the agent.
fn since_boot_ms() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds = text.split_ascii_whitespace().next().and_then(|first| first.parse::<f64>().ok());
    let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let since = since.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/uptime"))?;
    Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
