//! What survives a restart of the agent: SVIDs with their keys, tokens, entries, bundles, which instances were served, and their tasks.
//!
//! ```text
//! changes ─(those of a moment together)─> Kept ─seal─> RUNTIME_DIR/warm.sealed      key: kernel keyring, systemd's descriptor store, or a file
//!                                    Kept <─open─┘  believed only on the same boot and as the same node
//! ```
//!
//! - Times in it are relative to the kernel's time since boot, so that a wall clock that jumps meanwhile means nothing.
//! - Nothing is served from it before the workload that asks was attested anew.
//! - It is sealed (AES-256-GCM, a random nonce for each writing), because the runtime directory may be on a disk.

mod kept;
mod key;
#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::{Clock, TrustDomain};
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::kept::{Restored, WarmState};
use crate::config::WarmRestart;
use crate::hardening::BootId;
use crate::identity::Identities;
use crate::link::LinkView;
use crate::tasks::Tasks;
use crate::workload::Instances;
use crate::workload_api::Served;

pub(crate) use self::key::WarmKey;

const FILE: &str = "warm.sealed";
/// Changes that come together are written together: writing takes a twentieth of the time at the most, and no change waits longer than a
/// second. What comes later is lost if the agent is killed.
const TIMES_OF_WRITING: u32 = 20;
const LEAST_BETWEEN: Duration = Duration::from_millis(50);
const MOST_BETWEEN: Duration = Duration::from_secs(1);
/// The longest file that is read, in bytes.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// Where the warm state is kept, and under which key.
#[derive(Debug)]
pub(crate) struct Warm {
    path: PathBuf,
    key: WarmKey,
    boot: BootId,
}

/// Whose state it is that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) link: LinkView,
    pub(crate) identities: Identities,
    pub(crate) instances: Arc<Instances>,
    pub(crate) served: Served,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
}

impl Warm {
    /// Opens the warm state; none where there is none to be had. What that means, and which option changes it, is said in the log.
    pub(crate) fn open(mode: WarmRestart, runtime_dir: &Path, key_file: &Path, boot: BootId) -> Option<Self> {
        let path = runtime_dir.join(FILE);
        let key = match mode {
            WarmRestart::Keyring => WarmKey::in_keyring(&path),
            WarmRestart::Systemd => WarmKey::in_descriptor_store(&path),
            WarmRestart::File => WarmKey::in_file(key_file, &path),
            WarmRestart::Off => {
                tracing::warn!(
                    remedy = "set warm_restart = \"keyring\"",
                    "a restart while no issuer answers will be cold: warm_restart is off"
                );
                return None;
            }
        };
        let prepared = key.and_then(|key| {
            DirBuilder::new().recursive(true).mode(0o755).create(runtime_dir)?;
            Ok(key)
        });
        match prepared {
            Ok(key) => Some(Self { path, key, boot }),
            Err(error) => {
                tracing::warn!(
                    %error, mode = ?mode, remedy = mode.remedy(),
                    "a restart while no issuer answers will be cold: the key of the warm state cannot be had"
                );
                None
            }
        }
    }

    /// What was kept for this node, if it is of this boot. Whatever is wrong with it makes the start a cold one, and is said in the log.
    pub(crate) fn load(&self, node: &str) -> Option<Restored> {
        match self.read() {
            Ok(Some(state)) => match state.restore(&self.boot, node) {
                Ok(restored) => Some(restored),
                Err(why) => {
                    tracing::info!(why, "the warm state is not used");
                    None
                }
            },
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "the warm state cannot be used");
                None
            }
        }
    }

    /// Writes the state after each change, and once more at the end.
    pub(crate) async fn run(self, subject: Subject, stop: CancellationToken) {
        let warm = Arc::new(self);
        let mut holdings = subject.link.holdings.clone();
        let Identities { x509, jwt, wit } = &subject.identities;
        let (mut x509, mut jwt, mut wit) = (x509.changes(), jwt.changes(), wit.changes());
        let (mut status, mut tasks) = (subject.link.status.clone(), subject.tasks.changes());
        let mut pause = LEAST_BETWEEN;
        loop {
            tokio::select! {
                Ok(()) = holdings.changed() => {}
                Ok(()) = x509.changed() => {}
                Ok(()) = jwt.changed() => {}
                Ok(()) = wit.changed() => {}
                Ok(()) = status.changed() => {}
                Ok(()) = tasks.changed() => {}
                () = stop.cancelled() => {}
            }
            // What comes in the meantime is written with it.
            let at_the_end = stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none();
            holdings.mark_unchanged();
            x509.mark_unchanged();
            jwt.mark_unchanged();
            wit.mark_unchanged();
            status.mark_unchanged();
            tasks.mark_unchanged();
            let begun = subject.clock.monotonic();
            if let Some(state) = WarmState::of(&subject, &warm.boot) {
                warm.write_aside(state).await;
            }
            let took = subject.clock.monotonic().saturating_sub(begun);
            pause = (took * TIMES_OF_WRITING).clamp(LEAST_BETWEEN, MOST_BETWEEN);
            if at_the_end {
                return;
            }
        }
    }

    async fn write_aside(self: &Arc<Self>, state: WarmState) {
        let (writer, written) = (Arc::clone(self), tokio::task::spawn_blocking);
        let outcome =
            written(move || writer.write(&state)).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        if let Err(error) = outcome {
            tracing::warn!(
                %error, path = %self.path.display(), remedy = "make room in the runtime directory, and make it writable for this user",
                "the warm state was not written; a restart now would be colder than it need be"
            );
        }
    }

    fn write(&self, state: &WarmState) -> io::Result<()> {
        // Room for the tag too, so that no copy of the plain text is left behind by a growing buffer.
        let mut bytes = Zeroizing::new(Vec::with_capacity(state.encoded_len() + key::OVERHEAD));
        state.encode_raw(&mut *bytes);
        let nonce = self.key.seal(&mut bytes)?;
        let fresh = self.path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(&nonce)?;
        file.write_all(&bytes)?;
        // Not synced: after a power cut it is of another boot and worth nothing.
        std::fs::rename(&fresh, &self.path)
    }

    fn read(&self) -> io::Result<Option<WarmState>> {
        let bytes = match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > MOST_BYTES => return Err(io::Error::other("it is too large")),
            Ok(_) => Zeroizing::new(std::fs::read(&self.path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let plain = self.key.open(bytes)?;
        WarmState::decode(plain.as_slice()).map(Some).map_err(io::Error::other)
    }
}

impl WarmRestart {
    fn remedy(self) -> &'static str {
        match self {
            Self::Keyring => {
                "allow this process its kernel keyring, or set warm_restart = \"file\" (a key in a file: whoever reads both files has the keys \
                 of this node's workloads)"
            }
            Self::Systemd => {
                "run the agent as a systemd unit with FileDescriptorStoreMax=1, or set warm_restart = \"keyring\""
            }
            Self::File => "make the file that warm_restart_key names readable and writable for this user alone",
            Self::Off => "set warm_restart = \"keyring\"",
        }
    }
}
