//! The component that rotates: it does what is due, answers those who ask for changes, and sleeps in between.
//!
//! Nothing else changes a slot, so there is no lock, and no caller who goes away leaves a change half done.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::{Clock, Revision, Timestamp, TrustDomain};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::AuthorityError;
use super::authorities::{Answer, Authorities, Command, Request};
use super::bundle::OwnBundle;
use super::due::{Acknowledgements, Step};
use super::keeper::{Keeper, SlotStore};
use super::keyring::Keyring;
use super::schedule::Settings;
use super::settling::Settling;
use super::workshop::Workshop;
use super::wrapping::{Sealer, WrappingKey};
use crate::store::{BundleRow, Loaded, SlotRow};

/// The longest sleep: then the wall clock is read again, which a suspended machine or NTP may have moved.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
/// The shortest pause between two looks at what is due, however many nodes acknowledge in it.
const PAUSE: Duration = Duration::from_millis(200);
/// After a failure: the first pause, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What the store held at start.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Every slot.
    pub slots: Vec<SlotRow>,
    /// The bundle of our own trust domain, if one was published.
    pub bundle: Option<BundleRow>,
    /// The newest revision.
    pub revision: Revision,
}

impl Stored {
    /// Takes out of what the store loaded.
    #[must_use]
    pub fn of(loaded: &Loaded, trust_domain: &TrustDomain) -> Self {
        let own = loaded.bundles.iter().find(|row| row.trust_domain == *trust_domain);
        Self { slots: loaded.slots.clone(), bundle: own.cloned(), revision: loaded.revision }
    }
}

/// What this issuer is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The name of this issuer, as in `/mayfly/issuer/<name>`.
    pub issuer: String,
    /// The file of the wrapping key.
    pub wrapping_key: PathBuf,
}

/// Rotates the authorities.
pub struct Rotation {
    keeper: Keeper,
    authorities: Authorities,
    requests: mpsc::Receiver<Request>,
}

/// Opens the stored authorities, finishes what a crash interrupted, and makes what is missing: the first keys of a trust
/// domain are active at once, and every process makes an intermediate of its own. When this returns, it can sign.
///
/// # Errors
/// [`AuthorityError`]: the wrapping key does not belong to the store, the store is damaged or takes no change.
pub async fn open(
    place: Place,
    settings: Settings,
    stored: Stored,
    store: Arc<dyn SlotStore>,
    nodes: Arc<dyn Acknowledgements>,
    clock: Clock,
) -> Result<(Authorities, Rotation), AuthorityError> {
    let stored_key = stored.slots.iter().filter_map(|row| row.key.as_ref()).find(|key| !key.wrapping_key_id.is_empty());
    let wrapping = WrappingKey::for_store(&place.wrapping_key, stored_key.map(|key| key.wrapping_key_id.as_str()))?;
    let sealer = Sealer::new(place.trust_domain.clone(), wrapping);
    let keyring = Keyring::open(stored.slots, &sealer, clock.now())?;
    let epoch = stored.revision.epoch;
    let bundle = stored.bundle.map(|row| OwnBundle::open(&row, epoch)).transpose()?;
    let mut keeper = Keeper {
        store,
        nodes: Arc::clone(&nodes),
        settling: Settling::new(&clock),
        workshop: Workshop {
            trust_domain: place.trust_domain,
            issuer: place.issuer.into(),
            settings: settings.clone(),
            sealer,
            clock,
        },
        keyring,
        bundle,
        revision: stored.revision,
    };
    while let Some(step) = keeper.agenda().steps.into_iter().next() {
        keeper.perform(&step).await?;
    }
    keeper.republish().await?;
    let (authorities, requests) = Authorities::new(keeper.snapshot()?, settings, nodes);
    Ok((authorities.clone(), Rotation { keeper, authorities, requests }))
}

impl Rotation {
    /// Does what is due when it is due, and what is asked for, until told to stop. A change under way is finished first.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut retry = RETRY.0;
        loop {
            let (next, done) = self.catch_up().await;
            let pause = if done { self.sleep_until(next) } else { retry };
            retry = if done { RETRY.0 } else { (retry * 2).min(RETRY.1) };
            tokio::select! {
                () = stop.cancelled() => return,
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request).await,
                    None => return,
                },
                () = self.authorities.nudged(), if done => tokio::time::sleep(PAUSE).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Does everything that is due. A step that fails is logged and left for later, and the others go on. Says when
    /// something is due next, and whether nothing failed.
    pub(super) async fn catch_up(&mut self) -> (Option<Timestamp>, bool) {
        let mut failed: Vec<Step> = Vec::new();
        loop {
            let agenda = self.keeper.agenda();
            let Some(step) = agenda.steps.into_iter().find(|step| !failed.contains(step)) else {
                return (agenda.next, failed.is_empty());
            };
            match self.keeper.perform(&step).await {
                Ok(()) => self.show(),
                Err(error) => {
                    let reason = error.reason();
                    tracing::error!(?step, %reason, %error, "an authority could not be rotated, and stays as it is");
                    failed.push(step);
                }
            }
        }
    }

    pub(super) async fn obey(&mut self, command: &Command, actor: &Arc<str>) -> Result<Answer, AuthorityError> {
        let result = self.keeper.obey(command, actor).await;
        self.show();
        result
    }

    async fn answer(&mut self, request: Request) {
        let result = self.obey(&request.command, &request.actor).await;
        if request.answer.send(result).is_err() {
            tracing::debug!("whoever asked for a change of an authority has gone");
        }
    }

    fn show(&self) {
        match self.keeper.snapshot() {
            Ok(snapshot) => self.authorities.show(snapshot),
            Err(error) => tracing::error!(reason = %error.reason(), %error, "the authorities cannot be shown"),
        }
    }

    fn sleep_until(&self, next: Option<Timestamp>) -> Duration {
        let left_ms = next.map_or(i64::MAX, |next| {
            next.unix_s().saturating_mul(1000).saturating_sub(self.keeper.workshop.clock.now_ms())
        });
        Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).clamp(PAUSE, LONGEST_SLEEP)
    }
}
